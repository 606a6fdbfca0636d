BEGIN TRANSACTION;
CREATE TABLE frames (
	frame_id VARCHAR NOT NULL, 
	instance VARCHAR NOT NULL, 
	frame_number INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	width INTEGER NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	quality INTEGER, 
	mask_digest VARCHAR, 
	mask_bytes INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (frame_id), 
	FOREIGN KEY(instance) REFERENCES instances (instance)
);
INSERT INTO "frames" VALUES('87077ca21d967fd09d21a3eac02bc92c36e83b97def01360f68eba3624684a3b','f5cf8c9f3fa89409325dfd381697820c',1,64,96,6276,NULL,NULL,0);
CREATE TABLE instances (
	instance VARCHAR NOT NULL, 
	series VARCHAR NOT NULL, 
	study VARCHAR NOT NULL, 
	patient VARCHAR NOT NULL, 
	split VARCHAR NOT NULL, 
	rows INTEGER NOT NULL, 
	columns INTEGER NOT NULL, 
	"left" INTEGER NOT NULL, 
	top INTEGER NOT NULL, 
	"right" INTEGER NOT NULL, 
	bottom INTEGER NOT NULL, 
	probe VARCHAR, 
	geometry VARCHAR NOT NULL, 
	geometry_rule VARCHAR NOT NULL, 
	groups INTEGER NOT NULL, 
	description VARCHAR, 
	row_spacing_mm FLOAT, 
	column_spacing_mm FLOAT, 
	burned_in_annotation BOOLEAN NOT NULL, 
	PRIMARY KEY (instance)
);
INSERT INTO "instances" VALUES('f5cf8c9f3fa89409325dfd381697820c','c8f9ff5bfc3c6cf236b11f49b6caaa7f','a51e6681c78506667ce65370851a7966','2f67a76804a74ad554891910feb44ca2','train',64,96,0,0,96,64,'C5-1','curvilinear','generic curved',17,'d2edaf7e63acfa8c0bd279274d3f72c0',0.5,0.5,1);
CREATE TABLE sightings (
	instance VARCHAR NOT NULL, 
	frame_number INTEGER NOT NULL, 
	frame_id VARCHAR NOT NULL, 
	PRIMARY KEY (instance, frame_number), 
	FOREIGN KEY(instance) REFERENCES instances (instance), 
	FOREIGN KEY(frame_id) REFERENCES frames (frame_id)
);
INSERT INTO "sightings" VALUES('f5cf8c9f3fa89409325dfd381697820c',1,'87077ca21d967fd09d21a3eac02bc92c36e83b97def01360f68eba3624684a3b');
CREATE INDEX ix_instances_study ON instances (study);
CREATE INDEX ix_instances_patient ON instances (patient);
CREATE INDEX ix_instances_description ON instances (description);
CREATE INDEX ix_frames_instance ON frames (instance);
CREATE INDEX ix_sightings_frame_id ON sightings (frame_id);
COMMIT;
