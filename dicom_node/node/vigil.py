"""Among nodes that share a database: says that this one lives, and stands in for one that died."""

import threading
import time
from typing import Final

from dicom_node import log
from dicom_node.errors import TemporaryError
from dicom_node.jobs import Dispatcher, JobRow
from dicom_node.pipeline import Parts
from dicom_node.roster import NodeRow, Roster

#: How often changes of what is unfinished are written down: what was received less long before a
#: sudden death is not taken over, and waits for this node.
ROUND_S: Final = 0.5
#: A study that no PACS could send is asked for again after so long.
AGAIN_S: Final = 300.0
#: In the time after which a node counts as dead it beats so often.
_BEATS: Final = 6.0


class Vigil:
    """Keeps this node's rows, and looks for nodes that died; for one thread.

    Parameters
    ----------
    parts : Parts
    roster : Roster
        This node has joined it.
    dispatcher : Dispatcher
        Where jobs are handed out.
    """

    def __init__(self, parts: Parts, roster: Roster, dispatcher: Dispatcher) -> None:
        self._parts, self._roster, self._dispatcher = parts, roster, dispatcher
        self._dead_after_s = parts.config.node.dead_after_s
        #: studies that a person stopped, or that failed: nobody shall take them over
        self._stopped: set[str] = set()
        #: how many instances each study has of which only deliveries are left
        self._delivering: dict[str, int] = {}
        #: of which nodes it was said that they are dead
        self._said: set[str] = set()
        self._beat_at = -self._dead_after_s

    @property
    def beats_every_s(self) -> float:
        """Between two signs of life."""
        return self._dead_after_s / _BEATS

    def round(self) -> None:
        """Write down what changed; now and then beat, and look for the others."""
        now = time.monotonic()
        is_beat = now - self._beat_at >= self.beats_every_s
        if is_beat:
            self._roster.beat()
            self._beat_at = now
            self._come_back()
            self._stopped = {study for job in self._stopped_jobs() if (study := _study_of(job))}
        self._roster.list_unfinished(self._unfinished())
        if is_beat:
            self._look_for_dead()

    def _unfinished(self) -> dict[str, int]:
        index, outbox = self._parts.index, self._parts.outbox
        rows = {row.study_instance_uid: row for row in index.unfinished(or_open=True)}
        found = {
            uid: row.instances
            for uid, row in rows.items()
            if row.state == "open" or uid not in self._stopped
        }
        delivering = outbox.owed_studies() - rows.keys()
        for uid in delivering - self._delivering.keys():
            row = index.study(uid)
            self._delivering[uid] = 0 if row is None else row.instances
        self._delivering = {uid: self._delivering[uid] for uid in delivering}
        return found | self._delivering

    def _stopped_jobs(self) -> list[JobRow]:
        failed = [job for job in self._dispatcher.failed() if not job.is_put_off]
        return [*failed, *self._dispatcher.cancelled()]

    def _come_back(self) -> None:
        """Go on with what others took over: what comes of it has the same UIDs as theirs."""
        for uid in self._roster.returned():
            log.get("node").info("study was taken over, going on", study_instance_uid=uid)
            for job in self._dispatcher.cancelled():
                if job.is_about(uid):
                    self._dispatcher.retry(job)

    def _look_for_dead(self) -> None:
        dead = self._roster.dead(self._dead_after_s)
        self._said &= {node.name for node in dead}
        for node in dead:
            if self._parts.config.study.fetch_from is None:
                self._say(node, "study.fetch_from names no PACS that could send its studies")
            elif self._roster.claim(node, self._dead_after_s):
                self._say(node, "its studies are asked for at the PACS")
                self._fetch(node)

    def _fetch(self, node: NodeRow) -> None:
        for study in self._roster.owed(node.name, again_after_s=AGAIN_S):
            uid = study.study_instance_uid
            job_id = f"fetch:{uid}:{node.name}:{study.tries}:{node.beat_at.timestamp():.0f}"
            self._dispatcher.enqueue("fetch", job_id, [uid, node.name])

    def _say(self, node: NodeRow, reason: str) -> None:
        if node.name not in self._said:
            self._said.add(node.name)
            log.get("node").warning(
                "node is dead",
                what=node.name,
                ae_title=node.ae_title,
                seconds=round(node.silent_s),
                counts={"studies_unfinished": node.unfinished},
                reason=reason,
            )


def keep_vigil(vigil: Vigil, stop: threading.Event) -> None:
    """Make rounds until `stop` is set; what a database refuses is tried again."""
    pause_s = vigil.beats_every_s
    while not stop.wait(ROUND_S):
        try:
            vigil.round()
        except (TemporaryError, OSError) as exc:
            log.get("node").error("nodes not looked after", reason=str(exc), seconds=pause_s)
            stop.wait(pause_s)


def _study_of(job: JobRow) -> str:
    return job.job_id.split(":")[1] if job.kind == "study" else ""
