"""Every presentation state and capture of every real file, before the validators of others."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.errors import PixelError
from dicom_node.pixels.decode import decode
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Edition, Result, ResultKind
from dicom_node.results.source import odd_values_allowed
from tests.dicom_node.results.test_conformance import WITHOUT_RESULT
from tests.support.analyses import CINE, STILL, drawn_analysis_of, pydicom_file
from tests.support.overlays import overlays_of
from tests.support.validators import dciodvfy_errors, without_illegal_uids

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(900)]


def dcmpschk_complaints(path: Path) -> str:
    """Return what DCMTK's checker of presentation states says; "" when the test passed."""
    program = "/usr/bin/dcmpschk"
    if not Path(program).exists():
        pytest.skip("dcmpschk is missing: apt-get install dcmtk")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    return "" if "Test passed." in said else said


def can_be_decoded(path: Path) -> bool:
    try:
        with odd_values_allowed():
            return bool([number for number, _ in decode(path, [1])])
    except PixelError:
        return False


@pytest.fixture(scope="module")
def real_overlays(
    test_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Result, ...]]:
    written = {}
    with PixelSandbox(memory_mib=768, timeout_s=60) as sandbox:
        for path in sorted((test_data / "dicom_us").glob("*.dcm")):
            if path.name not in WITHOUT_RESULT:
                analysis, folder = drawn_analysis_of(path, 8), tmp_path_factory.mktemp("real")
                written[path.name] = overlays_of(analysis, folder, sandbox=sandbox)
    return written


def states(overlays: dict[str, tuple[Result, ...]]) -> Iterator[Path]:
    for results in overlays.values():
        yield from (result.path for result in results if result.kind is ResultKind.PR)


@pytest.mark.parametrize("name", [STILL, CINE])
@pytest.mark.parametrize("version", [1, 2])
def test_overlays_of_pydicoms_files_have_no_errors(name: str, version: int, tmp_path: Path) -> None:
    analysis = drawn_analysis_of(pydicom_file(name), every_nth=10)
    written = overlays_of(analysis, tmp_path, edition=Edition(version=version))
    assert len(written) == 2
    assert {one.kind: dciodvfy_errors(one.path) for one in written} == {"pr": [], "sc": []}
    assert dcmpschk_complaints(written[0].path) == ""


def test_the_validators_find_what_is_missing(tmp_path: Path) -> None:
    state, capture = overlays_of(drawn_analysis_of(pydicom_file(STILL)), tmp_path)
    for result, keyword in ((state, "ContentLabel"), (capture, "ConversionType")):
        dataset = dcmread(result.path)
        delattr(dataset, keyword)
        dataset.save_as(result.path)
        assert any(keyword in error for error in dciodvfy_errors(result.path))
    assert dcmpschk_complaints(state.path)


@pytest.mark.data
def test_every_real_image_gives_a_state_and_what_can_be_decoded_a_capture(
    real_overlays: dict[str, tuple[Result, ...]], test_data: Path
) -> None:
    expected = {
        name: ["pr", "sc"] if can_be_decoded(test_data / "dicom_us" / name) else ["pr"]
        for name in real_overlays
    }
    found = {name: [one.kind for one in written] for name, written in real_overlays.items()}
    assert found == expected
    assert sum(kinds == ["pr", "sc"] for kinds in expected.values()) > 30


@pytest.mark.data
def test_overlays_of_every_real_image_have_no_errors_in_dciodvfy(
    real_overlays: dict[str, tuple[Result, ...]],
) -> None:
    errors = {
        (name, result.kind): found
        for name, results in real_overlays.items()
        for result in results
        if (found := without_illegal_uids(dciodvfy_errors(result.path)))
    }
    assert errors == {}


@pytest.mark.data
def test_states_of_every_real_image_pass_dcmpschk(
    real_overlays: dict[str, tuple[Result, ...]],
) -> None:
    # an illegal UID of the source is repeated, and dcmpschk knows no mercy
    legal = [path for path in states(real_overlays) if not dciodvfy_errors(path)]
    assert len(legal) > 30
    found = {path.name: dcmpschk_complaints(path) for path in legal}
    assert {name: said for name, said in found.items() if said} == {}
