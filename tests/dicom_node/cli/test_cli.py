import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dicom_node.bundle import Bundle
from dicom_node.harvest import open_key
from dicom_node.records import Task
from dicom_node.store import WeakLabelStore
from tests.support.frames import new_frame
from tests.support.oip_server import oip_server
from tests.support.s3 import SECRET, environment
from tests.support.slices import new_volume

COMMAND = [sys.executable, "-m", "dicom_node"]
CONFIG = "node: {data: ./data, min_free_gib: 0}\nbundles: ./bundles\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "node.yaml").write_text(CONFIG)
    (tmp_path / "bundles").mkdir()
    return tmp_path


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=site, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "command",
    [
        ("serve",),
        ("check",),
        ("send-test",),
        ("backup",),
        ("restore",),
        ("status",),
        ("demo",),
        ("queue",),
        ("queue", "list"),
        ("queue", "retry"),
        ("queue", "cancel"),
        ("queue", "drop"),
        ("labels",),
        ("labels", "unmapped"),
        ("labels", "coverage"),
        ("labels", "map"),
        ("labels", "agreement"),
        ("labels", "import"),
        ("labels", "readers"),
        ("labels", "codes"),
        ("store",),
        ("store", "info"),
        ("store", "audit"),
        ("store", "erase"),
        ("store", "accept"),
        ("bundles",),
        ("bundles", "list"),
        ("bundles", "show"),
        ("bundles", "check"),
    ],
    ids=" ".join,
)
def test_every_command_has_help_with_an_example(site: Path, command: tuple[str, ...]) -> None:
    found = run(site, *command, "--help")
    assert found.returncode == 0
    assert "Example: dicom-node" in found.stdout


@pytest.mark.parametrize(
    "command",
    [("status",), ("queue", "list"), ("store", "info"), ("labels", "unmapped")],
    ids=" ".join,
)
def test_a_node_that_never_ran_is_wrong_use_and_says_the_cure(
    site: Path, command: tuple[str, ...]
) -> None:
    found = run(site, *command)
    assert found.returncode == 2
    assert "dicom-node serve" in found.stderr
    assert "Traceback" not in found.stderr


def test_an_absent_configuration_is_wrong_use(tmp_path: Path) -> None:
    found = run(tmp_path, "serve")
    assert found.returncode == 2
    assert "node.yaml" in found.stderr


def test_check_names_every_fault_and_exits_with_1(site: Path) -> None:
    (site / "bundles" / "bad.onnx").write_bytes(b"no model")
    found = run(site, "check", "--json")
    assert found.returncode == 1
    faults = {row["what"]: row["fault"] for row in json.loads(found.stdout) if row["fault"]}
    assert set(faults) == {"callers", "bundle bad.onnx"}
    assert "node.callers" in faults["callers"]


def test_bundles_list_marks_a_damaged_bundle(site: Path) -> None:
    pytest.importorskip("onnx", reason="needs the train group: make test installs it")
    from tests.support.bundles import write_bundle  # noqa: PLC0415

    write_bundle(site / "bundles" / "good.onnx", Task.QUALITY)
    (site / "bundles" / "bad.onnx").write_bytes(b"no model")
    found = run(site, "bundles", "list", "--json")
    assert found.returncode == 1
    bad, good = json.loads(found.stdout)
    assert bad["fault"]
    assert (good["name"], good["fault"]) == ("test-quality", "")
    refused, why, served, which = run(site, "bundles", "list").stdout.splitlines()
    assert (refused, served) == ("bad.onnx: refused", "good.onnx: serves")
    assert why == f"  {bad['fault'].removeprefix('bad.onnx: ')}"
    assert which.startswith(f"  test-quality {good['version']}, quality, digest {good['digest']}")


