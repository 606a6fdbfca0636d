"""The node's numbers in the form that Prometheus scrapes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.registry import Collector

from dicom_node.metrics import METRICS, Kind, Metric, Page

PREFIX = "dicom_node_"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the supervisor reads at the moment that it is asked."""

    metric: Metric
    #: labels' values and number
    read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]


def registry(pages: Iterable[Page], readings: Iterable[Reading]) -> CollectorRegistry:
    """Return a registry that adds up the pages, and reads the readings, at every scrape."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_Numbers(tuple(pages), tuple(readings)))
    return made


def exposed_name(metric: Metric) -> str:
    """Return the name under which a metric is scraped."""
    return f"{PREFIX}{metric.name}{'_total' if metric.kind is Kind.COUNTER else ''}"


class _Numbers(Collector):
    def __init__(self, pages: tuple[Page, ...], readings: tuple[Reading, ...]) -> None:
        self._pages = pages
        self._readings = readings

    def collect(self) -> Iterator[Family]:
        for metric in (metric for metric in METRICS if not metric.is_own):
            rows = [page.rows(metric) for page in self._pages]
            yield _family(
                metric,
                {
                    labels: tuple(map(sum, zip(*(row[labels] for row in rows), strict=True)))
                    for labels in rows[0]
                },
            )
        for reading in self._readings:
            yield _family(reading.metric, {labels: (value,) for labels, value in reading.read()})


def _family(metric: Metric, rows: dict[tuple[str, ...], tuple[float, ...]]) -> Family:
    name, labels = f"{PREFIX}{metric.name}", list(metric.labels)
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, metric.help, labels=labels)
        for key, row in rows.items():
            histogram.add_metric(list(key), _cumulated(metric, row), sum_value=row[-1])
        return histogram
    simple = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = simple(name, metric.help, labels=labels)
    for key, row in rows.items():
        family.add_metric(list(key), row[0])
    return family


def _cumulated(metric: Metric, row: tuple[float, ...]) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
    return [(bound, sum(row[: place + 1])) for place, bound in enumerate(bounds)]
