"""The order of the stages: the one page where it is written.

Register -> complete -> (harvest -> analyse -> finish) -> deliver. `job_kinds` holds the stages of
the two kinds of jobs; `Dispatch` turns what stands in the databases into jobs. Nothing that has to
survive is kept in memory: after kill -9 the same calls find the same work.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from dicom_node import log
from dicom_node.config import Config
from dicom_node.deliver import Outcome, Verdict, send
from dicom_node.errors import ResultError, UnreadableError
from dicom_node.harvest import Harvester
from dicom_node.inbox import Inbox
from dicom_node.index import Index, StudyRow
from dicom_node.infer import Models, analyse, fingerprint
from dicom_node.jobs import Dispatcher, Kind, Stage
from dicom_node.outbox import Errand, Outbox
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Analysis, FailedAnalysis, Instance, Result, Task
from dicom_node.register import register_waiting
from dicom_node.results import Installation, write_results
from dicom_node.sop_classes import ULTRASOUND_IMAGES


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


def job_kinds(parts: Parts) -> dict[str, Kind]:
    """Return the kinds of jobs with their stages in order."""
    return {
        "study": Kind(
            stages=(
                ("harvest", _with(parts, harvest_study)),
                ("analyse", _with(parts, analyse_study)),
                ("finish", _with(parts, finish_study)),
            ),
            at_once=1,  # one decoder process, and onnxruntime uses every core by itself
        ),
        "deliver": Kind(
            stages=(("send", _with(parts, deliver_errand)),),
            at_once=8,
            partitioned=True,
        ),
    }


def harvest_study(parts: Parts, study_instance_uid: str, _: str) -> dict[str, int]:
    """Put the study's frames and weak labels into the store; already stored frames cost little."""
    if not parts.config.harvest.enabled:
        return {}
    total: dict[str, int] = {}
    for instance in _images(parts, study_instance_uid):
        for what, count in parts.harvester.harvest(instance).items():
            total[what] = total.get(what, 0) + count
    log.get("harvest").info("harvested", study_instance_uid=study_instance_uid, counts=total)
    return total


def analyse_study(parts: Parts, study_instance_uid: str, _: str) -> dict[str, int]:
    """Run the models that fit, write SEG and SR, and owe them to the destinations."""
    total = {"images": 0, "results": 0, "failures": 0}
    for instance in _images(parts, study_instance_uid):
        written, failures = _analyse_instance(parts, instance)
        total["images"] += 1
        total["results"] += len(written)
        total["failures"] += failures
    log.get("analyse").info("analysed", study_instance_uid=study_instance_uid, counts=total)
    return total


def finish_study(parts: Parts, study_instance_uid: str, revision: str) -> dict[str, int]:
    """Note that this revision of the study was worked on to its end."""
    parts.index.finish(study_instance_uid, int(revision))
    return {}


def deliver_errand(parts: Parts, study_instance_uid: str, name: str, lease: str) -> dict[str, int]:
    """Make one attempt at everything that one destination is owed of one study."""
    errand = Errand(study_instance_uid=study_instance_uid, destination=name, lease=int(lease))
    owed = parts.outbox.waiting(errand)
    if not owed:
        return {}
    destination = {d.name: d for d in parts.config.destinations}.get(name)
    if destination is None:
        outcomes: Iterable[Outcome] = (_homeless(result) for result in owed)
    else:
        outcomes = send(owed, destination, calling_ae_title=parts.config.node.ae_title)
    counts = {verdict.value: 0 for verdict in Verdict}
    for outcome in outcomes:
        counts[outcome.verdict.value] += 1
        _settle(parts.outbox, name, outcome)
    log.get("deliver").info(
        "attempt ended", study_instance_uid=study_instance_uid, destination=name, counts=counts
    )
    return counts


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

    def register(self) -> int:
        """Register what the receivers put into the inbox; returns how many files."""
        counts = register_waiting(self._parts.inbox, self._parts.index, now=_now())
        if counts.total:
            log.get("register").info("registered", counts=asdict(counts))
        return counts.total

    def complete(self) -> int:
        """Close studies that were quiet for long enough and hand out their jobs."""
        quiet_s = self._parts.config.study.quiet_s
        now = _now()
        for study in self._parts.index.due(now, quiet_s):
            revision = self._parts.index.complete(
                study,
                reason=f"nothing came for {quiet_s:g} s",
                evidence={"quiet_s": quiet_s},
                now=now,
            )
            log.get("index").info("study complete", study_instance_uid=study, revision=revision)
        jobs = {_study_job(row): row for row in self._parts.index.unfinished()}
        fresh = jobs.keys() - self._handed_out
        for job in sorted(fresh):
            arguments = [jobs[job].study_instance_uid, str(jobs[job].revision)]
            self._dispatcher.enqueue("study", job, arguments)
            self._handed_out.add(job)
        return len(fresh)

    def deliver(self) -> int:
        """Hand out the errands whose time has come."""
        errands = self._parts.outbox.due(_now())
        for errand in errands:
            study, name, lease = errand.study_instance_uid, errand.destination, str(errand.lease)
            self._dispatcher.enqueue(
                "deliver", f"deliver:{name}:{study}:{lease}", [study, name, lease], partition=name
            )
            self._parts.outbox.lease(errand, _now())
        return len(errands)


