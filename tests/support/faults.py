"""Fault points: end a process of the node between two of its steps, from outside of its code.

The node is started with `environment(folder)`. Every process of it then wraps the functions of
`POINTS` as their modules are imported; a function whose name is armed ends the process by SIGKILL
right before or right after it runs. Only one point is armed at a time, and it fires once. ::

    armed.json      what is armed
    fired-<id>      the same, taken by the process that ended itself
    roles/<pid>     what that process is: supervisor, worker or receiver
"""

import functools
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

VARIABLE: Final = "DICOM_NODE_TEST_FAULTS"
#: the longest pause before something is tried again, in seconds
HASTE: Final = "DICOM_NODE_TEST_HASTE"
SUPERVISOR, WORKER, RECEIVER = "supervisor", "worker", "receiver"
MOMENTS: Final = ("before", "after")
_REPOSITORY: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Point:
    """A function between two steps of the node."""

    #: of which process
    role: str
    module: str
    function: str
    #: it runs when the node starts, and never again
    at_start: bool = False

    @property
    def name(self) -> str:
        """Module and function."""
        return f"{self.module.removeprefix('dicom_node.')}: {self.function}"


#: To add a point, add a row.
POINTS: Final = (
    # from the network to the disk
    Point(RECEIVER, "dicom_node.inbox.spool", "Inbox.create"),
    Point(RECEIVER, "dicom_node.inbox.part", "Part.write"),
    Point(RECEIVER, "dicom_node.inbox.part", "Part.commit"),
    Point(RECEIVER, "dicom_node.inbox.disk", "Disk.sync"),
    Point(RECEIVER, "dicom_node.inbox.disk", "Disk.rename"),
    Point(RECEIVER, "dicom_node.inbox.disk", "Disk.sync_folder"),
    Point(RECEIVER, "dicom_node.inbox.disk", "Meter.add"),
    Point(RECEIVER, "dicom_node.receive.storing", "Storing.finish"),
    Point(RECEIVER, "dicom_node.receive.upper_layer", "UpperLayer.send_bytes"),
    Point(RECEIVER, "dicom_node.notices", "Notices.write"),
    # from the disk to the index
    Point(WORKER, "dicom_node.index.index", "Index.register"),
    Point(WORKER, "dicom_node.inbox.spool", "Inbox.keep"),
    Point(WORKER, "dicom_node.inbox.spool", "Inbox.remove_duplicate"),
    Point(WORKER, "dicom_node.index.index", "Index.complete"),
    Point(WORKER, "dicom_node.index.evidence", "Evidence.take"),
    Point(WORKER, "dicom_node.notices", "Notices.remove"),
    # from a complete study to its results
    Point(WORKER, "dicom_node.jobs", "Dispatcher.enqueue"),
    Point(WORKER, "dicom_node.pipeline", "harvest_study"),
    Point(WORKER, "dicom_node.store.together", "Together.put_frame"),
    Point(WORKER, "dicom_node.store.files", "put"),
    Point(WORKER, "dicom_node.store.pictures", "Pictures.settle"),
    Point(WORKER, "dicom_node.store.together", "Together.settle"),
    Point(WORKER, "dicom_node.harvest.private", "PrivateNotes.record_all"),
    Point(WORKER, "dicom_node.pipeline", "analyse_study"),
    Point(WORKER, "dicom_node.results.write", "_save"),
    Point(WORKER, "dicom_node.results.write", "write_plan"),
    Point(WORKER, "dicom_node.results.write", "sync_folder"),
    Point(WORKER, "dicom_node.results.write", "write_mask"),
    Point(WORKER, "dicom_node.outbox.outbox", "Outbox.add"),
    Point(WORKER, "dicom_node.outbox.stills", "Stills.settle"),
    Point(WORKER, "dicom_node.pipeline", "finish_study"),
    Point(WORKER, "dicom_node.index.index", "Index.finish"),
    # from the results to the destination
    Point(WORKER, "dicom_node.outbox.outbox", "Outbox.lease"),
    Point(WORKER, "dicom_node.pipeline", "deliver_errand"),
    Point(WORKER, "dicom_node.deliver.dimse", "_store"),
    Point(WORKER, "dicom_node.outbox.outbox", "Outbox.delivered"),
    # from a request for storage commitment to its report
    Point(WORKER, "dicom_node.index.commitments", "Commitments.lease"),
    Point(WORKER, "dicom_node.deliver.commitment", "report_commitments"),
    Point(WORKER, "dicom_node.deliver.event_report", "report"),
    Point(WORKER, "dicom_node.index.commitments", "Commitments.settle"),
    # from a restart to work
    Point(SUPERVISOR, "dicom_node.inbox.spool", "Inbox.sweep", at_start=True),
    Point(WORKER, "dicom_node.inbox.spool", "Inbox.recount", at_start=True),
    Point(WORKER, "dicom_node.register", "rebuild", at_start=True),
    Point(WORKER, "dicom_node.jobs", "database_url", at_start=True),
    Point(WORKER, "dicom_node.jobs", "Worker.__init__", at_start=True),
)
#: What happens only where a destination fails: more points, of the delivery torture.
DELIVERY_POINTS: Final = (
    Point(WORKER, "dicom_node.outbox.outbox", "Outbox.lease"),
    Point(WORKER, "dicom_node.pipeline", "deliver_errand"),
    Point(WORKER, "dicom_node.deliver.dimse", "_store"),
    Point(WORKER, "dicom_node.outbox.outbox", "Outbox.delivered"),
    Point(WORKER, "dicom_node.outbox.outbox", "Outbox.postpone"),
    Point(WORKER, "dicom_node.outbox.outbox", "Outbox.bury"),
    Point(WORKER, "dicom_node.outbox.outages", "Outages.let_through"),
    Point(WORKER, "dicom_node.outbox.outages", "Outages.failed"),
    Point(WORKER, "dicom_node.outbox.outages", "Outages.ended"),
)
_ALL: Final = tuple(dict.fromkeys((*POINTS, *DELIVERY_POINTS)))
#: What tells a process's role: the function that it runs in.
ROLES: Final = (
    Point(SUPERVISOR, "dicom_node.node.serve", "serve"),
    Point(WORKER, "dicom_node.node.worker", "run_worker"),
    Point(RECEIVER, "dicom_node.receive.scp", "run_receiver"),
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A point that is armed."""

    number: int
    point: Point
    moment: str
    #: the process ends at this arrival, counted since it started
    arrival: int = 1
    #: the whole process group ends with it
    is_group: bool = False


class Faults:
    """The fault points of a node, as its test holds them.

    Parameters
    ----------
    folder : Path
        Made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "roles").mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """What the node's environment needs."""
        search = (_REPOSITORY / "tests" / "support" / "fault_site", _REPOSITORY)
        return {
            VARIABLE: str(self._folder),
            "PYTHONPATH": os.pathsep.join((*map(str, search), os.environ.get("PYTHONPATH", ""))),
        }

    def arm(self, fault: Fault) -> None:
        """Let a point fire at the next arrival that `fault` speaks of."""
        armed = self._folder / "armed.json"
        part = armed.with_suffix(".part")
        part.write_text(json.dumps(asdict(fault)))
        part.rename(armed)

    def disarm(self) -> None:
        """Let no point fire."""
        (self._folder / "armed.json").unlink(missing_ok=True)

    def has_fired(self, fault: Fault) -> bool:
        """Whether a process took it."""
        return (self._folder / f"fired-{fault.number}").exists()

    def pids(self, role: str) -> list[int]:
        """Return the processes that ever had a role; most may be dead."""
        return [
            int(path.name)
            for path in (self._folder / "roles").iterdir()
            if path.read_text() == role
        ]


