"""A node whose store has its catalogue on a PostgreSQL server."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import yaml

from dicom_node.store import audit, open_store, places
from tests.support.nodes import node_on, send, until
from tests.support.reader_objects import image

pytestmark = [pytest.mark.dimse, pytest.mark.peers, pytest.mark.slow]


def open_to_all(url: str, *, is_open: bool) -> None:
    """Let a database take connections, or end all that it has and take none."""
    address, _, name = url.rpartition("/")
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {is_open}'.encode())
        if not is_open:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
                (name,),
            )


def test_a_node_takes_images_while_its_catalogue_is_down_and_harvests_them_afterwards(
    tmp_path: Path, free_port: Callable[[], int], postgres_url: str
) -> None:
    source = image(tmp_path / "image.dcm", 2)
    with node_on(tmp_path, free_port()) as node:
        tree = yaml.safe_load((tmp_path / "node.yaml").read_text())
        tree["harvest"] = tree.get("harvest", {}) | {"catalogue": postgres_url}
        (tmp_path / "node.yaml").write_text(yaml.safe_dump(tree))
        node.start()
        open_to_all(postgres_url, is_open=False)
        try:
            assert send([source.path], node.port) == [0]
            until(lambda: "study complete" in node.log, why=node.log)
            assert not node.finished(source.study_instance_uid)
        finally:
            open_to_all(postgres_url, is_open=True)
        until(lambda: node.finished(source.study_instance_uid), why=node.log)
        assert node.stop() == 0
    assert not (node.layout.store / places.FILE).exists()
    with open_store(node.layout.store) as store:
        assert len(store.frames()) == 2
    assert audit(node.layout.store) == []
