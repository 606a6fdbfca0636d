"""Whether an object says the right things of what it holds: which organ, which model, how sure.

Right pixels under the name of another organ, or a score with another unit, are read by nobody as
what they are. Faults are named by attribute or concept, never by value.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dicom_codes

from dicom_node import codes
from dicom_node.records import Algorithm, Analysis, CodedConcept, ImageFacts, Segmentation
from dicom_node.results.groups import SCORE_UNIT, algorithm_parameter
from dicom_node.results.parts import shortened

_UNITS: Final = {
    codes.VIEW_QUALITY.value: SCORE_UNIT.value,
    codes.PROBABILITY.value: dicom_codes.UCUM.NoUnits.value,
    # of the image, in the library (PS3.16 TID 1604)
    dicom_codes.DCM.PixelDataRows.value: "{pixels}",
    dicom_codes.DCM.PixelDataColumns.value: "{pixels}",
}
_TEMPLATE: Final = "1500"
_MODEL: Final = "Model sha256="
#: what a measurement group says of its model and its organ: digest, name, version, finding sites
_Model = tuple[str, str, str, tuple[str, ...]]


def segment_faults(seg: Dataset, segmentation: Segmentation, facts: ImageFacts) -> list[str]:
    """Return what a SEG says wrongly of its segments, its model and its pixels' size.

    Parameters
    ----------
    seg : Dataset
        As it was read back.
    segmentation : Segmentation
        What it was made of.
    facts : ImageFacts
        Of the image.
    """
    algorithm = segmentation.algorithm
    # a label map names its background, which no model found
    segments = [item for item in seg.SegmentSequence if int(item.SegmentNumber)]
    faults = list(equipment_faults(seg, [algorithm]))
    found = [
        (
            int(item.SegmentNumber),
            _code(item.SegmentedPropertyCategoryCodeSequence),
            _code(item.SegmentedPropertyTypeCodeSequence),
            str(item.SegmentLabel),
        )
        for item in segments
    ]
    wanted = [
        (number, _of(segment.category), _of(segment.type), shortened(segment.type.meaning))
        for number, segment in enumerate(segmentation.segments, 1)
    ]
    models = [
        (identity.AlgorithmName, identity.AlgorithmVersion, algorithm.digest in str(parameters))
        for item in segments
        for identity in item.SegmentationAlgorithmIdentificationSequence
        for parameters in [identity.get("AlgorithmParameters")]
    ]
    model = (shortened(algorithm.name), shortened(algorithm.version), True)
    frames = seg.PerFrameFunctionalGroupsSequence
    places = {tuple(_values(item.FrameContentSequence[0].DimensionIndexValues)) for item in frames}
    checks = {
        "SegmentSequence": found == wanted,
        "SegmentationAlgorithmIdentificationSequence": models == [model] * len(wanted),
        "NumberOfFrames": int(seg.NumberOfFrames) == len(frames),
        "DimensionIndexValues": len(places) == len(frames),
        "PixelSpacing": facts.spacing_mm is None or _spacing(seg) == _rounded(facts.spacing_mm),
    }
    return faults + [what for what, good in checks.items() if not good]


def statement_faults(
    report: Dataset, items: Sequence[Dataset], analysis: Analysis, facts: ImageFacts
) -> list[str]:
    """Return what an SR says wrongly around its findings.

    Parameters
    ----------
    report : Dataset
        As it was read back.
    items : sequence of Dataset
        Its content items, from the top to the leaves.
    analysis : Analysis
        What it was made of.
    facts : ImageFacts
        Of the image.
    """
    algorithms = [segmentation.algorithm for segmentation in analysis.segmentations]
    algorithms += [quality.algorithm for quality in analysis.qualities]
    algorithms += [failure.algorithm for failure in analysis.failures]
    checks = {
        # no person has seen it
        "VerificationFlag": report.get("VerificationFlag") == "UNVERIFIED",
        "CompletionFlag": report.get("CompletionFlag") == "COMPLETE",
        "ContentTemplateSequence": _template(report) == _TEMPLATE,
        "models and finding sites": _models(items) == _expected_models(analysis),
        "units": all(_unit_is_right(item) for item in items if item.ValueType == "NUM"),
        "GraphicData": all(_is_inside(i, facts) for i in items if i.ValueType == "SCOORD"),
    }
    faults = list(equipment_faults(report, algorithms))
    return faults + [what for what, good in checks.items() if not good]


def equipment_faults(dataset: Dataset, algorithms: Iterable[Algorithm]) -> Iterator[str]:
    """Yield a fault unless Contributing Equipment names each of the models and no other."""
    said = [
        str(item.get("ContributionDescription"))
        for item in dataset.get("ContributingEquipmentSequence", ())
    ]
    # highdicom adds itself
    found = sorted(words for words in said if words.startswith(_MODEL))
    if found != sorted({f"{_MODEL}{one.digest}" for one in algorithms}):
        yield "ContributingEquipmentSequence"


def _models(items: Iterable[Dataset]) -> list[_Model]:
    group = dicom_codes.DCM.MeasurementGroup.value
    return sorted(_model(item) for item in items if _name(item) == group)


def _model(group: Dataset) -> _Model:
    texts = {_name(item): item for item in group.ContentSequence if item.ValueType == "TEXT"}
    site = dicom_codes.SCT.FindingSite.value
    return (
        str(texts[dicom_codes.DCM.AlgorithmParameters.value].TextValue),
        str(texts[dicom_codes.DCM.AlgorithmName.value].TextValue),
        str(texts[dicom_codes.DCM.AlgorithmVersion.value].TextValue),
        tuple(
            _code(item.ConceptCodeSequence)[0]
            for item in group.ContentSequence
            if item.ValueType == "CODE" and _name(item) == site
        ),
    )


def _expected_models(analysis: Analysis) -> list[_Model]:
    models = [
        _expected(quality.algorithm, quality.finding_sites)
        for quality in analysis.qualities
        for _ in quality.scores
    ]
    models += [
        _expected(said.algorithm, [segment.type for segment in said.segments])
        for said in analysis.segmentations
    ]
    return sorted(models + [_expected(failure.algorithm, ()) for failure in analysis.failures])


def _expected(algorithm: Algorithm, sites: Iterable[CodedConcept]) -> _Model:
    codes_of_sites = tuple(site.value for site in sites)
    return algorithm_parameter(algorithm), algorithm.name, algorithm.version, codes_of_sites


def _unit_is_right(item: Dataset) -> bool:
    """Whether unit and both forms of the number are those of the concept, if there is a number."""
    if not item.MeasuredValueSequence:
        return "NumericValueQualifierCodeSequence" in item
    value = item.MeasuredValueSequence[0]
    as_float = value.get("FloatingPointValue")
    same = as_float is None or abs(float(as_float) - float(value.NumericValue)) < 1e-9
    return same and _code(value.MeasurementUnitsCodeSequence)[0] == _UNITS.get(_name(item))


def _is_inside(item: Dataset, facts: ImageFacts) -> bool:
    data = [float(value) for value in _values(item.GraphicData)]
    columns, rows = data[::2], data[1::2]
    return (
        len(columns) == len(rows) > 0
        and all(0 <= column <= facts.columns for column in columns)
        and all(0 <= row <= facts.rows for row in rows)
    )


def _template(report: Dataset) -> str:
    templates = report.get("ContentTemplateSequence") or [Dataset()]
    return str(templates[0].get("TemplateIdentifier"))


def _spacing(seg: Dataset) -> tuple[float, ...]:
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    return _rounded(measures.PixelSpacing)


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    # a DS has 16 characters
    return tuple(round(float(value), 9) for value in values)


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def _code(sequence: Sequence[Dataset]) -> tuple[str, str]:
    return str(sequence[0].CodeValue), str(sequence[0].CodingSchemeDesignator)


def _of(concept: CodedConcept) -> tuple[str, str]:
    return concept.value, concept.scheme


def _values(value: object) -> Iterable[float]:
    """Return the values of an attribute of any multiplicity."""
    return value if isinstance(value, Sequence) and not isinstance(value, str) else [value]  # type: ignore[list-item]
