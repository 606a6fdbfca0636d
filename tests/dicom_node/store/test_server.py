import json
import multiprocessing
import stat
from pathlib import Path
from threading import Thread

import psycopg
import pytest
import sqlalchemy as sa

from dicom_node.database import for_reading
from dicom_node.errors import DatabaseDownError, PermanentError, StoreError
from dicom_node.store import Erasure, WeakLabelStore, audit, catalogue, open_store, places, server
from dicom_node.store.audit import ALLOWED_TEXT, TOKEN
from dicom_node.store.columns import UNSAMPLED
from dicom_node.store.finding import DIGEST
from dicom_node.store.pack_audit import audit_packs
from tests.support.catalogues import edit
from tests.support.frames import new_frame
from tests.support.labels import say
from tests.support.nodes import until
from training import pack
from training.config import Size

pytestmark = pytest.mark.peers


@pytest.fixture
def folder(tmp_path: Path, catalogue_url: str) -> Path:
    """Return a store with a labelled frame, whose catalogue is on a server."""
    folder = tmp_path / "store"
    with WeakLabelStore(folder, new_on=catalogue_url) as store:
        store.add_frame(new_frame())
        say(store, "d" * 32, 1, quality=2)
    return folder


def schema_of(folder: Path) -> str:
    place = places.read(folder)
    assert place is not None
    return place.schema


def test_the_folder_alone_says_where_its_catalogue_is_and_to_nobody_else(folder: Path) -> None:
    assert not (folder / "catalogue.db").exists()
    assert stat.S_IMODE((folder / "catalogue.json").stat().st_mode) == 0o600
    with open_store(folder) as store:
        assert len(store.frames()) == 1
    with WeakLabelStore(folder, new_on="postgresql://nobody@127.0.0.1:1/other") as store:
        assert len(store.frames()) == 1, "what is there stays where it is"
    assert audit(folder) == []


def test_two_stores_share_a_database_and_nothing_else(folder: Path, catalogue_url: str) -> None:
    with WeakLabelStore(folder.parent / "other", new_on=catalogue_url) as other:
        assert other.frames() == []
    assert schema_of(folder) != schema_of(folder.parent / "other")


def test_of_two_that_begin_a_store_at_once_both_have_the_same(
    tmp_path: Path, catalogue_url: str
) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        folders = [(tmp_path / "store", catalogue_url)] * 2
        pool.starmap(_add_the_same, folders)
    with open_store(tmp_path / "store") as store:
        assert len(store.frames()) == 20
    assert audit(tmp_path / "store") == []


def _add_the_same(folder: Path, url: str) -> None:
    with WeakLabelStore(folder, new_on=url) as store, store.together() as one:
        for number in range(1, 21):
            one.put_frame(new_frame(seed=number, frame_number=number))


@pytest.mark.parametrize("query", ["?password=secret", ""])
def test_a_password_never_comes_into_the_folder(tmp_path: Path, query: str) -> None:
    url = f"postgresql://node{'' if query else ':secret'}@127.0.0.1/name{query}"
    with pytest.raises(StoreError, match="PGPASSFILE") as caught:
        WeakLabelStore(tmp_path / "store", new_on=url)
    assert "secret" not in str(caught.value)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_damaged_name_of_the_place_is_said(folder: Path) -> None:
    (folder / "catalogue.json").write_text("{}")
    with pytest.raises(StoreError, match=r"catalogue.json: is damaged"):
        open_store(folder)


def test_who_reads_sees_one_moment_and_waits_for_nobody(folder: Path) -> None:
    engine = catalogue.open_catalogue(folder)
    count = sa.select(sa.func.count()).select_from(catalogue.frames)
    with for_reading(engine).begin() as reading:
        assert reading.scalar(count) == 1
        with engine.begin() as writing:
            writing.execute(sa.delete(catalogue.sightings))
            writing.exec_driver_sql("DELETE FROM frames")
            assert reading.scalar(count) == 1
        assert reading.scalar(count) == 1
        with pytest.raises(sa.exc.InternalError, match="read-only transaction"):
            reading.execute(sa.delete(catalogue.instances))
    with for_reading(engine).begin() as reading:
        assert reading.scalar(count) == 0
    engine.dispose()


