"""Open the databases of a node that has run before."""

from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.jobs import Dispatcher, database_url
from dicom_node.node.layout import Layout
from dicom_node.outbox import Outbox


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
