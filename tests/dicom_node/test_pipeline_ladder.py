"""What arrives at destinations that do not accept everything."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from dicom_node.config import Config, Destination, InferSettings, NodeSettings
from dicom_node.deliver import echo, probe
from dicom_node.forms import SOP_CLASSES, SegmentationForm
from dicom_node.jobs import Dispatcher
from dicom_node.ladder import classes_of_kinds
from dicom_node.node.worker import open_parts
from dicom_node.outbox import DeliveryState
from dicom_node.pipeline import Dispatch, Parts, analyse_study, deliver_errand, job_kinds
from dicom_node.records import ResultKind, Task
from dicom_node.register import register_waiting
from dicom_node.sop_classes import ULTRASOUND_IMAGES

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle
from tests.support.nodes import until
from tests.support.orthanc import orthanc
from tests.support.pacs import Pacs, pacs
from tests.support.stills import picture
from tests.support.validators import dciodvfy_errors

STILL = Path(str(get_testdata_file("examples_palette.dcm")))
CINE = Path(str(get_testdata_file("examples_ybr_color.dcm")))
SYNTAXES = (ExplicitVRLittleEndian, JPEGBaseline8Bit)
CLASSES_OF_KIND = classes_of_kinds(
    Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
)

pytestmark = pytest.mark.dimse
#: pynetdicom 3.0.4 shuts a refused socket down and leaves closing it to the garbage collector
REFUSED = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    (tmp_path / "bundles").mkdir()
    write_bundle(tmp_path / "bundles" / "segmentation.onnx", Task.SEGMENTATION, every_nth_frame=10)
    write_bundle(tmp_path / "bundles" / "quality.onnx", Task.QUALITY, every_nth_frame=10)
    config = Config(
        node=NodeSettings(data=tmp_path / "data", min_free_gib=0),
        infer=InferSettings(threads=1),
        bundles=tmp_path / "bundles",
    )
    with open_parts(config) as opened:
        yield opened


def with_destination(parts: Parts, destination: Destination) -> Parts:
    config = parts.config.model_copy(update={"destinations": (destination,)})
    return replace(parts, config=config)


@contextmanager
def accepting(port: int, *kinds: ResultKind) -> Iterator[Pacs]:
    """Run a destination that accepts these kinds."""
    classes = [uid for kind in kinds for uid in CLASSES_OF_KIND[kind]]
    with pacs(port, *classes, transfer_syntaxes=SYNTAXES) as peer:
        yield peer


def received(parts: Parts, path: Path) -> str:
    """Put an image into the inbox as the receiver does, register it, return its study."""
    part = parts.inbox.create()
    part.write(path.read_bytes())
    part.commit()
    register_waiting(parts.inbox, parts.index, now=datetime.now(UTC))
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def ask(parts: Parts) -> None:
    """Ask the destinations as the node does at its start."""
    for destination in parts.config.destinations:
        answers = probe(destination, calling_ae_title="NODE")
        parts.outbox.capabilities.note(
            destination.name, destination.address, answers, now=datetime.now(UTC)
        )


def analysed_for_one_that_takes_all(parts: Parts, port: int, path: Path) -> tuple[Parts, str]:
    """Analyse an image for a destination that says it takes everything, and is gone then."""
    with accepting(port, *ResultKind) as former:
        there = with_destination(parts, former.destination)
        ask(there)
    study = received(there, path)
    analyse_study(there, study, "1")
    return there, study


def deliver(parts: Parts, study: str) -> None:
    """Hand out errands until none is due."""
    for _ in range(5):
        for errand in parts.outbox.due(datetime.now(UTC)):
            deliver_errand(parts, study, errand.destination, str(errand.lease))


SEG, SR, PR, SC = ResultKind


@pytest.mark.parametrize("path", [STILL, CINE], ids=["still", "cine"])
@pytest.mark.parametrize(
    ("accepted", "modalities"),
    [
        ((SEG, SR, PR, SC), {"SEG", "SR"}),
        ((SR, PR, SC), {"PR", "SR"}),
        ((PR, SC), {"PR"}),
        ((SC,), {"US"}),
    ],
)
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
def test_what_arrives_is_what_the_ladder_says(
    parts: Parts,
    free_port: Callable[[], int],
    path: Path,
    accepted: tuple[ResultKind, ...],
    modalities: set[str],
    asked: bool,
) -> None:
    with accepting(free_port(), *accepted) as peer:
        there = with_destination(parts, peer.destination)
        if asked:
            ask(there)
        study = received(there, path)
        analyse_study(there, study, "1")
        deliver(there, study)
    assert sorted(dataset.Modality for dataset in peer.received) == sorted(modalities)
    found = {row.state for row in parts.outbox.rows()}
    assert found <= {DeliveryState.DELIVERED, DeliveryState.WITHDRAWN}
    for dataset in peer.received:
        assert dataset.StudyInstanceUID == study
        assert dataset.SOPClassUID not in ULTRASOUND_IMAGES
        own = parts.results / f"{dataset.SOPInstanceUID}.dcm"
        assert dcmread(own).get("PixelData") == dataset.get("PixelData")


def test_a_refused_seg_of_stills_is_replaced_by_a_rung_of_each(
    parts: Parts, free_port: Callable[[], int], tmp_path: Path
) -> None:
    pictures = [picture(tmp_path, number) for number in (1, 2)]
    with accepting(free_port(), SR, PR, SC) as peer:
        there = with_destination(parts, peer.destination)
        study = {received(there, path) for path in pictures}.pop()
        analyse_study(there, study, "1")
        [seg] = [row for row in parts.outbox.rows() if row.kind is SEG]
        deliver(there, study)
    assert sorted(dataset.Modality for dataset in peer.received) == ["PR", "PR", "SR", "SR"]
    drawn_over = {
        str(image.ReferencedSOPInstanceUID)
        for dataset in peer.received
        if dataset.Modality == "PR"
        for series in dataset.ReferencedSeriesSequence
        for image in series.ReferencedImageSequence
    }
    assert drawn_over == {str(dcmread(path).SOPInstanceUID) for path in pictures}
    rows = {row.sop_instance_uid: row for row in parts.outbox.rows()}
    assert rows.pop(seg.sop_instance_uid).state is DeliveryState.WITHDRAWN
    assert {row.state for row in rows.values()} == {DeliveryState.DELIVERED}


@REFUSED
def test_a_destination_that_was_down_gets_its_rung_once_it_answers(
    parts: Parts, free_port: Callable[[], int]
) -> None:
    with accepting(free_port()) as gone:
        port = gone.destination.port
    there = with_destination(parts, gone.destination)
    study = received(there, STILL)
    analyse_study(there, study, "1")
    deliver(there, study)
    assert {row.kind for row in parts.outbox.rows(DeliveryState.WAITING)} == {SEG, SR}
    with accepting(port, SC) as peer:
        parts.outbox.retry(now=datetime.now(UTC))
        deliver(there, study)
        assert [dataset.Modality for dataset in peer.received] == ["US"]
        # once it was asked again nothing is tried in vain
        ask(there)
        late = received(there, CINE)
        before = peer.associations
        analyse_study(there, late, "1")
        deliver(there, late)
        assert peer.associations == before + 1
    assert parts.outbox.rows(DeliveryState.DEAD) == []


def draw(parts: Parts) -> None:
    """Draw what lacks in any study, as the job that is handed out for it does."""
    [(_, stage)] = job_kinds(parts)["rungs"].stages
    for study in parts.outbox.lacking.studies():
        stage([study, ""])


@pytest.mark.parametrize(
    ("path", "accepted", "modalities"),
    [
        (STILL, (SR, PR, SC), ["PR", "SR"]),
        (CINE, (SR, PR, SC), ["PR", "SR"]),
        (STILL, (SC,), ["US"]),
    ],
)
def test_what_was_accepted_when_asked_and_is_refused_then_is_replaced_by_a_rung_that_is_drawn(
    parts: Parts,
    free_port: Callable[[], int],
    path: Path,
    accepted: tuple[ResultKind, ...],
    modalities: list[str],
) -> None:
    port = free_port()
    there, study = analysed_for_one_that_takes_all(parts, port, path)
    with accepting(port, *accepted) as peer:
        deliver(there, study)
        for _ in range(3):  # a rung may be refused, too
            draw(there)
            deliver(there, study)
    assert sorted(dataset.Modality for dataset in peer.received) == modalities
    rows = {row.kind: row for row in parts.outbox.rows()}
    assert rows[SEG].state is DeliveryState.WITHDRAWN
    assert parts.outbox.rows(DeliveryState.DEAD, DeliveryState.WAITING) == []
    assert parts.outbox.lacking.studies() == {}


def test_an_object_that_is_not_understood_is_replaced_and_its_class_goes_on(
    parts: Parts, free_port: Callable[[], int]
) -> None:
    with accepting(free_port(), *ResultKind) as peer:
        there = with_destination(parts, peer.destination)
        ask(there)
        answers = parts.outbox.capabilities.rows()
        peer.answer = lambda dataset: 0xC000 if dataset.Modality in ("SEG", "PR") else 0
        study = received(there, STILL)
        analyse_study(there, study, "1")
        deliver(there, study)
        for _ in range(2):
            draw(there)
            deliver(there, study)
    assert sorted(dataset.Modality for dataset in peer.received) == ["SR", "US"]
    assert parts.outbox.rows(DeliveryState.DEAD, DeliveryState.WAITING) == []
    assert parts.outbox.capabilities.rows() == answers


def test_where_an_image_cannot_be_looked_at_again_its_refused_object_stays_a_dead_letter(
    parts: Parts, free_port: Callable[[], int]
) -> None:
    port = free_port()
    there, study = analysed_for_one_that_takes_all(parts, port, STILL)
    assert parts.config.bundles is not None
    # what another model would say is not what was said
    write_bundle(parts.config.bundles / "segmentation.onnx", Task.SEGMENTATION, version="2")
    with accepting(port, SR, PR, SC) as peer:
        deliver(there, study)
        draw(there)
        deliver(there, study)
    assert [dataset.Modality for dataset in peer.received] == ["SR"]
    [dead] = parts.outbox.rows(DeliveryState.DEAD)
    assert dead.kind is SEG
    assert "enable that SOP class there" in dead.reason
    assert parts.outbox.lacking.studies() == {}


class Remembering:
    """Stands where jobs are handed out."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, str]] = []

    def enqueue(self, kind: str, _: str, arguments: Sequence[str]) -> None:
        self.jobs.append((kind, arguments[0]))


