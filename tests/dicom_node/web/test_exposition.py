from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dicom_node import metrics
from dicom_node.metrics import Kind, Metric, Page
from dicom_node.web import Reading, exposed_name, registry


def scraped(*pages: Page, readings: tuple[Reading, ...] = ()) -> dict[str, float]:
    text = generate_latest(registry(pages, readings)).decode()
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_processes_are_added_up() -> None:
    one, other = Page(["pacs"]), Page(["pacs"])
    one.add(metrics.RECEIVED, by=3)
    other.add(metrics.RECEIVED, by=4)
    other.add(metrics.REFUSED, "A700")
    found = scraped(one, other)
    assert found["dicom_node_received_total"] == 7
    assert found["dicom_node_refused_total A700"] == 1
    assert found["dicom_node_refused_total 0117"] == 0


def test_a_histogram_is_cumulated_as_prometheus_wants_it() -> None:
    page = Page()
    for seconds in (2.0, 2.0, 40.0, 9999.0):
        page.observe(metrics.TO_COMPLETE, seconds)
    found = scraped(page)
    name = "dicom_node_complete_seconds"
    assert found[f"{name}_bucket 1"] == 0
    assert found[f"{name}_bucket 5"] == 2
    assert found[f"{name}_bucket 60"] == 3
    assert found[f"{name}_bucket +Inf"] == found[f"{name}_count"] == 4
    assert found[f"{name}_sum"] == 10043


def test_a_reading_is_taken_at_every_scrape() -> None:
    metric = Metric(name="things", kind=Kind.GAUGE, help="things", labels={"where": ("here",)})
    values = iter([1.0, 2.0])
    reading = Reading(metric=metric, read=lambda: [(("here",), next(values))])
    made = registry([Page()], [reading])
    assert b'dicom_node_things{where="here"} 1.0' in generate_latest(made)
    assert b'dicom_node_things{where="here"} 2.0' in generate_latest(made)


def test_what_a_process_says_of_itself_is_not_added_up() -> None:
    one, other = Page(), Page()
    one.set(metrics.ALIVE_AT, 1e9)
    other.set(metrics.ALIVE_AT, 1e9)
    assert not [name for name in scraped(one, other) if "alive" in name]


def test_every_metric_is_scraped_under_its_exposed_name() -> None:
    names = {name.split()[0] for name in scraped(Page(["pacs"]))}
    for metric in (metric for metric in metrics.METRICS if not metric.is_own):
        suffix = "_count" if metric.kind is Kind.HISTOGRAM else ""
        assert exposed_name(metric) + suffix in names
