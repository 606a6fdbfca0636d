"""Prometheus' rules and Grafana's board say what docs/operations.md says, of numbers that exist."""

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_node.metrics import METRICS, Kind, Metric
from dicom_node.node.readings import READINGS
from dicom_node.web import exposed_name
from tests.support.alerts import PAGE, RULES, alerts, rules

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
#: Prometheus' own, and the prober's
OTHERS = {"ALERTS", "probe_success"}


def names_of(metric: Metric) -> list[str]:
    name = exposed_name(metric)
    if metric.kind is Kind.HISTOGRAM:
        return [f"{name}_{part}" for part in ("bucket", "sum", "count")]
    return [name]


#: with the labels that they have
KNOWN = {name: {*one.labels} for one in (*METRICS, *READINGS) for name in names_of(one)}


def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "board.json").read_text("utf-8"))
    return found


def scraped() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(
        (DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8")
    )
    return found


def expressions() -> dict[str, str]:
    found = {f"alert {alert.name}": alert.expression for alert in alerts()}
    for panel in board()["panels"]:
        for target in panel["targets"]:
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    return found


EXPRESSIONS = expressions()


def test_the_rules_are_the_table_that_operators_read() -> None:
    assert RULES.read_text("utf-8") == rules(), "python -m tests.support.alerts writes them anew"
    [group] = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    made = {rule["alert"]: rule["expr"] for rule in group["rules"]}
    assert made == {alert.name: alert.expression for alert in alerts()}
    table = PAGE.read_text("utf-8").split("| alert when |")[1].split("\n\n")[0]
    assert len(made) == len(table.splitlines()) - 2 >= 13


@pytest.mark.parametrize("place", EXPRESSIONS)
def test_an_expression_is_promql_and_asks_for_numbers_that_are_there(place: str) -> None:
    promql = pytest.importorskip("promql_parser", reason="make test installs promql-parser")
    named = list(selected(promql.parse(EXPRESSIONS[place])))
    assert named
    for selector in named:
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert selector.name in OTHERS or asked <= KNOWN[selector.name]


def selected(expression: Any) -> Iterator[Any]:
    """Yield every selector of a vector in an expression."""
    kind = type(expression).__name__
    if kind == "VectorSelector":
        yield expression
    elif kind == "MatrixSelector":
        yield expression.vector_selector
    elif kind == "Call":
        for argument in expression.args:
            yield from selected(argument)
    elif kind == "BinaryExpr":
        yield from selected(expression.lhs)
        yield from selected(expression.rhs)
    elif hasattr(expression, "expr"):
        yield from selected(expression.expr)


def test_the_panels_lie_beside_each_other_and_ask_the_source_that_is_provided() -> None:
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    [source] = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text("utf-8"))[
        "datasources"
    ]
    for panel in panels:
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": source["type"], "uid": source["uid"]}


def test_prometheus_reads_these_rules_and_asks_healthz_under_the_name_that_they_use() -> None:
    settings = scraped()
    assert settings["rule_files"] == [RULES.name]
    jobs = {job["job_name"]: job for job in settings["scrape_configs"]}
    [unhealthy] = [alert for alert in alerts() if alert.name == "DicomNodeUnhealthy"]
    [name] = [name for name in jobs if f'job="{name}"' in unhealthy.expression]
    [asked] = jobs[name]["static_configs"]
    assert [target.rpartition("/")[2] for target in asked["targets"]] == ["healthz"]
