import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.books.cards import cards
from dicom_node.books.shadows import compared
from dicom_node.bundle import Bundle
from dicom_node.bundle.peeked import manifest_of
from dicom_node.config import Config
from dicom_node.errors import BundleError
from dicom_node.node.layout import Layout
from dicom_node.outbox import Outbox
from dicom_node.page_settings import Role
from dicom_node.records import Analysis, Edition, Task
from dicom_node.results import write_results
from dicom_node.results.said import said_in
from tests.support.analyses import (
    INSTALLATION,
    STILL,
    algorithm,
    analysis_of,
    emptied,
    pydicom_file,
    without_scores,
)
from tests.support.page import browser, log_in, node_in

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MORE = """
bundles: ./bundles
infer:
  shadow: [test-quality@2]
  routes: {test-segmentation: {groups: [liver], frames: {max: 1}}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("site")
    bundles = folder / "bundles"
    bundles.mkdir()
    for version in ("1", "1.5", "2"):
        write_bundle(bundles / f"quality-{version}.onnx", Task.QUALITY, version=version)
    write_bundle(bundles / "liver.onnx", Task.SEGMENTATION, manufacturer="<i>Works</i>")
    (bundles / "none.onnx").write_bytes(b"no model")
    return node_in(folder, more=MORE)


@pytest.fixture(scope="module")
def outbox(config: Config) -> Iterator[Outbox]:
    """What models said of one still: those that serve, and later versions in the shadow."""
    layout = Layout(config.node.data)
    serving = analysis_of(pydicom_file(STILL))
    with closing(Outbox(layout.outbox, layout.results)) as box:
        _keep(box, layout.results, serving, Edition())
        _keep(box, layout.results, _in_shadow(serving), Edition(is_shadow=True))
        yield box


def _in_shadow(serving: Analysis) -> Analysis:
    [quality], [segmentation] = serving.qualities, serving.segmentations
    scores = tuple(replace(one, score=(one.score or 0) + 1) for one in quality.scores)
    newer = replace(algorithm("view-quality"), version="2", digest="2" * 64)
    other = replace(algorithm("liver-kidney"), version="2", digest="3" * 64)
    return replace(
        serving,
        qualities=(replace(quality, scores=scores, algorithm=newer),),
        segmentations=(replace(emptied(segmentation), algorithm=other),),
    )


def _keep(box: Outbox, folder: Path, analysis: Analysis, edition: Edition) -> None:
    written = write_results(analysis, folder, installation=INSTALLATION, edition=edition)
    image = analysis.instance.sop_instance_uid
    if edition.is_shadow:
        box.add_shadow(written, analysed=image, models="s", now=NOW)
    else:
        box.add(written, [], analysed=image, models="m", now=NOW)


def test_a_manifest_is_read_without_the_graph(config: Config, tmp_path: Path) -> None:
    assert config.bundles is not None
    path = config.bundles / "liver.onnx"
    assert manifest_of(path) == Bundle(path).manifest
    content = path.read_bytes()
    faults = {
        "none": (b"no model", "without a manifest"),
        "edited": (content.replace(b"by hand", b"by hound"), "do not fit its digest"),
        "cut": (content[: content.rfind(b"provenance")], "manifest: "),
    }
    for name, (bad, fault) in faults.items():
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(BundleError, match=fault):
            manifest_of(tmp_path / name)
    with pytest.raises(BundleError, match="cannot be read"):
        manifest_of(tmp_path / "gone")


def test_cards_say_what_each_file_does_and_by_which_rule(config: Config) -> None:
    found = {card.file: card for card in cards(config)}
    roles = {name: card.role and card.role.value for name, card in found.items()}
    assert roles == {
        "liver.onnx": "serves",
        "none.onnx": None,
        "quality-1.onnx": "rests",
        "quality-1.5.onnx": "serves",
        "quality-2.onnx": "shadow",
    }
    assert found["quality-1.onnx"].why == "version 1.5 is newer"
    assert "without a manifest" in found["none.onnx"].fault
    liver = found["liver.onnx"]
    assert liver.rule == "images of the study groups liver, that are stills"
    assert liver.is_rule_of_the_site


def test_a_report_is_read_back_model_by_model(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    [*_, report] = write_results(analysis, tmp_path, installation=INSTALLATION)
    quality, segmentation = said_in(report.path)
    assert (quality.name, quality.version, quality.score, quality.found) == (
        "view-quality",
        "1.0.0",
        1.0,
        None,
    )
    assert (segmentation.name, segmentation.found, segmentation.score) == (
        "liver-kidney",
        True,
        None,
    )
    scoreless = without_scores(analysis.qualities[0], 1)
    analysis = replace(analysis, qualities=(scoreless,), segmentations=())
    [report] = write_results(analysis, tmp_path, installation=INSTALLATION)
    assert [one.score for one in said_in(report.path)] == [None]
    (tmp_path / "damaged.dcm").write_bytes(b"?")
    assert said_in(tmp_path / "damaged.dcm") == said_in(tmp_path / "gone.dcm") == []


def test_the_shadow_is_compared_with_what_serves_on_the_same_images(outbox: Outbox) -> None:
    segmentation, quality = compared(outbox)
    assert (quality.shadow, quality.serving) == (("view-quality", "2"), ("view-quality", "1.0.0"))
    assert (quality.images, quality.difference, quality.same_score) == (1, 1.0, 0)
    assert (quality.shadow_score, quality.serving_score) == (2.0, 1.0)
    found = (segmentation.both_found, segmentation.serving_found, segmentation.none_found)
    assert (segmentation.difference, *found) == (None, 0, 1, 0)


def test_the_page_shows_the_cards_and_the_comparison(config: Config, outbox: Outbox) -> None:
    with browser(config) as client:
        assert client.get("/models").status_code == 303
        log_in(client, Role.VIEWER)
        page = client.get("/models").text
        assert page.count('class="card"') == 5
        assert "in the shadow" in page
        assert "version 1.5 is newer" in page
        assert "(the site's rule)" in page
        assert "view-quality 2 beside view-quality 1.0.0, 1 image" in page
        assert re.search(r'data-label="Mean difference">\+1\.00<', page)
        assert re.search(r'data-label="Who serves alone">1<', page)
        card = client.get("/models/liver.onnx").text
        assert "What it learned from" in card
        assert "&lt;i&gt;Works&lt;/i&gt;" in card
        assert "without a manifest" in client.get("/models/none.onnx").text
        for name in ("gone.onnx", "..%2fnode.yaml"):
            assert client.get(f"/models/{name}").status_code == 404


def test_a_node_that_only_harvests_says_so(tmp_path: Path) -> None:
    with browser(node_in(tmp_path)) as client:
        log_in(client, Role.VIEWER)
        page = client.get("/models").text
        assert "This node only harvests" in page
        assert "No image was answered by both yet" in page