def test_what_is_refused_with_nothing_in_reserve_is_handed_out_once_to_be_drawn(
    parts: Parts, free_port: Callable[[], int]
) -> None:
    port = free_port()
    there, study = analysed_for_one_that_takes_all(parts, port, STILL)
    with accepting(port, SR, PR, SC):
        deliver(there, study)
    handed_out = Remembering()
    dispatch = Dispatch(there, cast(Dispatcher, handed_out))
    for _ in range(3):
        dispatch.deliver()
    assert handed_out.jobs == [("rungs", study)]


def test_without_a_ladder_the_refused_object_is_a_dead_letter(
    parts: Parts, free_port: Callable[[], int]
) -> None:
    with accepting(free_port(), SR, PR, SC) as peer:
        destination = peer.destination.model_copy(update={"fallback": ()})
        there = with_destination(parts, destination)
        study = received(there, STILL)
        analyse_study(there, study, "1")
        deliver(there, study)
    [dead] = parts.outbox.rows(DeliveryState.DEAD)
    assert dead.kind is SEG
    assert parts.outbox.lacking.studies() == {}
    assert [dataset.Modality for dataset in peer.received] == ["SR"]
    assert len(list(parts.results.glob("*.dcm"))) == 2


def test_a_destination_that_accepts_all_costs_no_further_object(
    parts: Parts, free_port: Callable[[], int]
) -> None:
    with accepting(free_port(), *ResultKind) as peer:
        there = with_destination(parts, peer.destination)
        ask(there)
        analyse_study(there, received(there, CINE), "1")
    assert len(list(parts.results.glob("*.dcm"))) == 2


