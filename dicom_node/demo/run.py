"""The demo from start to end: send, harvest, label, train, serve, deliver, show."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydicom import dcmread
from pydicom.data import get_testdata_file
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dicom_node import config as configuration
from dicom_node import log
from dicom_node.config import Config, Destination
from dicom_node.deliver import echo
from dicom_node.demo.page import Sent, write_page
from dicom_node.demo.peers import receiving_pacs, send_files
from dicom_node.demo.ports import free_port
from dicom_node.errors import ConfigError, DestinationDownError, PermanentError
from dicom_node.harvest import import_labels
from dicom_node.index import Index
from dicom_node.node.layout import Layout
from dicom_node.outbox import DeliveryState, Outbox
from dicom_node.phantom.labels import write_labels
from dicom_node.phantom.study import PhantomInstance, cohort, write_study
from dicom_node.store import WeakLabelStore

AE_TITLES = ("DEMO_MODALITY", "DICOM_NODE")
PACS_AE_TITLE = "DEMO_PACS"
#: The real ultrasound files that pydicom ships.
REAL_FILES = (
    "examples_palette.dcm",
    "examples_rgb_color.dcm",
    "examples_ybr_color.dcm",
    "examples_jpeg2k.dcm",
    "ExplVR_BigEnd.dcm",
)
BUNDLES = "bundles"
RUNS = "runs"
#: -P: a folder named training where the command is run must not win over ours
TRAINING = (sys.executable, "-P", "-m", "training")
#: What is trained, and on every how many frames of a cine it runs: view quality changes slowly, and
#: validators of SR choke on hundreds of groups.
TASKS = {"segmentation": 1, "quality": 5}
#: Patients with labels to learn from, and patients that come afterwards.
LABELLED_PATIENTS = 60
NEXT_PATIENTS = 3
STEP_TIMEOUT_S = 240.0
MARKER = ".dicom-node-demo"


@dataclass
class _Counts:
    """What the closing table shows."""

    sent: int = 0
    acknowledged: int = 0
    labelled: int = 0
    started_at: float = 0.0


def run_demo(folder: Path) -> None:
    """Make `folder` anew and leave in it a node that can be served on.

    Raises
    ------
    ConfigError
        When training is not installed.
    PermanentError
        When `folder` holds something that no demo made, or a step fails.
    """
    _must_have_training()
    log.configure(level=40)
    console = Console()
    counts = _Counts(started_at=time.monotonic())
    folder = _fresh(folder)
    config_file = _write_config(folder)
    config = configuration.load(config_file)
    [port] = [one.port for one in config.destinations if isinstance(one, Destination)]
    with (
        receiving_pacs(folder / "pacs", port, ae_title=PACS_AE_TITLE),
        _running_node(config_file, config, folder / "node.log"),
    ):
        _learn(config, folder, console, counts)
        shown = _serve(config, folder, console, counts)
        totals = _totals(config, folder, counts)
        page = write_page(shown, folder / "pacs", folder, totals=totals)
    _print_totals(console, totals)
    console.print(f"Look at [bold]{page}[/bold]")
    console.print(f"The node runs on with: dicom-node serve --config {config_file}")


def _learn(config: Config, folder: Path, console: Console, counts: _Counts) -> None:
    """Send labelled patients, let the node harvest them, and train both models on the store."""
    console.rule("1  receive and harvest", align="left")
    with Progress(console=console) as progress:
        instances = _phantoms(
            folder / "sent" / "labelled", seed=1, patients=LABELLED_PATIENTS, progress=progress
        )
        _send(config, [i.path for i in instances], progress, counts)
    _until_worked_on(config, {i.study_instance_uid for i in instances}, console)
    layout = Layout(config.node.data)
    labels = write_labels(instances, folder / "labels")
    counts.labelled = import_labels(labels, data=layout.data).imported
    console.rule("2  train on what was harvested and labelled", align="left")
    for task, every_nth_frame in TASKS.items():
        _train(folder, layout.store, task=task, every_nth_frame=every_nth_frame)


def _serve(config: Config, folder: Path, console: Console, counts: _Counts) -> list[Sent]:
    """Send the next patients and the real files; the running node has the models by now."""
    console.rule("3  serve", align="left")
    real = [Path(str(get_testdata_file(name))) for name in REAL_FILES]
    with Progress(console=console) as progress:
        instances = _phantoms(
            folder / "sent" / "next", seed=2, patients=NEXT_PATIENTS, progress=progress, cine=24
        )
        _send(config, [*real, *(i.path for i in instances)], progress, counts)
    studies = {str(dcmread(p, stop_before_pixels=True).StudyInstanceUID) for p in real}
    _until_worked_on(config, studies | {i.study_instance_uid for i in instances}, console)
    _until(lambda: not _owed(config), console, "deliver to the PACS")
    phantoms = [
        Sent(path=i.path, title=f"Phantom, drawn at view quality {i.quality}", phantom=True)
        for i in instances
    ]
    return phantoms + [Sent(path=p, title=p.stem, phantom=False) for p in real]


def _phantoms(
    folder: Path, *, seed: int, patients: int, progress: Progress, cine: int = 0
) -> list[PhantomInstance]:
    specs = cohort(seed=seed, patients=patients, cine_frames=cine)
    return [
        instance
        for spec in progress.track(specs, description="draw phantoms")
        for instance in write_study(folder / f"{spec.patient:03d}", spec)
    ]


def _send(config: Config, files: list[Path], progress: Progress, counts: _Counts) -> None:
    counts.sent += len(files)
    counts.acknowledged += send_files(
        files, config.node.port, ae_titles=AE_TITLES, progress=progress, what="send by C-STORE"
    )


def _train(folder: Path, store: Path, *, task: str, every_nth_frame: int) -> None:
    arguments = ["finetune", "--store", str(store), "--task", task, "--preset", "demo"]
    arguments += ["--out", str(folder / RUNS / task), "--every-nth-frame", str(every_nth_frame)]
    arguments += ["--bundle", str(folder / BUNDLES / f"demo-{task}.onnx")]
    finished = subprocess.run([*TRAINING, *arguments], check=False)
    if finished.returncode != 0:
        raise PermanentError(f"training the {task} model failed; its message stands above")


def _until_worked_on(config: Config, studies: set[str], console: Console) -> None:
    index = Index(Layout(config.node.data).index)
    _until(
        lambda: all(index.is_finished(study) for study in studies), console, "harvest and analyse"
    )
    index.close()


def _owed(config: Config) -> int:
    layout = Layout(config.node.data)
    outbox = Outbox(layout.outbox, layout.results)
    waiting = outbox.counts()[DeliveryState.WAITING]
    outbox.close()
    return waiting


def _until(done: Callable[[], bool], console: Console, what: str) -> None:
    deadline = time.monotonic() + STEP_TIMEOUT_S
    with console.status(f"{what} ..."):
        while not done():
            if time.monotonic() > deadline:
                raise PermanentError(f"'{what}' took over {STEP_TIMEOUT_S:g} s; see node.log")
            time.sleep(0.2)


@contextmanager
def _running_node(config_file: Path, config: Config, log_file: Path) -> Iterator[None]:
    command = [sys.executable, "-P", "-m", "dicom_node", "serve", "--config", str(config_file)]
    with log_file.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _await_node(process, config, log_file)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _await_node(process: subprocess.Popen[bytes], config: Config, log_file: Path) -> None:
    node = config.node
    address = Destination(
        name="node", ae_title=node.ae_title, host=node.bind, port=node.port, timeout_s=2.0
    )
    deadline = time.monotonic() + 60
    while echo(address, calling_ae_title=AE_TITLES[0]):
        if process.poll() is not None or time.monotonic() > deadline:
            raise DestinationDownError(f"the node did not start; see {log_file}")
        time.sleep(0.2)


def _totals(config: Config, folder: Path, counts: _Counts) -> list[tuple[str, str]]:
    layout = Layout(config.node.data)
    received = [path.name for path in (folder / "pacs").glob("*.dcm")]
    outbox = Outbox(layout.outbox, layout.results)
    delivered = outbox.counts()
    kinds = [row.kind.value for row in outbox.rows(DeliveryState.DELIVERED, limit=100_000)]
    outbox.close()
    info = WeakLabelStore(layout.store).info()
    return [
        ("sent by C-STORE", str(counts.sent)),
        ("acknowledged by the node", str(counts.acknowledged)),
        ("frames harvested", str(info.frames)),
        ("frames labelled", str(counts.labelled)),
        ("models trained", str(len(TASKS))),
        ("SEG delivered", str(kinds.count("seg"))),
        ("SR delivered", str(kinds.count("sr"))),
        ("objects in the PACS", str(len(received))),
        ("dead letters", str(delivered[DeliveryState.DEAD])),
        ("seconds", f"{time.monotonic() - counts.started_at:.0f}"),
    ]


def _print_totals(console: Console, totals: list[tuple[str, str]]) -> None:
    table = Table(show_header=False)
    for what, count in totals:
        table.add_row(what, count)
    console.print(table)


def _write_config(folder: Path) -> Path:
    path = folder / "node.yaml"
    tree = {
        "node": {
            "ae_title": AE_TITLES[1],
            "port": free_port(),
            "data": "./node-data",
            "processes": 2,
            "callers": [{"ae_title": AE_TITLES[0], "host": "127.0.0.1"}],
        },
        "study": {"quiet_s": 2},
        "bundles": f"./{BUNDLES}",
        "destinations": [
            {
                "name": "pacs",
                "kind": "dimse",
                "ae_title": PACS_AE_TITLE,
                "host": "127.0.0.1",
                "port": free_port(),
                "send": ["seg", "sr"],
            }
        ],
    }
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    (folder / BUNDLES).mkdir()
    return path


def _fresh(folder: Path) -> Path:
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise PermanentError(f"{folder} holds something else; name an empty folder with --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    return folder


def has_training() -> bool:
    """Whether this is a checkout; the wheel ships neither training nor models."""
    return (Path(__file__).resolve().parents[2] / "training" / "__main__.py").is_file()


def _must_have_training() -> None:
    if not has_training():
        raise ConfigError(
            "the demo trains two models and needs a checkout of the repository: 'make demo' there"
        )
