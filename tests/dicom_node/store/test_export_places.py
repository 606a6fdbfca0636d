from pathlib import Path

import pytest

from dicom_node.errors import StoreError, TemporaryError
from dicom_node.store.export_places import Folder, Place, place
from tests.support.s3 import Storage


@pytest.fixture(params=["folder", "bucket"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Folder(tmp_path / "place")
    storage: Storage = request.getfixturevalue("s3")
    name = f"place-{abs(hash(request.node.name))}"
    storage.bucket(name)
    return place(f"s3://{name}/below/")


def test_what_is_put_is_read_whole_and_in_part(where: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"of a file")
    where.put("a/one.bin", b"of bytes")
    where.put("two.bin", tmp_path / "file")
    (tmp_path / "copy").touch()
    assert where.read("a/one.bin") == b"of bytes"
    assert where.part("two.bin", 3, 1) == b"a"
    assert where.fetch("two.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"of a file"
    assert list(where.keys()) == ["a/one.bin", "two.bin"]
    assert list(where.keys("a/")) == ["a/one.bin"]


def test_what_is_not_there_is_no_error(where: Place, tmp_path: Path) -> None:
    assert where.read("none") is None
    assert where.part("none", 0, 1) is None
    assert not where.fetch("none", tmp_path / "copy")
    assert list(where.keys()) == []
    assert where.delete("none/") == 0


def test_what_is_below_a_prefix_is_deleted_and_nothing_else(where: Place) -> None:
    for key in ("a/one", "a/b/two", "ab", "c/three"):
        where.put(key, b"x")
    assert where.delete("a/") == 2
    assert list(where.keys()) == ["ab", "c/three"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TemporaryError, match=r"cannot be written .* name another folder"):
        place(str(tmp_path / "file" / "x")).put("a", b"x")


def test_keys_that_may_not_do_it_are_told_what_they_need(
    s3: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = s3.bucket("denied")
    s3.client.put_bucket_policy(Bucket="denied", Policy=_DENY)
    with pytest.raises(StoreError, match=r"s3://denied: may not be written \((AccessDenied|403)\)"):
        place(address).put("a", b"x")


_DENY = """{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*",
"Action": "s3:PutObject", "Resource": "arn:aws:s3:::denied/*"}]}"""
