"""What destinations accept, for ``check`` and ``status``."""

from typing import Any

from dicom_node.cli.listening import Finding
from dicom_node.config import Config, Destination
from dicom_node.deliver import echo, probe
from dicom_node.ladder import ASKED, CLASSES_OF_KIND, missing
from dicom_node.outbox import CapabilityRow
from dicom_node.sop_classes import RESULTS


def destinations(config: Config) -> list[Finding]:
    """Ask each destination whether it is there and what it accepts; nothing is sent."""
    findings: list[Finding] = []
    for destination in config.destinations:
        fault = echo(destination, calling_ae_title=config.node.ae_title)
        found = "" if fault else f"{destination.address} answers C-ECHO"
        if not fault and destination.kind in ASKED:
            answers = probe(destination, calling_ae_title=config.node.ae_title)
            fault, found = _fault(destination, answers), f"{found} and {_accepts(answers)}"
        findings.append((f"destination {destination.name}", fault, found if not fault else ""))
    return findings


def answers(rows: list[CapabilityRow]) -> list[dict[str, Any]]:
    """Return what is known of each destination, for a script and for a table."""
    return [
        {
            "destination": row.destination,
            "sop_class": RESULTS.get(row.sop_class_uid, row.sop_class_uid),
            "accepted": row.accepted,
            "asked_at": row.asked_at.isoformat(timespec="seconds"),
        }
        for row in rows
    ]


def _accepts(answers: dict[str, bool]) -> str:
    kinds = [
        kind.upper()
        for kind, classes in CLASSES_OF_KIND.items()
        if all(answers.get(one) for one in classes)
    ]
    return f"accepts {', '.join(kinds) or 'no kind of object'}"


def _fault(destination: Destination, answers: dict[str, bool]) -> str:
    kinds = ", ".join(kind.upper() for kind in missing(destination, answers))
    if not kinds:
        return ""
    return (
        f"{destination.address} accepts neither {kinds} nor what the ladder has in its place "
        f"(fallback: {', '.join(destination.fallback) or 'none'}); enable the SOP class there, or "
        "leave it out of 'send:'"
    )