def test_writers_take_turns_and_a_commit_waits_for_the_disk(folder: Path) -> None:
    engine = catalogue.open_catalogue(folder)
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    came: list[str] = []

    def write() -> None:
        with engine.begin() as connection:
            came.append("second")
            connection.execute(sa.select(1))

    with engine.begin() as connection:
        assert connection.scalar(sa.text("SHOW synchronous_commit")) == "on"
        second = Thread(target=write)
        second.start()
        until(lambda: connection.scalar(sa.text(waiting)) == 1)
        came.append("first")
    second.join(10)
    assert came == ["first", "second"]
    engine.dispose()


def test_a_server_that_is_down_is_a_passing_error_without_its_words(tmp_path: Path) -> None:
    url = "postgresql://jane@127.0.0.1:1/nothing"
    with pytest.raises(DatabaseDownError, match="see to its PostgreSQL server") as caught:
        WeakLabelStore(tmp_path / "store", new_on=url)
    assert "jane" not in str(caught.value)


def test_a_store_goes_on_when_its_server_cut_the_connections(folder: Path) -> None:
    with open_store(folder) as store:
        with pytest.raises(DatabaseDownError), store.together() as one:
            one.put_frame(new_frame(seed=1, frame_number=2))
            _cut(folder)
            one.put_frame(new_frame(seed=2, frame_number=3))
        assert store.add_frame(new_frame(seed=2, frame_number=3))
        assert [frame.frame_number for frame in store.frames()] == [1, 3]


def _cut(folder: Path) -> None:
    """End all connections, as a server does that is restarted."""
    place = places.read(folder)
    assert place is not None
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND application_name = 'dicom-node'"
        )


def test_a_catalogue_of_a_later_version_is_refused_with_the_cure(folder: Path) -> None:
    comment = "weak-label store of dicom-node, layout 99"
    edit(folder, f"COMMENT ON SCHEMA {schema_of(folder)} IS '{comment}'")
    with pytest.raises(PermanentError, match="layout 99, this program knows 1: run the later"):
        open_store(folder)


def test_a_schema_that_lost_its_comment_is_not_taken_for_a_store(folder: Path) -> None:
    edit(folder, f"COMMENT ON SCHEMA {schema_of(folder)} IS NULL")
    with pytest.raises(StoreError, match="is not the store's"):
        open_store(folder)


def as_reader(folder: Path) -> None:
    """Let a folder name a role that may only read."""
    schema = schema_of(folder)
    role = f"reader_{schema[-6:]}"
    edit(
        folder,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
    )
    stated = json.loads((folder / "catalogue.json").read_text())
    stated["url"] = stated["url"].replace("postgres@", f"{role}@")
    (folder / "catalogue.json").write_text(f"{json.dumps(stated, indent=1)}\n")


def test_a_role_that_may_only_read_can_open_a_store(folder: Path) -> None:
    as_reader(folder)
    with open_store(folder) as store:
        assert store.frames()[0].quality == 2
        assert store.readers.of("d" * 32)[0].reading.value == 2
        assert store.listing().version == store.version()
        assert len(list(store.where())) == store.info().frames == 1
        assert store.evidence.verdicts() == {}
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            store.add_frame(new_frame(seed=1, frame_number=2))


def test_a_role_that_may_only_read_can_audit_a_store_and_build_its_pack(folder: Path) -> None:
    as_reader(folder)
    assert audit(folder) == []
    assert len(pack.ensure(folder, None, Size(height=64, width=64))) == 1
    assert audit_packs(folder.parent / "packs", folder) == []


def test_a_role_that_may_only_read_does_without_an_index_and_not_without_a_column(
    folder: Path,
) -> None:
    owned = (folder / "catalogue.json").read_text()
    edit(folder, "DROP INDEX frames_with_quality")
    as_reader(folder)
    open_store(folder).close()
    reader = (folder / "catalogue.json").read_text()
    (folder / "catalogue.json").write_text(owned)
    engine = catalogue.open_catalogue(folder)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE frames DROP COLUMN class_name")
    engine.dispose()
    (folder / "catalogue.json").write_text(reader)
    with pytest.raises(PermanentError, match="an earlier version of the program made it"):
        open_store(folder)


