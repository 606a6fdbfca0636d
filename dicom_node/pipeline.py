"""The order of the stages: the one page where it is written.

Register -> complete -> (harvest -> analyse -> finish) -> deliver. `job_kinds` holds the stages of
each kind of job; `Dispatch` turns what stands in the databases into jobs. Nothing that has to
survive is kept in memory: after kill -9 the same calls find the same work.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path

from dicom_node import log, metrics
from dicom_node.backoff import Patience
from dicom_node.completion import Completions, take_notices
from dicom_node.config import Config
from dicom_node.deliver import Verdict, report_commitments, run_errand, settle_notice
from dicom_node.forms import DEFAULT_FORMS, asked_forms
from dicom_node.harvest import READER_OBJECTS, Harvester
from dicom_node.inbox import Inbox, began_at
from dicom_node.index import CommitmentRow, Index, StudyRow
from dicom_node.infer import Model, Models, analyse, fingerprint
from dicom_node.jobs import Dispatcher, Kind, Stage, stop_if_cancelled, study_job
from dicom_node.ladder import routes_of
from dicom_node.merging import Merger
from dicom_node.notices import open_notices
from dicom_node.outbox import Errand, Outbox
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.pull import Lull, count_study, take_over_study
from dicom_node.records import Analysis, Instance, Notice, Result
from dicom_node.register import register_waiting
from dicom_node.results import (
    Installation,
    Overlays,
    classes_of,
    write_results_or_failure,
)
from dicom_node.roster import OwedStudy, Roster
from dicom_node.rungs import Draughtsman
from dicom_node.sop_classes import ULTRASOUND_IMAGES

#: What peers said of instances is evidence for so long; reports that are owed stay.
KEEP_WORDS = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the stages work with; `node` makes and closes them."""

    config: Config
    inbox: Inbox
    index: Index
    outbox: Outbox
    harvester: Harvester
    models: Models
    sandbox: PixelSandbox
    installation: Installation
    #: folder of the objects that wait to be sent
    results: Path
    #: with the PACS that counts
    patience: Patience = field(default_factory=Patience)
    #: of the nodes that share the jobs' database; None when it is this node's alone
    roster: Roster | None = None


def job_kinds(parts: Parts) -> dict[str, Kind]:
    """Return the kinds of jobs with their stages in order."""
    fetch = Kind(stages=(("move", _with(parts, fetch_study)),), at_once=1)
    return ({"fetch": fetch} if parts.roster is not None else {}) | {
        "study": Kind(
            stages=(
                ("harvest", _with(parts, harvest_study)),
                ("analyse", _with(parts, analyse_study)),
                ("finish", _with(parts, finish_study)),
            ),
            at_once=1,  # one decoder process, and onnxruntime uses every core by itself
        ),
        "labels": Kind(
            stages=(("label", _with(parts, label_study)),),
            at_once=1,
        ),
        "deliver": Kind(
            stages=(("send", _with(parts, deliver_errand)),),
            at_once=8,
            partitioned=True,
        ),
        "rungs": Kind(
            stages=(("draw", _with(parts, draw_rungs)),),
            at_once=1,
        ),
        "commitment": Kind(
            stages=(("report", _with(parts, report_on_commitments)),),
            at_once=4,
            partitioned=True,
        ),
        "count": Kind(
            stages=(("ask", _with(parts, ask_for_count)),),
            at_once=1,
        ),
    }


def harvest_study(parts: Parts, study_instance_uid: str, _: str) -> dict[str, int]:
    """Put the study's frames and weak labels into the store; already stored frames cost little."""
    if not parts.config.harvest.enabled:
        return {}
    total: dict[str, int] = {}
    stop_if_cancelled()
    instances = parts.index.instances(study_instance_uid)
    harvested = parts.harvester.harvest_all(_images(parts, study_instance_uid))
    with closing(harvested), closing(parts.harvester.volumes.harvest(instances)) as volumes:
        for instance, counts in chain(harvested, volumes):
            parts.outbox.trail.note_harvest(instance, counts, _now())
            for what, count in counts.items():
                total[what] = total.get(what, 0) + count
            stop_if_cancelled()
    log.get("harvest").info("harvested", study_instance_uid=study_instance_uid, counts=total)
    label_study(parts, study_instance_uid, "")
    return total


