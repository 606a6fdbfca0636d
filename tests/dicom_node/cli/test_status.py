import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from dicom_node.books.study import HELD
from dicom_node.harvest import HarvestCount, Skip, open_key
from dicom_node.index import Arrival, Index
from dicom_node.jobs import Kind, Worker, database_url
from dicom_node.outbox import Outbox
from dicom_node.receive.storing import StoreCommand, file_meta
from dicom_node.records import (
    Algorithm,
    Analysis,
    FailedAnalysis,
    Geometry,
    ImageFacts,
    Instance,
    QualityScores,
    Result,
    ResultKind,
    Task,
)
from dicom_node.store import WeakLabelStore
from tests.support.frames import new_frame

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DONE, OPEN, STUCK, SILENT = "1.2.840.1.7001", "1.2.840.1.7002", "1.2.840.1.8001", "1.2.840.1.8002"
STILL = "1.2.840.10008.5.1.4.1.1.6.1"
MODEL = Algorithm(name="view-quality", version="1.2.0", manufacturer="x", digest="ab12cd34" * 8)
#: lines of a terminal that nobody made larger
SCREEN = 24


def instance(data: Path, study: str, number: int, sender: str = "MODALITY1") -> Instance:
    path = data / f"{study}.{number}.dcm"
    command = StoreCommand(
        sop_class_uid=STILL,
        sop_instance_uid=f"{study}.5.{number}",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae_title=sender,
        abstract_syntax_uid=STILL,
    )
    path.write_bytes(file_meta(command))
    return Instance(
        sop_instance_uid=command.sop_instance_uid,
        sop_class_uid=STILL,
        series_instance_uid=f"{study}.1",
        study_instance_uid=study,
        transfer_syntax_uid=command.transfer_syntax_uid,
        file_id=f"{int(study.replace('.', '')) * 100 + number:024x}",
        path=path,
        sha256=f"{study}{number}",
        size_bytes=2**20,
        received_at=NOON + timedelta(minutes=number),
    )


def result(image: Instance, version: int) -> Result:
    uid = f"{image.study_instance_uid}.9.{version}"
    return Result(
        kind=ResultKind.SR,
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        study_instance_uid=image.study_instance_uid,
        source_sop_instance_uid=image.sop_instance_uid,
        path=Path(f"{uid}.dcm"),
        series_instance_uid=f"{image.study_instance_uid}.8",
        version=version,
        supersedes=None,
    )


def analysis(image: Instance, failure: str = "") -> Analysis:
    facts = ImageFacts(
        rows=1,
        columns=1,
        number_of_frames=1,
        transfer_syntax_uid=image.transfer_syntax_uid,
        region=None,
        spacing_mm=None,
    )
    if failure:
        failed = FailedAnalysis(algorithm=MODEL, task=Task.QUALITY, reason=failure)
        return Analysis(instance=image, facts=facts, failures=(failed,))
    said = QualityScores(algorithm=MODEL, scores=())
    return Analysis(instance=image, facts=facts, qualities=(said,))


def arrived(index: Index, *images: Instance, complete: str = "nothing came for 30 s") -> None:
    index.register([Arrival(instance=image, patient_id="SECRET^ID") for image in images])
    if complete:
        at = images[-1].received_at + timedelta(seconds=30)
        study = images[-1].study_instance_uid
        index.complete(study, reason=complete, evidence={"instances": len(images)}, now=at)
        index.finish(study, 2)


