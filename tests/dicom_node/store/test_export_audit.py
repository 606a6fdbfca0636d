import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicom_node.store import Erasure, export_samples
from dicom_node.store.export_audit import audit_exports
from dicom_node.store.export_places import Folder, place
from dicom_node.store.finding import Finding
from tests.support.packs import Still, filled, mask, patients
from tests.support.s3 import Storage
from training import pack
from training.config import Size
from training.pack.sharding import export

SIZE = Size(height=64, width=96)
JANE, RICHARD = patients("train", 2)
#: A name, a birth date, a UID, a number.
PLANTED = ["DOE^JANE", "19700131", "1.2.840.113619.2.21", "836357531"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store, its pack, and an export of two shards in ``out``."""
    folder = tmp_path_factory.mktemp("built")
    label = {"mask": mask(1, 2), "quality": 3}
    stills = [Still(patient=JANE), Still(patient=JANE, label=label), Still(patient=RICHARD)]
    made = pack.ensure(filled(folder / "store", stills), folder / "packs", SIZE)
    export(made, Folder(folder / "out"), frames_per_shard=2)
    return folder


@pytest.fixture
def made(built: Path, tmp_path: Path) -> Path:
    """Return the export in a folder that may be changed."""
    for path in (built / "out").rglob("*.*"):
        if path.is_file():
            copy = tmp_path / "out" / path.relative_to(built / "out")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    [found] = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    return found


def looked_at(made: Path, built: Path) -> list[Finding]:
    return audit_exports([str(made.parent)], built / "store")


def place_of(finding: Finding) -> str:
    """Return which object a finding is about."""
    return finding.where.rpartition("/")[2]


def restated(made: Path) -> None:
    """Let export.json say of its files what they are now, as who plants with care does."""
    about = json.loads((made / "export.json").read_text())
    for name in about["files"]:
        about["files"][name] = hashlib.sha256((made / name).read_bytes()).hexdigest()
    for number, one in enumerate(about["shards"]):
        content = (made / f"shard-{number:06d}.tar").read_bytes()
        one |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (made / "export.json").write_bytes(export_samples.as_json(about))


def test_an_export_that_was_only_made_is_clean_in_a_folder_and_in_a_bucket(
    built: Path, s3: Storage
) -> None:
    address = s3.bucket("clean", keeps_versions=True) + "/exports"
    [packed] = [path for path in (built / "packs").iterdir() if path.is_dir()]
    export(pack.open(packed), place(address), frames_per_shard=1)
    told: list[tuple[str, int, int]] = []
    addresses = [str(built / "out"), address]
    assert audit_exports(addresses, built / "store", lambda *one: told.append(one)) == []
    shards = [(done, total) for _, done, total in told]
    assert shards == [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("key", ["note", "export_format", "pack", "shards", "files"])
def test_words_in_what_an_export_says_of_itself_are_found_and_not_repeated(
    built: Path, made: Path, planted: str, key: str
) -> None:
    about = json.loads((made / "export.json").read_text())
    if key == "shards":
        about[key][0]["note"] = planted
    elif isinstance(about.get(key), dict):
        about[key][planted] = planted
    else:
        about[key] = planted
    (made / "export.json").write_bytes(export_samples.as_json(about))
    found = looked_at(made, built)
    assert [place_of(one) for one in found] == ["export.json", "shards"]
    assert not any(planted in one.where + one.what for one in found)


def test_a_key_that_stands_twice_is_found(built: Path, made: Path) -> None:
    said = (made / "export.json").read_text()
    (made / "export.json").write_text(said.replace("{", '{"pack": "DOE^JANE",', 1))
    assert place_of(looked_at(made, built)[0]) == "export.json"


@pytest.mark.parametrize("name", ["rows.npz", "index.npz"])
@pytest.mark.parametrize("how", ["column", "comment", "before", "behind", "member", "header"])
def test_words_in_the_columns_of_an_export_are_found(
    built: Path, made: Path, name: str, how: str
) -> None:
    path = made / name
    _planted_in(path, how)
    restated(made)
    found = looked_at(made, built)
    assert [place_of(one) for one in found] == [name, "shards"]


def _planted_in(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how in ("before", "behind"):
        path.write_bytes(b"DOE^JANE" + content if how == "before" else content + b"DOE^JANE")
        return
    with np.load(io.BytesIO(content)) as columns:
        arrays = dict(columns)
    if how == "column":
        np.savez_compressed(path, **arrays, note=np.array(["DOE^JANE"]))
        return
    first = next(iter(arrays))
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            file = export_samples.as_array(array)
            if name == first and how == "header":
                file = file.replace(b" " * 9 + b"\n", b"# DOE^JAN\n")
                assert b"DOE" in file
            about = zipfile.ZipInfo(f"{name}.npy")
            if name == first and how == "member":
                about.extra = b"\x99\x99\x08\x00DOE^JANE"
            archive.writestr(about, file)
        archive.comment = b"DOE^JANE" if how == "comment" else b""


def test_the_columns_are_clean_however_they_were_compressed(built: Path, made: Path) -> None:
    _planted_in(made / "rows.npz", "nothing")
    restated(made)
    assert looked_at(made, built) == []


Change = Callable[[tarfile.TarInfo], None]


def _again(made: Path, change: Change, words: Callable[[bytes], bytes] = bytes, **how: int) -> None:
    """Write the first shard again, and change of each file what stands before it or in it."""
    path = made / "shard-000000.tar"
    with tarfile.open(path) as tar:
        files = [(one, tar.extractfile(one).read()) for one in tar.getmembers()]  # type: ignore[union-attr]
    with tarfile.open(path, "w", format=how.get("format", tarfile.USTAR_FORMAT)) as tar:
        for one, content in files:
            change(one)
            said = words(content) if one.name.endswith(".json") else content
            one.size = len(said)
            tar.addfile(one, io.BytesIO(said))
    restated(made)


@pytest.mark.parametrize(
    ("field", "planted"),
    [(one, text) for one in ("uname", "gname", "linkname", "name", "pax") for text in PLANTED]
    + [("mtime", "19700131"), ("mtime", "836357531"), ("uid", "836357"), ("gid", "19700")],
)
def test_what_a_tar_says_of_its_files_is_found_and_not_repeated(
    built: Path, made: Path, field: str, planted: str
) -> None:
    def change(one: tarfile.TarInfo) -> None:
        if field == "pax":
            one.pax_headers = {"comment": planted}
        else:
            is_number = field in ("mtime", "uid", "gid")
            setattr(one, field, int(planted) if is_number else planted)

    _again(made, change, format=tarfile.PAX_FORMAT if field == "pax" else tarfile.USTAR_FORMAT)
    found = looked_at(made, built)
    assert {place_of(one) for one in found} == {"shard-000000.tar"}
    assert not any(planted in one.where + one.what for one in found)


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("key", ["patient", "note", "split", "groups", "class"])
def test_what_the_words_of_a_sample_say_is_found_and_not_repeated(
    built: Path, made: Path, planted: str, key: str
) -> None:
    def words(content: bytes) -> bytes:
        said = json.loads(content) | {key: int(planted) if planted.isdigit() else planted}
        return export_samples.as_json(said)

    _again(made, lambda _: None, words)
    found = looked_at(made, built)
    assert {place_of(one) for one in found} == {"shard-000000.tar"}
    assert any("words that are not those of the rows" in one.what for one in found)
    assert not any(planted in one.where + one.what for one in found)


@pytest.mark.parametrize("where", ["between", "behind", "npy", "more"])
def test_bytes_between_and_behind_the_files_of_a_shard_are_found(
    built: Path, made: Path, where: str
) -> None:
    path = made / "shard-000000.tar"
    content = bytearray(path.read_bytes())
    if where == "between":
        with tarfile.open(path) as tar:
            first = tar.getmembers()[0]
        content[first.offset_data + first.size] = ord("D")
    elif where == "npy":
        content = content.replace(b" " * 9 + b"\n", b"# DOE^JAN\n", 1)
    elif where == "behind":
        content[-8:] = b"DOE^JANE"
    else:
        content += b"DOE^JANE".ljust(tarfile.RECORDSIZE, b"\0")
    path.write_bytes(content)
    restated(made)
    [finding] = looked_at(made, built)
    assert place_of(finding) == "shard-000000.tar"


def test_pixels_that_were_changed_and_files_that_were_added_or_taken_are_found(
    built: Path, made: Path
) -> None:
    path = made / "shard-000000.tar"
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        frame = next(one for one in tar.getmembers() if one.name.endswith("frame.npy"))
    burned_in = bytearray(content)
    burned_in[frame.offset_data + 200 : frame.offset_data + 208] = b"DOE^JANE"
    path.write_bytes(burned_in)
    assert "pixels that are not those" in " ".join(one.what for one in looked_at(made, built))
    with tarfile.open(path, "a", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(export_samples.member("doe_jane.txt", 4), io.BytesIO(b"1970"))
    found = looked_at(made, built)
    assert any("a file that no export has" in one.what for one in found)
    assert not any("jane" in one.where + one.what for one in found)
    path.write_bytes(content[: frame.offset_data])
    assert any("less than the rows say" in one.what for one in looked_at(made, built))
    path.unlink()
    [finding] = looked_at(made, built)
    assert "not readable" in finding.what


def test_objects_beside_an_export_are_counted_and_not_named(built: Path, made: Path) -> None:
    (made.parent / "Doe_Jane.txt").write_text("1970-01-31")
    (made / "shard-000099.tar").write_text("DOE^JANE")
    (made / "Doe").symlink_to("/Doe_Jane", target_is_directory=True)
    (made / "begun.json").write_text("DOE^JANE")
    pointer = made.parent / "newest-64x96.json"
    pointer.write_text(pointer.read_text().replace("}", ', "note": "DOE^JANE"}'))
    found = looked_at(made, built)
    assert len(found) == 4
    assert found[0].what.startswith("2 object(s) that no export has")
    assert not any("Doe" in one.what or "Jane" in one.where for one in found)


@pytest.mark.parametrize("name", ["export.json", "newest-96x64.json"])
def test_an_unfinished_export_and_a_pointer_of_another_size_are_found(
    built: Path, made: Path, name: str
) -> None:
    if name == "export.json":
        (made / name).unlink()
    else:
        (made.parent / "newest-64x96.json").rename(made.parent / name)
    assert len(looked_at(made, built)) == 1


def test_an_export_that_still_shows_an_erased_patient_is_found(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", [Still(patient=JANE), Still(patient=RICHARD)])
    export(pack.ensure(store, tmp_path / "packs", SIZE), Folder(tmp_path / "out"))
    with Erasure(store, JANE) as erasure, erasure.alone():
        erasure.run()
    [finding] = audit_exports([str(tmp_path / "out")], store)
    assert place_of(finding) == "rows.npz"
    assert finding.what.startswith("1 frames that the store does not hold")


def test_what_cannot_be_reached_is_no_clean_export(
    built: Path,
    made: Path,
    s3: Storage,
    monkeypatch: pytest.MonkeyPatch,
    free_port: Callable[[], int],
) -> None:
    address = s3.bucket("far")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    addresses = [str(made.parent / "unmounted"), address, str(made.parent)]
    absent, far = audit_exports(addresses, built / "store")
    assert absent.what.startswith("not looked at: no such folder")
    assert far.where == "exports s3://far"
    assert "not looked at: s3://far: the storage gives no answer" in far.what
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    [absent] = audit_exports(["s3://nobody-has-this"], built / "store")
    assert "not looked at" in absent.what


def test_versions_that_a_bucket_keeps_are_said_to_be_there(built: Path, s3: Storage) -> None:
    address = s3.bucket("kept", keeps_versions=True)
    [packed] = [path for path in (built / "packs").iterdir() if path.is_dir()]
    done = export(pack.open(packed), place(address))
    key = f"{done.name}/rows.npz"
    body = s3.client.get_object(Bucket="kept", Key=key)["Body"].read()
    s3.client.put_object(Bucket="kept", Key=key, Body=body)
    [finding] = audit_exports([address], built / "store")
    assert finding.what.startswith("1 older version(s)")
