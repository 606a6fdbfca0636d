"""Open the databases of a node that has run before."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.index import Index
from dicom_node.jobs import Dispatcher, database_url
from dicom_node.node.layout import Layout
from dicom_node.outbox import Outbox


@dataclass(frozen=True, kw_only=True)
class Books:
    """A node's databases."""

    config: Config
    index: Index
    outbox: Outbox
    jobs: Dispatcher

    def close(self) -> None:
        """Close all of them."""
        with closing(self.index), closing(self.jobs):
            self.outbox.close()


@contextmanager
def opened(config: Config) -> Iterator[Books]:
    """Open all databases; raises ConfigError as `open_outbox`."""
    with closing(open_books(config)) as books:
        yield books


def open_books(config: Config) -> Books:
    """Open all databases; raises ConfigError as `open_outbox`."""
    return Books(
        config=config,
        outbox=open_outbox(config),
        jobs=open_jobs(config),
        index=Index(Layout(config.node.data).index),
    )


def open_outbox(config: Config) -> Outbox:
    """Open the outbox of a node that has run before.

    Raises
    ------
    ConfigError
        When the node never ran with this configuration.
    """
    layout = Layout(config.node.data)
    _must_exist(layout)
    return Outbox(layout.outbox, layout.results)


def open_jobs(config: Config) -> Dispatcher:
    """Open the jobs of a node that has run before.

    Raises
    ------
    ConfigError
        When the node never ran with this configuration.
    """
    layout = Layout(config.node.data)
    _must_exist(layout)
    return Dispatcher(database_url(layout.jobs, config.database), config.node.name)


def _must_exist(layout: Layout) -> None:
    if not layout.outbox.exists():
        raise ConfigError(
            f"node.data: no node ran in {layout.data} yet; start it with 'dicom-node serve'"
        )