def resolve(point: Point) -> Callable[..., Any]:
    """Return the function of a point.

    Raises
    ------
    LookupError
        When the code has none of that name.
    """
    owner, name = _owner(importlib.import_module(point.module), point)
    found: Callable[..., Any] = getattr(owner, name)
    return found


def install() -> "Trap":
    """Wrap what the points name as it is imported; the folder stands in the environment."""
    trap = Trap(Path(os.environ[VARIABLE]))
    sys.meta_path.insert(0, _Finder(trap))
    return trap


def hurry(longest_s: float) -> None:
    """Let this process try again what failed after so many seconds instead of minutes."""
    backoff = importlib.import_module("dicom_node.backoff")
    outages = importlib.import_module("dicom_node.outbox.outages")
    for module, name in ((backoff, "FIRST_RETRY_S"), (backoff, "LONGEST_RETRY_S")):
        setattr(module, name, longest_s)
    outages.PROBE_S = 4 * longest_s  # type: ignore[attr-defined]


class Trap:
    """What a process of the node knows of the faults."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._role = ""
        self._lock = threading.Lock()
        self._arrivals: dict[int, int] = {}

    def take_role(self, role: str) -> None:
        """Note what this process is: only points of its role fire in it."""
        self._role = role
        (self._folder / "roles" / str(os.getpid())).write_text(role)

    def arrive(self, point: Point, moment: str) -> None:
        """End the process when it is this arrival that is armed."""
        if point.role != self._role:
            return
        armed = self._folder / "armed.json"
        try:
            fault = json.loads(armed.read_text())
        except FileNotFoundError:
            return
        if (fault["point"], fault["moment"]) != (asdict(point), moment):
            return
        with self._lock:
            number = fault["number"]
            self._arrivals[number] = self._arrivals.get(number, 0) + 1
            if self._arrivals[number] < fault["arrival"]:
                return
        try:
            armed.rename(self._folder / f"fired-{number}")
        except FileNotFoundError:  # another process was faster
            return
        end = os.killpg if fault["is_group"] else os.kill
        end(os.getpgrp() if fault["is_group"] else os.getpid(), signal.SIGKILL)


class _Finder(MetaPathFinder):
    """Finds the modules of the points as Python does, and wraps them once they are there."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap
        self._modules = {point.module for point in (*_ALL, *ROLES)}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._modules:
            return None
        spec = PathFinder.find_spec(name, path, target)
        assert spec is not None, name
        assert spec.loader is not None, name
        execute = spec.loader.exec_module

        def execute_and_wrap(module: ModuleType) -> None:
            execute(module)
            _wrap(module, self._trap)

        spec.loader.exec_module = execute_and_wrap  # type: ignore[method-assign]
        return spec


