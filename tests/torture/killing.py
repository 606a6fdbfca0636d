"""Kill the node by the schedule while it works, and start it again."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import psutil

from tests.support.faults import RECEIVER, WORKER, Fault, Faults
from tests.support.nodes import Node
from tests.torture.schedule import GROUP, PointKill, RandomKill

#: a fault point must be reached within this time
POINT_DEADLINE_S = 30.0
#: after a kill every process must be there again within this time
UP_DEADLINE_S = 90.0
#: the supervisor waits longer after each death of a child: before the pause gets long, all die
_MOST_CHILD_KILLS = 3
_POLL_S = 0.02


@dataclass
class Tally:
    """What was done to the node."""

    #: kills at random moments, by target
    random: Counter[str] = field(default_factory=Counter)
    #: kills at points, by name
    points: Counter[str] = field(default_factory=Counter)
    #: armed and not reached in time
    missed: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    #: starts that ended by themselves, with their last line
    refused: list[str] = field(default_factory=list)
    last: str = "none"

    @property
    def kills(self) -> int:
        """How many processes or groups were killed."""
        return self.random.total() + self.points.total()


class Traffic(Protocol):
    """What the node works on."""

    def feed(self) -> None:
        """Keep it busy."""


class Killer:
    """Strikes a node.

    Parameters
    ----------
    node : Node
        Configured, not started.
    faults : Faults
        In the node's environment.
    traffic : Traffic
        Kept up while this waits.
    rng : random.Random
    """

    def __init__(self, node: Node, faults: Faults, traffic: Traffic, rng: random.Random) -> None:
        self.tally = Tally()
        self.groups: set[int] = set()
        self._node, self._faults, self._traffic, self._rng = node, faults, traffic, rng
        self._child_kills = 0
        self._is_feeding = True

    def strike(self, kill: RandomKill | PointKill) -> bool:
        """Carry out one kill; False when its point was not reached."""
        if self._rng.random() < 0.8:
            self.bring_up()
        else:  # the next kill may meet a node that is still starting
            self._supervise()
        if isinstance(kill, RandomKill):
            self._strike_at_random(kill)
            return True
        return self._strike_at_point(kill)

    def stop_feeding(self) -> None:
        """Begin no further studies."""
        self._is_feeding = False

    def bring_up(self) -> None:
        """Wait until every process is there, starting the node when it is down."""
        self.wait(self._is_up, UP_DEADLINE_S, "the node did not come up")

    def wait(self, what: Callable[[], bool], deadline_s: float, why: str) -> None:
        """Wait for something to be true while the traffic goes on.

        Raises
        ------
        TimeoutError
            With `why`.
        """
        if not self._reached(what, deadline_s):
            raise TimeoutError(f"{why} within {deadline_s:g} s; the last kill: {self.tally.last}")

    def _reached(self, what: Callable[[], bool], deadline_s: float) -> bool:
        end = time.monotonic() + deadline_s
        while not what():
            if time.monotonic() > end:
                return False
            if self._is_feeding:
                self._traffic.feed()
            time.sleep(_POLL_S)
        return True

    def _strike_at_random(self, kill: RandomKill) -> None:
        moment = time.monotonic() + kill.after_s
        self._reached(lambda: time.monotonic() >= moment, kill.after_s + 1)
        target = kill.target
        if target in (RECEIVER, WORKER):
            pids = [] if self._child_kills >= _MOST_CHILD_KILLS else self._alive(target)
            target = target if pids else GROUP
            if pids:
                os.kill(self._rng.choice(sorted(pids)), signal.SIGKILL)
        if target == GROUP:
            self._kill_group()
        elif target not in (RECEIVER, WORKER):
            self._process.kill()
            self._process.wait()
        self._note(target not in (RECEIVER, WORKER), f"{target} at a random moment")
        self.tally.random[target] += 1

    def _strike_at_point(self, kill: PointKill) -> bool:
        is_group = kill.is_group or self._child_kills >= _MOST_CHILD_KILLS
        fault = Fault(
            number=self.tally.kills + self.tally.missed.total(),
            point=kill.point,
            moment=kill.moment,
            arrival=kill.arrival,
            is_group=is_group,
        )
        self._faults.arm(fault)
        if kill.point.at_start:
            self._kill_group()
            self._note(True, "group, before a start")
            self.tally.random[GROUP] += 1
        fired = self._reached(lambda: self._is_over(fault), POINT_DEADLINE_S)
        if not fired:
            self._faults.disarm()
            fired = self._faults.has_fired(fault)  # between the last look and now
        if fired:
            self._note(is_group or not self._alive_supervisor(), f"{kill.name} ({is_group=})")
        (self.tally.points if fired else self.tally.missed)[kill.name] += 1
        return fired

    def _is_over(self, fault: Fault) -> bool:
        if self._faults.has_fired(fault):
            return True
        self._supervise()
        return False

    def _kill_group(self) -> None:
        if self._alive_supervisor():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _note(self, is_whole: bool, what: str) -> None:
        self._child_kills = 0 if is_whole else self._child_kills + 1
        self.tally.last = what

    def _is_up(self) -> bool:
        self._supervise()
        receivers = self._node.config.node.processes
        return len(self._alive(WORKER)) == 1 and len(self._alive(RECEIVER)) == receivers

    def _supervise(self) -> None:
        """Start the node when its supervisor is dead, as an init system would."""
        if self._node.process is not None and self._alive_supervisor():
            return
        if self._node.process is not None and self._node.process.returncode != -signal.SIGKILL:
            self.tally.refused.append(self._node.last_words)
        self._node.launch()
        self.groups.add(self._process.pid)
        self.tally.starts += 1

    @property
    def _process(self) -> psutil.Popen:
        process = self._node.process
        assert process is not None
        return process

    def _alive_supervisor(self) -> bool:
        return self._process.poll() is None

    def _alive(self, role: str) -> set[int]:
        """Return the living processes of a role that belong to the present supervisor."""
        return {pid for pid in self._faults.pids(role) if _is_child(pid, self._process.pid)}


def _is_child(pid: int, parent: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.ppid() == parent and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def left_alive(groups: set[int]) -> list[int]:
    """Return the processes of these process groups that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            is_ours = os.getpgid(process.pid) in groups
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found
