"""A study step by step, each with its times, in words."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from dicom_node.books.where import clock, many
from dicom_node.outbox import UNSETTLED, Said

#: Of reasons that differ, so many are told; --json has them all.
SHOWN: Final = 4
_DIGEST: Final = 12
_FAILED: Final = Said.FAILED.value


class Line(NamedTuple):
    """What is told of a step."""

    step: str
    #: UTC, to the second; "" where nothing happened yet
    at: str
    words: str


def steps(found: Mapping[str, Any]) -> Iterator[Line]:
    """Tell what `dicom_node.books.study.collect` returned, at least a line a step."""
    for step, tell in _STEPS:
        for at, words in tell(found):
            yield Line(step, clock(at), words)


def _received(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    received = found["received"]
    senders = ", ".join(f"{title} ({count})" for title, count in received["from"].items())
    size = received["bytes"] / 2**20
    told = f"{many(received['instances'], 'instance')} in {received['series']} series"
    first = "" if received["instances"] == 1 else "the first of "
    yield received["first_at"], f"{first}{told}, {size:.1f} MiB, from {senders}"
    if first:
        yield received["last_at"], "the last of them"


def _complete(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not found["completions"]:
        yield "", "not yet"
    for completion in found["completions"]:
        yield completion["at"], f"revision {completion['revision']}: {completion['reason']}"
    if found["completions"] and found["study"]["state"] == "open":
        yield "", "open again: more came since"


def _harvested(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    harvested = found["harvested"]
    if not harvested["images"]:
        yield "", _why_not(found, "harvest.enabled is off", not harvested["enabled"])
        return
    left_out = ", ".join(f"{count} {name}" for name, count in harvested["left_out"].items())
    yield (
        harvested["last_at"],
        f"{harvested['images']} of {many(harvested['of'], 'image')}; "
        f"{many(harvested['frames_in_store'], 'frame')} in the store"
        + (f"; left out: {left_out}" if left_out else ""),
    )
    if harvested["labels"]:
        yield "", "labels: " + "; ".join(map(_label, harvested["labels"]))


def _label(one: Mapping[str, Any]) -> str:
    probe = f"{one['geometry']} ({one['probe']})" if one["probe"] else one["geometry"]
    groups = " and ".join(one["groups"]) or "no group"
    return f"{many(one['images'], 'image')} {probe}, {groups}"


def _inferred(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    inferred = found["inferred"]
    for model in inferred["models"]:
        said = [f"{name} in {n}" for name, n in model["said"].items() if name != _FAILED]
        said += [
            f"failed in {count}: {reason}"
            for reason, count in _tally(row["reason"] for row in model["failures"])
        ]
        name = f"{model['name']} {model['version']} ({model['digest'][:_DIGEST]})"
        yield model["last_at"], f"{name}: {'; '.join(said)}"
    noted = inferred["images"] + inferred["images_without_answers"]
    if inferred["images_without_answers"]:
        count = many(inferred["images_without_answers"], "image")
        yield "", f"{count} by a former version of this program, which noted no models"
    elif not noted:
        no_models = "bundles: names no folder, this node only harvests"
        yield "", _why_not(found, no_models, not inferred["has_models"], "no model fits its images")
    elif noted < inferred["of"]:
        others = many(inferred["of"] - noted, "image")
        is_done = _is_worked_on(found)
        yield "", f"no model fits {others}" if is_done else f"{others} still to be looked at"


def _validated(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    passed, rejected = found["validated"]["passed"], found["validated"]["rejected"]
    if passed:
        yield passed[-1]["at"], f"{_kinds(passed)} passed the gate"
    for reason, count in _tally(row["reason"] for row in rejected):
        yield rejected[0]["at"], f"the results of {many(count, 'image')} were rejected: {reason}"
    if not passed and not rejected:
        yield "", "no object was made" if _is_worked_on(found) else "not yet"


def _delivered(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in found["delivered"]:
        key = row["destination"], row["state"], row["status"], row["reason"]
        groups.setdefault(key, []).append(row)
    if not groups:
        yield "", "nothing is owed" if _is_worked_on(found) else "not yet"
    if found["shadow"]:
        yield "", f"{_kinds(found['shadow'])} of models in the shadow, sent to nobody"
    for (destination, state, status, reason), rows in sorted(groups.items(), key=repr):
        told = [f"{destination}: {_kinds(rows)} {_STATES[state]}", *_tries(found, state, rows)]
        if status is not None:
            told.append(f"answer {status}")
        if reason:
            told.append(reason)
        yield max(row["changed_at"] for row in rows), ", ".join(told)


def _tries(found: Mapping[str, Any], state: str, rows: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield how often it was tried, and when it will be again."""
    tries = max(row["attempts"] for row in rows)
    if state in (*UNSETTLED, "dead"):
        yield f"{tries} tries" if tries != 1 else "1 try"
    if state in UNSETTLED:
        soonest = min(row["next_try_at"] for row in rows)
        is_due = soonest <= found["study"]["asked_at"]
        yield "its turn is now" if is_due else f"next at {clock(soonest)}"


_STATES: Final = {
    "waiting": "on the way",
    "stored": "stored, not committed to yet",
    "delivered": "delivered",
    "dead": "given up",
    "withdrawn": "not sent",
}
_STEPS: Final[tuple[tuple[str, Callable[[Mapping[str, Any]], Iterator[tuple[str, str]]]], ...]] = (
    ("received", _received),
    ("complete", _complete),
    ("harvested", _harvested),
    ("inferred", _inferred),
    ("validated", _validated),
    ("delivered", _delivered),
)


def _why_not(
    found: Mapping[str, Any], off: str, is_off: bool, otherwise: str = "nothing noted"
) -> str:
    """Say why a step did nothing."""
    if not found["received"]["images"]:
        return "no ultrasound image came"
    if is_off:
        return off
    return otherwise if _is_worked_on(found) else "not yet"


def _is_worked_on(found: Mapping[str, Any]) -> bool:
    study = found["study"]
    return bool(study["revision"]) and study["worked_on_to_revision"] >= study["revision"]


def _kinds(rows: list[Mapping[str, Any]]) -> str:
    kinds = [row["kind"].upper() for row in rows]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(sorted(kinds)))


def _tally(reasons: Iterator[str]) -> Iterator[tuple[str, int]]:
    """Yield the first reasons with how often each stands there."""
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    for place, (reason, count) in enumerate(counts.items()):
        if place == SHOWN:
            yield "and other reasons", sum(list(counts.values())[SHOWN:])
            return
        yield reason, count
