"""A node that is watched, and what Prometheus would see of it."""

import json
import urllib.error
import urllib.request
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.nodes import Node


def watched(node: Node, port: int) -> str:
    """Let a node that has not started serve its metrics; return their address."""
    path = node.folder / "node.yaml"
    tree = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(tree | {"web": {"bind": "127.0.0.1", "port": port}}))
    return f"http://127.0.0.1:{port}"


def scrape(address: str) -> dict[str, float]:
    """Return the node's numbers; labels' values follow the name."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            " ".join(
                (sample.name.removeprefix("dicom_node_"), *sample.labels.values())
            ): sample.value
            for family in families
            for sample in family.samples
        }


def health(address: str) -> tuple[int, dict[str, Any]]:
    """Return status and body of ``/healthz``, checks by name."""
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=20) as answer:
            status, body = answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            status, body = exc.code, json.load(exc)
    return status, {check["name"]: check["fault"] for check in body["checks"]}


def total(numbers: dict[str, float], name: str) -> float:
    """Return the sum over a metric's labels."""
    return sum(value for key, value in numbers.items() if key.split()[0] == name)


def imbalance(numbers: dict[str, float]) -> float:
    """Return what came less what became of it; see `dicom_node.metrics`."""
    came = ("received_total", "adopted_total", "pulled_total")
    ended = ("kept_total", "quarantined_total", "refused_total", "aborted_total")
    return sum(total(numbers, name) for name in came) - sum(
        total(numbers, name) for name in (*ended, "inbox_waiting")
    )
