"""Two nodes speak of the same image: one result of each kind is current at the destination."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset

from dicom_node.config import Config, Destination, InferSettings, NodeSettings, StudySettings
from dicom_node.node.worker import _joined, open_parts
from dicom_node.pipeline import Parts, analyse_study
from dicom_node.records import Task

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.dicom_node.test_pipeline import received
from tests.support.bundles import write_bundle
from tests.support.stills import picture

pytestmark = pytest.mark.peers

STILL = Path(str(get_testdata_file("examples_palette.dcm")))
#: when an object was made
MADE = {"InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime"}
MADE |= {"SeriesDate", "SeriesTime", "ObservationDateTime", "DateTime", "ContributionDateTime"}
MADE |= {"PresentationCreationDate", "PresentationCreationTime", "DateOfSecondaryCapture"}
MADE |= {"TimeOfSecondaryCapture"}


@pytest.fixture
def node(tmp_path: Path, postgres_url: str) -> Iterator[Callable[[str], Parts]]:
    """Return a function that opens a node of a name, with a disk of its own."""
    with ExitStack() as stack:

        def open_node(name: str) -> Parts:
            bundles = tmp_path / name / "bundles"
            bundles.mkdir(parents=True)
            for task in (Task.SEGMENTATION, Task.QUALITY):
                write_bundle(bundles / f"{task.value}.onnx", task)
            config = Config(
                node=NodeSettings(data=tmp_path / name / "data", name=name, min_free_gib=0),
                study=StudySettings(quiet_s=1),
                infer=InferSettings(threads=1),
                bundles=bundles,
                destinations=(Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1),),
                database=postgres_url,
            )
            return _joined(config, stack.enter_context(open_parts(config)))

        yield open_node


def results(parts: Parts) -> dict[str, FileDataset]:
    found = [dcmread(path) for path in parts.results.glob("*.dcm")]
    return {str(ds.SOPInstanceUID): ds for ds in found}


def only(parts: Parts, modality: str) -> FileDataset:
    [found] = [ds for ds in results(parts).values() if ds.Modality == modality]
    return found


def content(ds: FileDataset) -> str:
    for element in list(ds.iterall()):
        if element.keyword in MADE:
            element.value = ""
    return ds.to_json()


def test_both_make_the_same_objects_but_for_the_time(node: Callable[[str], Parts]) -> None:
    a, b = node("a"), node("b")
    for parts in (a, b):
        analyse_study(parts, received(parts, STILL), "1")
    first, second = results(a), results(b)
    # nobody knows what the destination accepts: the rungs of its ladder are written in reserve
    assert sorted(ds.Modality for ds in first.values()) == ["PR", "SEG", "SR", "US"]
    assert first.keys() == second.keys()
    for uid, ds in first.items():
        assert content(ds) == content(second[uid])


def test_what_another_node_says_with_other_models_is_the_next_version(
    node: Callable[[str], Parts],
) -> None:
    a, b = node("a"), node("b")
    analyse_study(a, received(a, STILL), "1")
    assert b.config.bundles is not None
    for task in (Task.SEGMENTATION, Task.QUALITY):
        write_bundle(b.config.bundles / f"{task.value}.onnx", task, version="2")
    analyse_study(b, received(b, STILL), "1")
    for modality in ("SEG", "SR"):
        old, new = only(a, modality), only(b, modality)
        assert old.SeriesInstanceUID == new.SeriesInstanceUID
        assert old.SOPInstanceUID != new.SOPInstanceUID
        assert (old.InstanceNumber, new.InstanceNumber) == (1, 2)
    [reference] = only(b, "SR").PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    [named] = reference.ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == only(a, "SR").SOPInstanceUID


def images_of(seg: FileDataset) -> list[str]:
    [series] = seg.ReferencedSeriesSequence
    return [str(item.ReferencedSOPInstanceUID) for item in series.ReferencedInstanceSequence]


def segs(parts: Parts) -> list[FileDataset]:
    """Return the SEGs that a node may send, by version."""
    found = [ds for ds in results(parts).values() if ds.Modality == "SEG"]
    return sorted(found, key=lambda ds: int(ds.InstanceNumber))


def test_both_merge_the_same_stills_into_the_same_object(
    node: Callable[[str], Parts], tmp_path: Path
) -> None:
    a, b = node("a"), node("b")
    paths = [picture(tmp_path, number) for number in (1, 2, 3)]
    # one after the other here, all at once there
    for revision, path in enumerate(paths, 1):
        analyse_study(a, received(a, path), str(revision))
    analyse_study(b, {received(b, path) for path in paths[::-1]}.pop(), "1")
    assert [len(images_of(seg)) for seg in segs(a)] == [1, 2, 3]
    [seg] = segs(b)
    assert content(seg) == content(segs(a)[-1])


def test_a_still_that_only_the_other_node_has_is_not_hidden(
    node: Callable[[str], Parts], tmp_path: Path
) -> None:
    a, b = node("a"), node("b")
    paths = [picture(tmp_path, number) for number in (1, 2)]
    analyse_study(a, received(a, paths[0]), "1")
    study = received(b, paths[1])
    for revision in ("1", "2"):
        analyse_study(b, study, revision)
    [one], [other] = segs(a), segs(b)
    assert images_of(one) != images_of(other)
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    assert (one.InstanceNumber, other.InstanceNumber) == (1, 1)
    # now it has both, and goes on where the first is
    analyse_study(b, received(b, paths[0]), "3")
    both = segs(b)[-1]
    assert both.SeriesInstanceUID == one.SeriesInstanceUID
    assert both.InstanceNumber == 2
    assert images_of(both) == [str(dcmread(path).SOPInstanceUID) for path in paths]


def test_a_node_that_comes_back_says_the_same_again(node: Callable[[str], Parts]) -> None:
    a, b, c = node("a"), node("b"), node("c")
    analyse_study(a, received(a, STILL), "1")
    assert b.config.bundles is not None
    write_bundle(b.config.bundles / "quality.onnx", Task.QUALITY, version="2")
    analyse_study(b, received(b, STILL), "1")
    assert c.config.bundles is not None
    write_bundle(c.config.bundles / "quality.onnx", Task.QUALITY, version="2")
    analyse_study(c, received(c, STILL), "1")
    assert results(b).keys() == results(c).keys()
    assert only(b, "SR").PredecessorDocumentsSequence == only(c, "SR").PredecessorDocumentsSequence