def label_study(parts: Parts, study_instance_uid: str, _: str) -> dict[str, int]:
    """Put what readers said of the study's images, or in its SEG and SR, into the store."""
    instances = parts.index.instances(study_instance_uid)
    readers = parts.harvester.readers
    images = [one.sop_instance_uid for one in instances if one.sop_class_uid in ULTRASOUND_IMAGES]
    objects = {i.sop_instance_uid: i for i in instances if i.sop_class_uid in READER_OBJECTS}
    # an object of another study may be about these images, and wait for them
    objects |= parts.index.find_all([u for u in readers.notes.about(images) if u not in objects])
    if not objects:
        return {}
    counts = readers.take(
        objects.values(),
        find=parts.index.find,
        is_ours=lambda uid: (parts.results / f"{uid}.dcm").exists(),
    )
    readers.rest()
    log.get("harvest").info("readers heard", study_instance_uid=study_instance_uid, counts=counts)
    return counts


def analyse_study(parts: Parts, study_instance_uid: str, revision: str) -> dict[str, int]:
    """Run the models that fit, write SEG and SR, and owe them to the destinations."""
    total = {"images": 0, "results": 0, "failures": 0}
    images = _images(parts, study_instance_uid)
    for instance in images:
        stop_if_cancelled()
        written, failures = _analyse_instance(parts, instance, int(revision))
        total["images"] += 1
        total["results"] += sum(result.merging is None for result in written)
        total["failures"] += failures
    merger = Merger(
        outbox=parts.outbox,
        results=parts.results,
        installation=parts.installation,
        destinations=frozenset(one.name for one in parts.config.destinations),
        roster=parts.roster,
    )
    total["results"] += merger.merge(images, int(revision))
    log.get("analyse").info("analysed", study_instance_uid=study_instance_uid, counts=total)
    return total


def finish_study(parts: Parts, study_instance_uid: str, revision: str) -> dict[str, int]:
    """Note that this revision of the study was worked on to its end."""
    parts.index.finish(study_instance_uid, int(revision))
    return {}


def deliver_errand(parts: Parts, study_instance_uid: str, name: str, lease: str) -> dict[str, int]:
    """Make one attempt at everything that one destination is owed of one study."""
    errand = Errand(study_instance_uid=study_instance_uid, destination=name, lease=int(lease))
    counts = run_errand(parts.outbox, parts.config, errand, rng=_jitter())
    if not counts:
        return {}
    if counts[Verdict.DELIVERED.value]:
        _note_delivered(parts, study_instance_uid, name)
    log.get("deliver").info(
        "attempt ended", study_instance_uid=study_instance_uid, destination=name, counts=counts
    )
    return counts


def draw_rungs(parts: Parts, study_instance_uid: str, _: str) -> dict[str, int]:
    """Draw what takes the place of objects that were refused when nothing lay in reserve."""
    with parts.sandbox.another() as sandbox:  # the other decodes for the study that is analysed
        draughtsman = Draughtsman(
            outbox=parts.outbox,
            results=parts.results,
            installation=parts.installation,
            destinations={one.name: one for one in parts.config.destinations},
            sandbox=sandbox,
            say_again=partial(_say_again, parts, sandbox),
        )
        return {"drawn": draughtsman.draw(study_instance_uid)}


def take_report(parts: Parts, report: Notice) -> bool:
    """Settle what a destination says of objects whose commitment it was asked for."""
    name = parts.outbox.promises.destination_of(report.uid) or ""
    settled = settle_notice(parts.outbox, parts.config, report, rng=_jitter())
    for study_instance_uid in sorted(set(settled.delivered)):
        _note_delivered(parts, study_instance_uid, name)
    return bool(settled.delivered or settled.refused)


def report_on_commitments(parts: Parts, first: str, _: str, *others: str) -> dict[str, int]:
    """Make one attempt at telling who asked for storage commitment what is kept."""
    file_ids = (first, *others)
    return report_commitments(parts.index, parts.config.node, file_ids, rng=_jitter())


