"""What ``dicom-node check`` says of the databases; it makes none and changes none."""

import sqlite3
from pathlib import Path

import sqlalchemy as sa

from dicom_node import database
from dicom_node.cli.listening import Finding
from dicom_node.config import Config
from dicom_node.harvest.opening import NOTES
from dicom_node.index.layout import LAYOUT as INDEX_LAYOUT
from dicom_node.node.layout import Layout
from dicom_node.store import places
from dicom_node.store.catalogue import LAYOUT as CATALOGUE_LAYOUT

#: Schema of the jobs, which DBOS makes and migrates at the start.
_JOBS_SCHEMA = "dbos"


def databases(config: Config) -> list[Finding]:
    """See whether this program can use the databases that are there."""
    layout = Layout(config.node.data)
    known = {
        layout.index: INDEX_LAYOUT,
        layout.outbox: database.LAYOUT,
        layout.pulls: database.LAYOUT,
        layout.data / NOTES: database.LAYOUT,
    }
    if places.read(layout.store) is None:
        known[layout.store / places.FILE] = CATALOGUE_LAYOUT
    there = {path: number for path, number in known.items() if path.exists()}
    jobs = _jobs(config, layout)
    if not there:
        return [("databases", "", "none yet: the first start makes them"), *jobs]
    faults = [fault for path, number in there.items() if (fault := _fault(path, number))]
    old = [path.name for path, number in there.items() if not faults and _is_old(path, number)]
    found = f"{', '.join(path.name for path in there)} can be used"
    if old:
        found += f"; the next start brings {', '.join(old)} up to date: take a backup before"
    return [("databases", "; ".join(faults), "" if faults else found), *jobs]


def _fault(path: Path, layout: int) -> str:
    try:
        return database.newer(path, database.written_layout(path), layout)
    except sqlite3.Error as exc:
        return f"{path.name} cannot be read ({exc}): see docs/operations.md, 'A database'"


def _is_old(path: Path, layout: int) -> bool:
    return database.written_layout(path) < layout


def _jobs(config: Config, layout: Layout) -> list[Finding]:
    if config.database is None or not config.database.startswith("postgresql"):
        if not layout.jobs.exists():
            return []
        fault = _fault(layout.jobs, 1 << 30)
        return [("jobs", fault, "" if fault else "jobs.db can be used")]
    engine = sa.create_engine(
        sa.make_url(config.database).set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": 10},
        hide_parameters=True,
    )
    try:
        with engine.connect() as connection:
            version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
            is_made = sa.inspect(connection).has_schema(_JOBS_SCHEMA)
    except sa.exc.SQLAlchemyError as exc:
        # its message may quote the password
        kind = type(getattr(exc, "orig", exc)).__name__
        fault = f"database: the server gives no answer ({kind}): is it up, are user and name right?"
        return [("jobs", fault, "")]
    finally:
        engine.dispose()
    made = "its tables are there" if is_made else "the first start makes its tables"
    return [("jobs", "", f"the server answers, version {version}; {made}")]
