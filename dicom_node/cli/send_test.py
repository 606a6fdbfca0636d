"""``dicom-node send-test``: a phantom through the whole node, to the last destination."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from dicom_node.books import study
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json
from dicom_node.cli.trial_removal import remove_trials
from dicom_node.cli.trial_sending import receiver_of, send, tls_towards
from dicom_node.cli.trial_steps import Step, steps
from dicom_node.config import Config
from dicom_node.errors import PermanentError
from dicom_node.node.layout import Layout
from dicom_node.phantom.trial import PATIENT_ID, write_trial

app = typer.Typer(add_completion=False)

#: On top of study.quiet_s: a worker that is busy with others, and retries of a delivery.
_WORK_S: Final = 120.0
_LOOK_S: Final = 0.5
_Say: TypeAlias = Callable[[Step, float], None]


@app.command()
def send_test(
    to: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT, AE@HOST:PORT or a destination's name: a PACS that routes to the node."
        ),
    ] = None,
    deadline_s: Annotated[
        float | None, typer.Option("--deadline", help="Seconds; else study.quiet_s and 120.")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Send nothing: delete the files of earlier tests.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Send a phantom study and wait for its results; exit status 1 when some do not come.

    Its results go to every destination, for the patient DICOM-NODE-TEST. It is never harvested.

    Example: dicom-node send-test --config node.yaml
    """
    settings = load(config)
    if remove:
        _remove(settings, as_json=as_json)
        return
    receiver, calling_ae_title = receiver_of(settings, to)
    longest_s = settings.study.quiet_s + _WORK_S if deadline_s is None else deadline_s
    say: _Say = _say_nothing if as_json else _say
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        instances = write_trial(Path(folder), datetime.now(UTC).date())
        uid, count = instances[0].study_instance_uid, len(instances)
        files = [instance.path for instance in instances]
        send(files, receiver, calling_ae_title, tls_towards(settings, to))
    sent = Step(what="received", is_done=True, found=f"{count} images by {receiver.address}")
    done = [(sent, time.monotonic() - began)]
    say(*done[0])
    missing: list[Step] = []
    for now in _progress(settings, uid, count, began + longest_s):
        known = {step.what for step, _ in done}
        missing = [step for step in now if not step.is_done]
        fresh = [step for step in now if step.is_done and step.what not in known]
        for step in fresh:
            done.append((step, time.monotonic() - began))
            say(*done[-1])
    if as_json:
        print_json(_record(uid, done, missing))
    else:
        _conclude(uid, missing)
    if missing:
        raise typer.Exit(1)


def _remove(config: Config, *, as_json: bool) -> None:
    removed = remove_trials(config)
    if as_json:
        print_json(asdict(removed))
        return
    size = f"{removed.bytes / 1e6:.1f} MB"
    typer.echo(
        f"{removed.files} files of {removed.studies} studies deleted, {size}; "
        "those at the destinations are not"
    )
    for uid in removed.left:
        typer.echo(f"left: {uid} is worked on, or owed to a destination; see 'dicom-node status'")


def _progress(config: Config, uid: str, images: int, deadline: float) -> Iterator[list[Step]]:
    """Yield the steps until all are done, waiting is of no use, or the deadline is over."""
    while True:
        now = steps(_found(config, uid), config, images)
        yield now
        is_over = all(step.is_done for step in now) or any(
            step.is_final and not step.is_done for step in now
        )
        if is_over or time.monotonic() > deadline:
            return
        time.sleep(_LOOK_S)


def _found(config: Config, uid: str) -> dict[str, Any] | None:
    if not Layout(config.node.data).outbox.exists():
        return None
    try:
        return study.collect(config, uid)
    except PermanentError:  # not registered yet
        return None


def _say_nothing(_: Step, __: float) -> None:
    """Leave the screen to JSON."""


def _conclude(uid: str, missing: Sequence[Step]) -> None:
    for step in missing:
        typer.secho(f"missing  {step.what}: {step.missing}", fg=typer.colors.RED)
    if not missing:
        typer.secho("everything came", fg=typer.colors.GREEN)
    typer.echo(f"study {uid} of patient {PATIENT_ID}; remove it in the PACS when you like")


def _say(step: Step, after_s: float) -> None:
    typer.echo(f"{after_s:6.1f} s  {step.what}: {step.found}")


def _record(
    uid: str, done: Sequence[tuple[Step, float]], missing: Sequence[Step]
) -> dict[str, Any]:
    return {
        "study_instance_uid": uid,
        "patient_id": PATIENT_ID,
        "steps": [
            {"what": step.what, "after_s": round(after_s, 1), "found": step.found}
            for step, after_s in done
        ],
        "missing": [{"what": step.what, "why": step.missing} for step in missing],
    }
