BEGIN TRANSACTION;
CREATE TABLE descriptions (
	description VARCHAR NOT NULL, 
	study_instance_uid VARCHAR NOT NULL, 
	PRIMARY KEY (description, study_instance_uid)
);
INSERT INTO "descriptions" VALUES('US BIOPSY LIVER NONFOCAL','2.25.78739682620931793235451749708162861150');
CREATE TABLE transducers (
	manufacturer VARCHAR NOT NULL, 
	model_name VARCHAR NOT NULL, 
	transducer_data VARCHAR NOT NULL, 
	transducer_type VARCHAR NOT NULL, 
	study_instance_uid VARCHAR NOT NULL, 
	PRIMARY KEY (manufacturer, model_name, transducer_data, transducer_type, study_instance_uid)
);
INSERT INTO "transducers" VALUES('TORTURE','GENERATOR','C5-1','','2.25.78739682620931793235451749708162861150');
COMMIT;
