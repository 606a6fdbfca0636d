"""A store of many rows: how quickly labels are found in it, and frames appended to it."""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from dicom_node.records import Geometry, Task
from dicom_node.store import Source, WeakLabelStore, split_of
from tests.benchmarks.store_reading import frame

#: Of an instance: three stills and a cine of seven sampled frames, again and again.
FRAMES_OF = (1, 1, 1, 7)
_INSTANCES_OF_A_PATIENT = 8
_LABELLED_EVERY = 100
_CHUNK = 20_000
_FIRST_NEW = 10**9
_GEOMETRIES = (*[Geometry.CURVILINEAR] * 6, *[Geometry.LINEAR] * 3, Geometry.UNKNOWN)
_BITS = (1, 1, 1, 16, 16, 17, 8, 9, 0, 0, 128, 160, 2)
#: Looks at every image, as a report does; no label is asked for.
REPORT = "agreement of second sources"
_STUDY = Source.STUDY_DESCRIPTION.value


def populate(folder: Path, rows: int) -> None:
    """Fill a catalogue with rows as a harvest writes them; there are no pictures."""
    WeakLabelStore(folder).close()
    with closing(sqlite3.connect(folder / "catalogue.db")) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-600000")
        done = instance = 0
        while done < rows:
            first, tables = instance, _Tables()
            while done < rows and instance < first + _CHUNK:
                done += tables.add(instance, min(FRAMES_OF[instance % 4], rows - done))
                instance += 1
            tables.insert(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class _Tables:
    """Rows of some instances."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("instances", "frames", "sightings", "evidence")
        }

    def add(self, number: int, frames: int) -> int:
        """Add an instance and return how many frames it has."""
        token, patient = _token("i", number), _token("p", number // _INSTANCES_OF_A_PATIENT)
        bits = _BITS[number % len(_BITS)]
        self._rows["instances"].append(
            {
                "instance": token,
                "series": _token("s", number // 4),
                "study": _token("t", number // 4),
                "patient": patient,
                "split": split_of(patient),
                **dict(zip(("rows", "columns", "left", "top"), (768, 1024, 100, 50), strict=True)),
                **dict(zip(("right", "bottom"), (900, 650), strict=True)),
                "probe": "C5-1",
                "geometry": _GEOMETRIES[number % len(_GEOMETRIES)].value,
                "geometry_rule": "philips curved",
                "groups": bits,
                "description": _token("d", number % 45),
                "row_spacing_mm": 0.3,
                "column_spacing_mm": 0.3,
                "burned_in_annotation": 1,
                "number_of_frames": frames,
                "frame_time_s": 0.33 if frames > 1 else None,
                "stored_frames": frames,
            }
        )
        for source, term in ((_STUDY, "d"), (Source.PROCESSING_FUNCTION.value, "f")):
            said = {"source": source, "term": _token(term, number % 45), "groups": bits}
            self._rows["evidence"].append({"instance": token, **said, "rule": "corrected"})
        for place in range(frames):
            self._frame(token, number * 7 + place, place + 1)
        return frames

    def _frame(self, instance: str, number: int, frame_number: int) -> None:
        frame_id = hashlib.sha256(f"{number}".encode()).hexdigest()
        shown = {"instance": instance, "frame_number": frame_number, "frame_id": frame_id}
        self._rows["sightings"].append(shown)
        quality = number % 5 if number % _LABELLED_EVERY == 0 else None
        size = {"height": 600, "width": 800, "size_bytes": 180_000, "mask_bytes": 0}
        self._rows["frames"].append({**shown, **size, "quality": quality})

    def insert(self, connection: sqlite3.Connection) -> None:
        """Write the rows."""
        for table, rows in self._rows.items():
            names = list(rows[0])
            marks = ", ".join(f":{name}" for name in names)
            columns = ", ".join(f'"{name}"' for name in names)
            connection.executemany(
                f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608
                rows,
            )
        connection.commit()


def query_seconds(folder: Path, *, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each query, round by round."""
    with WeakLabelStore(folder) as store:
        chosen = store.where(group="liver", geometry="curvilinear", split="train")
        narrow = store.where(group="thyroid", geometry="linear", split="test")
        queries: dict[str, Callable[[], object]] = {
            "count of a group, geometry and split": lambda: len(chosen),
            f"ids of {len(chosen):,} such frames": chosen.frame_ids,
            f"all that is known of {len(narrow):,} frames": narrow.frames,
            "frames with a reader's label": lambda: store.frames(labelled=Task.QUALITY),
            "table of groups and geometries": store.label_counts,
            REPORT: store.evidence.verdicts,
        }
        seconds: dict[str, list[float]] = {name: [] for name in queries}
        for _ in range(rounds + 1):
            for name, ask in queries.items():
                began = time.perf_counter()
                ask()
                seconds[name].append(time.perf_counter() - began)
    # the first round reads what the page cache lacks
    return {name: found[1:] for name, found in seconds.items()}


def append_rates(folders: Sequence[Path], *, frames: int, rounds: int) -> list[list[float]]:
    """Return frames/s that each store takes, round by round; they take turns, frame by frame."""
    rates: list[list[float]] = [[] for _ in folders]
    stores = [WeakLabelStore(folder) for folder in folders]
    for number in range(rounds):
        spent = [0.0 for _ in folders]
        for place in range(frames):
            new = frame(_FIRST_NEW + number * frames + place)
            turns = range(len(stores))
            for turn in turns if place % 2 else reversed(turns):
                began = time.perf_counter()
                stores[turn].add_frame(new)
                spent[turn] += time.perf_counter() - began
        for turn, seconds in enumerate(spent):
            rates[turn].append(frames / seconds)
    for store in stores:
        store.close()
    return rates


def _token(kind: str, number: int) -> str:
    return hashlib.sha256(f"{kind}{number}".encode()).hexdigest()[:32]
