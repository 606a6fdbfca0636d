import threading
from pathlib import Path

import numpy as np
import psycopg
import pytest

from dicom_node.store import Erased, Erasure, WeakLabelStore, audit, locks, places
from dicom_node.store.files import path_of
from tests.support.catalogues import begin_on, edit
from tests.support.frames import new_frame, speckle
from tests.support.labels import say
from tests.support.packs import pseudonym
from training import pack
from training.config import Size

pytestmark = pytest.mark.usefixtures("engine")

JANE, RICHARD = pseudonym("jane"), pseudonym("richard")
SHARED = 100
SIZE = Size(height=64, width=64)


def _fill(folder: Path) -> dict[str, set[bytes]]:
    """Fill a store and return what is known of each patient alone: names, digests and pictures."""
    known: dict[str, set[bytes]] = {}
    with WeakLabelStore(folder) as store:
        for place, patient in enumerate((JANE, RICHARD)):
            names = {kind: pseudonym(f"{kind} of {patient}") for kind in ("study", "series")}
            instance = pseudonym(f"instance of {patient}")
            ids = [
                store.add_frame(
                    new_frame(
                        seed=seed, frame_number=n, patient=patient, instance=instance, **names
                    )
                )
                for n, seed in enumerate((SHARED, place * 10 + 1, place * 10 + 2), start=1)
            ]
            mask = (speckle(seed=place) > 128).astype(np.uint8)
            say(store, instance, 2, quality=3, mask=mask)
            pictures = [path_of(folder / kind, ids[1]) for kind in ("frames", "masks")]
            pictures.append(path_of(folder / "frames", ids[2]))
            texts = {patient, instance, *names.values(), *ids[1:]}
            known[patient] = {text.encode() for text in texts}
            known[patient] |= {path.read_bytes() for path in pictures}
        say(store, pseudonym(f"instance of {RICHARD}"), 1, quality=4)
    return known


def _bytes_under(*folders: Path) -> bytes:
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in files)


