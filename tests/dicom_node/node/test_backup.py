import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.config import Config, load
from dicom_node.errors import ConfigError, PermanentError
from dicom_node.harvest import open_key
from dicom_node.inbox import Inbox
from dicom_node.index import Index
from dicom_node.node import backup as backing_up
from dicom_node.node.backup import back_up
from dicom_node.node.backup_format import read_about
from dicom_node.node.layout import Layout
from dicom_node.node.locks import owned
from dicom_node.node.restore import KeySource, restore
from dicom_node.outbox import Outbox
from dicom_node.records import ResultKind
from dicom_node.register import rebuild, register_waiting
from dicom_node.results.masks import mask_of
from dicom_node.store import WeakLabelStore, audit, moving, open_store
from tests.support.frames import new_frame
from tests.support.nodes import until
from tests.support.owed import result
from tests.support.slices import new_volume
from tests.support.waiting import put

LOST = KeySource(is_lost=True)


def configured(folder: Path, more: str = "") -> Config:
    folder.mkdir(exist_ok=True)
    (folder / "node.yaml").write_text(f"node: {{data: ./data, min_free_gib: 0}}\n{more}")
    return load(folder / "node.yaml")


def fill(layout: Layout) -> None:
    """Write something of everything that a node has."""
    layout.results.mkdir(parents=True)
    inbox = Inbox(layout.inbox, min_free_bytes=0)
    for number in range(3):
        put(inbox, number)
    with closing(Index(layout.index)) as index:
        register_waiting(inbox, index, now=datetime.now(UTC))
    put(inbox, 3)  # waits
    (layout.inbox / "tmp" / "half.dcm").write_bytes(b"half")
    with closing(Outbox(layout.outbox, layout.results)) as outbox:
        made = result(layout.results, "1.7.1")
        now = datetime.now(UTC)
        outbox.add([made], [(made, "pacs")], analysed="1.9", models="m", now=now)
    with WeakLabelStore(layout.store) as store:
        store.add_frame(new_frame())
    (layout.data / "packs").mkdir()
    (layout.data / "packs" / "frames.bin").write_bytes(b"made anew when it is needed")
    (layout.data / "notices" / "new").mkdir(parents=True)
    (layout.data / "notices" / "new" / f"{'0' * 24}.json").write_text("{}")
    (layout.data / "installation.json").write_text("{}")
    open_key(layout.data / "pseudonym.key")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a node that does not run, with a backup of it beside."""
    folder = tmp_path_factory.mktemp("site")
    config = configured(folder)
    fill(Layout(config.node.data))
    back_up(config, folder / "backup", with_key=False)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_all_that_a_node_has_comes_back_but_for_its_key(site: Path, tmp_path: Path) -> None:
    config = configured(tmp_path)
    restore(config, site / "backup", LOST)
    was, found = files_of(site / "data"), files_of(config.node.data)
    gone = {name for name in was.keys() - found.keys() if not name.endswith((".lock", "-wal"))}
    assert {name for name in gone if not name.endswith("-shm")} == {
        "pseudonym.key",
        "inbox/bytes",
        "inbox/pulled",
        "inbox/tmp/half.dcm",
        "packs/frames.bin",
    }
    changed = {name for name in was.keys() & found.keys() if was[name] != found[name]}
    assert {name for name in changed if not name.endswith(".db")} <= {"node.lock"}
    layout = Layout(config.node.data)
    with closing(Index(layout.index)) as index:
        inbox = Inbox(layout.inbox, min_free_bytes=0)
        assert rebuild(inbox, index) == 0
        register_waiting(inbox, index, now=datetime.now(UTC))
        assert index.counts()["instances"] == 4
        for instance in index.instances("1.2"):
            assert instance.received_at == datetime.fromtimestamp(
                instance.path.stat().st_mtime, UTC
            )
    with closing(Outbox(layout.outbox, layout.results)) as outbox:
        assert [row.sop_instance_uid for row in outbox.rows()] == ["1.7.1"]
    with WeakLabelStore(layout.store) as store:
        assert len(store.frames()) == 1


def test_what_a_backup_holds_is_private_and_others_can_check_it(site: Path) -> None:
    backup = site / "backup"
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", "MANIFEST.sha256"],
        cwd=backup,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout) == (0, "")
    files = {str(path.relative_to(backup)) for path in backup.rglob("*") if path.is_file()}
    listed = set((backup / "MANIFEST.sha256").read_text().split()[1::2])
    assert files - listed == {"backup.json", "MANIFEST.sha256"}
    assert backup.stat().st_mode & 0o077 == 0


@contextmanager
def receiving(layout: Layout) -> Iterator[list[str]]:
    """Receive and register without a pause; yield the ids of what was acknowledged."""
    stop, acknowledged = threading.Event(), list[str]()

    def receive() -> None:
        inbox = Inbox(layout.inbox, min_free_bytes=0)
        with closing(Index(layout.index)) as index:
            number = 100
            while not stop.is_set():
                number += 1
                acknowledged.append(put(inbox, number))
                if number % 3 == 0:
                    register_waiting(inbox, index, now=datetime.now(UTC))

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        yield acknowledged
    finally:
        stop.set()
        thread.join()


def test_what_was_acknowledged_before_a_backup_under_load_is_in_it(tmp_path: Path) -> None:
    config, other = configured(tmp_path / "here"), configured(tmp_path / "there")
    Index(_made(config).index).close()
    with receiving(Layout(config.node.data)) as acknowledged:
        until(lambda: len(acknowledged) >= 20)
        before = list(acknowledged)
        back_up(config, tmp_path / "backup", with_key=False)
        assert len(acknowledged) > len(before), "nothing came meanwhile"
    shutil.rmtree(config.node.data)
    restore(other, tmp_path / "backup", LOST)
    layout = Layout(other.node.data)
    inbox = Inbox(layout.inbox, min_free_bytes=0)
    with closing(Index(layout.index)) as index:
        rebuild(inbox, index)
        while register_waiting(inbox, index, now=datetime.now(UTC)).total:
            pass
        found = index.instances("1.2")
    assert set(before) <= {instance.file_id for instance in found}
    assert all(instance.path.exists() for instance in found)
    assert inbox.waiting() == []


def _made(config: Config) -> Layout:
    config.node.data.mkdir()
    return Layout(config.node.data)


def test_a_backup_on_another_disk_is_a_copy(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    config = load(site / "node.yaml")
    assert back_up(config, tmp_path / "same", with_key=False).linked > 0
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    taken = back_up(config, tmp_path / "other", with_key=False)
    assert taken.linked == 0
    assert {path.stat().st_nlink for path in tmp_path.glob("other/data/inbox/kept/*/*")} == {1}


def test_a_file_that_a_database_names_and_nobody_met_is_taken(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backing_up, "_INBOX", ())
    taken = back_up(load(site / "node.yaml"), tmp_path / "backup", with_key=False)
    assert taken.about.gone == 0
    assert len([*(tmp_path / "backup").glob("data/inbox/kept/*/*.dcm")]) == 3


def test_what_was_gone_before_is_counted(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "data", tmp_path / "data")
    next((tmp_path / "data" / "inbox" / "kept").glob("*/*.dcm")).unlink()
    taken = back_up(configured(tmp_path), tmp_path / "backup", with_key=False)
    assert taken.about.gone == 1


def test_the_picture_of_a_volume_that_left_meanwhile_is_counted(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "data", tmp_path / "data")
    config = configured(tmp_path)
    layout, new = Layout(config.node.data), new_volume()
    with WeakLabelStore(layout.store) as store:
        store.volumes.put(new)
    assert back_up(config, tmp_path / "first", with_key=False).about.gone == 0
    next((layout.store / "volumes").glob("*/*.png")).unlink()
    assert back_up(config, tmp_path / "second", with_key=False).about.gone == 1


def test_a_still_whose_mask_is_there_is_not_gone(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "data", tmp_path / "data")
    config = configured(tmp_path)
    layout = Layout(config.node.data)
    seg = result(layout.results, "1.77", "1.2.840.10008.5.1.4.1.1.66.4", ResultKind.SEG)
    with closing(Outbox(layout.outbox, layout.results)) as outbox:
        outbox.add([seg], [], analysed="1.77", models="m", now=datetime.now(UTC))
    seg.path.unlink(missing_ok=True)
    assert back_up(config, tmp_path / "first", with_key=False).about.gone == 1
    mask_of(seg.path).parent.mkdir(exist_ok=True)
    mask_of(seg.path).write_bytes(b"a mask")
    assert back_up(config, tmp_path / "second", with_key=False).about.gone == 0
    assert mask_of(tmp_path / "second" / "data" / "results" / seg.path.name).exists()


def test_the_key_is_in_a_backup_only_when_it_is_asked_for(site: Path, tmp_path: Path) -> None:
    given = ["--config", str(site / "node.yaml")]
    told = CliRunner().invoke(app, ["backup", str(tmp_path / "a"), *given]).stdout
    assert "not in it: pseudonym.key" in " ".join(told.split())
    assert not (tmp_path / "a" / "data" / "pseudonym.key").exists()
    asked = ["backup", str(tmp_path / "b"), "--with-key", "--json", *given]
    assert json.loads(CliRunner().invoke(app, asked).stdout)["has_key"] is True
    restore(configured(tmp_path), tmp_path / "b", KeySource())
    key = tmp_path / "data" / "pseudonym.key"
    assert key.read_bytes() == (site / "data" / "pseudonym.key").read_bytes()
    assert key.stat().st_mode & 0o077 == 0


def test_a_restore_wants_the_key_that_the_backup_is_without(site: Path, tmp_path: Path) -> None:
    config = configured(tmp_path)
    with pytest.raises(PermanentError, match="--key FILE"):
        restore(config, site / "backup", KeySource())
    wrong = tmp_path / "wrong.key"
    wrong.write_text("00" * 32)
    with pytest.raises(PermanentError, match="is not the key of this backup"):
        restore(config, site / "backup", KeySource(path=wrong))
    restore(config, site / "backup", KeySource(path=site / "data" / "pseudonym.key"))
    open_key(config.node.data / "pseudonym.key")


def test_a_restore_takes_only_an_empty_folder_that_nobody_uses(site: Path, tmp_path: Path) -> None:
    config = configured(tmp_path)
    with (
        owned(config.node.data),
        pytest.raises(ConfigError, match="in use by another node"),
    ):
        restore(config, site / "backup", LOST)
    (config.node.data / "something").touch()
    with pytest.raises(ConfigError, match=r"not empty \(something\)"):
        restore(config, site / "backup", LOST)


def test_nothing_of_a_damaged_backup_is_put_in_place(site: Path, tmp_path: Path) -> None:
    backup, config = tmp_path / "backup", configured(tmp_path)
    shutil.copytree(site / "backup", backup)
    with (backup / "data" / "outbox.db").open("r+b") as file:
        file.seek(5000)
        file.write(b"rot")
    with pytest.raises(PermanentError, match=r"outbox\.db is missing or damaged"):
        restore(config, backup, LOST)
    assert {path.name for path in config.node.data.iterdir()} == {"node.lock", "restoring"}
    with pytest.raises(ConfigError, match="of a restore that did not end"):
        restore(config, site / "backup", LOST)


def test_a_backup_that_did_not_end_is_none(site: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(site / "backup", backup)
    with (backup / "MANIFEST.sha256").open("a") as file:
        file.write("0  data/more\n")
    with pytest.raises(PermanentError, match=r"MANIFEST\.sha256 is missing or damaged"):
        restore(configured(tmp_path), backup, LOST)
    (backup / "backup.json").unlink()
    with pytest.raises(PermanentError, match="no whole backup"):
        restore(configured(tmp_path), backup, LOST)


def test_a_backup_of_a_later_format_is_refused_with_the_version_that_wrote_it(
    site: Path, tmp_path: Path
) -> None:
    about = json.loads((site / "backup" / "backup.json").read_text())
    (tmp_path / "backup.json").write_text(json.dumps(about | {"format": 2, "version": "9.1"}))
    with pytest.raises(PermanentError, match=r"use dicom-node 9\.1"):
        read_about(tmp_path)


def test_another_node_cannot_take_a_backup_over(site: Path, tmp_path: Path) -> None:
    config = configured(tmp_path)
    other = config.model_copy(update={"node": config.node.model_copy(update={"name": "other"})})
    with pytest.raises(ConfigError, match="the backup is of 'node-0'"):
        restore(other, site / "backup", LOST)
    elsewhere = config.model_copy(update={"database": "postgresql://host/name"})
    with pytest.raises(ConfigError, match=r"jobs of the backup are in jobs\.db"):
        restore(elsewhere, site / "backup", LOST)


def test_a_backup_goes_into_a_new_folder_outside_of_the_node(site: Path, tmp_path: Path) -> None:
    config = load(site / "node.yaml")
    with pytest.raises(ConfigError, match=r"lies under node\.data"):
        back_up(config, config.node.data / "backup", with_key=False)
    (tmp_path / "something").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        back_up(config, tmp_path, with_key=False)
    with pytest.raises(ConfigError, match="no node ran in"):
        back_up(configured(tmp_path / "fresh"), tmp_path / "new", with_key=False)


def test_jobs_on_a_server_are_said_to_be_elsewhere(site: Path, tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text(
        f"node: {{data: {site / 'data'}, min_free_gib: 0}}\ndatabase: postgresql://host/name\n"
    )
    asked = ["backup", str(tmp_path / "backup"), "--config", str(tmp_path / "node.yaml")]
    told = CliRunner().invoke(app, asked).stdout
    assert "pg_dump" in told


def test_a_damaged_database_makes_no_backup(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "data", tmp_path / "data")
    path = tmp_path / "data" / "outbox.db"
    content = bytearray(path.read_bytes())
    # the second page holds a table; its header says now what no page is
    content[4096:4100] = b"rot!"
    path.write_bytes(content)
    with pytest.raises(PermanentError, match=r"outbox\.db is damaged"):
        back_up(configured(tmp_path), tmp_path / "backup", with_key=False)
    assert not (tmp_path / "backup" / "backup.json").exists()


@pytest.mark.peers
def test_a_catalogue_on_a_server_is_in_the_backup_as_a_file(
    tmp_path: Path, postgres_url: str
) -> None:
    config = configured(tmp_path / "node", f"harvest: {{catalogue: {postgres_url}}}\n")
    layout = Layout(config.node.data)
    fill(layout)
    moving.move(layout.store, postgres_url)
    (layout.store / "catalogue.db").write_bytes(b"left by a move that was killed")
    with WeakLabelStore(layout.store) as store:
        version = store.version()
    back_up(config, tmp_path / "backup", with_key=True)
    assert sorted(path.name for path in (tmp_path / "backup/data/store").glob("cat*")) == [
        "catalogue.db"
    ]
    again = configured(tmp_path / "again", f"harvest: {{catalogue: {postgres_url}}}\n")
    restore(again, tmp_path / "backup", KeySource())
    with open_store(Layout(again.node.data).store) as store:
        assert store.version() == version
    assert audit(Layout(again.node.data).store) == []