def test_bundles_list_tells_what_each_bundle_does(site: Path) -> None:
    pytest.importorskip("onnx", reason="needs the train group: make test installs it")
    from tests.support.bundles import write_bundle  # noqa: PLC0415

    for version in ("1.9", "1.10", "2"):
        path = site / "bundles" / f"quality-{version}.onnx"
        write_bundle(path, Task.QUALITY, version=version)
    infer = "infer: {shadow: [test-quality@2], versions: {view: '1'}}\n"
    (site / "node.yaml").write_text(CONFIG + infer)
    listed = json.loads(run(site, "bundles", "list", "--json").stdout)
    assert {row["version"]: (row["role"], row["runs on"]) for row in listed} == {
        "1.9": ("rests: version 1.10 is newer", "CPU"),
        "1.10": ("serves", "CPU"),
        "2": ("shadow", "CPU"),
    }
    checked = json.loads(run(site, "check", "--json").stdout)
    [doubt] = [row["fault"] for row in checked if row["what"] == "models"]
    assert doubt.startswith("infer.versions: view@1 is not in the folder of bundles")


def test_every_command_refuses_a_bundle_in_the_same_words(site: Path) -> None:
    pytest.importorskip("onnx", reason="needs the train group: make test installs it")
    from tests.support.bundles import write_bundle  # noqa: PLC0415

    write_bundle(site / "bundles" / "future.onnx", Task.QUALITY, opset=99)
    single = run(site, "bundles", "check", "bundles/future.onnx")
    assert single.returncode == 1
    [listed] = json.loads(run(site, "bundles", "list", "--json").stdout)
    checked = json.loads(run(site, "check", "--json").stdout)
    [found] = [row["fault"] for row in checked if row["what"] == "bundle future.onnx"]
    assert found == listed["fault"]
    assert found.startswith("future.onnx: is of opset 99, onnxruntime ")
    assert found in " ".join(single.stderr.split())


def test_bundles_show_is_a_card_to_read_and_json_for_a_script(site: Path) -> None:
    pytest.importorskip("onnx", reason="needs the train group: make test installs it")
    from tests.support.bundles import PROVENANCE, write_bundle  # noqa: PLC0415

    metrics = {"validation_accuracy": 0.5, "test_accuracy": 0.25}
    origin = PROVENANCE | {"code_version": "1.2+g0abc", "exported_with": "1.3+g1def.dirty"}
    more = {"metrics": metrics, "provenance": origin, "routing": {"header": {"Modality": ["US"]}}}
    write_bundle(site / "bundles" / "good.onnx", Task.QUALITY, **more)
    card = run(site, "bundles", "show", "bundles/good.onnx").stdout
    for said in (
        "test-quality 1",
        "0 (not usable) to 4 (best)",
        "Liver (10200004, SCT)",
        "images whose Modality is US",
        "by hand",
        "dicom-node 1.2+g0abc, exported with 1.3+g1def.dirty",
    ):
        assert said in " ".join(card.split())
    assert "test accuracy" in card
    assert "0.250" in card
    manifest = run(site, "bundles", "show", "bundles/good.onnx", "--json").stdout
    assert json.loads(manifest)["metrics"] == metrics


def test_store_info_and_audit_speak_of_the_configured_store(site: Path) -> None:
    WeakLabelStore(site / "data" / "store").close()
    assert json.loads(run(site, "store", "info", "--json").stdout)["frames"] == 0
    assert run(site, "store", "audit").returncode == 0
    for option, folder in (([], "data/packs"), (["--packs", "copied"], "copied")):
        (site / folder).mkdir()
        (site / folder / "DOE^JANE.txt").write_bytes(b"")
        found = run(site, "store", "audit", *option)
        assert (found.returncode, "DOE" in found.stdout) == (1, False)
        (site / folder / "DOE^JANE.txt").unlink()
        assert run(site, "store", "audit", *option).returncode == 0
    found = run(site, "store", "audit", "--exports", "exported", "--json")
    assert found.returncode == 1
    assert json.loads(found.stdout)[0]["where"] == "exports exported"
    (site / "exported").mkdir()
    assert run(site, "store", "audit", "--exports", "exported").returncode == 0
    assert run(site, "store", "audit", "--exports", "s3://").returncode == 2
    (site / "data" / "store" / "frames").mkdir(exist_ok=True)
    (site / "data" / "store" / "frames" / "DOE^JANE.png").write_bytes(b"")
    assert run(site, "store", "audit").returncode == 1


