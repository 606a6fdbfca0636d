"""When the node is not well: the table of what is looked at, and what to do then."""

import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from dicom_node import metrics
from dicom_node.certificates import expiry
from dicom_node.config import Config, NodeSettings
from dicom_node.errors import ConfigError, TemporaryError
from dicom_node.inbox import Inbox
from dicom_node.metrics import Page
from dicom_node.node.children import Child
from dicom_node.node.layout import Layout
from dicom_node.web import Look

#: A database that does not answer in this time does not answer.
_PATIENCE_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long nothing may happen."""

    #: a receiver looks for connections ten times a second
    accept_s: float = 15.0
    #: the worker sweeps four times a second; a batch of long cines takes a minute
    sweep_s: float = 120.0
    #: the longest stage, a long cine through several models, takes some minutes
    jobs_s: float = 1800.0


def looks(
    config: Config,
    inbox: Inbox,
    worker: Child,
    receivers: Sequence[Child],
    limits: Limits | None = None,
) -> list[Look]:
    """Return what is looked at."""
    limits = limits or Limits()
    layout = Layout(config.node.data)
    rows: tuple[tuple[str, Callable[[], str], str], ...] = (
        (
            "receivers",
            partial(_not_ready, receivers),
            "see 'child' lines of the log; it is retried",
        ),
        ("worker", partial(_not_ready, [worker]), "see 'child' lines of the log; it is retried"),
        (
            "accepting",
            partial(_late, receivers, limits.accept_s),
            "kill the process that hangs: it is started again, and nothing acknowledged is lost",
        ),
        (
            "sweep",
            partial(_late, [worker], limits.sweep_s),
            "see 'sweep put off' in the log; when there is none, restart the node",
        ),
        (
            "jobs",
            partial(_stuck_jobs, worker.page, limits.jobs_s),
            "restart the node: jobs go on where they were",
        ),
        (
            "room",
            partial(_no_room, inbox),
            "free disk space; or remove files from inbox/kept, which is noticed in about a "
            "minute, or raise node.inbox_quota_gib: the node itself deletes no study",
        ),
        ("inbox", partial(_unwritable, layout.inbox), "see that this user can write to node.data"),
        ("databases", partial(_unusable, layout), "see docs/operations.md, 'A database'"),
        (
            "certificate",
            partial(_expired, config.node),
            "put a new certificate and its key in place: the next connection meets them",
        ),
    )
    return [Look(name=name, fault=fault, cure=cure) for name, fault, cure in rows]


def _not_ready(children: Sequence[Child]) -> str:
    missing = [child.name for child in children if not child.is_ready]
    return f"not ready: {', '.join(missing)}" if missing else ""


def _late(children: Sequence[Child], limit_s: float) -> str:
    signs = ((child.name, child.page.get(metrics.ALIVE_AT)) for child in children)
    faults = (_older(at, limit_s, f"the last sign of {name}") for name, at in signs)
    return "; ".join(fault for fault in faults if fault)


def _stuck_jobs(page: Page, limit_s: float) -> str:
    if not page.get(metrics.JOBS, "unfinished"):
        return ""
    return _older(page.get(metrics.PROGRESS_AT), limit_s, "the last step of a job")


def _older(at: float, limit_s: float, what: str) -> str:
    if not at:  # the worker starts; whether it does is another look
        return ""
    age_s = time.time() - at
    return f"{what} was {age_s:.0f} s ago, {limit_s:g} s is the limit" if age_s > limit_s else ""


def _no_room(inbox: Inbox) -> str:
    try:
        inbox.check_room()
    except TemporaryError as exc:
        return str(exc)
    return ""


def _unwritable(folder: Path) -> str:
    for part in ("tmp", "new"):
        # an own name, which no sweep and no reader of the folder takes for an object
        with tempfile.TemporaryFile(dir=folder / part) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    return ""


def _unusable(layout: Layout) -> str:
    paths = (layout.index, layout.outbox, layout.jobs)
    faults = [fault for path in paths if (fault := _database_fault(path))]
    return "; ".join(faults)


def _database_fault(path: Path) -> str:
    if not path.exists():  # jobs may lie in another database; the others are made at the start
        return "" if path.name == "jobs.db" else f"{path.name} is missing"
    uri = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S)) as connection:
            connection.isolation_level = None
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as exc:
        return f"{path.name}: {exc}"
    return ""


def _expired(node: NodeSettings) -> str:
    if node.tls is None:
        return ""
    try:
        ends = expiry(node.tls)
    except ConfigError as exc:
        return str(exc)
    return f"expired on {ends:%Y-%m-%d}" if ends < datetime.now(UTC) else ""