def ask_for_count(parts: Parts, study_instance_uid: str, last_received_at: str) -> dict[str, int]:
    """Ask the PACS how many instances a study has."""
    lull = Lull(study_instance_uid=study_instance_uid, last_received_at=last_received_at)
    return count_study(parts.index, parts.outbox, parts.config, lull, patience=parts.patience)


def fetch_study(parts: Parts, study_instance_uid: str, name: str) -> dict[str, int]:
    """Take a study over from a node that died."""
    roster = parts.roster
    study = None if roster is None else roster.find(name, study_instance_uid)
    if roster is None or study is None:  # finished, or taken over meanwhile
        return {}
    return take_over_study(
        parts.index, parts.inbox, parts.config, roster, study, cancel=_canceller(parts)
    )


class Dispatch:
    """Turns what stands in the databases into jobs.

    Parameters
    ----------
    parts : Parts
        What the stages work with.
    dispatcher : Dispatcher
        Where jobs are handed out.
    """

    def __init__(self, parts: Parts, dispatcher: Dispatcher) -> None:
        self._parts = parts
        self._dispatcher = dispatcher
        #: study jobs that this process handed out; after a restart all are handed out again,
        #: which changes nothing for those that are known
        self._handed_out: set[str] = set()
        #: lulls in which the PACS was asked, each a study and the time of its last arrival
        self._asked: set[tuple[str, datetime]] = set()
        #: jobs that draw, as those of studies
        self._drawn: set[str] = set()
        self._notices = open_notices(parts.inbox)
        self._completions = Completions(parts.index, parts.config.study)
        #: every file that was received before this notice is registered
        self._swept_serial = 0
        self._forget_at = _now()
        readers = parts.harvester.readers
        #: up to which row of the index readers' objects were handed out
        self._heard = readers.notes.serial(readers.codes)

    def register(self) -> int:
        """Take the receivers' notices, register what they put into the inbox.

        Returns
        -------
        int
            How many files; 0 says that all that was received before the call is registered.
        """
        parts = self._parts
        take_notices(self._notices, parts.index, on_report=partial(take_report, parts))
        serial = self._parts.index.evidence.serial()
        counts = register_waiting(self._parts.inbox, self._parts.index, now=_now())
        if counts.total:
            log.get("register").info("registered", counts=asdict(counts))
        else:
            self._swept_serial = serial
        return counts.total

    def complete(self) -> int:
        """Close the studies that are complete and hand out their jobs.

        While files come without a pause they are judged as of the time when the oldest that waits
        was begun: all that was received before is registered, so what is quiet then is quiet.
        """
        index, now = self._parts.index, _now()
        first = self._parts.inbox.line.first()
        as_of = now if first is None else min(now, began_at(first))
        for done in self._completions.due(as_of):
            study, reason = done.study_instance_uid, done.reason
            revision = index.complete(study, reason=reason, evidence=done.evidence, now=now)
            metrics.count(metrics.COMPLETED, done.basis)
            waited_s = (now - done.last_received_at).total_seconds()
            metrics.page().observe(metrics.TO_COMPLETE, waited_s)
            log.get("index").info(
                "study complete", study_instance_uid=study, revision=revision, reason=reason
            )
        if now >= self._forget_at:
            index.evidence.forget(now - KEEP_WORDS)
            self._forget_at = now + timedelta(hours=1)
        self._ask_for_counts(as_of)
        self._hand_out_labels()
        jobs = {_study_job(row): row for row in self._parts.index.unfinished()}
        fresh = jobs.keys() - self._handed_out
        for job in sorted(fresh):
            arguments = [jobs[job].study_instance_uid, str(jobs[job].revision)]
            self._dispatcher.enqueue("study", job, arguments)
        self._handed_out = set(jobs)
        return len(fresh)

    def deliver(self) -> int:
        """Hand out the errands whose time has come; one, to a destination that was down."""
        self._report_commitments()
        now = _now()
        outbox = self._parts.outbox
        errands = outbox.outages.let_through(outbox.due(now), now)
        for due in errands:
            errand = due
            # handed out by a process that was killed before it noted the lease: it may have ended
            while self._dispatcher.knows(_errand_job(errand)):
                errand = replace(errand, lease=errand.lease + 1)
            study, name, lease = errand.study_instance_uid, errand.destination, str(errand.lease)
            self._dispatcher.enqueue(
                "deliver", _errand_job(errand), [study, name, lease], partition=name
            )
            # what came since `now` is not in this errand
            outbox.lease(errand, now)
        self._hand_out_rungs()
        return len(errands)

    def _hand_out_rungs(self) -> None:
        """Hand out one job for each study of which something was refused, and nothing drawn yet."""
        lacking = self._parts.outbox.lacking.studies()
        jobs = {f"rungs:{study}:{at:.6f}": study for study, at in lacking.items()}
        for job in sorted(jobs.keys() - self._drawn):
            self._dispatcher.enqueue("rungs", job, [jobs[job], job])
        self._drawn = set(jobs)

    def _report_commitments(self) -> None:
        """Hand out the reports that are due, once all is registered that came before them.

        A requester gets its reports in one job: some ask for the commitment of each image.
        """
        commitments = self._parts.index.commitments
        owed: dict[tuple[str, str], list[CommitmentRow]] = {}
        for row in self._swept(commitments.due(_now())):
            owed.setdefault((row.ae_title, row.host), []).append(row)
        for first, *others in owed.values():
            attempt = first.attempts
            # as below: handed out by a process that was killed before it noted the lease
            while self._dispatcher.knows(_report_job(first, attempt)):
                attempt += 1
            job, file_ids = _report_job(first, attempt), [row.file_id for row in others]
            arguments = [first.file_id, str(attempt), *file_ids]
            self._dispatcher.enqueue("commitment", job, arguments, partition=first.ae_title)
            commitments.lease([first.file_id, *file_ids], _now())

    def _swept(self, rows: Sequence[CommitmentRow]) -> list[CommitmentRow]:
        # while files come without a pause no sweep ends: then the oldest that waits decides
        first = None if all(self._is_swept(row) for row in rows) else self._parts.inbox.line.first()
        return [row for row in rows if self._is_swept(row) or first is None or row.file_id < first]

    def _is_swept(self, row: CommitmentRow) -> bool:
        return row.serial <= self._swept_serial

    def _hand_out_labels(self) -> None:
        """Hand out one look at what readers said for each study with new SEG or SR."""
        if not self._parts.config.harvest.enabled:
            return
        serial, studies = self._parts.index.newcomers.after(self._heard, READER_OBJECTS)
        readers = self._parts.harvester.readers
        for study in studies:
            # with its fingerprint: other meanings of codes are another look
            job = f"labels:{study}:{serial}-{readers.codes.fingerprint[:8]}"
            self._dispatcher.enqueue("labels", job, [study, str(serial)])
        if serial != self._heard:
            if studies or not self._heard:
                readers.notes.looked_at(serial, readers.codes)
            self._heard = serial

    def _ask_for_counts(self, as_of: datetime) -> None:
        """Hand out one question for each study and lull."""
        lulls = set(self._completions.to_count(as_of))
        for study, last_received_at in lulls - self._asked:
            last = last_received_at.isoformat()
            self._dispatcher.enqueue("count", f"count:{study}:{last}", [study, last])
        self._asked = lulls


