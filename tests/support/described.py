"""Stores whose frames are of studies with descriptions that this file knows."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from dicom_node.config import Config, load
from dicom_node.harvest.descriptions import normalised
from dicom_node.harvest.desk import DESCRIPTION, LabelDesk
from dicom_node.harvest.evidence import description_of, text_evidence
from dicom_node.harvest.words import Words
from dicom_node.store import Source
from tests.support.frames import new_frame

STEP: Final = Source.PERFORMED_PROCEDURE_STEP_DESCRIPTION


def blank_in(folder: Path) -> Config:
    """Write the configuration of a node that has harvested nothing yet."""
    path = folder / "node.yaml"
    path.write_text("node: {data: ./data, min_free_gib: 0}\npage: {}\n")
    config = load(path)
    config.node.data.mkdir(exist_ok=True)
    return config


def words(description: str) -> Words:
    """Return a header's words that say nothing but a Study Description."""
    texts = ("patient_id", "manufacturer", "model_name", "transducer_data", "transducer_type")
    return Words(
        **dict.fromkeys(texts, ""),
        study_description=description,
        burned_in_annotation="NO",
        terms=(),
        frame_time_s=None,
    )


def describe(
    desk: LabelDesk, studies: Iterable[tuple[str, str, int]], size: tuple[int, int] = (40, 60)
) -> None:
    """Put studies into notes and store, as (name, Study Description, number of images)."""
    label_map, key = desk.tables.descriptions, desk.key
    for study, description, images in studies:
        desk.notes.record(words(description), f"1.2.{study}", key.token("patient", study))
        text = normalised(description)
        said = [text_evidence(source, text, label_map, key) for source in (DESCRIPTION, STEP)]
        for number in range(images):
            desk.store.add_frame(
                new_frame(
                    pixels=_picture(size, 10 * int(study) + number),
                    study=key.token("study", study),
                    patient=key.token("patient", study),
                    instance=key.token("instance", f"{study}.{number}"),
                    description=description_of(said),
                    groups=said[0].groups or frozenset(),
                    evidence=tuple(said),
                )
            )


def _picture(size: tuple[int, int], seed: int) -> np.ndarray:
    """Return speckle that fades with depth, with a dark round somewhere."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / size[0]
    round_at = random.uniform(0.3, 0.7, 2)
    inside = np.hypot(y - round_at[0], x - round_at[1] * size[1] / size[0]) < 0.2
    return (random.rayleigh(60 - 35 * y) * np.where(inside, 0.3, 1)).clip(0, 255).astype(np.uint8)
