"""The fallback ladder: what a destination gets that does not take what it shall get.

A destination that accepts no SEG gets a presentation state in its place, one that accepts neither a
Secondary Capture. What it accepts, it was asked (`deliver.probe`) or showed at a delivery. While
nobody knows, what is wanted is owed, and the rungs of the ladder are written in reserve: when it is
refused, the outbox puts one of them in its place and nothing has to be analysed again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dicom_node.config import AnyDestination, Destination
from dicom_node.forms import classes_of_forms, has_form
from dicom_node.outbox import Outbox
from dicom_node.records import Result, ResultKind
from dicom_node.sop_classes import RESULTS

#: All must be accepted where it is asked whether a kind is; those of SEG and SR follow the form.
_CLASSES_OF_OVERLAYS: Final[Mapping[ResultKind, tuple[str, ...]]] = {
    ResultKind.PR: ("1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.11.2"),
    ResultKind.SC: ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.4"),
}


@dataclass(frozen=True, kw_only=True)
class Route:
    """What of one image goes to one destination."""

    destination: AnyDestination
    #: wanted kind and the kind that goes; the same where it is accepted, or nobody knows
    choices: tuple[tuple[ResultKind, ResultKind], ...]
    #: kinds that take the place of what turns out to be refused
    reserve: frozenset[ResultKind]

    @property
    def kinds(self) -> frozenset[ResultKind]:
        """Every kind that has to be written."""
        return self.reserve | {chosen for _, chosen in self.choices}

    def owed(self, written: Sequence[Result]) -> list[Result]:
        """Return what is owed; of what could not be written the wanted, whose refusal is seen."""
        fitting = [result for result in written if has_form(result, self.destination)]
        there = {result.kind for result in fitting}
        kinds = {chosen if chosen in there else wanted for wanted, chosen in self.choices}
        return [result for result in fitting if result.kind in kinds]


def classes_of_kinds(destination: AnyDestination) -> dict[ResultKind, tuple[str, ...]]:
    """Return the SOP classes of every kind, in the form that a destination takes."""
    forms = classes_of_forms(destination)
    return {kind: (uid,) for kind, uid in forms.items()} | dict(_CLASSES_OF_OVERLAYS)


def route(
    destination: AnyDestination, classes: Mapping[ResultKind, str], answers: Mapping[str, bool]
) -> Route:
    """Choose what goes to a destination.

    Parameters
    ----------
    destination : Destination
        Says what is wanted, and which rungs its ladder has.
    classes : mapping of ResultKind to str
        The objects that there can be of the image, with their SOP classes; a SEG and an SR have
        that of the form that the destination takes.
    answers : mapping of str to bool
        Whether it accepts a SOP class, as far as that is known.
    """
    classes = dict(classes) | {
        k: v for k, v in classes_of_forms(destination).items() if k in classes
    }
    rungs = [
        ResultKind(kind)
        for kind in destination.fallback
        if kind in classes and answers.get(classes[ResultKind(kind)], True)
    ]
    choices, reserve = [], set[ResultKind]()
    for name in destination.send:
        wanted = chosen = ResultKind(name)
        if wanted not in classes:
            continue
        if rungs and answers.get(classes[wanted]) is False:
            chosen = rungs[0]
        choices.append((wanted, chosen))
        if classes[chosen] not in answers:
            reserve.update(rung for rung in rungs if rung is not chosen)
    return Route(destination=destination, choices=tuple(choices), reserve=frozenset(reserve))


def routes_of(
    destinations: Sequence[AnyDestination], classes: Mapping[ResultKind, str], outbox: Outbox
) -> list[Route]:
    """Choose what goes to each destination, by what the outbox knows of it."""
    return [route(one, classes, answers_of(one, outbox)) for one in destinations]


def answers_of(destination: AnyDestination, outbox: Outbox) -> dict[str, bool]:
    """Return what is known of what a destination accepts; DICOMweb has no way to ask."""
    if not isinstance(destination, Destination):
        return dict.fromkeys(RESULTS, True)
    return outbox.capabilities.of(destination.name, destination.address)


def missing(destination: AnyDestination, answers: Mapping[str, bool]) -> list[ResultKind]:
    """Return the wanted kinds of which it accepts neither the object nor a rung of its ladder."""
    known = {
        kind: all(answers.get(one, True) for one in classes)
        for kind, classes in classes_of_kinds(destination).items()
    }
    if any(known[ResultKind(rung)] for rung in destination.fallback):
        return []
    return [kind for kind in map(ResultKind, destination.send) if not known[kind]]