def _wrap(module: ModuleType, trap: Trap) -> None:
    for point in _ALL:
        if point.module == module.__name__:
            owner, name = _owner(module, point)
            setattr(owner, name, _trapped(getattr(owner, name), point, trap))
    for point in ROLES:
        if point.module == module.__name__:
            owner, name = _owner(module, point)
            setattr(owner, name, _with_role(getattr(owner, name), point.role, trap))


def _owner(module: ModuleType, point: Point) -> tuple[Any, str]:
    *path, name = point.function.split(".")
    try:
        owner = functools.reduce(getattr, path, module)
        getattr(owner, name)
    except AttributeError:
        raise LookupError(
            f"{point.module} has no {point.function}: correct POINTS in {__file__}"
        ) from None
    return owner, name


def _trapped(function: Callable[..., Any], point: Point, trap: Trap) -> Callable[..., Any]:
    @functools.wraps(function)
    def trapped(*args: Any, **kwargs: Any) -> Any:
        trap.arrive(point, "before")
        value = function(*args, **kwargs)
        trap.arrive(point, "after")
        return value

    return trapped


def _with_role(function: Callable[..., Any], role: str, trap: Trap) -> Callable[..., Any]:
    @functools.wraps(function)
    def with_role(*args: Any, **kwargs: Any) -> Any:
        trap.take_role(role)
        return function(*args, **kwargs)

    return with_role
