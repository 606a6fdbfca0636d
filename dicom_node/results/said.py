"""What a report that the node wrote says of an image, model by model."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes as dicom_codes

from dicom_node import codes

_GROUP: Final = dicom_codes.DCM.MeasurementGroup.value
_NAME: Final = dicom_codes.DCM.AlgorithmName.value
_VERSION: Final = dicom_codes.DCM.AlgorithmVersion.value
#: What a segmentation's status says of findings.
_FOUND: Final = {
    codes.ALL_SUCCEEDED_WITH_FINDINGS.value: True,
    codes.ALL_SUCCEEDED_WITHOUT_FINDINGS.value: False,
}


@dataclass(kw_only=True)
class Said:
    """What one model says of one image."""

    name: str
    version: str
    #: view quality, one a frame
    scores: list[float] = field(default_factory=list)
    #: whether a segmentation found anything; None where it is none, or failed
    found: bool | None = None

    @property
    def score(self) -> float | None:
        """The mean of the scores, None without any."""
        return sum(self.scores) / len(self.scores) if self.scores else None


def said_in(path: Path) -> list[Said]:
    """Return what each model says in a report; nothing of a file that is gone or damaged."""
    try:
        report = dcmread(path)
    except (OSError, InvalidDicomError):
        return []
    models: dict[tuple[str, str], Said] = {}
    for group in _groups(report):
        items = {_name(item): item for item in group.get("ContentSequence", ())}
        if not {_NAME, _VERSION} <= set(items):
            continue
        key = str(items[_NAME].TextValue), str(items[_VERSION].TextValue)
        model = models.setdefault(key, Said(name=key[0], version=key[1]))
        score = items.get(codes.VIEW_QUALITY.value)
        if score is not None and score.get("MeasuredValueSequence"):
            model.scores.append(float(score.MeasuredValueSequence[0].NumericValue))
        status = items.get(codes.FINDINGS_SUMMARY.value)
        if status is not None:
            model.found = _FOUND.get(str(status.ConceptCodeSequence[0].CodeValue))
    return list(models.values())


def _groups(parent: Dataset) -> Iterator[Dataset]:
    for item in parent.get("ContentSequence", ()):
        if item.ValueType == "CONTAINER" and _name(item) == _GROUP:
            yield item
        else:
            yield from _groups(item)


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""