def _analyse_instance(
    parts: Parts, instance: Instance, revision: int
) -> tuple[tuple[Result, ...], int]:
    chosen = parts.models.for_image(instance, parts.harvester.labels(instance))
    found = _speak(parts, instance, revision, chosen.serving)
    # what is owed is owed before the shadow may be slow, or fall over
    _speak(parts, instance, revision, chosen.shadow, shadow=True)
    return found


def _speak(
    parts: Parts,
    instance: Instance,
    revision: int,
    models: Sequence[Model],
    *,
    shadow: bool = False,
) -> tuple[tuple[Result, ...], int]:
    name = _name_of(models, instance)
    uid, outbox = instance.sop_instance_uid, parts.outbox
    if not models or outbox.is_analysed(uid, name, shadow=shadow):
        return (), 0
    analysis = analyse(instance, models, sandbox=parts.sandbox)
    edition = outbox.next_edition(uid, study_revision=revision, shadow=shadow)
    editions = None if shadow or parts.roster is None else parts.roster.editions
    if editions is not None:
        edition = editions.agree(uid, name, edition)
    destinations = parts.config.destinations
    routes = [] if shadow else routes_of(destinations, classes_of(analysis), outbox)
    kinds = frozenset(kind for one in routes for kind in one.kinds)
    written, rejected = write_results_or_failure(
        analysis,
        parts.results,
        installation=parts.installation,
        edition=edition,
        forms=DEFAULT_FORMS if shadow else asked_forms(destinations),
        overlays=Overlays(kinds=kinds, sandbox=parts.sandbox),
    )
    outbox.trail.note(analysis, rejected=rejected, now=_now())
    if shadow:
        outbox.add_shadow(written, analysed=uid, models=name, now=_now())
        return (), 0
    owed = [(result, one.destination.name) for one in routes for result in one.owed(written)]
    if editions is not None:
        editions.note(uid, name, edition, written)
    outbox.add(written, owed, analysed=uid, models=name, now=_now())
    return written, len(analysis.failures)


