"""What every handler of the page works with."""

import threading
from functools import cached_property
from typing import Final

from starlette.requests import Request

from dicom_node.books.opened import Books, open_books
from dicom_node.config import Config
from dicom_node.database import open_sqlite
from dicom_node.node.layout import Layout
from dicom_node.page.journal import Journal
from dicom_node.page.limits import Allowance
from dicom_node.page.pictures import Pictures
from dicom_node.page.sessions import Sessions
from dicom_node.page.tables import METADATA
from dicom_node.page.users import Users
from dicom_node.page_settings import PageSettings

_HOUR_S: Final = 3600.0


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
        infer = config.infer
        self.pictures = Pictures(infer.decode_memory_mib, infer.decode_timeout_s)
        self._lock = threading.Lock()

    @property
    def books(self) -> Books:
        """The node's databases; raises ConfigError while the node never ran."""
        with self._lock:
            return self._books

    @cached_property
    def _books(self) -> Books:
        return open_books(self.config)

    def close(self) -> None:
        """Close every database."""
        with self._lock:
            if "_books" in self.__dict__:
                self._books.close()
        self.pictures.close()
        self._engine.dispose()


def desk_of(request: Request) -> Desk:
    """Return the desk at which a request is answered."""
    found = request.app.state.desk
    assert isinstance(found, Desk)  # noqa: S101 - for the reader and the type checker
    return found
