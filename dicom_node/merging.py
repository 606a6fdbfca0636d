"""What one model found in the stills of a series, as one SEG for all of them.

The SEGs of stills are promised, not owed, until every image of the study was looked at. Then they
are merged, and what they were merged into is owed. The same stills give the same object under the
same UID; a still that comes late gives the next version in the same series. What cannot be merged
goes by itself.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dicom_node import log
from dicom_node.errors import PixelError, ResultError, UnreadableError
from dicom_node.forms import SegmentationForm
from dicom_node.jobs import stop_if_cancelled
from dicom_node.outbox import MergedRow, Outbox, PartRow, Settlement
from dicom_node.records import Edition, Instance
from dicom_node.results import (
    Installation,
    Part,
    derived_uid,
    stills_uid,
    write_still,
    write_stills,
)
from dicom_node.roster import Roster

_Images = Mapping[str, Instance]


@dataclass(frozen=True, kw_only=True)
class Merger:
    """Merges the stills of studies."""

    outbox: Outbox
    #: folder of the objects that wait to be sent
    results: Path
    installation: Installation
    #: names of those that there are
    destinations: frozenset[str]
    #: of the nodes that count their versions together
    roster: Roster | None = None

    def merge(self, images: Sequence[Instance], revision: int) -> int:
        """Merge what was said of the stills of a study.

        Parameters
        ----------
        images : sequence of Instance
            Those of one study.
        revision : int
            How often the study was complete.

        Returns
        -------
        int
            How many objects were made; 0 where all was said before.
        """
        if not images:
            return 0
        study = images[0].study_instance_uid
        parts, before = self.outbox.stills.parts(study), self.outbox.stills.merged(study)
        if not parts and not before:
            return 0
        known = {image.sop_instance_uid: image for image in images}
        groups = _groups([p for p in parts if p.result.source_sop_instance_uid in known])
        settlement = self._settlement(groups, before, known, revision)
        self.outbox.stills.settle(study, settlement, now=datetime.now(UTC))
        return len(settlement.made)

    def _settlement(
        self,
        groups: Iterable["_Group"],
        before: Sequence[MergedRow],
        images: _Images,
        revision: int,
    ) -> Settlement:
        last = {row.result.series_instance_uid: row for row in before}  # the highest version
        sent = frozenset(uid for row in before for uid in row.parts)
        made, kept = [], []
        alone: list[PartRow] = []
        for group in groups:
            stop_if_cancelled()
            said = [last[uid] for uid in self._possible_series(group) if uid in last]
            same = [row.result.sop_instance_uid for row in said if row.parts == group.uids]
            owed = group.promised(but=sent) | (group.promised() & self.destinations)
            if same or not owed:
                kept += same
                continue
            series = self._series_of(group, images)
            former = last.get(series)
            row = self._written(group, series, former, images, revision)
            if row is not None:
                made.append((row, owed))
                continue
            kept += [row.result.sop_instance_uid for row in said]
            alone += self._written_alone(group, images, but=sent)
        return Settlement(made=made, kept=kept, alone=alone)

    def _possible_series(self, group: "_Group") -> tuple[str, ...]:
        series = group.series_instance_uid
        return (series,) if self.roster is None else (series, _own_series(series, self.roster))

    def _series_of(self, group: "_Group", images: _Images) -> str:
        """Return the series of a group, one of this node's own beside that of another node.

        What the other said of stills that this node does not have must stay the last of its series:
        viewers show no other.
        """
        series = group.series_instance_uid
        if self.roster is None or self.roster.editions.images(series) <= images.keys():
            return series
        return _own_series(series, self.roster)

    def _written(
        self,
        group: "_Group",
        series_instance_uid: str,
        former: MergedRow | None,
        images: _Images,
        revision: int,
    ) -> MergedRow | None:
        """Write a group; None when what was written must not leave."""
        edition = Edition(
            version=former.result.version + 1 if former else 1,
            study_revision=revision,
            predecessors=(former.result,) if former else (),
        )
        name = stills_uid(group.uids)
        editions = None if self.roster is None else self.roster.editions
        if editions is not None:
            edition = editions.agree(series_instance_uid, name, edition)
        try:
            result = write_stills(
                group.on_disk(images),
                self.results,
                installation=self.installation,
                edition=edition,
                series_instance_uid=series_instance_uid,
                form=SegmentationForm(group.parts[0].result.form),
            )
        except (PixelError, ResultError, UnreadableError) as exc:
            study = group.parts[0].result.study_instance_uid
            log.get("results").error("stills not merged", study_instance_uid=study, reason=str(exc))
            return None
        if editions is not None:
            editions.note(series_instance_uid, name, edition, (result,))
        return MergedRow(result=result, parts=group.uids)

    def _written_alone(
        self, group: "_Group", images: _Images, *, but: Collection[str]
    ) -> Iterator[PartRow]:
        """Write what is not merged, image by image; what must not leave is told in the trail."""
        for row, part in zip(group.parts, group.on_disk(images), strict=True):
            if part.result.sop_instance_uid in but:
                continue
            try:
                write_still(part, self.results, installation=self.installation)
            except (PixelError, ResultError, UnreadableError) as exc:
                uid = part.instance.sop_instance_uid
                log.get("results").error("still has no SEG", sop_instance_uid=uid, reason=str(exc))
                self.outbox.trail.reject(part.instance, str(exc), datetime.now(UTC))
            else:
                yield row


@dataclass(frozen=True, kw_only=True)
class _Group:
    """SEGs of stills that go out as one object."""

    series_instance_uid: str
    parts: tuple[PartRow, ...]

    @property
    def uids(self) -> frozenset[str]:
        return frozenset(part.result.sop_instance_uid for part in self.parts)

    def promised(self, *, but: Collection[str] = ()) -> frozenset[str]:
        """Return the destinations that get any of the parts, but for some."""
        parts = [part for part in self.parts if part.result.sop_instance_uid not in but]
        return frozenset(name for part in parts for name in part.promised)

    def on_disk(self, images: _Images) -> list[Part]:
        results = [part.result for part in self.parts]
        return [
            Part(instance=images[result.source_sop_instance_uid], result=result)
            for result in results
        ]


def _own_series(series_instance_uid: str, roster: Roster) -> str:
    return derived_uid("series", series_instance_uid, roster.name)


def _groups(parts: Sequence[PartRow]) -> Iterator[_Group]:
    """Yield what goes together; parts are ordered by image."""
    found: dict[str, dict[str, list[PartRow]]] = {}
    for part in parts:
        merging = part.result.merging
        if merging is not None:
            models = found.setdefault(merging.series_instance_uid, {})
            models.setdefault(merging.digest, []).append(part)
    for series, models in found.items():
        # where the model was exchanged between two stills, the newer goes on in the series
        newest_first = sorted(models.items(), key=_newness, reverse=True)
        for place, (digest, several) in enumerate(newest_first):
            own = derived_uid("series", series, digest) if place else series
            yield from _portions(own, several)


def _newness(model: tuple[str, list[PartRow]]) -> tuple[datetime, str]:
    digest, parts = model
    return max(part.created_at for part in parts), digest


def _portions(series: str, parts: Sequence[PartRow]) -> Iterator[_Group]:
    """Yield groups of so many parts as fit into memory."""
    most = min(part.result.merging.most for part in parts if part.result.merging is not None)
    for start in range(0, len(parts), most):
        own = derived_uid("series", series, str(start)) if start else series
        yield _Group(series_instance_uid=own, parts=tuple(parts[start : start + most]))