def _bytes_of(store: Path) -> bytes:
    """Return the bytes of a store, with those in the data files of its server."""
    place = places.read(store)
    if place is None:
        return _bytes_under(store)
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute("ANALYZE")
        connection.execute("CHECKPOINT")
        row = connection.execute(
            "SELECT current_setting('data_directory'), oid FROM pg_database "
            "WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return _bytes_under(store, Path(row[0]) / "base" / str(row[1]))


def _erase(folder: Path, patient: str, *packs: Path) -> Erased:
    with Erasure(folder, patient) as erasure, erasure.alone():
        return erasure.run(packs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_no_byte_of_an_erased_patient_is_left_while_others_have_the_store_open(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / "alone"
    if engine == "postgresql":  # other tests know the same patients in the other database
        begin_on(folder, request.getfixturevalue("postgres_url"))
    known = _fill(folder)
    with WeakLabelStore(folder) as reader:
        assert reader.frames()
        before = _bytes_of(folder)
        assert all(secret in before for secret in known[JANE])
        erased = _erase(folder, JANE)
        after = _bytes_of(folder)
        assert not [secret for secret in known[JANE] if secret in after]
        assert all(secret in after for secret in known[RICHARD])
        assert {frame.patient for frame in reader.frames()} == {RICHARD}
    assert (erased.frames, erased.frames_shared, erased.files) == (2, 1, 3)
    assert (erased.instances, erased.studies, erased.labelled) == (1, 1, 1)
    assert audit(folder) == []


@pytest.mark.parametrize("patient", [JANE, RICHARD])
def test_a_frame_of_two_patients_stays_for_the_other_with_what_was_said_of_his(
    folder: Path, patient: str
) -> None:
    _fill(folder)
    _erase(folder, patient)
    with WeakLabelStore(folder) as store:
        (shared,) = [frame for frame in store.frames() if frame.frame_number == 1]
        assert shared.patient == {JANE: RICHARD, RICHARD: JANE}[patient]
        assert np.array_equal(store.pixels(shared.frame_id), speckle(seed=SHARED))
        assert shared.quality == {JANE: 4, RICHARD: None}[patient]
        assert len(store.frames()) == 3


@pytest.mark.parametrize("patient", [JANE, RICHARD])
def test_of_a_shared_frame_only_the_erased_patients_labels_go(folder: Path, patient: str) -> None:
    _fill(folder)
    masks = {JANE: np.ones((40, 60), np.uint8), RICHARD: np.eye(40, 60, dtype=np.uint8)}
    with WeakLabelStore(folder) as store:
        say(store, pseudonym(f"instance of {JANE}"), 1, mask=masks[JANE], quality=1)
        say(store, pseudonym(f"instance of {RICHARD}"), 1, mask=masks[RICHARD])
    assert _erase(folder, patient).labelled == 2
    other = {JANE: RICHARD, RICHARD: JANE}[patient]
    with WeakLabelStore(folder) as store:
        (shared,) = [frame for frame in store.frames() if frame.frame_number == 1]
        assert np.array_equal(store.mask(shared.frame_id), masks[other])
        assert shared.quality == {JANE: 1, RICHARD: 4}[other]
    assert audit(folder) == []


def test_a_mask_of_the_erased_patient_on_a_shared_frame_leaves_no_file(folder: Path) -> None:
    _fill(folder)
    with WeakLabelStore(folder) as store:
        say(store, pseudonym(f"instance of {JANE}"), 1, mask=np.ones((40, 60), np.uint8))
    assert _erase(folder, JANE).files == 4
    with WeakLabelStore(folder) as store:
        (shared,) = [frame for frame in store.frames() if frame.frame_number == 1]
    assert (shared.has_mask, shared.quality) == (False, 4)
    assert not path_of(folder / "masks", shared.frame_id).exists()
    assert audit(folder) == []


def test_a_damaged_mask_of_another_patient_stops_no_erasure(folder: Path) -> None:
    _fill(folder)
    other = pseudonym(f"instance of {RICHARD}")
    with WeakLabelStore(folder) as store:
        say(store, other, 1, mask=np.ones((40, 60), np.uint8))
    edit(
        folder,
        "UPDATE readings SET mask_png = :png WHERE instance = :other AND mask_png IS NOT NULL",
        png=b"damaged",
        other=other,
    )
    assert _erase(folder, JANE).instances == 1
    with WeakLabelStore(folder) as store:
        assert {frame.patient for frame in store.frames()} == {RICHARD}
        (shared,) = [frame for frame in store.frames() if frame.frame_number == 1]
    assert (shared.has_mask, shared.quality) == (False, None)


def test_a_preview_counts_what_an_erasure_takes_and_takes_nothing(folder: Path) -> None:
    _fill(folder)
    with WeakLabelStore(folder) as store, Erasure(folder, JANE) as erasure:
        version = store.version()
        found = erasure.preview()
        assert store.version() == version
    assert (found.frames, found.frames_shared, found.labelled) == (2, 1, 1)


def test_packs_that_hold_the_patient_are_deleted_and_others_stay(
    folder: Path, tmp_path: Path
) -> None:
    _fill(folder)
    packs = tmp_path / "packs"
    pack.build(folder, packs / "with", SIZE)
    (packs / "with.part").mkdir()
    (packs / "damaged").mkdir()
    (packs / "damaged" / "rows.npz").write_bytes(b"cut short")
    (packs / "of somebody else").mkdir()
    (packs / "of somebody else" / "thesis.txt").write_text("a pack? no")
    assert _erase(folder, JANE, packs, tmp_path / "nowhere").packs == 3
    pack.build(folder, packs / "without", SIZE)
    assert _erase(folder, JANE, packs).packs == 0
    left = {path.name for path in packs.iterdir() if path.is_dir()}
    assert left == {"without", "of somebody else"}


def test_a_pack_with_only_a_shared_frame_is_deleted_too(folder: Path, tmp_path: Path) -> None:
    _fill(folder)
    _erase(folder, RICHARD)
    with WeakLabelStore(folder) as store:
        store.add_frame(new_frame(seed=SHARED, patient=RICHARD, instance=pseudonym("again")))
    pack.build(folder, tmp_path / "packs" / "one", SIZE)
    assert _erase(folder, RICHARD, tmp_path / "packs").packs == 1


def test_pictures_that_a_dead_harvest_left_are_deleted(folder: Path) -> None:
    _fill(folder)
    orphan = path_of(folder / "frames", "ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"never named")
    orphan.with_name(f"{orphan.name}.1-2.part").write_bytes(b"never whole")
    assert _erase(folder, pseudonym("nobody")).files == 2
    assert audit(folder) == []


def test_an_audit_names_an_erasure_that_did_not_end(folder: Path) -> None:
    _fill(folder)
    edit(folder, "INSERT INTO erasing VALUES (:frame_id)", frame_id="ab" * 32)
    [finding] = audit(folder)
    assert finding.where.endswith(" erasing")
    _erase(folder, pseudonym("nobody"))
    assert audit(folder) == []


def test_an_erasure_and_a_harvest_wait_for_each_other(folder: Path) -> None:
    with WeakLabelStore(folder) as store:
        begun, ended = threading.Event(), threading.Event()

        def add() -> None:
            begun.set()
            with store.holding_off_erasure():
                store.add_frame(new_frame())
                ended.set()

        with locks.alone(folder):
            harvest = threading.Thread(target=add)
            harvest.start()
            assert begun.wait(10)
            assert not ended.wait(0.2)
        harvest.join(10)
        assert ended.is_set()
        with store.holding_off_erasure(), store.holding_off_erasure():
            pass
