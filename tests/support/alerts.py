"""The alert rules of Prometheus, made of the table that operators read: they cannot say otherwise.

``python -m tests.support.alerts`` writes deploy/prometheus/alerts.yml anew.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PAGE: Final = REPOSITORY / "docs" / "operations.md"
RULES: Final = REPOSITORY / "deploy" / "prometheus" / "alerts.yml"
#: An expression, how long it must hold, and what a person is told beside it.
_CONDITION: Final = re.compile(r"`([^`]+)`(?: for (\d+) (min|h|day))?(?:[,:] .*)?")
_UNITS: Final = {"min": "m", "h": "h", "day": "d"}
#: What is up says nothing of what is wrong.
_NAMES: Final = {"probe_success": "unhealthy"}


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A row of the table."""

    name: str
    expression: str
    #: as Prometheus writes it; "" = at once
    holds: str
    meaning: str
    first_step: str


def alerts() -> list[Alert]:
    """Read the table of docs/operations.md."""
    part = PAGE.read_text("utf-8").split("## Alerts, and the first step")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+) \| (.+?) \| (.+?) \|$", part, re.MULTILINE)
    return [_alert(*row) for row in rows]


def _alert(condition: str, meaning: str, first_step: str) -> Alert:
    found = _CONDITION.fullmatch(condition)
    assert found is not None, f"no expression in the first place of {condition!r}"
    expression, count, unit = found.groups()
    [metric] = re.findall(r"\b(?:dicom_node|probe)_[a-z_]+", expression)
    name = _NAMES.get(metric, metric.removeprefix("dicom_node_").removesuffix("_total"))
    return Alert(
        name="DicomNode" + "".join(part.capitalize() for part in name.split("_")),
        expression=expression,
        holds=f"{count}{_UNITS[unit]}" if count else "",
        meaning=_plain(meaning),
        first_step=_plain(first_step),
    )


def _plain(text: str) -> str:
    """Return words without their marks, links without their targets, in single quotes' form."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text).replace("`", "").replace("'", "''")


def rules() -> str:
    """Return the file of rules."""
    lines = [
        "# Made of the table in docs/operations.md by: python -m tests.support.alerts",
        "groups:",
        "  - name: dicom-node",
        "    rules:",
    ]
    for alert in alerts():
        lines += [f"      - alert: {alert.name}", f"        expr: '{_quoted(alert.expression)}'"]
        lines += [f"        for: {alert.holds}"] if alert.holds else []
        lines += [
            "        annotations:",
            f"          summary: '{alert.meaning}'",
            f"          description: '{alert.first_step}'",
        ]
    return "\n".join((*lines, ""))


def _quoted(text: str) -> str:
    return text.replace("'", "''")


if __name__ == "__main__":
    RULES.write_text(rules(), "utf-8")
