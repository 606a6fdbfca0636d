import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.cli.reader_labels import codes, readers
from dicom_node.errors import ConfigError
from dicom_node.harvest import Fate, ReaderNotes
from dicom_node.harvest.reader_notes import Noted
from dicom_node.harvest.segmentations import SeenCode
from dicom_node.store import QUALITY, Origin, Provenance, Reading, WeakLabelStore
from tests.support.frames import new_frame

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INSTANCE = "d" * 32


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text("node: {data: ./data, min_free_gib: 0}\n")
    return path


@pytest.fixture
def notes(config: Path) -> Iterator[ReaderNotes]:
    data = config.parent / "data"
    data.mkdir()
    with closing(ReaderNotes(data / "harvest.db")) as notes:
        yield notes


def noted(notes: ReaderNotes, number: int, fate: Fate, **reasons: int) -> str:
    token = str(number) * 32
    one = Noted(
        name=f"1.2.{number}",
        study_instance_uid="1.2",
        origin=Origin.SEG,
        study="b" * 32,
        object=token,
        said_at=NOW,
        received_at=NOW.replace(hour=number),
        fate=fate,
        readings=1,
        reasons=reasons,
    )
    notes.record(one, ["1.2.9"], [SeenCode(code="99X:1", label="a b", meaning="spleen")])
    return token


def test_every_object_is_shown_with_what_became_of_it_and_why(
    config: Path, notes: ReaderNotes, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = [noted(notes, 1, Fate.USED), noted(notes, 2, Fate.USED)]
    noted(notes, 3, Fate.NOT_USED, broken=2)
    with WeakLabelStore(config.parent / "data" / "store") as store:
        store.add_frame(new_frame(instance=INSTANCE))
        reading = Reading(frame_number=1, about=QUALITY, value=1)
        for token in tokens:
            said = Provenance(reader="e" * 32, object=token, origin=Origin.SEG)
            store.readers.put(INSTANCE, said, [reading])
    readers(config=config, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert [(row["sop_instance_uid"], row["state"], row["reasons"]) for row in shown] == [
        ("1.2.3", "not used", {"broken": 2}),
        ("1.2.2", "used", {}),
        ("1.2.1", "superseded", {}),
    ]
    readers(unused=True, config=config)
    screen = capsys.readouterr().out
    assert "1 not used, 1 superseded, 1 used" in screen
    assert "2 broken" in screen
    assert "1.2.1" not in screen


def test_codes_are_listed_until_the_site_maps_them(
    config: Path, notes: ReaderNotes, capsys: pytest.CaptureFixture[str]
) -> None:
    noted(notes, 1, Fate.NOT_USED)
    noted(notes, 2, Fate.NOT_USED)
    codes(config=config, as_json=True)
    assert json.loads(capsys.readouterr().out) == [
        {"code": "99X:1", "label": "a b", "meaning": "spleen", "objects": 2}
    ]
    (config.parent / "codes.csv").write_text("code,label,stands_for\n99X:1,A B,\n")
    config.write_text(config.read_text() + "harvest: {reader_codes: codes.csv}\n")
    codes(config=config)
    assert "every code is mapped" in capsys.readouterr().out


def test_a_node_that_never_ran_says_the_cure(config: Path) -> None:
    with pytest.raises(ConfigError, match="dicom-node serve"):
        readers(config=config)
