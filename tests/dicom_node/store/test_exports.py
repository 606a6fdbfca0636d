from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from dicom_node.store import Erasure, WeakLabelStore, audit, catalogue
from dicom_node.store.export_places import Folder, place
from dicom_node.store.exports import delete_exports
from tests.support.packs import Still, filled, patients
from tests.support.s3 import Storage
from training import pack
from training.config import Size
from training.pack import Pack
from training.pack.sharding import export

SIZE = Size(height=64, width=96)
FIRST, SECOND, THIRD = patients("train", 3)


def packed(folder: Path, *who: str) -> Pack:
    """Return the pack of a store with two frames of each."""
    stills = [Still(patient=one) for one in who for _ in range(2)]
    return pack.ensure(filled(folder / "store", stills), folder / "packs", SIZE)


def of(folder: Path, patient: str) -> frozenset[str]:
    with WeakLabelStore(folder / "store") as store:
        return frozenset(one.frame_id for one in store.frames() if one.patient == patient)


def erase(folder: Path, patient: str, *exports: str) -> tuple[int, tuple[str, ...]]:
    with Erasure(folder / "store", patient) as erasure, erasure.alone():
        erased = erasure.run([folder / "packs"], exports)
    return erased.exports, erased.unreached


def remembered(folder: Path) -> set[str]:
    """Return the frames whose packs and exports are not deleted yet."""
    engine = catalogue.open_catalogue(folder / "store")
    with engine.begin() as connection:
        found = set(connection.scalars(sa.select(catalogue.erasing)))
    engine.dispose()
    return found


def pixels(made: Pack, ids: frozenset[str]) -> list[bytes]:
    """Return a line of each frame, as it stands in a shard."""
    rows = np.flatnonzero(np.isin(made.rows.frame_id, list(ids)))
    return [made.frames[row, 32].tobytes() for row in rows]


def test_an_erasure_leaves_no_byte_of_the_patient_in_any_version_of_a_bucket(
    tmp_path: Path, s3: Storage
) -> None:
    address = s3.bucket("versions", keeps_versions=True) + "/exports"
    made = packed(tmp_path, FIRST, SECOND)
    ids = of(tmp_path, FIRST)
    secrets = [*pixels(made, ids), *(one.encode() for one in ids)]
    export(made, place(address), frames_per_shard=3)
    # what other programs overwrite and delete, the bucket keeps
    for key in list(place(address).keys()):
        s3.client.put_object(Bucket="versions", Key=f"exports/{key}", Body=b"newer")
        s3.client.delete_object(Bucket="versions", Key=f"exports/{key}")
    export(made, place(address), frames_per_shard=2)
    before = b"".join(s3.contents("versions").values())
    assert all(secret in before for secret in secrets)

    deleted, unreached = erase(tmp_path, FIRST, address)

    assert (deleted, unreached) == (1, ())
    left = s3.contents("versions")
    assert not any(secret in body for secret in secrets for body in left.values())
    assert {key for key, _ in left} <= {"exports/newest-64x96.json"}
    assert not remembered(tmp_path)
    assert not audit(tmp_path / "store")


def test_an_export_without_the_patient_and_what_is_no_export_stay(
    tmp_path: Path, s3: Storage
) -> None:
    address = s3.bucket("stay")
    export(packed(tmp_path / "one", FIRST, SECOND), Folder(tmp_path / "out"))
    export(packed(tmp_path / "two", THIRD), place(address))
    s3.client.put_object(Bucket="stay", Key="notes/of-somebody.txt", Body=b"kept")
    s3.client.put_object(Bucket="stay", Key="0123456789abcdef-64x96/thesis.pdf", Body=b"kept")
    before = s3.contents("stay")
    of_nobody_here = frozenset({"f" * 64})
    cleared = delete_exports([address, str(tmp_path / "out")], of_nobody_here)
    assert (cleared.deleted, cleared.faults) == (0, ())
    assert s3.contents("stay") == before


@pytest.mark.parametrize("missing", ["export.json", "rows.npz"])
def test_an_unfinished_or_damaged_export_goes_whoever_is_in_it(
    tmp_path: Path, missing: str
) -> None:
    out = tmp_path / "out"
    done = export(packed(tmp_path, SECOND), Folder(out))
    (out / done.name / missing).unlink()
    assert delete_exports([str(out)], frozenset()).deleted == 1
    assert not (out / done.name).exists()


def test_a_part_that_a_dead_writer_left_goes_too(tmp_path: Path) -> None:
    part = tmp_path / "out" / "0123456789abcdef-64x96" / f"shard-000000.tar.{'0' * 32}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    assert delete_exports([str(tmp_path / "out")], frozenset()).deleted == 1
    assert not part.exists()


def test_a_share_that_is_not_mounted_leaves_the_erasure_unfinished_until_it_is(
    tmp_path: Path,
) -> None:
    share = tmp_path / "share"
    export(packed(tmp_path, FIRST, SECOND), Folder(share))
    share.rename(tmp_path / "elsewhere")

    deleted, (fault,) = erase(tmp_path, FIRST, str(share))

    assert deleted == 0
    assert f"{share}: no such folder; mount it" in fault
    assert "name it no more, in harvest.exports or with --exports" in fault
    assert remembered(tmp_path)
    (tmp_path / "elsewhere").rename(share)
    assert erase(tmp_path, FIRST, str(share)) == (1, ())
    assert not remembered(tmp_path)


def test_an_export_out_of_reach_leaves_the_erasure_unfinished_until_it_is_reached(
    tmp_path: Path,
    s3: Storage,
    monkeypatch: pytest.MonkeyPatch,
    free_port: Callable[[], int],
) -> None:
    address = s3.bucket("away")
    export(packed(tmp_path, FIRST, SECOND), place(address))
    ids = of(tmp_path, FIRST)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")

    deleted, (fault,) = erase(tmp_path, FIRST, address)

    assert deleted == 0
    assert "s3://away: the storage gives no answer" in fault
    assert remembered(tmp_path) == ids
    assert [one.what for one in audit(tmp_path / "store")] == [
        "an erasure was interrupted; run 'dicom-node store erase' again to finish it"
    ]

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    # whoever is erased next: what is remembered is looked for, too
    assert erase(tmp_path, SECOND, address) == (1, ())
    assert not any(key.endswith(".tar") for key, _ in s3.contents("away"))
    assert not remembered(tmp_path)


def test_a_lock_on_an_object_is_a_fault_and_not_passed_over(tmp_path: Path, s3: Storage) -> None:
    s3.client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    export(packed(tmp_path, FIRST), place("s3://locked"))
    key = next(key for key, _ in s3.contents("locked") if key.endswith(".tar"))
    s3.client.put_object_legal_hold(Bucket="locked", Key=key, LegalHold={"Status": "ON"})
    _, (fault,) = erase(tmp_path, FIRST, "s3://locked")
    assert "s3://locked: " in fault
    assert remembered(tmp_path)
