"""What every handler of the page works with."""

import threading
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from starlette.requests import Request

from dicom_node.books.opened import open_jobs, open_outbox
from dicom_node.config import Config
from dicom_node.database import open_sqlite
from dicom_node.index import Index
from dicom_node.jobs import Dispatcher
from dicom_node.node.layout import Layout
from dicom_node.outbox import Outbox
from dicom_node.page.journal import Journal
from dicom_node.page.limits import Allowance
from dicom_node.page.sessions import Sessions
from dicom_node.page.tables import METADATA
from dicom_node.page.users import Users
from dicom_node.page_settings import PageSettings

_HOUR_S: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class Books:
    """The node's databases."""

    index: Index
    outbox: Outbox
    jobs: Dispatcher


class Desk:
    """Configuration, databases, sessions and limits of a running page.

    Parameters
    ----------
    config : Config
        With a section ``page``, or its defaults are taken.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.settings = config.page or PageSettings()
        self.layout = Layout(config.node.data)
        self._engine = open_sqlite(self.layout.page, METADATA)
        self.users = Users(self._engine)
        self.sessions = Sessions(self._engine, self.settings.session_hours * _HOUR_S)
        self.journal = Journal(self._engine)
        #: of log-in attempts that failed, by address and by name
        self.attempts = Allowance(at_once=10, a_second=1 / 30)
        #: of requests, by address; a study's pictures are dozens
        self.requests = Allowance(at_once=400, a_second=20)
        self._lock = threading.Lock()

    @property
    def books(self) -> Books:
        """The node's databases; raises ConfigError while the node never ran."""
        with self._lock:
            return self._books

    @cached_property
    def _books(self) -> Books:
        return Books(
            outbox=open_outbox(self.config),
            jobs=open_jobs(self.config),
            index=Index(self.layout.index),
        )

    def close(self) -> None:
        """Close every database."""
        with self._lock:
            if "_books" in self.__dict__:
                with closing(self._books.index), closing(self._books.jobs):
                    self._books.outbox.close()
        self._engine.dispose()


def desk_of(request: Request) -> Desk:
    """Return the desk at which a request is answered."""
    found = request.app.state.desk
    assert isinstance(found, Desk)  # noqa: S101 - for the reader and the type checker
    return found