def test_store_info_counts_series_with_what_is_known_of_them(site: Path) -> None:
    with WeakLabelStore(site / "data" / "store") as store:
        assert "CT and MR" not in run(site, "store", "info").stdout
        store.volumes.put(new_volume())
        store.volumes.put(new_volume(seed=1, sequence=None, contrast=None, patient="c" * 32))
        size_bytes = store.volumes.size_bytes()
    series = json.loads(run(site, "store", "info", "--json").stdout)["series"]
    assert (series["volumes"], series["patients"], sum(series["by_split"].values())) == (2, 2, 2)
    assert (series["by_sequence"]["T1-SE"], series["by_sequence"]["unknown"]) == (1, 1)
    assert (series["by_plane"]["AX"], series["by_plane"]["unknown"]) == (2, 0)
    assert series["by_contrast"] == {"yes": 1, "no": 0, "unknown": 1}
    assert series["by_region"]["Lung"] == {"shown": 2, "not shown": 0, "unknown": 0}
    assert series["by_region"]["Head"] == {"shown": 0, "not shown": 2, "unknown": 0}
    assert series["by_region"]["Liver"] == {"shown": 0, "not shown": 0, "unknown": 2}
    files = (site / "data" / "store" / "volumes").rglob("*.png")
    assert series["size_bytes"] == size_bytes == sum(path.stat().st_size for path in files)
    lines = run(site, "store", "info").stdout
    assert re.search(r"by region Liver unknown\W+2", lines)


def _with_a_patient(site: Path, patient_id: str) -> WeakLabelStore:
    store = WeakLabelStore(site / "data" / "store")
    key = open_key(site / "data" / "pseudonym.key")
    store.add_frame(new_frame(patient=key.token("patient", patient_id)))
    return store


def test_a_patient_is_erased_when_somebody_says_yes(site: Path) -> None:
    with _with_a_patient(site, "MRN-0815") as store:
        asked = [*COMMAND, "store", "erase"]
        no = subprocess.run(
            asked, cwd=site, input="MRN-0815\nn\n", capture_output=True, text=True, check=False
        )
        assert no.returncode == 1
        assert "1 frames and 0 volumes of 1 studies" in no.stderr
        assert len(store.frames()) == 1
        yes = subprocess.run(
            asked, cwd=site, input="MRN-0815\ny\n", capture_output=True, text=True, check=False
        )
        assert yes.returncode == 0
        assert store.frames() == []
    assert "Not erased" in yes.stdout
    assert "SEG, SR" in yes.stdout


def test_an_erasure_without_questions_says_counts_and_no_patient(site: Path) -> None:
    with _with_a_patient(site, "MRN-0815"):
        erase = ("store", "erase", "--patient-id", "MRN-0815", "--refuse", "--yes", "--json")
        found = run(site, *erase)
        counts = json.loads(found.stdout)
        assert (counts["frames"], counts["refused"]) == (1, True)
        assert counts["not_erased"]
        assert "MRN-0815" not in found.stdout + found.stderr
        again = run(site, *erase[:5], "--yes")
        assert again.returncode == 0
        assert "see that it is written right" in again.stdout
        accept = ("store", "accept", "--patient-id", "MRN-0815")
        accepted = run(site, *accept, "--json")
        assert json.loads(accepted.stdout) == {"was_refused": True}
        assert "was not refused" in run(site, *accept).stdout


