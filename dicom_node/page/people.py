"""The users of a node's page, for the command line."""

from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.config import Config
from dicom_node.database import open_sqlite
from dicom_node.node.layout import Layout
from dicom_node.page.tables import METADATA
from dicom_node.page.users import Users


@contextmanager
def opened(config: Config) -> Iterator[Users]:
    """Open the users of a node; the folder of its data must exist."""
    engine = open_sqlite(Layout(config.node.data).page, METADATA)
    try:
        yield Users(engine)
    finally:
        engine.dispose()
