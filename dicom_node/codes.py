"""Every code that the node writes, once.

Scheme ``99DICOMNODE`` is private to this project and described in each object's Coding Scheme
Identification Sequence (0008,0110); its codes keep their meaning for ever.
"""

from typing import Final

from dicom_node.records import CodedConcept

PRIVATE_SCHEME: Final = "99DICOMNODE"
PRIVATE_SCHEME_NAME: Final = "dicom-node private codes"


def _dcm(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value=value, scheme="DCM", meaning=meaning)


def _sct(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value=value, scheme="SCT", meaning=meaning)


# CID 7150, CID 7166: what a segment shows
ANATOMICAL_STRUCTURE: Final = _sct("91723000", "Anatomical structure")
LIVER: Final = _sct("10200004", "Liver")
KIDNEY: Final = _sct("64033007", "Kidney")
PERITONEAL_CAVITY: Final = _sct("83670000", "Peritoneal cavity")

# CID 7162
ARTIFICIAL_INTELLIGENCE: Final = _dcm("123110", "Artificial Intelligence")

# CID 100: Procedure Reported (PixelMed accepts no narrower code)
IMAGING_PROCEDURE: Final = _sct("363679005", "Imaging procedure")

# CID 6047 under (111017,DCM,"CAD Processing and Findings Summary")
FINDINGS_SUMMARY: Final = _dcm("111017", "CAD Processing and Findings Summary")
ALL_SUCCEEDED_WITHOUT_FINDINGS: Final = _dcm("111241", "All algorithms succeeded; without findings")
ALL_SUCCEEDED_WITH_FINDINGS: Final = _dcm("111242", "All algorithms succeeded; with findings")
SOME_SUCCEEDED_WITHOUT_FINDINGS: Final = _dcm(
    "111243", "Not all algorithms succeeded; without findings"
)
SOME_SUCCEEDED_WITH_FINDINGS: Final = _dcm("111244", "Not all algorithms succeeded; with findings")
NONE_SUCCEEDED: Final = _dcm("111245", "No algorithms succeeded; without findings")

# TID 1500 row 12: the container of statements about the whole report
QUALITATIVE_EVALUATIONS: Final = CodedConcept(
    value="C0034375", scheme="UMLS", meaning="Qualitative Evaluations"
)
COMMENT: Final = _dcm("121106", "Comment")

PROBABILITY: Final = _dcm("122157", "Probability")

# CID 42: why a number is missing
MEASUREMENT_FAILURE: Final = _dcm("114006", "Measurement failure")

# IHE AIR: what each model is to the object, in Contributing Equipment Sequence (0018,A001)
PROCESSING_ALGORITHM: Final = CodedConcept(
    value="1630", scheme="99IHE", meaning="Processing Algorithm"
)

VIEW_QUALITY: Final = CodedConcept(
    value="VIEWQ", scheme=PRIVATE_SCHEME, meaning="View quality score"
)
ORGAN_SEGMENTATION: Final = CodedConcept(
    value="ORGSEG", scheme=PRIVATE_SCHEME, meaning="Organ segmentation"
)