def test_a_destination_may_want_the_rungs_themselves(
    parts: Parts, free_port: Callable[[], int]
) -> None:
    with accepting(free_port(), *ResultKind) as peer:
        there = with_destination(
            parts, peer.destination.model_copy(update={"send": ("sr", "pr", "sc")})
        )
        ask(there)
        study = received(there, STILL)
        analyse_study(there, study, "1")
        deliver(there, study)
    assert {dataset.Modality for dataset in peer.received} == {"SR", "PR", "US"}


@pytest.mark.peers
def test_a_real_orthanc_takes_every_kind_and_says_so(
    parts: Parts,
    tmp_path: Path,
    free_port: Callable[[], int],
    needs_program: Callable[[str], str],
) -> None:
    program = needs_program("Orthanc")
    with orthanc(program, tmp_path / "orthanc", free_port, node_port=free_port()) as peer:
        wanted = peer.destination.model_copy(update={"send": ("seg", "sr", "pr", "sc")})
        there = with_destination(parts, wanted)
        ask(there)
        refused = {r.sop_class_uid for r in parts.outbox.capabilities.rows() if not r.accepted}
        # Orthanc 1.10 does not know them
        assert refused <= {SOP_CLASSES[SegmentationForm.LABELMAP]}
        for path in (STILL, CINE):
            study = received(there, path)
            analyse_study(there, study, "1")
            deliver(there, study)
        stored = {uid for study in peer.studies() for uid in study}
    assert {row.state for row in parts.outbox.rows()} == {DeliveryState.DELIVERED}
    written = {path.stem: path for path in parts.results.glob("*.dcm")}
    assert stored == set(written)
    assert len(stored) == 8
    errors = {uid: dciodvfy_errors(path) for uid, path in written.items()}
    assert {uid: found for uid, found in errors.items() if found} == {}


