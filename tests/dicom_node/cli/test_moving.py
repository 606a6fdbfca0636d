import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dicom_node.cli.app import app
from dicom_node.cli.catalogue_check import catalogue
from dicom_node.config import load
from dicom_node.node.locks import owned
from dicom_node.store import WeakLabelStore, open_store
from tests.support.catalogues import edit
from tests.support.frames import new_frame

pytestmark = pytest.mark.peers


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return the folder of a node whose store has a frame."""
    write(tmp_path, None)
    with WeakLabelStore(tmp_path / "data" / "store") as store:
        store.add_frame(new_frame())
    return tmp_path


def write(site: Path, url: str | None) -> Path:
    config = site / "node.yaml"
    config.write_text(f"node: {{data: ./data}}\nharvest: {{catalogue: {url or 'null'}}}\n")
    return config


def move(site: Path, to: str, *more: str) -> Result:
    words = ["store", "move", "--to", to, "--config", str(site / "node.yaml"), *more]
    return CliRunner().invoke(app, words)


def checked(site: Path) -> tuple[str, str]:
    [(_, fault, found)] = catalogue(load(site / "node.yaml"))
    return fault, found


def test_a_catalogue_is_moved_by_one_command_that_counts(site: Path, postgres_url: str) -> None:
    done = move(site, postgres_url)
    assert done.exit_code == 0, done.output
    assert f"Set harvest.catalogue to {postgres_url}" in " ".join(done.output.split())
    write(site, postgres_url)
    again = json.loads(move(site, postgres_url, "--json").output)
    assert again["rows"]["frames"] == 1
    assert "Set harvest" not in move(site, postgres_url).output
    back = move(site, "file")
    assert "Set harvest.catalogue to null" in back.output
    with open_store(site / "data" / "store") as store:
        assert len(store.frames()) == 1


def test_while_a_node_runs_nothing_moves(site: Path, postgres_url: str) -> None:
    with owned(site / "data"):
        refused = move(site, postgres_url)
    assert "in use by another node; stop it" in str(refused.exception)
    assert (site / "data" / "store" / "catalogue.db").exists()


def test_a_check_says_where_configuration_and_folder_differ(site: Path, postgres_url: str) -> None:
    assert catalogue(load(site / "node.yaml")) == []
    write(site, postgres_url)
    fault, _ = checked(site)
    assert (
        "in catalogue.db, which counts: stop the node and give 'dicom-node store move --to "
        in fault
    )
    assert postgres_url in fault
    move(site, postgres_url)
    fault, found = checked(site)
    assert (fault, "its schema is there" in found) == ("", True)
    assert "warning: fsync is off" in found, "the tests' server waits for no disk"
    write(site, None)
    fault, _ = checked(site)
    assert f"'dicom-node store move --to file', or set it to {postgres_url}" in fault


def test_a_check_asks_the_server_of_a_store_that_is_not_there_yet(
    tmp_path: Path, postgres_url: str
) -> None:
    write(tmp_path, postgres_url)
    fault, found = checked(tmp_path)
    assert (fault, "the first harvest makes its schema" in found) == ("", True)
    write(tmp_path, "postgresql://jane@127.0.0.1:1/nothing")
    fault, _ = checked(tmp_path)
    assert "see to its PostgreSQL server" in fault
    assert not (tmp_path / "data").exists()


def test_a_check_says_that_a_schema_is_gone_or_of_a_later_version(
    site: Path, postgres_url: str
) -> None:
    move(site, postgres_url)
    write(site, postgres_url)
    store = site / "data" / "store"
    schema = json.loads((store / "catalogue.json").read_text())["schema"]
    edit(store, f"COMMENT ON SCHEMA {schema} IS 'weak-label store of dicom-node, layout 99'")
    assert "layout 99, this program knows 1" in checked(site)[0]
    stated = {"url": postgres_url, "schema": f"dicom_node_store_{'0' * 12}"}
    (store / "catalogue.json").write_text(json.dumps(stated))
    assert "restore its dump" in checked(site)[0]