def test_a_user_who_may_make_no_schema_is_told_what_to_grant(
    tmp_path: Path, folder: Path, catalogue_url: str
) -> None:
    role = f"nobody_{schema_of(folder)[-6:]}"
    edit(folder, f"CREATE ROLE {role} LOGIN")
    url = catalogue_url.replace("postgres@", f"{role}@")
    with pytest.raises(PermanentError, match="GRANT CREATE ON DATABASE"):
        WeakLabelStore(tmp_path / "mine", new_on=url)


def test_an_erasure_waits_for_whoever_could_still_see_what_was_deleted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = places.read(folder)
    assert place is not None
    with psycopg.connect(place.url) as reader, Erasure(folder, "a" * 32) as erasure:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        monkeypatch.setattr(server, "PATIENCE_S", 0.3)
        with erasure.alone(), pytest.raises(DatabaseDownError, match="run the command again"):
            erasure.run()
        monkeypatch.undo()
        reader.commit()
        with erasure.alone():
            assert erasure.run().frames == 0, "the rows went the first time"


def test_a_server_keeps_no_statistics_of_what_may_be_erased(folder: Path) -> None:
    tokens = {name for name, form in ALLOWED_TEXT.items() if form in (TOKEN, DIGEST)}
    assert tokens | {"mask_png"} == UNSAMPLED
    edit(folder, "ANALYZE")
    engine = catalogue.open_catalogue(folder)
    query = "SELECT attname FROM pg_stats WHERE schemaname = current_schema()"
    with engine.begin() as connection:
        sampled = set(connection.scalars(sa.text(query)))
    engine.dispose()
    assert {"geometry", "split", "frame_number"} <= sampled
    assert not sampled & UNSAMPLED


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW doe_jane AS SELECT 1",
        "CREATE MATERIALIZED VIEW doe_jane AS SELECT 1",
        "CREATE INDEX doe_jane ON frames (quality)",
        "CREATE TABLE doe_jane (id INTEGER)",
        "CREATE SEQUENCE doe_jane",
        "CREATE TYPE doe_jane AS ENUM ('a')",
        "CREATE FUNCTION doe_jane() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE frames ADD CONSTRAINT doe_jane CHECK (height > 0)",
        "CREATE RULE doe_jane AS ON DELETE TO erasing DO INSTEAD NOTHING",
        "COMMENT ON COLUMN frames.quality IS 'by Dr. Doe'",
        "ALTER TABLE erasing ALTER COLUMN frame_id SET DEFAULT 'doe_jane'",
    ],
)
def test_what_the_store_does_not_make_is_found(folder: Path, statement: str) -> None:
    edit(folder, statement)
    [finding] = audit(folder)
    assert finding.where == "catalogue"
    assert "doe" not in finding.what


@pytest.mark.parametrize(
    ("column", "planted"),
    [
        ("patient", "DOE^JANE"),
        ("geometry_rule", "Dr. Doe"),
        ("rows", 20200131),
        ("description", "20200131"),
    ],
)
def test_what_does_not_belong_into_a_column_is_found(
    folder: Path, column: str, planted: str | int
) -> None:
    edit(folder, f"UPDATE instances SET {column} = :planted", planted=planted)  # noqa: S608
    [finding] = audit(folder)
    assert finding.where == f"catalogue instances.{column}, row 1"
    assert str(planted) not in finding.what


def test_a_table_or_column_of_somebody_else_is_found(folder: Path) -> None:
    edit(
        folder,
        "CREATE TABLE patients (name TEXT)",
        "INSERT INTO patients VALUES ('Doe^Jane')",
        "ALTER TABLE frames ADD COLUMN note TEXT",
        "UPDATE frames SET note = 'seen by Dr. Doe'",
    )
    found = {finding.where for finding in audit(folder)}
    assert found == {"catalogue", "catalogue ?.?, row 1", "catalogue frames.?, row 1"}


def test_words_beside_the_name_of_the_place_are_found(folder: Path) -> None:
    stated = json.loads((folder / "catalogue.json").read_text())
    (folder / "catalogue.json").write_text(json.dumps(stated | {"note": "of Dr. Doe"}))
    [finding] = audit(folder)
    assert finding.where == "file catalogue.json"
    assert "Doe" not in finding.what


def test_a_file_of_the_other_engine_beside_the_catalogue_is_found(folder: Path) -> None:
    (folder / "catalogue.db").touch()
    [finding] = audit(folder)
    assert finding.where == "file ..."
