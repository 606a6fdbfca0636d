"""Structured logs: one JSON object a line on standard error, never a patient's data.

Fields are an allow-list: a value under any other name is dropped and its name is logged, so that a
careless call cannot leak an identity.
"""

import logging
import sys
import traceback
import warnings
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

#: The names that a log line may carry. UIDs locate a study in the PACS and are no free text.
ALLOWED = frozenset(
    {
        "ae_title",
        "bundle",
        "bytes",
        "cause",
        "counts",
        "destination",
        "digest",
        "event",
        "file_id",
        "frames",
        "host",
        "instances",
        "kind",
        "level",
        "logger",
        "pid",
        "port",
        "process",
        "provider",
        "reason",
        "revision",
        "rule",
        "seconds",
        "sop_class_uid",
        "sop_instance_uid",
        "stage",
        "state",
        "status",
        "study_instance_uid",
        "timestamp",
        "transfer_syntax_uid",
        "version",
        "what",
        "where",
    }
)

#: A value is cut after so many characters: some were typed by strangers.
LONGEST = 500


def configure(level: int = logging.INFO) -> None:
    """Send this process's logs to standard error and silence the libraries below warnings."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _allow_listed,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # library messages and warnings can quote data sets: none of them reaches the log
    warnings.simplefilter("ignore")
    for name in ("pynetdicom", "pydicom", "highdicom", "dicomweb_client", "urllib3"):
        library = logging.getLogger(name)
        library.handlers = [logging.NullHandler()]
        library.propagate = False


def get(stage: str) -> Any:
    """Return the logger of a stage."""
    return structlog.get_logger(stage=stage)


def place_of(error: BaseException) -> str:
    """Return file and line of our own code that an error passed through last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "dicom_node" in frame.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


class _Lines(structlog.PrintLogger):
    """Prints lines; one that cannot be written, on a full disk or into a dead pipe, is lost."""

    def msg(self, message: str) -> None:
        with suppress(OSError):
            super().msg(message)

    log = debug = info = warning = error = critical = msg


def _allow_listed(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    kept = {key: _bounded(value) for key, value in event.items() if key in ALLOWED}
    dropped = sorted(set(event) - set(kept))
    if dropped:
        kept["what"] = f"dropped fields: {', '.join(dropped)}"
    return kept


def _bounded(value: Any) -> Any:
    return value[:LONGEST] if isinstance(value, str) else value
