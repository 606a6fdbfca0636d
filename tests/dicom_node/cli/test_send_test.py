import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from dicom_node.cli.trial_sending import OWN_TITLE, receiver_of, send, tls_towards
from dicom_node.config import Caller, Config, Destination, NodeSettings
from dicom_node.errors import ConfigError, DestinationDownError
from dicom_node.inbox import Inbox
from dicom_node.phantom.study import US_IMAGE, US_MULTIFRAME_IMAGE
from dicom_node.phantom.trial import PATIENT_ID, write_trial
from dicom_node.records import Task
from dicom_node.store import open_store
from tests.support.certificates import certificates
from tests.support.nodes import Node, node_on
from tests.support.orthanc import orthanc
from tests.support.pacs import pacs
from tests.support.receiving import receiver, settings_for

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle
from tests.torture.destination import KINDS

pytestmark = pytest.mark.dimse


def node_of(*callers: Caller, **settings: object) -> Config:
    known = {"callers": callers, "port": 11112, "ae_title": "NODE"}
    return Config(node=NodeSettings.model_validate(known | settings))


def test_the_node_itself_is_asked_as_somebody_who_may_send() -> None:
    listed = (Caller(ae_title="PACS", host="10.0.0.5"), Caller(ae_title="SELF", host="127.0.0.1"))
    to, calling = receiver_of(node_of(*listed, bind="::"), None)
    assert (to.address, calling) == ("NODE@127.0.0.1:11112", "SELF")
    assert receiver_of(node_of(Caller(ae_title="*")), None)[1] == OWN_TITLE


def test_a_node_that_takes_nothing_from_this_machine_is_told_with_the_line_to_add() -> None:
    with pytest.raises(ConfigError, match=r"add \{ae_title: SEND_TEST, host: 127\.0\.0\.1\}"):
        receiver_of(node_of(Caller(ae_title="PACS", host="10.0.0.5")), None)


@pytest.mark.parametrize("wrong", ["pacs", "pacs:", ":104", "pacs:0", "pacs:99999", "pacs:x"])
def test_an_address_that_is_none_is_told_how_to_write_it(wrong: str) -> None:
    with pytest.raises(ConfigError, match="write HOST:PORT"):
        receiver_of(node_of(), wrong)


def test_an_address_may_have_an_ae_title() -> None:
    assert receiver_of(node_of(), "ORTHANC@pacs:4242")[0].address == "ORTHANC@pacs:4242"
    assert receiver_of(node_of(), "[::1]:104")[0].host == "::1"


def test_a_destination_is_called_by_its_name_and_over_its_tls(tmp_path: Path) -> None:
    certified = certificates(tmp_path)
    secured = Destination(name="pacs", ae_title="PACS", host="h", port=1, tls=certified.towards())
    config = node_of().model_copy(update={"destinations": (secured,)})
    assert receiver_of(config, "pacs") == (secured, OWN_TITLE)
    tls = tls_towards(config, "pacs")
    assert tls is not None
    assert tls[1] == "h"
    assert tls_towards(config, "PACS@h:1") is None, "of whom nothing is known"


@pytest.mark.parametrize("has_to_show_one", [True, False], ids=["certificate", "none"])
def test_a_node_that_takes_tls_alone_is_tried_over_tls(
    files: list[Path], tmp_path: Path, free_port: Callable[[], int], has_to_show_one: bool
) -> None:
    certified = certificates(tmp_path)
    wanted = certified.folder / "ca.pem" if has_to_show_one else None
    tls = certified.settings(free_port(), only=True, callers_ca=wanted)
    caller = Caller(ae_title=OWN_TITLE, host="127.0.0.1")
    settings = settings_for(free_port(), tls=tls, callers=(caller,))
    config = Config(node=settings)
    to, calling = receiver_of(config, None)
    assert to.port == tls.port
    with receiver(settings, Inbox(tmp_path / "inbox", min_free_bytes=0)) as running:
        send(files, to, calling, tls_towards(config, None))
        assert len(running.received()) == len(files)


