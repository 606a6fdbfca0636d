"""What takes the place of an object that was refused when nothing lay in reserve.

A destination said that it takes SEGs, so of the image only SEG and SR were written; then it refused
the SEG. Here the image is looked at again by the models that spoke of it, and the next kind of the
ladder is drawn and owed. Of an image that is gone, or whose models are others now, nothing is
drawn: the refused object stays a dead letter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dicom_node import log
from dicom_node.config import AnyDestination
from dicom_node.jobs import stop_if_cancelled
from dicom_node.outbox import LackingRow, Outbox, Rungs
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Analysis, Edition, Result, ResultKind
from dicom_node.results import Installation, Overlays, classes_of, write_overlays


@dataclass(frozen=True, kw_only=True)
class Draughtsman:
    """Draws the rungs that lack."""

    outbox: Outbox
    #: folder of the objects that wait to be sent
    results: Path
    installation: Installation
    #: those that there are, by name
    destinations: Mapping[str, AnyDestination]
    #: decodes the frames that a capture shows
    sandbox: PixelSandbox
    #: says what is said of an image, by its SOP Instance UID; None where it cannot be said again
    say_again: Callable[[str], Analysis | None]

    def draw(self, study_instance_uid: str) -> int:
        """Draw what lacks in a study, and owe it.

        Returns
        -------
        int
            How many objects were drawn.
        """
        count = 0
        for row in self.outbox.lacking.of(study_instance_uid):
            destination = self.destinations.get(row.destination)
            kinds = () if destination is None else destination.fallback
            drawn = [] if destination is None else self._drawn(row, destination)
            is_taken = self.outbox.lacking.settle(row, drawn, kinds, now=datetime.now(UTC))
            count += len(drawn)
            log.get("results").info(
                "refused object replaced" if is_taken else "refused object not replaced",
                sop_instance_uid=row.sop_instance_uid,
                destination=row.destination,
            )
        return count

    def _drawn(self, row: LackingRow, destination: AnyDestination) -> list[Result]:
        drawn: list[Result] = []
        for rungs in self.outbox.lacking.rungs(row):
            if rungs.first(destination.fallback) is None:
                stop_if_cancelled()
                drawn += self._next_rung(rungs, destination)
        return drawn

    def _next_rung(self, rungs: Rungs, destination: AnyDestination) -> tuple[Result, ...]:
        """Draw the first kind of the ladder that passes the gate and was not refused."""
        analysis = self.say_again(rungs.source_sop_instance_uid)
        if analysis is None:
            return ()
        classes = classes_of(analysis)
        answers = self.outbox.capabilities.of(destination.name, destination.address)
        for kind in map(ResultKind, destination.fallback):
            if kind in rungs.refused or not answers.get(classes.get(kind, ""), True):
                continue
            written = write_overlays(
                analysis,
                self.results,
                installation=self.installation,
                edition=Edition(version=rungs.version),
                overlays=Overlays(kinds=frozenset({kind}), sandbox=self.sandbox),
            )
            if written:
                return written
        return ()
