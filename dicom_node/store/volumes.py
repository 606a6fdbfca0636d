"""Volumes of CT and MR series in the store: a row a series, the voxels as one grey picture.

A volume's slices stand one below the other in a PNG, so that what holds for frames holds for them:
8 bits, named by a digest, nothing in the file but pixels. They are read whole, with their labels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from dicom_node.database import for_reading
from dicom_node.errors import StoreError
from dicom_node.store import files, locks
from dicom_node.store.catalogue import metadata
from dicom_node.store.columns import TEXT
from dicom_node.store.records import PSEUDONYM, RULE
from dicom_node.store.split import split_of

#: Slices, rows and columns (3D-RADNet).
SHAPE: Final = (48, 192, 192)
SEQUENCES: Final = ("CT", "T1-SE", "T2-SE", "T1-FLAIR", "T2-FLAIR")
PLANES: Final = ("AX", "COR", "SAG")
REGIONS: Final = (
    *("Brain", "Head", "Neck", "Lung", "Breast"),
    *("Liver", "Kidney", "Intestine", "Pelvis"),
)
#: From one slice to the next, at most, mm.
LARGEST_STEP_MM: Final = 1000.0
#: Folder of the pictures.
FOLDER: Final = "volumes"

volumes = sa.Table(
    "volumes",
    metadata,
    sa.Column("series", TEXT, primary_key=True),
    sa.Column("study", TEXT, nullable=False, index=True),
    sa.Column("patient", TEXT, nullable=False, index=True),
    sa.Column("split", TEXT, nullable=False),
    sa.Column("volume_id", TEXT, nullable=False, unique=True),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    #: pseudonym of all that the voxels were made of
    sa.Column("made_of", TEXT, nullable=False),
    sa.Column("number_of_slices", sa.Integer, nullable=False),
    #: millimetres a voxel of the stored volume
    sa.Column("row_spacing_mm", sa.Float, nullable=False),
    sa.Column("column_spacing_mm", sa.Float, nullable=False),
    # labels, null where the header does not say, each with the rule that spoke
    sa.Column("sequence", TEXT),
    sa.Column("sequence_rule", TEXT, nullable=False),
    sa.Column("plane", TEXT),
    sa.Column("plane_rule", TEXT, nullable=False),
    sa.Column("contrast", sa.Boolean),
    sa.Column("contrast_rule", TEXT, nullable=False),
    #: bit i stands for REGIONS[i]: shown, and known to be shown or not
    sa.Column("regions", sa.Integer, nullable=False),
    sa.Column("regions_known", sa.Integer, nullable=False),
    sa.Column("regions_rule", TEXT, nullable=False),
    #: from the centre of one slice to the next, as received
    sa.Column("slice_spacing_mm", sa.Float, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class SeriesLabels:
    """What a header says of a series; None is "it does not say".

    Raises
    ------
    StoreError
        When a label is none of the known ones.
    """

    #: one of `SEQUENCES`
    sequence: str | None
    sequence_rule: str
    #: one of `PLANES`
    plane: str | None
    plane_rule: str
    contrast: bool | None
    contrast_rule: str
    #: parts of `REGIONS`: those that are shown, and those of which that is known
    regions: frozenset[str]
    regions_known: frozenset[str]
    regions_rule: str
    #: from positions
    slice_spacing_mm: float

    def __post_init__(self) -> None:
        _need(self.sequence in (None, *SEQUENCES), "the sequence is none of the known ones")
        _need(self.plane in (None, *PLANES), "the plane is none of the known ones")
        _need(self.regions <= self.regions_known <= set(REGIONS), "regions are not of the nine")
        for rule in (self.sequence_rule, self.plane_rule, self.contrast_rule, self.regions_rule):
            _need(RULE.fullmatch(rule), "a rule is no token")
        steps = 0 < self.slice_spacing_mm <= LARGEST_STEP_MM
        _need(steps, f"the slice spacing is not 0 to {LARGEST_STEP_MM:.0f} mm")


@dataclass(frozen=True, kw_only=True)
class NewVolume:
    """A volume on its way into the store.

    Raises
    ------
    StoreError
        When a field could identify somebody or does not fit the others.
    """

    #: uint8, (S, R, C)
    voxels: NDArray[np.uint8]
    #: pseudonyms
    patient: str
    study: str
    series: str
    #: of the instances that the voxels are of
    made_of: str
    number_of_slices: int
    #: rows and columns of the stored volume, mm a voxel
    spacing_mm: tuple[float, float]
    labels: SeriesLabels

    @cached_property
    def volume_id(self) -> str:
        """Digest of the voxels and their shape."""
        return digest(self.voxels)

    def __post_init__(self) -> None:
        for name in ("patient", "study", "series", "made_of"):
            _need(PSEUDONYM.fullmatch(getattr(self, name)), f"{name} is no pseudonym")
        _need(self.voxels.dtype == np.uint8, f"voxels are {self.voxels.dtype}, not uint8")
        _need(self.voxels.shape == SHAPE, f"voxels are {self.voxels.shape}, not {SHAPE}")


@dataclass(frozen=True, kw_only=True)
class StoredVolume:
    """One volume of the store; its voxels come from `VolumeBook.voxels`."""

    #: SHA-256 of the picture that holds the voxels, hexadecimal
    volume_id: str
    #: pseudonyms
    patient: str
    study: str
    series: str
    made_of: str
    #: train, validation or test
    split: str
    number_of_slices: int
    spacing_mm: tuple[float, float]
    labels: SeriesLabels


def digest(voxels: NDArray[np.uint8]) -> str:
    """Return the digest of a volume, which is that of its picture."""
    return files.digest(_picture(voxels))


class VolumeBook:
    """The volumes of a store.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of the catalogue.
    folder : Path
        Of the store.
    """

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        self._reads = for_reading(engine)

    def put(self, volume: NewVolume) -> bool:
        """Store a volume in place of what the series was before; False when others show the same.

        Raises
        ------
        TemporaryError
            When the disk does not take it.
        """
        with locks.adding(self._folder):
            return self._put(volume)

    def _put(self, volume: NewVolume) -> bool:
        other = (volumes.c.volume_id == volume.volume_id) & (volumes.c.series != volume.series)
        same_series = volumes.c.series == volume.series
        with self._reads.begin() as connection:
            if connection.scalar(sa.select(volumes.c.series).where(other)) is not None:
                return False
        path = files.path_of(self._folder / FOLDER, volume.volume_id)
        size_bytes = files.write(path, _picture(volume.voxels))
        with self._engine.begin() as connection:
            # another process may have been faster
            if connection.scalar(sa.select(volumes.c.series).where(other)) is not None:
                return False
            before = connection.scalar(sa.select(volumes.c.volume_id).where(same_series))
            connection.execute(volumes.delete().where(same_series))
            connection.execute(volumes.insert().values(_row(volume, size_bytes)))
        if before not in (None, volume.volume_id):
            files.path_of(self._folder / FOLDER, str(before)).unlink(missing_ok=True)
        return True

    def relabel(self, series: str, labels: SeriesLabels) -> None:
        """Give a stored series other labels."""
        with locks.adding(self._folder), self._engine.begin() as connection:
            connection.execute(
                volumes.update().where(volumes.c.series == series).values(_label_columns(labels))
            )

    def drop(self, series: str, *, study: str) -> bool:
        """Take the volume of a study's series out, row and picture; False where there is none.

        Raises
        ------
        TemporaryError
            When the disk does not let it go; the row stays then, and the same call may be repeated.
        """
        is_it = (volumes.c.series == series) & (volumes.c.study == study)
        query = sa.select(volumes.c.volume_id).where(is_it)
        with self._reads.begin() as connection:  # most have none, and need not wait to write
            if connection.scalar(query) is None:
                return False
        with locks.adding(self._folder), self._engine.begin() as connection:
            volume_id = connection.scalar(query)
            if volume_id is None:
                return False
            connection.execute(volumes.delete().where(is_it))
            # before the row is gone for good: after a kill the same call finds both again
            files.remove(files.path_of(self._folder / FOLDER, volume_id))
        return True

    def of_series(self, series: str) -> StoredVolume | None:
        """Return the volume of a series, None where there is none."""
        with self._reads.begin() as connection:
            query = sa.select(volumes).where(volumes.c.series == series)
            row = connection.execute(query).one_or_none()
        return None if row is None else _stored(row)

    def all(self) -> list[StoredVolume]:
        """Return all volumes, ordered by their digest."""
        with self._reads.begin() as connection:
            query = sa.select(volumes).order_by(volumes.c.volume_id)
            return [_stored(row) for row in connection.execute(query)]

    def size_bytes(self) -> int:
        """Return the size of all pictures."""
        with self._reads.begin() as connection:
            return connection.scalar(sa.select(sa.func.sum(volumes.c.size_bytes))) or 0

    def has_picture(self, volume_id: str) -> bool:
        """Whether the picture of a volume is there still."""
        return files.path_of(self._folder / FOLDER, volume_id).exists()

    def voxels(self, volume_id: str) -> NDArray[np.uint8]:
        """Return a volume as uint8, (S, R, C); works in other processes, no database is asked.

        Raises
        ------
        StoreError
            When there is no such volume, or its file is damaged.
        """
        picture = files.read(files.path_of(self._folder / FOLDER, volume_id))
        if picture.size != np.prod(SHAPE):
            raise StoreError(
                f"{volume_id[:8]}...: not a volume of {SHAPE}; run 'dicom-node store audit'"
            )
        return picture.reshape(SHAPE)


def version(found: Sequence[StoredVolume]) -> str:
    """Return a name for volumes with their labels: equal content has equal names."""
    told = sorted(repr((v.volume_id, v.patient, v.split, _told(v.labels))) for v in found)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _told(labels: SeriesLabels) -> list[tuple[str, Any]]:
    values = asdict(labels)
    return [
        (name, sorted(value) if isinstance(value, frozenset) else value)
        for name, value in sorted(values.items())
    ]


def _picture(voxels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the slices of a volume one below the other."""
    slices, rows, columns = voxels.shape
    return np.ascontiguousarray(voxels).reshape(slices * rows, columns)


