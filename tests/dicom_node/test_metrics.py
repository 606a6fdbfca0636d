import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from dicom_node import metrics
from dicom_node.completion import RULES
from dicom_node.metrics import Kind, Page
from dicom_node.receive.statuses import STATUSES, SUCCESS

DESTINATIONS = ("pacs", "archive")


def shared_page() -> Page:
    context = multiprocessing.get_context("spawn")
    return Page(DESTINATIONS, context.RawArray("d", metrics.size(DESTINATIONS)))


def test_every_metric_of_the_module_has_a_place() -> None:
    defined = {id(value) for value in vars(metrics).values() if isinstance(value, metrics.Metric)}
    assert {id(metric) for metric in metrics.METRICS} == defined
    assert len({metric.name for metric in metrics.METRICS}) == len(metrics.METRICS)


def test_every_status_that_a_receiver_answers_has_a_series_of_its_own() -> None:
    answered = {f"{status.code:04X}" for status in STATUSES if status is not SUCCESS}
    assert answered <= set(metrics.REFUSED.labels["status"])


def test_every_basis_of_a_completion_has_a_series_of_its_own() -> None:
    bases = {*(kind for kind, _ in RULES), "count", "quiet", "longest"}
    assert set(metrics.COMPLETED.labels["basis"]) == bases


def test_no_label_value_can_make_a_page_grow() -> None:
    page = Page(DESTINATIONS)
    before = page.rows(metrics.REJECTED)
    for number in range(1000):
        page.add(metrics.REJECTED, f"stranger {number}")
        page.add(metrics.DELIVERIES, f"removed {number}", "delivered")
    assert page.rows(metrics.REJECTED).keys() == before.keys()
    assert page.get(metrics.REJECTED, metrics.OTHER) == 1000
    assert page.get(metrics.DELIVERIES, metrics.OTHER, "delivered") == 1000


def test_a_value_of_no_label_is_a_fault_of_ours() -> None:
    with pytest.raises(KeyError):
        Page().add(metrics.KEPT, "lost")


def test_numbers_do_not_touch_each_other() -> None:
    page = Page(DESTINATIONS)
    for number, metric in enumerate(metrics.METRICS, 1):
        for labels in page.rows(metric):
            if metric.kind is Kind.HISTOGRAM:
                page.observe(metric, 1e9, *labels)
            else:
                page.add(metric, *labels, by=number)
    for number, metric in enumerate(metrics.METRICS, 1):
        for row in page.rows(metric).values():
            if metric.kind is Kind.HISTOGRAM:
                assert row == (0.0,) * len(metric.buckets) + (1.0, 1e9)
            else:
                assert row == (number,)


def test_a_value_on_a_bound_belongs_to_the_bucket_below() -> None:
    page = Page()
    for seconds in (0.5, 1.0, 1.1, 7200.0):
        page.observe(metrics.TO_COMPLETE, seconds)
    assert page.rows(metrics.TO_COMPLETE) == {(): (2, 1, 0, 0, 0, 0, 0, 1, 7202.6)}


def test_threads_lose_no_count() -> None:
    page = Page()
    threads = [
        threading.Thread(target=lambda: [page.add(metrics.RECEIVED) for _ in range(20_000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert page.get(metrics.RECEIVED) == 80_000


def _count_and_die(page: Page) -> None:
    metrics.use(page)
    for _ in range(7):
        metrics.count(metrics.RECEIVED)
    metrics.page().set(metrics.OPEN, 3)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_child_counted_outlives_kill_9_but_its_gauges_do_not() -> None:
    page = shared_page()
    child = multiprocessing.get_context("spawn").Process(target=_count_and_die, args=(page,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert page.get(metrics.RECEIVED) == 7
    assert page.get(metrics.OPEN) == 3
    page.forget_gauges()
    assert page.get(metrics.OPEN) == 0
    assert page.get(metrics.RECEIVED) == 7


def test_no_disk_is_needed_to_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Page()
    page.add(metrics.RECEIVED)
    assert not list(tmp_path.iterdir())


def _die_before_the_step(page: Page, file_id: str) -> None:
    page.add_and(metrics.RECEIVED, "1" * 24, lambda: None)
    page.add(metrics.RECEIVED)
    page.add_and(metrics.RECEIVED, file_id, lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_a_page_tells_what_was_counted_when_its_process_died_over_the_step() -> None:
    page, file_id = shared_page(), "2" * 24
    assert not page.has_counted(metrics.RECEIVED, file_id)
    child = multiprocessing.get_context("spawn").Process(
        target=_die_before_the_step, args=(page, file_id)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert page.get(metrics.RECEIVED) == 3
    assert page.has_counted(metrics.RECEIVED, file_id)
    assert not page.has_counted(metrics.RECEIVED, "1" * 24)


def test_a_step_that_fails_was_counted_and_keeps_no_other_from_counting() -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    page = Page()
    with pytest.raises(OSError, match="Input/output error"):
        page.add_and(metrics.RECEIVED, "2" * 24, fail)
    page.add(metrics.RECEIVED)
    assert page.get(metrics.RECEIVED) == 2