def test_a_node_that_does_not_take_its_own_certificate_as_a_callers_says_what_is_left(
    files: list[Path], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    certified = certificates(tmp_path)
    (tmp_path / "other").mkdir()
    certificates(tmp_path / "other")
    tls = certified.settings(free_port(), only=True, callers_ca=tmp_path / "other" / "ca.pem")
    settings = settings_for(free_port(), tls=tls, callers=(Caller(ae_title="*"),))
    config = Config(node=settings)
    to, calling = receiver_of(config, None)
    with (
        receiver(settings, Inbox(tmp_path / "inbox", min_free_bytes=0)) as running,
        pytest.raises(DestinationDownError, match="with --to a PACS that routes to the node"),
    ):
        send(files, to, calling, tls_towards(config, None))
    assert running.received() == []


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    written = write_trial(tmp_path_factory.mktemp("trial"), date(2026, 1, 2))
    return [instance.path for instance in written]


def test_what_is_not_taken_is_told_with_status_and_place(
    files: list[Path], free_port: Callable[[], int]
) -> None:
    with pacs(free_port(), US_IMAGE, US_MULTIFRAME_IMAGE) as peer:
        send(files, peer.destination, OWN_TITLE)
        assert [str(ds.PatientID) for ds in peer.received] == [PATIENT_ID] * len(files)
        peer.answer = lambda ds: 0xA700 if ds.InstanceNumber == 2 else 0
        with pytest.raises(DestinationDownError, match=r"took 1 of 3 images, then: status 0xA700"):
            send(files, peer.destination, OWN_TITLE)
        other = peer.destination.model_copy(update={"ae_title": "OTHER"})
        with pytest.raises(DestinationDownError, match=f"rejects the association of {OWN_TITLE}"):
            send(files, other, OWN_TITLE)
    with pytest.raises(DestinationDownError, match="cannot be reached: does it run"):
        send(files, peer.destination, OWN_TITLE)


def with_models(node: Node) -> Node:
    for task in (Task.SEGMENTATION, Task.QUALITY):
        write_bundle(node.folder / "bundles" / f"{task.value}.onnx", task)
    return node


def tried(node: Node) -> dict[str, str]:
    """Try a node; return what was found at each step."""
    found = node.cli("send-test", "--json")
    assert found.returncode == 0, found.stdout + found.stderr + node.log
    told = json.loads(found.stdout)
    times = [step["after_s"] for step in told["steps"]]
    assert times == sorted(times)
    assert told["missing"] == []
    # what shows no patient teaches nothing
    with open_store(node.layout.store) as store:
        assert store.frames() == []
    return {step["what"]: step["found"] for step in told["steps"]}


@pytest.mark.slow
def test_a_phantom_goes_through_the_whole_node_and_its_results_come(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with (
        pacs(free_port(), *KINDS) as peer,
        node_on(tmp_path, free_port(), peer.destination, quiet_s=1) as node,
    ):
        with_models(node).start()
        steps = tried(node)
        assert steps["received"] == f"3 images by NODE@127.0.0.1:{node.port}"
        assert steps["harvested"] == "looked at, and not stored: 3 phantom"
        assert steps["delivered to pacs"] == "SEG, SR"
        assert {str(ds.PatientID) for ds in peer.received} == {PATIENT_ID}
        peer.answer = lambda _: 0xA700
        late = node.cli("send-test", "--deadline", "20")
        assert late.returncode == 1
        assert "missing  delivered to pacs" in late.stdout
        assert node.stop() == 0


@pytest.mark.slow
@pytest.mark.peers
def test_the_results_of_a_phantom_come_to_a_real_pacs(
    tmp_path: Path, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> None:
    port = free_port()
    with (
        orthanc(needs_program("Orthanc"), tmp_path / "orthanc", free_port, node_port=port) as peer,
        node_on(tmp_path, port, peer.destination, quiet_s=1) as node,
    ):
        with_models(node).start()
        assert tried(node)["delivered to orthanc"] == "SEG, SR"
        [patient] = peer.get("/patients?expand")
        assert patient["MainDicomTags"]["PatientID"] == PATIENT_ID
        assert node.stop() == 0