def _say_again(parts: Parts, sandbox: PixelSandbox, sop_instance_uid: str) -> Analysis | None:
    """Say what was said of an image last; None where models, bytes or gate do not let it."""
    instance = parts.index.find(sop_instance_uid)
    if instance is None:
        return None
    models = parts.models.for_image(instance, parts.harvester.labels(instance)).serving
    rejections = parts.outbox.trail.rejections(instance.study_instance_uid)
    is_rejected = sop_instance_uid in {one.source_sop_instance_uid for one in rejections}
    name = _name_of(models, instance)
    if is_rejected or not models or not parts.outbox.is_analysed(sop_instance_uid, name):
        return None
    return analyse(instance, models, sandbox=sandbox)


def _name_of(models: Sequence[Model], instance: Instance) -> str:
    """Name models and what they look at.

    A whole copy may have displaced a damaged one: what was said of other bytes does not count.
    """
    return f"{fingerprint(models)}:{instance.sha256}"


def _study_job(study: StudyRow) -> str:
    """Name the work on the last completion of a study."""
    return study_job(study.study_instance_uid, study.revision, study.completed_at)


def _report_job(row: CommitmentRow, attempt: int) -> str:
    """Name one attempt at a report and at those that are owed with it."""
    return f"commitment:{row.file_id}:{attempt}"


def _errand_job(errand: Errand) -> str:
    """Name one handing-out of an errand."""
    return f"deliver:{errand.destination}:{errand.study_instance_uid}:{errand.lease}"


def _with(parts: Parts, stage: Callable[..., dict[str, int]]) -> Stage:
    return lambda arguments: stage(parts, *arguments)


def _canceller(parts: Parts) -> Callable[[OwedStudy], int]:
    def cancel(study: OwedStudy) -> int:
        with closing(Dispatcher(parts.config.database or "", parts.config.node.name)) as dispatcher:
            jobs = dispatcher.unfinished_of(study.name)
            about = [job for job in jobs if job.is_about(study.study_instance_uid)]
            for job in about:
                dispatcher.cancel(job)
        return len(about)

    return cancel


def _jitter() -> random.Random:
    # it only spreads retries and guards nothing
    return random.Random()  # noqa: S311


def _now() -> datetime:
    return datetime.now(UTC)


def _note_delivered(parts: Parts, study_instance_uid: str, name: str) -> None:
    study = parts.index.study(study_instance_uid)
    if study is not None:
        waited_s = (_now() - study.last_received_at).total_seconds()
        metrics.page().observe(metrics.TO_DELIVERED, waited_s, name)


def _images(parts: Parts, study_instance_uid: str) -> list[Instance]:
    return [
        instance
        for instance in parts.index.instances(study_instance_uid)
        if instance.sop_class_uid in ULTRASOUND_IMAGES
    ]