def answered(outbox: Outbox, image: Instance, version: int = 1, **trail: str) -> Result:
    now = image.received_at + timedelta(seconds=40)
    outbox.trail.note_harvest(image, {"frames stored": 2, "black": 1}, now)
    said = analysis(image, trail.get("failure", ""))
    outbox.trail.note(said, rejected=trail.get("rejected", ""), now=now)
    made = result(image, version)
    uid = image.sop_instance_uid
    outbox.add([made], [(made, "pacs")], analysed=uid, models=f"m{version}", now=now)
    return made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a node ran, with a study in every place."""
    site = tmp_path_factory.mktemp("site")
    (site / "node.yaml").write_text("node: {data: ./data, min_free_gib: 0}\nbundles: ./bundles\n")
    data = site / "data"
    data.mkdir()
    kinds = {"study": Kind(stages=(), at_once=1)}
    Worker(database_url(data / "jobs.db", None), kinds, executor_id="node-0").close(timeout_s=0)
    with (
        closing(Index(data / "index.db")) as index,
        closing(Outbox(data / "outbox.db", data)) as outbox,
    ):
        done = instance(data, DONE, 1), instance(data, DONE, 2, "PACS")
        arrived(index, done[0])
        arrived(index, done[1], complete="PACS counts 2 instances; all are here")
        for image in done:
            sent = answered(outbox, image, 1 + (image is done[1]))
            at = NOON + timedelta(minutes=9)
            outbox.delivered(sent.sop_instance_uid, "pacs", status=0, now=at)
        arrived(index, instance(data, OPEN, 1), complete="")
        stuck = instance(data, STUCK, 1)
        arrived(index, stuck)
        late = answered(
            outbox, stuck, rejected="the SEG did not pass the gate: PixelData", failure="no memory"
        )
        for _ in range(3):
            outbox.postpone(
                late.sop_instance_uid,
                "pacs",
                status=0xA700,
                reason="out of resources; free space at the destination",
                now=NOON + timedelta(hours=1),
                rng=Random(1),
            )
        arrived(index, instance(data, SILENT, 1))
    _taught(data)
    return site


def _taught(data: Path) -> None:
    """Put two images into the store, of which one has no group."""
    study = open_key(data / "pseudonym.key").token("study", DONE)
    liver = {"probe": "C5-1", "geometry": Geometry.CURVILINEAR, "groups": frozenset({"liver"})}
    with WeakLabelStore(data / "store") as store:
        store.add_frame(new_frame(seed=1, study=study, **liver))
        store.add_frame(new_frame(seed=2, study=study, instance="e" * 32))
        store.add_frame(new_frame(seed=3, instance="f" * 32))


def status(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node", "status", *arguments]
    return subprocess.run(command, cwd=site, capture_output=True, text=True, check=False)


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_script_gets_every_step_of_a_study_with_its_times(site: Path) -> None:
    found = json.loads(status(site, DONE, "--json").stdout)
    assert (found["study"]["state"], found["study"]["revision"]) == ("complete", 2)
    assert found["where"]["word"] == "delivered"
    received = found["received"]
    assert (received["instances"], received["from"]) == (2, {"MODALITY1": 1, "PACS": 1})
    assert received["first_at"] == "2026-01-01T12:01:00+00:00"
    assert received["last_at"] == "2026-01-01T12:02:00+00:00"
    assert [(row["revision"], row["at"]) for row in found["completions"]] == [
        (1, "2026-01-01T12:01:30+00:00"),
        (2, "2026-01-01T12:02:30+00:00"),
    ]
    assert [row["evidence"]["instances"] for row in found["completions"]] == [1, 1]
    harvested = found["harvested"]
    assert (harvested["images"], harvested["of"], harvested["frames_in_store"]) == (2, 2, 4)
    assert harvested["left_out"] == {"black": 2}
    assert harvested["labels"] == [
        {"probe": None, "geometry": "unknown", "groups": [], "images": 1},
        {"probe": "C5-1", "geometry": "curvilinear", "groups": ["liver"], "images": 1},
    ]
    [model] = found["inferred"]["models"]
    assert (model["name"], model["version"], model["digest"]) == (
        "view-quality",
        "1.2.0",
        MODEL.digest,
    )
    assert (model["said"], model["last_at"]) == ({"scored": 2}, "2026-01-01T12:02:40+00:00")
    assert [row["kind"] for row in found["validated"]["passed"]] == ["sr", "sr"]
    assert {row["state"] for row in found["delivered"]} == {"delivered"}
    assert {row["status"] for row in found["delivered"]} == {"0x0000"}
    assert {row["changed_at"] for row in found["delivered"]} == {"2026-01-01T12:09:00+00:00"}


def test_a_study_is_told_without_its_labels_while_their_catalogue_is_down(site: Path) -> None:
    place = site / "data" / "store" / "catalogue.json"
    schema = f"dicom_node_store_{'0' * 12}"
    place.write_text(json.dumps({"url": "postgresql://node@127.0.0.1:1/store", "schema": schema}))
    try:
        told = status(site, DONE, "--json")
    finally:
        place.unlink()
    assert told.returncode == 0, told.stderr
    harvested = json.loads(told.stdout)["harvested"]
    assert (harvested["images"], harvested["labels"]) == (2, [])


def test_a_person_gets_one_screen_that_begins_with_the_answer(site: Path) -> None:
    shown = status(site, DONE).stdout
    lines = shown.splitlines()
    assert len(lines) <= SCREEN
    assert lines[0] == f"Study {DONE}"
    assert lines[1].startswith("2 results delivered to pacs by 2026-01-01 12:09:00")
    told = words(shown)
    for said in (
        "received 2026-01-01 12:01:00 the first of 2 instances in 1 series",
        "from MODALITY1 (1), PACS (1)",
        "complete 2026-01-01 12:01:30 revision 1: nothing came for 30 s",
        "12:02:30 revision 2: PACS counts 2 instances; all are here",
        "harvested 2026-01-01 12:02:40 2 of 2 images; 4 frames in the store; left out: 2 black",
        "labels: 1 image unknown, no group; 1 image curvilinear (C5-1), liver",
        "inferred 2026-01-01 12:02:40 view-quality 1.2.0 (ab12cd34ab12): scored in 2",
        "validated 2026-01-01 12:02:40 2 SR passed the gate",
        "delivered 2026-01-01 12:09:00 pacs: 2 SR delivered, answer 0x0000",
    ):
        assert said in told
    assert "SECRET" not in shown


def test_what_is_late_and_what_was_rejected_is_told_with_the_reason_and_the_next_try(
    site: Path,
) -> None:
    told = words(status(site, STUCK).stdout)
    found = json.loads(status(site, STUCK, "--json").stdout)
    assert found["where"]["word"] == "late"
    assert "out of resources; free space at the destination" in found["where"]["sentence"]
    assert "failed in 1: no memory" in told
    assert "the results of 1 image were rejected: the SEG did not pass the gate" in told
    [delivery] = found["delivered"]
    assert (delivery["attempts"], delivery["status"]) == (3, "0xA700")
    assert delivery["next_try_at"] > "2026-01-01T13:01:00"
    assert "1 SR on the way, 3 tries, its turn is now, answer 0xA700, out of resources" in told


def test_a_study_that_no_model_fits_is_told_as_that(site: Path) -> None:
    told = words(status(site, SILENT).stdout)
    assert "It was worked on, and there is no result to deliver." in told
    assert "inferred no model fits its images" in told


def test_an_open_study_that_is_long_due_makes_one_look_at_the_node(site: Path) -> None:
    told = words(status(site, OPEN).stdout)
    assert "it is due since 2026-01-01 12:01:30: the node does not run" in told
    assert "complete not yet" in told


@pytest.mark.parametrize("part", ["7001", "...7001", "1.2.840.1.7001"])
def test_a_part_of_the_uid_that_no_other_has_will_do(site: Path, part: str) -> None:
    assert json.loads(status(site, part, "--json").stdout)["study"]["study_instance_uid"] == DONE


def test_a_part_that_several_have_names_them(site: Path) -> None:
    found = status(site, "1.2.840.1.7")
    assert found.returncode == 1
    assert "stands in several studies" in found.stderr
    assert f"{DONE}\n  {OPEN}" in found.stderr


def test_a_study_that_never_came_is_named_with_the_cure(site: Path) -> None:
    found = status(site, "9.9")
    assert found.returncode == 1
    assert "no study '9.9' is registered" in found.stderr
    assert "quarantine" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_destination_that_is_down_needs_a_look(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    kinds = {"study": Kind(stages=(), at_once=1)}
    url = database_url(tmp_path / "data" / "jobs.db", None)
    Worker(url, kinds, executor_id="node-0").close(timeout_s=0)
    with closing(Outbox(tmp_path / "data" / "outbox.db", tmp_path / "data")) as outbox:
        for name in ("pacs", "formerly"):
            for minutes in range(2):
                now = NOON + timedelta(minutes=minutes)
                outbox.outages.failed(name, reason="no connection", now=now, rng=Random(0))
    (tmp_path / "node.yaml").write_text(
        "node: {data: ./data, min_free_gib: 0}\n"
        "destinations: [{name: pacs, ae_title: A, host: h, port: 104}]\n"
    )
    found = json.loads(status(tmp_path, "--json").stdout)
    [down] = found["destinations_down"]
    assert down["destination"] == "pacs"
    assert down["since"] == NOON.isoformat()
    assert down["attempts"] == 2
    assert "2026-01-01T12:01:48" <= down["next_try"] <= "2026-01-01T12:02:12"
    [told] = [one for one in found["needs_a_look"] if "is down" in one["what"]]
    assert told["what"] == "pacs is down since 2026-01-01 12:00:00, after 2 attempts"
    assert told["cure"].startswith("no connection; it is tried again at 2026-01-01 12:0")


def test_a_name_or_number_of_a_patient_is_not_looked_for(site: Path) -> None:
    found = status(site, "DOE^JANE")
    assert found.returncode == 2
    assert "Study Instance UID" in found.stderr


def test_the_overview_is_one_screen_that_begins_with_what_needs_a_look(site: Path) -> None:
    shown = status(site).stdout
    assert len(shown.splitlines()) <= SCREEN + 10
    told = words(shown)
    assert told.startswith("Needs a look")
    for said in (
        "1 result on the way to pacs, the oldest of 2026-01-01 12:01:40",
        "out of resources; free space at the destination; 'dicom-node queue list'",
        "the results of 1 image were not fit to leave",
        "1 open, 3 complete",
        "2 delivered, 1 on the way",
        "node was not asked how it is",
    ):
        assert said in told, said
    for study, word in ((DONE, "delivered"), (OPEN, "open"), (STUCK, "late")):
        assert f"{study} {word}" in told
    assert "SECRET" not in shown


def test_the_overview_is_for_a_script_too(site: Path) -> None:
    found = json.loads(status(site, "--json").stdout)
    assert {row["study_instance_uid"]: row["where"] for row in found["studies"]} == {
        DONE: "delivered",
        OPEN: "open",
        STUCK: "late",
        SILENT: "no result",
    }
    assert all(trouble["cure"] for trouble in found["needs_a_look"])


def test_a_node_that_does_not_answer_needs_a_look(
    site: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    config = (site / "node.yaml").read_text().replace("./data", str(site / "data"))
    (tmp_path / "node.yaml").write_text(f"{config}\nweb: {{port: {free_port()}}}\n")
    found = json.loads(status(tmp_path, "--json").stdout)
    assert "does not answer" in found["needs_a_look"][0]["what"]
    assert "dicom-node serve" in found["needs_a_look"][0]["cure"]


def test_frames_that_the_store_has_are_counted_by_the_harvests_own_names() -> None:
    names = {*HarvestCount(skipped=dict.fromkeys(Skip, 1)).as_dict()}
    assert set(HELD) < names


def test_what_a_model_in_the_shadow_said_is_counted_and_named_and_owed_to_nobody(
    site: Path, tmp_path: Path
) -> None:
    site = shutil.copytree(site, tmp_path / "site")
    image = f"{DONE}.5.1"
    kept = Result(
        kind=ResultKind.SR,
        sop_instance_uid=f"{DONE}.9.7",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        study_instance_uid=DONE,
        source_sop_instance_uid=image,
        path=Path(f"{DONE}.9.7.dcm"),
        series_instance_uid=f"{DONE}.8.7",
    )
    with closing(Outbox(site / "data" / "outbox.db", site / "data")) as outbox:
        owed = outbox.rows()
        editions = outbox.next_edition(image, study_revision=1)
        outbox.add_shadow([kept], analysed=image, models="m", now=NOON)
        assert outbox.rows() == owed
        assert outbox.next_edition(image, study_revision=1) == editions
        assert outbox.next_edition(image, study_revision=1, shadow=True).version == 2
    assert json.loads(status(site, "--json").stdout)["counts"]["results_in_the_shadow"] == 1
    found = json.loads(status(site, DONE, "--json").stdout)
    assert found["shadow"] == [{"kind": "sr", "version": 1, "file": f"{DONE}.9.7.dcm"}]
    assert "1 SR of models in the shadow, sent to nobody" in words(status(site, DONE).stdout)
