"""The node's own names of the files that it received."""

import os
import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

FILE_ID: Final = re.compile(r"[0-9a-f]{24}")


def new_file_id() -> str:
    """Return a name that sorts after those given before."""
    return f"{time.time_ns():016x}{secrets.token_hex(4)}"


def began_at(file_id: str) -> datetime:
    """Return when a file was begun: none of its bytes came before."""
    return datetime.fromtimestamp(int(file_id[:16], 16) / 1e9, UTC)


def file_ids(folder: Path, suffix: str = ".dcm") -> list[str]:
    """Return the names in a folder, without their suffix, oldest first."""
    names = (entry.name for entry in os.scandir(folder))
    ids = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return sorted(file_id for file_id in ids if FILE_ID.fullmatch(file_id))
