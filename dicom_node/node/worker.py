"""The worker: registers, completes, runs jobs; everything but receiving."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from dicom_node import log, metrics
from dicom_node.config import Config
from dicom_node.errors import ConfigError, DatabaseDownError, TemporaryError
from dicom_node.harvest import open_harvester
from dicom_node.index import Index
from dicom_node.infer import Models
from dicom_node.jobs import Dispatcher, Worker, database_url
from dicom_node.node.asking import keep_asked
from dicom_node.node.layout import Layout, open_inbox
from dicom_node.node.locks import locked
from dicom_node.node.recount import keep_counted
from dicom_node.node.resuming import keep_resuming
from dicom_node.node.vigil import Vigil, keep_vigil
from dicom_node.node.vitals import Vitals, watched
from dicom_node.outbox import DeliveryState, Outbox
from dicom_node.pipeline import Dispatch, Parts, job_kinds
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.register import rebuild
from dicom_node.results import installation_of, open_installation
from dicom_node.roster import Roster

#: Added to the worker's niceness, and to that of its decoder: on a small machine nobody who sends
#: shall wait for a study to be registered or harvested.
NICENESS = 10
#: How often the worker looks for new files, quiet studies and due deliveries.
SWEEP_S = 0.25
#: While files keep coming, complete studies and deliveries wait no longer than this.
REGISTER_S = 5.0
#: Pause after a sweep that a full disk or a busy database broke off.
PAUSE_S = 5.0
#: Running stages get so long to end; what is left goes on at the next start.
DRAIN_S = 10.0


def run_worker(config: Config, ready: threading.Event, stop: threading.Event) -> None:
    """Work until `stop` is set."""
    layout = Layout(config.node.data)
    with ExitStack() as stack:
        # the worker of a killed supervisor may still be draining
        stack.enter_context(locked(layout.data / "worker.lock", wait_for_it=True))
        parts = stack.enter_context(open_parts(config))
        parts = _joined(config, parts)
        adopted = rebuild(parts.inbox, parts.index)
        # after the recovery, before the first thread and the decoder: they inherit it
        os.nice(NICENESS)
        url = database_url(layout.jobs, config.database)
        name = config.node.name
        worker = Worker(url, watched(job_kinds(parts), metrics.page()), executor_id=name)
        stack.callback(worker.close, timeout_s=DRAIN_S)
        dispatcher = Dispatcher(url, name)
        stack.callback(dispatcher.close)
        dispatch = Dispatch(parts, dispatcher)
        vitals = Vitals(metrics.page(), parts.index, parts.outbox, dispatcher)
        _announce(parts, dispatcher, adopted)
        if parts.roster is not None:
            _look_after_others(parts, parts.roster, dispatcher, stop)
        _look_around(parts, dispatcher, stop)
        ready.set()
        while not stop.wait(SWEEP_S):
            if worker.lost_a_job.is_set():
                raise DatabaseDownError("a job lost its checkpoint; it goes on after a restart")
            try:
                _sweep(dispatch, vitals, stop)
            except (TemporaryError, OSError) as exc:
                # what was received is safe; the next sweep finds the same work
                log.get("node").error("sweep put off", reason=str(exc), seconds=PAUSE_S)
                stop.wait(PAUSE_S)


def _look_around(parts: Parts, dispatcher: Dispatcher, stop: threading.Event) -> None:
    """Keep the inbox counted and the peers asked, in threads of their own."""
    looks = [
        partial(keep_counted, parts.inbox, stop),
        partial(keep_asked, parts.config, parts.outbox, stop),
    ]
    if parts.config.infer.url is not None:
        looks.append(partial(keep_resuming, parts.models, dispatcher, stop))
    for look in looks:
        threading.Thread(target=look, daemon=True).start()


def _joined(config: Config, parts: Parts) -> Parts:
    """Enter this node among those that share the jobs' database; in their results they are one."""
    if parts.roster is None:
        return parts
    try:
        parts.roster.join(
            installation=parts.installation.uid,
            ae_title=config.node.ae_title,
            dead_after_s=config.node.dead_after_s,
        )
    except ConfigError as exc:
        log.get("node").error("cannot join the other nodes", reason=str(exc))
        raise
    device = parts.roster.device(parts.installation.uid)
    return replace(parts, installation=installation_of(device))


def _look_after_others(
    parts: Parts, roster: Roster, dispatcher: Dispatcher, stop: threading.Event
) -> None:
    vigil = Vigil(parts, roster, dispatcher)
    threading.Thread(target=keep_vigil, args=(vigil, stop), daemon=True).start()


def _sweep(dispatch: Dispatch, vitals: Vitals, stop: threading.Event) -> None:
    deadline = time.monotonic() + REGISTER_S
    while dispatch.register() and not stop.is_set():
        vitals.swept()
        if time.monotonic() > deadline:
            dispatch.complete()
            dispatch.deliver()
            deadline = time.monotonic() + REGISTER_S
    dispatch.complete()
    dispatch.deliver()
    vitals.swept()


def _announce(parts: Parts, dispatcher: Dispatcher, adopted: int) -> None:
    """Say what the start found; the timers of open studies are their rows in the index."""
    log.get("node").info(
        "worker ready",
        counts={
            "orphans_adopted": adopted,
            "files_waiting": len(parts.inbox.waiting()),
            "studies_open": parts.index.counts()["studies_open"],
            "jobs_resumed": len(dispatcher.unfinished()),
            "deliveries_waiting": parts.outbox.counts()[DeliveryState.WAITING],
            "models": len(parts.models.current()),
        },
    )


@contextmanager
def open_parts(config: Config) -> Iterator[Parts]:
    """Open everything that the stages work with, and close it again."""
    layout = Layout(config.node.data)
    layout.results.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        index = Index(layout.index)
        stack.callback(index.close)
        outbox = Outbox(layout.outbox, layout.results)
        stack.callback(outbox.close)
        roster = None
        if (config.database or "").startswith("postgresql"):
            roster = Roster(str(config.database), config.node.name)
            stack.callback(roster.close)
        sandbox = stack.enter_context(
            PixelSandbox(
                memory_mib=config.infer.decode_memory_mib, timeout_s=config.infer.decode_timeout_s
            )
        )
        models = Models(config.bundles, config.infer)
        stack.callback(models.close)
        yield Parts(
            config=config,
            inbox=open_inbox(config),
            index=index,
            outbox=outbox,
            harvester=stack.enter_context(open_harvester(config.harvest, layout.data, sandbox)),
            models=models,
            sandbox=sandbox,
            installation=open_installation(layout.data / "installation.json"),
            results=layout.results,
            roster=roster,
        )