def _analyse_instance(parts: Parts, instance: Instance) -> tuple[tuple[Result, ...], int]:
    labels = parts.harvester.labels(instance)
    bundles = parts.models.fitting(labels.groups, labels.geometry)
    # a whole copy may have displaced a damaged one: what was said of other bytes does not count
    models = f"{fingerprint(bundles)}:{instance.sha256}"
    if not bundles or parts.outbox.is_analysed(instance.sop_instance_uid, models):
        return (), 0
    analysis = analyse(instance, bundles, sandbox=parts.sandbox)
    written = _write(parts, analysis)
    owed = [
        (result, destination.name)
        for destination in parts.config.destinations
        for result in written
        if result.kind.value in destination.send
    ]
    parts.outbox.add(written, owed, analysed=instance.sop_instance_uid, models=models, now=_now())
    return written, len(analysis.failures)


def _write(parts: Parts, analysis: Analysis) -> tuple[Result, ...]:
    """Write the results; when one does not pass the gate, write that the analysis failed."""
    try:
        return write_results(analysis, parts.results, installation=parts.installation)
    except (ResultError, UnreadableError) as exc:
        uid = analysis.instance.sop_instance_uid
        log.get("results").error("result rejected", sop_instance_uid=uid, reason=str(exc))
    try:
        failed = _as_failure(analysis)
        return write_results(failed, parts.results, installation=parts.installation)
    except (ResultError, UnreadableError):
        return ()  # an image in no study has no place for a report; the log has the reason


def _as_failure(analysis: Analysis) -> Analysis:
    spoke = [(said.algorithm, Task.SEGMENTATION) for said in analysis.segmentations]
    spoke += [(said.algorithm, Task.QUALITY) for said in analysis.qualities]
    rejected = tuple(
        FailedAnalysis(algorithm=algorithm, task=task, reason="its result did not pass the gate")
        for algorithm, task in spoke
    )
    return replace(
        analysis, segmentations=(), qualities=(), failures=(*analysis.failures, *rejected)
    )


def _homeless(result: Result) -> Outcome:
    return Outcome(
        sop_instance_uid=result.sop_instance_uid,
        verdict=Verdict.PERMANENT,
        status=None,
        reason="no such destination in the configuration; name it again or 'queue drop'",
    )


def _settle(outbox: Outbox, destination: str, outcome: Outcome) -> None:
    """Write what became of one object into its row."""
    uid, status, reason = outcome.sop_instance_uid, outcome.status, outcome.reason
    if outcome.verdict is Verdict.DELIVERED:
        outbox.delivered(uid, destination, status=status or 0, now=_now())
    elif outcome.verdict is Verdict.PERMANENT:
        outbox.bury(uid, destination, status=status, reason=reason, now=_now())
    else:
        # jitter only spreads retries, it guards nothing
        rng = random.Random()  # noqa: S311
        outbox.postpone(uid, destination, status=status, reason=reason, now=_now(), rng=rng)


def _study_job(study: StudyRow) -> str:
    """Name the work on one completion; with its time, as a rebuilt index counts from 1 again."""
    completed_at = study.completed_at.timestamp() if study.completed_at else 0.0
    return f"study:{study.study_instance_uid}:{study.revision}:{completed_at:.6f}"


def _with(parts: Parts, stage: Callable[..., dict[str, int]]) -> Stage:
    return lambda arguments: stage(parts, *arguments)


def _now() -> datetime:
    return datetime.now(UTC)


def _images(parts: Parts, study_instance_uid: str) -> list[Instance]:
    return [
        instance
        for instance in parts.index.instances(study_instance_uid)
        if instance.sop_class_uid in ULTRASOUND_IMAGES
    ]
