import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from tests.support.finetuning import with_classes, with_columns
from tests.support.matrices import tiny, write_results
from training.code_version import code_version
from training.pack import Pack
from training.reproduce import ledger, report
from training.reproduce.cells import FinetuneCell, Plan
from training.reproduce.ledger import Entry

ORGANS = {"task": "segmentation", "labels": "liver-kidney", "epochs": 1}
LESION = {"task": "classification", "labels": "breast", "epochs": 1}
PAPER = {"encoder": "small", "task": "organs", "share": 1.0, "value": 0.832, "source": "v2"}


def scores(cell: FinetuneCell, count: int) -> NDArray[np.float64]:
    return np.random.default_rng(cell.settings.seed).uniform(0, 1, count)


@pytest.fixture(scope="module")
def layout() -> Plan:
    return tiny(
        tasks={"organs": ORGANS, "lesion": LESION},
        seeds=[0],
        paper=[{"strategy": "ce_dcm", **PAPER}],
    )


@pytest.fixture(scope="module")
def opened(phantoms: Pack) -> Pack:
    return with_classes(phantoms)


@pytest.fixture(scope="module")
def out(layout: Plan, opened: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduction")
    write_results(layout, folder, opened, scores)
    ledger.read(folder).put(layout.finetune[0], Entry(seconds=75.0, machine="2 CPU cores, 32-true"))
    report.write(layout, folder, opened, command="dicom-node train reproduce tiny")
    return folder


def test_the_page_needs_nothing_but_itself(out: Path) -> None:
    page = (out / report.HTML).read_text("utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,16})', page)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert page.rstrip().endswith("</html>")


def test_every_figure_says_what_the_numbers_are(out: Path) -> None:
    page = (out / report.HTML).read_text("utf-8")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert len(captions) == 8
    assert all("Phantoms." in caption for caption in captions)


def test_the_papers_number_stands_beside_ours_where_it_is_known(out: Path) -> None:
    text = (out / report.MARKDOWN).read_text("utf-8")
    assert len(re.findall(r"\d ± \d\.\d{3}\*{0,2} \*0\.832 v2\*", text)) == 1


def test_markdown_names_figures_that_are_there(out: Path) -> None:
    text = (out / report.MARKDOWN).read_text("utf-8")
    named = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert len(named) == 8
    assert all((out / name).is_file() for name in named)


def test_markdown_tables_have_as_many_cells_in_each_line(out: Path) -> None:
    for block in (out / report.MARKDOWN).read_text("utf-8").split("\n\n"):
        lines = block.strip().splitlines()
        if lines and lines[0].startswith("|"):
            assert len({line.count("|") for line in lines}) == 1, block
            assert all(line.startswith("|") for line in lines)


def test_the_report_says_what_it_cost_and_how_to_make_it_again(out: Path) -> None:
    text = (out / report.MARKDOWN).read_text("utf-8")
    assert "1 min 19 s, all cells added up, on 2 CPU cores, 32-true" in text
    assert "    dicom-node train reproduce tiny" in text
    assert f"Written by dicom-node {code_version()}." in text


def test_the_same_results_give_the_same_report(out: Path, layout: Plan, opened: Pack) -> None:
    before = (out / report.HTML).read_bytes()
    report.write(layout, out, opened, command="dicom-node train reproduce tiny")
    assert (out / report.HTML).read_bytes() == before


def test_cells_that_failed_are_told_with_their_reason(
    layout: Plan, phantoms: Pack, tmp_path: Path
) -> None:
    part = tiny(strategies=["baseline"], compare=[], seeds=[0])
    write_results(part, tmp_path, phantoms, scores)
    whole = tiny(seeds=[0])
    entries = ledger.read(tmp_path)
    entries.put(whole.pretrain[0], Entry(reason="no <tags>"))
    report.write(whole, tmp_path, None, command="again")
    assert "1 failed: no <tags> (pretrain/small/ce_dcm/seed-0)" in (
        tmp_path / report.MARKDOWN
    ).read_text("utf-8")
    assert "no &lt;tags&gt;" in (tmp_path / report.HTML).read_text("utf-8")


def test_nothing_finished_is_nothing_to_report(layout: Plan, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing to report: run it first"):
        report.write(layout, tmp_path, None, command="again")


def test_frames_of_a_store_that_changed_since_are_neither_shown_nor_counted(
    phantoms: Pack, tmp_path: Path
) -> None:
    layout = tiny(tasks={"organs": ORGANS}, seeds=[0])
    write_results(layout, tmp_path, phantoms, scores)
    others = np.array([f"{n:064x}" for n in range(len(phantoms.rows))])
    changed = replace(with_columns(phantoms, frame_id=others), store_version="f00d")
    report.write(layout, tmp_path, changed, command="again")
    text = (tmp_path / report.MARKDOWN).read_text("utf-8")
    assert f"store {phantoms.store_version}" in text
    assert f"learned from the store {phantoms.store_version}, which is f00d now" in text
    assert "## Data" not in text
    assert not list((tmp_path / "figures").glob("segmentation-*"))
    assert "which is f00d now" in (tmp_path / report.HTML).read_text("utf-8")


def test_the_report_names_no_test_that_the_papers_do_not(out: Path) -> None:
    for name in (report.MARKDOWN, report.HTML):
        [about] = re.findall(r"three p-values: (.*?)\.", (out / name).read_text("utf-8"), re.DOTALL)
        assert "papers" not in about
