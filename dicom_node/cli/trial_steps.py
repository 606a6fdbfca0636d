"""How far a study has come: the steps in order, each done or not, and what is missing in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dicom_node.config import Config
from dicom_node.outbox import DeliveryState

_Found = Mapping[str, Any]
_GONE: Final = (DeliveryState.DELIVERED.value, DeliveryState.WITHDRAWN.value)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a study on its way through the node."""

    what: str
    is_done: bool
    #: what is there
    found: str
    #: what is not, and where to look; "" where nothing is missing
    missing: str = ""
    #: whether waiting is of no use
    is_final: bool = False


def steps(found: _Found | None, config: Config, images: int) -> list[Step]:
    """Return the steps of a study.

    Parameters
    ----------
    found : mapping or None
        As `dicom_node.cli.study.collect` returns it; None when the node does not know the study.
    config : Config
        Of the node.
    images : int
        How many were sent.
    """
    if found is None:
        return [
            Step(
                what="registered",
                is_done=False,
                found="",
                missing="the node has not registered it: does it run, and is it the one of this "
                "configuration? A PACS that routes has to send it first",
            )
        ]
    return [
        _registered(found, images),
        _complete(found, config),
        _harvested(found),
        _analysed(found),
        *_delivered(found, config),
    ]


def _registered(found: _Found, images: int) -> Step:
    count = found["received"]["images"]
    return Step(
        what="registered",
        is_done=count >= images,
        found=f"{count} of {images} images",
        missing="the others: 'dicom-node status' names what lies in quarantine",
    )


def _complete(found: _Found, config: Config) -> Step:
    completions = found["completions"]
    return Step(
        what="complete",
        # an image that came later than the others opens it again
        is_done=found["study"]["state"] == "complete",
        found=completions[-1]["reason"] if completions else "",
        missing=f"{found['where']['sentence']} (study.quiet_s: {config.study.quiet_s:g})",
    )


def _harvested(found: _Found) -> Step:
    harvested = found["harvested"]
    if not harvested["enabled"]:
        return Step(what="harvested", is_done=True, found="off: harvest.enabled")
    left_out = ", ".join(f"{n} {name}" for name, n in harvested["left_out"].items())
    return Step(
        what="harvested",
        is_done=harvested["images"] >= harvested["of"],
        found=f"looked at, and not stored: {left_out}",
        missing=f"{harvested['images']} of {harvested['of']} images: {found['where']['sentence']}",
        is_final=found["where"]["word"] in ("failed", "cancelled"),
    )


def _analysed(found: _Found) -> Step:
    study, inferred = found["study"], found["inferred"]
    names = ", ".join(f"{model['name']} {model['version']}" for model in inferred["models"])
    return Step(
        what="analysed",
        is_done=0 < study["revision"] == study["worked_on_to_revision"],
        found=names or "by no model",
        missing=found["where"]["sentence"],
        is_final=found["where"]["word"] in ("failed", "cancelled"),
    )


def _delivered(found: _Found, config: Config) -> Iterator[Step]:
    if not config.destinations:
        yield Step(what="delivered", is_done=True, found="to nobody: no destinations")
        return
    if fault := _no_results(found):
        yield Step(what="delivered", is_done=False, found="", missing=fault, is_final=True)
        return
    for destination in config.destinations:
        rows = [row for row in found["delivered"] if row["destination"] == destination.name]
        yield _delivered_to(destination.name, rows)


def _no_results(found: _Found) -> str:
    """Say why there is nothing to deliver, "" where there is, or may be."""
    inferred, validated = found["inferred"], found["validated"]
    is_worked_on = 0 < found["study"]["revision"] == found["study"]["worked_on_to_revision"]
    if not is_worked_on or found["delivered"]:
        return ""
    for failure in (failure for model in inferred["models"] for failure in model["failures"]):
        return f"no results, a model failed: {failure['reason']}"
    for rejected in validated["rejected"]:
        return f"no results, they did not pass the gate: {rejected['reason']}"
    if not inferred["has_models"]:
        return "no results: bundles is null, this node only harvests"
    return "no results: no model takes these images; 'dicom-node bundles list' shows what serves"


def _delivered_to(name: str, rows: Sequence[_Found]) -> Step:
    owed = [row for row in rows if row["state"] not in _GONE]
    kinds = ", ".join(sorted({row["kind"].upper() for row in rows if row not in owed}))
    return Step(
        what=f"delivered to {name}",
        is_done=bool(rows) and not owed,
        found=kinds,
        missing="; ".join(_owed(row) for row in owed) or "nothing was handed out yet",
        is_final=any(row["state"] == DeliveryState.DEAD.value for row in owed),
    )


def _owed(row: _Found) -> str:
    state = {"stored": "stored and not committed to", "dead": "given up"}.get(row["state"], "owed")
    reason = f": {row['reason']}" if row["reason"] else ""
    return f"{row['kind'].upper()} {state} after {row['attempts']} tries{reason}"
