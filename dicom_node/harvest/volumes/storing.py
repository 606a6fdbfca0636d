"""The CT and MR series of a study into the store.

A face can be rebuilt from a volume of the head. So a volume goes in only where it is known to show
neither head nor brain, unless ``harvest.head_volumes: keep`` says otherwise; what of the neck and
chest could tell a person is not removed, and neither is anything inside of the body. What was
stored of a series that is refused today is taken out; that its files are lost or cannot be decoded
refuses no series.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.config import HarvestSettings
from dicom_node.errors import PixelError, StoreError
from dicom_node.harvest.counts import Skip
from dicom_node.harvest.private import PrivateNotes
from dicom_node.harvest.pseudonyms import PseudonymKey
from dicom_node.harvest.volumes.assembling import Stack, assembled
from dicom_node.harvest.volumes.labelling import FACE, labels_of
from dicom_node.harvest.volumes.resampling import Canvas, Plane, needed, values_of, voxels_of
from dicom_node.harvest.volumes.slices import Slice, read_slice
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Instance
from dicom_node.sop_classes import ENHANCED, VOLUME_SLICES
from dicom_node.store import NewVolume, SeriesLabels, StoredVolume, WeakLabelStore

#: Counts of slices whose series is in the store.
STORED: Final = "slices stored"
#: How volumes are made; another number makes them anew.
_MAKING: Final = "1"
#: Of what is a series of CT or MR, or a part of one.
MODALITIES: Final = VOLUME_SLICES | ENHANCED
Fate = tuple[Instance, dict[str, int]]
Seen = tuple[Instance, Slice | Skip]


@dataclass(frozen=True, kw_only=True)
class VolumeHarvest:
    """All that a harvest of series needs; for one caller at a time, as its sandbox is."""

    sandbox: PixelSandbox
    store: WeakLabelStore
    key: PseudonymKey
    notes: PrivateNotes
    settings: HarvestSettings

    def wants(self, instance: Instance) -> bool:
        """Whether an instance is of a modality of series that the settings name."""
        return MODALITIES.get(instance.sop_class_uid) in self.settings.modalities

    def harvest(self, instances: Iterable[Instance]) -> Generator[Fate, None, None]:
        """Put the series of one study into the store, and say what became of each slice.

        Yields
        ------
        Instance
            Of those that are wanted; the volume of its series is durable.
        dict of str to int
            What became of it.

        Raises
        ------
        TemporaryError
            When the disk does not take it.
        """
        series: dict[str, list[Instance]] = defaultdict(list)
        for instance in instances:
            if self.wants(instance):
                series[instance.series_instance_uid].append(instance)
        for slices in series.values():
            with self.store.holding_off_erasure():
                fates = self._series(slices)
            yield from ((one, {fates[one.sop_instance_uid]: 1}) for one in slices)

    def _series(self, instances: Sequence[Instance]) -> dict[str, str]:
        """Return what became of each slice of one series, by SOP Instance UID."""
        seen = [(instance, read_slice(instance)) for instance in instances]
        slices = [one for _, one in seen if isinstance(one, Slice)]
        fates = {i.sop_instance_uid: one.value for i, one in seen if isinstance(one, Skip)}
        lost = Skip.FILES_LOST.value
        if lost in fates.values() and self._may_stay(seen):
            return dict.fromkeys(map(_uid, slices), lost) | fates
        stack = assembled(slices)
        doubles: frozenset[str] = frozenset()
        if isinstance(stack, Stack):
            doubles = frozenset(_uid(one) for many in stack.doubles.values() for one in many)
            try:
                stack_fate = self._store(stack)
            except StoreError:  # it costs its series, and no other
                stack_fate = Skip.REFUSED.value
        else:
            stack_fate = stack.value
        is_stored = stack_fate in (STORED, Skip.ALREADY_STORED.value)
        is_judged = stack_fate != Skip.UNDECODABLE.value
        if not is_stored and (is_judged or not self._may_stay(seen)):
            self._take_out(instances[0])
        for one in slices:
            is_double = is_stored and _uid(one) in doubles
            fates[_uid(one)] = Skip.DUPLICATE_SLICE.value if is_double else stack_fate
        return fates

    def _store(self, stack: Stack) -> str:
        """Store the volume of a series; return what became of its slices."""
        labels = labels_of(stack.all, spacing_mm=stack.spacing_mm, extent_mm=stack.extent_mm)
        first = stack.slices[0]
        study = first.instance.study_instance_uid
        token = self.key.token("patient", first.patient_id or study)
        series = self.key.token("series", first.instance.series_instance_uid)
        stored = self.store.volumes.of_series(series)
        fault = self._refusal(first, labels, stored)
        if fault is not None:
            return fault.value
        made_of = self._made_of(one.instance for one in stack.all)
        is_same = stored is not None and (stored.made_of, stored.patient) == (made_of, token)
        # a picture that is lost is written again
        if stored is not None and is_same and self.store.volumes.has_picture(stored.volume_id):
            if stored.labels != labels:
                self.store.volumes.relabel(series, labels)
            return Skip.ALREADY_STORED.value
        canvas = Canvas(stack)
        voxels = self._voxels(stack, canvas)
        if isinstance(voxels, Skip):
            return voxels.value
        self.notes.note_study(study, token)
        is_new = self.store.volumes.put(
            NewVolume(
                voxels=voxels,
                patient=token,
                study=self.key.token("study", study),
                series=series,
                made_of=made_of,
                number_of_slices=len(stack.slices),
                spacing_mm=(canvas.spacing_mm, canvas.spacing_mm),
                labels=labels,
            )
        )
        return STORED if is_new else Skip.DUPLICATE.value

    def _refusal(
        self, one: Slice, labels: SeriesLabels, stored: StoredVolume | None
    ) -> Skip | None:
        """Return why a series does not go in whatever its pixels; `stored` is under its UID."""
        if self.settings.head_volumes == "refuse" and not _shows_no_face(labels):
            return Skip.MAY_SHOW_A_FACE
        study = one.instance.study_instance_uid
        patient = one.patient_id or study
        refused, token = self.key.token("refused", patient), self.key.token("patient", patient)
        if self.notes.known(refused, study, token).is_refused:
            return Skip.PATIENT_REFUSED
        is_of_another = stored is not None and stored.study != self.key.token("study", study)
        return Skip.MIXED if is_of_another else None

    def _may_stay(self, seen: Sequence[Seen]) -> bool:
        """Whether what is stored may stay by what is known, where files tell less than they did."""
        first = seen[0][0]
        try:
            stored = self.store.volumes.of_series(
                self.key.token("series", first.series_instance_uid)
            )
        except StoreError:
            return False
        slices = [one for _, one in seen if isinstance(one, Slice)]
        return (
            stored is not None
            and (self.settings.head_volumes != "refuse" or _shows_no_face(stored.labels))
            and all(self._is_as(stored, one) for one in slices)
            and (not slices or self._refusal(slices[0], _told(slices, stored), stored) is None)
            and (
                all(one is not Skip.BURNED_IN for _, one in seen) or self._is_of_rest(stored, seen)
            )
        )

    def _is_as(self, stored: StoredVolume, one: Slice) -> bool:
        """Whether a slice is of the patient of a volume."""
        patient = one.patient_id or one.instance.study_instance_uid
        return self.key.token("patient", patient) == stored.patient

    def _is_of_rest(self, stored: StoredVolume, seen: Sequence[Seen]) -> bool:
        """Whether a volume is made of what is lost and what can be used, and of nothing else."""
        rest = (i for i, one in seen if isinstance(one, Slice) or one is Skip.FILES_LOST)
        return stored.made_of == self._made_of(rest)

    def _take_out(self, one: Instance) -> None:
        """Take out what was stored of a series of this study before it was refused."""
        series = self.key.token("series", one.series_instance_uid)
        self.store.volumes.drop(series, study=self.key.token("study", one.study_instance_uid))

    def _made_of(self, instances: Iterable[Instance]) -> str:
        digests = sorted(one.sha256 for one in instances)
        return self.key.token("object", "\0".join((_MAKING, *digests)))

    def _voxels(self, stack: Stack, canvas: Canvas) -> NDArray[np.uint8] | Skip:
        """Decode what a volume needs of its slices, and those that stand in one place."""
        wanted = {at for below, above, _ in needed(len(stack.slices)) for at in (below, above)}
        drawn: dict[int, Plane] = {}
        try:
            for at in sorted(wanted | set(stack.doubles)):
                stored = self._stored_values(stack.slices[at])
                for double in stack.doubles.get(at, ()):
                    if not np.array_equal(stored, self._stored_values(double)):
                        return Skip.MIXED
                if at in wanted:
                    drawn[at] = canvas.drawn(at, values_of(stack.slices[at], stored))
        except PixelError:
            return Skip.UNDECODABLE
        voxels = voxels_of(drawn, len(stack.slices), stack.slices[0].modality)
        return Skip.UNIFORM if voxels is None else voxels

    def _stored_values(self, one: Slice) -> NDArray[np.int32]:
        [(_, values)] = self.sandbox.stored_values(one.instance.path, [1])
        if values.shape != (one.rows, one.columns):
            raise PixelError("the pixels are not of the size in the header; send it again")
        return values


def _uid(one: Slice) -> str:
    return one.instance.sop_instance_uid


def _told(slices: Sequence[Slice], stored: StoredVolume) -> SeriesLabels:
    """Return what headers that are left say of a stored series."""
    spacing_mm = stored.labels.slice_spacing_mm
    left_mm = float(np.ptp([one.position @ slices[0].normal for one in slices]))
    extent_mm = max(left_mm, spacing_mm * (stored.number_of_slices - 1))
    return labels_of(slices, spacing_mm=spacing_mm, extent_mm=extent_mm)


def _shows_no_face(labels: SeriesLabels) -> bool:
    return labels.regions_known >= FACE and not labels.regions & FACE