def test_an_erasure_that_cannot_reach_an_export_of_the_configuration_is_not_finished(
    site: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("boto3", reason="pip install 'dicom-node[s3]'")
    for name, value in environment(f"http://127.0.0.1:{free_port()}").items():
        monkeypatch.setenv(name, value)
    file = site / "node.yaml"
    harvest = yaml.safe_load(file.read_text())
    harvest.setdefault("harvest", {})["exports"] = ["s3://research/ultrasound", "exports"]
    file.write_text(yaml.safe_dump(harvest))
    with _with_a_patient(site, "MRN-0815") as store:
        found = run(site, "store", "erase", "--patient-id", "MRN-0815", "--yes")
        assert store.frames() == []
    assert found.returncode == 1
    assert "NOT FINISHED: s3://research/ultrasound: the storage gives no answer" in found.stderr
    assert "give the same command again" in found.stderr
    assert "MRN-0815" not in found.stdout + found.stderr
    assert SECRET not in found.stdout + found.stderr


def test_an_address_with_a_mistake_is_refused_before_anything_is_erased(site: Path) -> None:
    with _with_a_patient(site, "MRN-0815") as store:
        erase = ("store", "erase", "--patient-id", "MRN-0815", "--yes")
        found = run(site, *erase, "--exports", "s3://me:password@research")
        assert len(store.frames()) == 1
    assert found.returncode == 2
    assert "an address is s3://BUCKET/PREFIX" in found.stderr
    assert "password" not in found.stdout + found.stderr


def test_a_row_of_labels_that_fits_nothing_is_named_by_its_number(site: Path) -> None:
    WeakLabelStore(site / "data" / "store").close()
    open_key(site / "data" / "pseudonym.key")
    (site / "labels.csv").write_text("sop_instance_uid,frame,quality,mask\n1.2.3,1,4,\n")
    found = run(site, "labels", "import", "labels.csv")
    assert found.returncode == 1
    assert "0 labels imported, 1 rows not used" in found.stdout
    assert "labels.csv:2:" in found.stderr


def test_train_passes_its_words_on(site: Path) -> None:
    pytest.importorskip("torch", reason="needs the train group: make test installs it")
    found = run(site, "train", "finetune", "--help")
    assert found.returncode == 0
    assert "--task" in found.stdout


def test_a_model_server_that_is_not_there_is_said_with_every_bundle_that_waits_for_it(
    site: Path,
) -> None:
    pytest.importorskip("onnx", reason="needs the train group: make test installs it")
    from tests.support.bundles import write_bundle  # noqa: PLC0415

    write_bundle(site / "bundles" / "a.onnx", Task.QUALITY)
    unset = run(site, "bundles", "check", "bundles/a.onnx", "--config", "node.yaml")
    assert "infer.url: not set" in unset.stderr
    with (site / "node.yaml").open("a") as file:
        file.write("infer: {url: 'grpc://127.0.0.1:1'}\n")
    checked = {row["what"]: row["fault"] for row in json.loads(run(site, "check", "--json").stdout)}
    assert "grpc://127.0.0.1:1: the model server gives no answer" in checked["model server"]
    assert "no answer" in checked["bundle a.onnx"]
    listed = run(site, "bundles", "list", "--json")
    assert listed.returncode == 1
    assert "no answer" in json.loads(listed.stdout)[0]["fault"]
    single = run(site, "bundles", "check", "bundles/a.onnx", "--config", "node.yaml")
    assert single.returncode == 1
    assert single.stdout.startswith("a.onnx: sound")
    assert "no answer" in single.stderr


@pytest.mark.alone
def test_one_bundle_is_tried_on_the_model_server(site: Path) -> None:
    pytest.importorskip("onnx", reason="needs the train group: make test installs it")
    from tests.support.bundles import write_bundle  # noqa: PLC0415

    path = write_bundle(site / "bundles" / "a.onnx", Task.QUALITY)
    with oip_server() as server:
        server.run = Bundle(path, threads=1).answer
        with (site / "node.yaml").open("a") as file:
            file.write(f"infer: {{url: '{server.url}'}}\n")
        found = run(site, "bundles", "check", "bundles/a.onnx", "--config", "node.yaml")
        assert found.stdout.endswith(f"{server.url} answers the same\n")
        assert found.returncode == 0
