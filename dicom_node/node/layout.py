"""Where things are under ``node.data``."""

from dataclasses import dataclass
from pathlib import Path

from dicom_node.config import STORE, Config
from dicom_node.inbox import Inbox


@dataclass(frozen=True)
class Layout:
    """Where things are under ``node.data``."""

    data: Path

    @property
    def inbox(self) -> Path:
        """The spool; the single source of truth for what was received."""
        return self.data / "inbox"

    @property
    def index(self) -> Path:
        """Register of studies and instances; can be rebuilt from the inbox."""
        return self.data / "index.db"

    @property
    def outbox(self) -> Path:
        """What is owed to destinations."""
        return self.data / "outbox.db"

    @property
    def jobs(self) -> Path:
        """Jobs and their checkpoints, where no other database is configured."""
        return self.data / "jobs.db"

    @property
    def results(self) -> Path:
        """SEG and SR objects."""
        return self.data / "results"

    @property
    def pulls(self) -> Path:
        """Which studies of an archive are here whole."""
        return self.data / "pull.db"

    @property
    def not_taken(self) -> Path:
        """Which files of the last folder were not taken: names as found, for the site's eyes."""
        return self.data / "not-taken.csv"

    @property
    def page(self) -> Path:
        """Who may use the page, who is logged in, and who did what on it."""
        return self.data / "page.db"

    @property
    def store(self) -> Path:
        """The de-identified weak-label store."""
        return self.data / STORE


def open_inbox(config: Config) -> Inbox:
    """Open the inbox of a configuration."""
    node = config.node
    quota = node.inbox_quota_gib
    return Inbox(
        Layout(node.data).inbox,
        min_free_bytes=int(node.min_free_gib * 2**30),
        quota_bytes=None if quota is None else int(quota * 2**30),
    )
