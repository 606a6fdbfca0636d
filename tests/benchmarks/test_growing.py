import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.inbox import Inbox
from dicom_node.index.tables import METADATA as INDEX
from dicom_node.outbox.tables import METADATA as OUTBOX
from tests.benchmarks.growing import (
    PAGE,
    ROW_BYTES,
    STUDIES_A_DAY,
    Study,
    figure,
    lines,
    worker_s,
    written,
)
from tests.benchmarks.populate import deliver, populate

TEXT = PAGE.read_text("utf-8")


def test_the_table_is_made_of_what_was_measured_last() -> None:
    assert written(TEXT) == TEXT, "python -m tests.benchmarks.growing writes it anew"


def test_a_figure_that_was_not_measured_is_named() -> None:
    with pytest.raises(LookupError, match="'a row of nobody' is not in docs"):
        figure("a row of nobody")


@pytest.mark.parametrize(
    ("name", "column", "after"),
    [
        ("0.5 MB stills, 4 associations: dicom-node", "value", ""),
        ("onnxruntime alone", "time a frame", "### a still"),
        ("dicom-node", "CPU, ms", "### 0.5 MB stills, 4 associations"),
    ],
)
def test_a_figure_is_the_one_of_its_table(name: str, column: str, after: str) -> None:
    text = (PAGE.parent / "performance.md").read_text("utf-8").partition(after or "#")[2]
    [row] = [line for line in text.splitlines() if line.startswith(f"| {name} ")][:1]
    assert f" {figure(name, column, after=after):g} " in row


def test_what_a_day_costs_grows_with_its_studies() -> None:
    study = Study()
    for line in lines(study):
        shown = [line.of(number) for number in STUDIES_A_DAY]
        assert len(set(shown)) == len(shown), line.what


def test_what_is_assumed_of_a_study_stands_on_the_page() -> None:
    study = Study()
    words = " ".join(TEXT.split())
    assert f"{study.stills} stills of {study.still_mb:g} MB and three cines" in words
    assert f"of {study.frames} frames and {study.cine_mb:g} MB" in words
    assert f"{worker_s(study):.0f} s a study" in words


def test_figures_in_the_text_are_those_of_the_benchmarks() -> None:
    words = " ".join(TEXT.split())
    for shown, name in (
        ("{:,.0f} stills a second", "0.5 MB stills, 4 associations: dicom-node"),
        ("{:,.0f} new instances a second", "registering small files, 1,000,000"),
        ("read {:,.0f} frames a second", "random reads, a pack, DataLoader"),
        ("from {:g} frames a second", "a step of pretraining from the store"),
        ("`dicom-node status` in {:g} s", "dicom-node status, 1,000,000 instances"),
    ):
        assert shown.format(figure(name)) in words, shown
    own = figure("a pack, the project's own", "rate", after="### random reads of 256x384")
    assert f"batches {own:,.0f};" in words


def test_tables_whose_rows_are_counted_exist() -> None:
    assert {"study", "series", "completion", "instance"} <= set(INDEX.tables)
    named = {"harvested", "analysed", "answer", "result", "version", "delivery", "part", "merged"}
    assert named <= set(OUTBOX.tables)


def test_a_row_takes_about_as_much_as_is_calculated_with(tmp_path: Path) -> None:
    count = 2000
    populate(Inbox(tmp_path / "inbox", min_free_bytes=0), tmp_path / "index.db", count)
    deliver(tmp_path / "outbox.db", count)
    for name, rows in (("index.db", count), ("outbox.db", 4 * count)):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        each = (tmp_path / name).stat().st_size / rows
        assert each == pytest.approx(ROW_BYTES[name], rel=0.2), name


def test_pages_that_it_links_to_exist() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (PAGE.parent / link).exists(), link