@contextmanager
def storescp(
    program: str, folder: Path, port: int, classes: list[str]
) -> Iterator[tuple[Destination, Path]]:
    """Run DCMTK's storescp with a profile of these classes; where it is, and where it stores."""
    profile, store = folder / "storescp.cfg", folder / "stored"
    store.mkdir()
    contexts = [
        f"PresentationContext{number} = {uid}\\Syntaxes" for number, uid in enumerate(classes, 1)
    ]
    profile.write_text(
        "\n".join(
            [
                "[[TransferSyntaxes]]",
                "[Syntaxes]",
                "TransferSyntax1 = LocalEndianExplicit",
                "TransferSyntax2 = JPEGBaseline",
                "[[PresentationContexts]]",
                "[Contexts]",
                *contexts,
                "[[Profiles]]",
                "[Default]",
                "PresentationContexts = Contexts",
            ]
        )
    )
    command = [program, "-aet", "DCMTK", "-od", str(store), "-xf", str(profile), "Default"]
    place = Destination(name="dcmtk", ae_title="DCMTK", host="127.0.0.1", port=port)
    environment = os.environ | {"TCP_NODELAY": "1"}
    with subprocess.Popen([*command, str(port)], env=environment) as peer:
        try:
            yield place, store
        finally:
            peer.terminate()


#: What arrives of an image, by what the profile accepts.
ARRIVES = {(SR, PR, SC): ["PR", "SR"], (SR, SC): ["SR", "US"], (SC,): ["US"]}


@REFUSED
@pytest.mark.peers
@pytest.mark.parametrize("accepted", ARRIVES, ids="-".join)
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
def test_a_storescp_gets_the_rung_that_its_profile_has(
    parts: Parts,
    tmp_path: Path,
    free_port: Callable[[], int],
    needs_program: Callable[[str], str],
    accepted: tuple[ResultKind, ...],
    asked: bool,
) -> None:
    program, verification = needs_program("storescp"), "1.2.840.10008.1.1"
    classes = [verification, *(uid for kind in accepted for uid in CLASSES_OF_KIND[kind])]
    with storescp(program, tmp_path, free_port(), classes) as (place, store):
        until(lambda: echo(place, calling_ae_title="NODE") == "")
        there = with_destination(parts, place)
        if asked:
            ask(there)
        for path in (STILL, CINE):
            study = received(there, path)
            analyse_study(there, study, "1")
            deliver(there, study)
    stored = [dcmread(path, stop_before_pixels=True).Modality for path in store.iterdir()]
    assert sorted(stored) == sorted(2 * ARRIVES[accepted])
    assert parts.outbox.rows(DeliveryState.DEAD, DeliveryState.WAITING) == []
