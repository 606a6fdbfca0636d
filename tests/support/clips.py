"""Packs of clips for tests."""

from pathlib import Path

from dicom_node.records import GROUPS
from tests.support.packs import Still, filled, patients, pseudonym
from training import pack
from training.config import PretrainSettings, Size, Strategy
from training.pack import Pack

SIZE = Size(height=64, width=64)


def clip(patient: str, frames: int, *, group: str | None = GROUPS[0]) -> list[Still]:
    """Return the frames of one clip, the last one first."""
    fields = {
        "instance": pseudonym(f"clip of {patient}"),
        "groups": frozenset({group} if group else ()),
    }
    return [
        Still(patient=patient, fields=fields | {"frame_number": number})
        for number in range(frames, 0, -1)
    ]


def packed(folder: Path, *, train: int = 6, validation: int = 4, frames: int = 4) -> Pack:
    """Return a pack of one clip a patient, of two groups in turn."""
    known = [
        still
        for split, count in (("train", train), ("validation", validation), ("test", 1))
        for number, patient in enumerate(patients(split, count))
        for still in clip(patient, frames, group=GROUPS[number % 2])
    ]
    return pack.build(filled(folder / "store", known), folder / "pack", SIZE)


def settings(pretext: str, **options: float | bool | str) -> PretrainSettings:
    """Return settings of a tiny network."""
    return PretrainSettings(
        strategy=Strategy(name="test", pretext=pretext, options=options),
        encoder="small",
        encoder_width=4,
        size=SIZE,
        epochs=3,
        batch_size=4,
        learning_rate=1e-3,
    )