def _row(volume: NewVolume, size_bytes: int) -> dict[str, Any]:
    return {
        "series": volume.series,
        "study": volume.study,
        "patient": volume.patient,
        "split": split_of(volume.patient),
        "volume_id": volume.volume_id,
        "size_bytes": size_bytes,
        "made_of": volume.made_of,
        "number_of_slices": volume.number_of_slices,
        "row_spacing_mm": volume.spacing_mm[0],
        "column_spacing_mm": volume.spacing_mm[1],
    } | _label_columns(volume.labels)


def _label_columns(labels: SeriesLabels) -> dict[str, Any]:
    bits = {name: _bits(getattr(labels, name)) for name in ("regions", "regions_known")}
    return asdict(labels) | bits


def _bits(regions: frozenset[str]) -> int:
    return sum(1 << REGIONS.index(region) for region in regions)


def _from_bits(bits: int) -> frozenset[str]:
    return frozenset(region for place, region in enumerate(REGIONS) if bits >> place & 1)


def _stored(row: Any) -> StoredVolume:
    return StoredVolume(
        volume_id=row.volume_id,
        patient=row.patient,
        study=row.study,
        series=row.series,
        made_of=row.made_of,
        split=row.split,
        number_of_slices=row.number_of_slices,
        spacing_mm=(row.row_spacing_mm, row.column_spacing_mm),
        labels=SeriesLabels(
            sequence=row.sequence,
            sequence_rule=row.sequence_rule,
            plane=row.plane,
            plane_rule=row.plane_rule,
            contrast=row.contrast,
            contrast_rule=row.contrast_rule,
            regions=_from_bits(row.regions),
            regions_known=_from_bits(row.regions_known),
            regions_rule=row.regions_rule,
            slice_spacing_mm=row.slice_spacing_mm,
        ),
    )


def _need(holds: object, fault: str) -> None:
    if not holds:
        raise StoreError(f"the volume does not go into the store: {fault}")
