"""Take a patient out of a store, and leave no byte behind.

Rows first, in one transaction, then files, packs and exports of packs, then what the database still
has of it in free pages and in its log. A kill in between leaves work that any later erasure
finishes: files that no row names are deleted whoever they are of, and frames whose packs or exports
are not deleted yet stand in the table `erasing`.
"""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import sqlalchemy as sa

from dicom_node.database import scrub
from dicom_node.store import catalogue, files, locks, server
from dicom_node.store.catalogue import frames, instances, sightings
from dicom_node.store.columns import insert
from dicom_node.store.exports import delete_exports
from dicom_node.store.packs import delete_packs
from dicom_node.store.readers import hear_again, said_of
from dicom_node.store.volumes import FOLDER as VOLUMES
from dicom_node.store.volumes import volumes

#: A picture, or one that was being written when its writer died.
_PICTURE = re.compile(r"[0-9a-f]{64}\.png(\..*part)?")
_NO_LABELS = {
    "quality": None,
    "mask_digest": None,
    "mask_bytes": 0,
    "label_set": None,
    "class_set": None,
    "class_name": None,
}


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What an erasure took, or would take."""

    #: without those that stay
    frames: int
    #: that show the same pixels as one of another patient, and stay as his
    frames_shared: int
    #: frames that lose a reader's label; of shared ones those of which something was said on the
    #: patient's own image, or of which the store does not know on whose
    labelled: int
    instances: int
    studies: int
    volumes: int = 0
    #: those of dead harvests among them; frames, masks, volumes
    files: int = 0
    packs: int = 0
    exports: int = 0
    #: why exports were not looked at; the erasure is not finished while there are any
    unreached: tuple[str, ...] = ()


class Erasure:
    """The erasure of one patient.

    Parameters
    ----------
    folder : Path
        Of the store.
    patient : str
        Pseudonym.
    """

    def __init__(self, folder: Path, patient: str) -> None:
        self._engine = catalogue.open_catalogue(folder)
        self._folder, self._patient = folder, patient

    def close(self) -> None:
        """Close the catalogue."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def alone(self) -> AbstractContextManager[None]:
        """Hold the store: waits for the images that are being stored, and lets no other begin."""
        return locks.alone(self._folder)

    def studies(self) -> frozenset[str]:
        """Return the pseudonyms of the patient's studies."""
        with self._engine.begin() as connection:
            return frozenset(connection.scalars(_studies_of(self._patient)))

    def preview(self) -> Erased:
        """Count what `run` would erase."""
        with self._engine.begin() as connection:
            return _Rows(connection, self._patient).counted()

    def run(self, packs: Sequence[Path] = (), exports: Sequence[str] = ()) -> Erased:
        """Erase the patient, inside of `alone`; may be killed and repeated at any time.

        Parameters
        ----------
        packs : sequence of Path
            Folders that hold packs of this store.
        exports : sequence of str
            Where exports of packs are: folders, or ``s3://BUCKET/PREFIX``. Of one that cannot be
            reached is remembered what is to leave it; the next erasure looks again.

        Raises
        ------
        TemporaryError
            When something could not be deleted yet; repeat it.
        """
        with self._engine.begin() as connection:
            _delete_bytes(connection)
            rows = _Rows(connection, self._patient)
            counted = rows.counted()
            rows.delete(self._folder)
        swept = sum(map(self._sweep, ("frames", "masks", VOLUMES)))
        with self._engine.begin() as connection:
            unfinished = frozenset(connection.scalars(sa.select(catalogue.erasing)))
        deleted = sum(delete_packs(folder, unfinished) for folder in packs)
        cleared = delete_exports(exports, unfinished)
        if not cleared.faults:
            with self._engine.begin() as connection:
                _delete_bytes(connection)
                connection.execute(catalogue.erasing.delete())
        self._scrub()
        return replace(
            counted,
            files=swept,
            packs=deleted,
            exports=cleared.deleted,
            unreached=cleared.faults,
        )

    def _scrub(self) -> None:
        if self._engine.dialect.name == "postgresql":
            server.scrub(self._engine, catalogue.metadata)
        else:
            scrub(self._engine)

    def _sweep(self, kind: str) -> int:
        """Delete the pictures that no row names; nobody is between writing one and its row."""
        swept = 0
        for folder in sorted((self._folder / kind).glob("[0-9a-f][0-9a-f]")):
            named = self._named(kind, folder.name)
            for path in folder.iterdir():
                if _PICTURE.fullmatch(path.name) and path.name not in named:
                    path.unlink()
                    swept += 1
            files.sync(folder)
        return swept

    def _named(self, kind: str, start: str) -> frozenset[str]:
        name = volumes.c.volume_id if kind == VOLUMES else frames.c.frame_id
        query = sa.select(name).where((name >= start) & (name < f"{start}g"))
        if kind == "masks":
            query = query.where(frames.c.mask_digest.is_not(None))
        with self._engine.begin() as connection:
            return frozenset(f"{frame_id}.png" for frame_id in connection.scalars(query))


def _delete_bytes(connection: sa.Connection) -> None:
    """Let a SQLite file overwrite what is deleted from now on; a server rewrites its tables."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")


def _studies_of(patient: str) -> sa.CompoundSelect[tuple[str]]:
    tables = instances, volumes
    return sa.union(*(sa.select(t.c.study).where(t.c.patient == patient) for t in tables))


class _Rows:
    """The rows of one patient."""

    def __init__(self, connection: sa.Connection, patient: str) -> None:
        self._connection = connection
        self._patient = patient
        self._mine = sa.select(instances.c.instance).where(instances.c.patient == patient)
        #: of the patient alone or not
        self._shown = (
            sa.select(sightings.c.frame_id)
            .where(sightings.c.instance.in_(self._mine))
            .union(sa.select(frames.c.frame_id).where(frames.c.instance.in_(self._mine)))
        )
        is_mine = sightings.c.instance.in_(self._mine)
        self._is_said_of_mine = said_of(frames.c.frame_id, is_mine)
        self._is_said_of_others = said_of(frames.c.frame_id, ~is_mine)
        self._is_of_others = sa.exists().where(
            sightings.c.frame_id == frames.c.frame_id, sightings.c.instance.not_in(self._mine)
        )

    def counted(self) -> Erased:
        """Count the rows."""
        shown = frames.c.frame_id.in_(self._shown)
        shared = shown & self._is_of_others
        labelled = (
            frames.c.quality.is_not(None)
            | frames.c.mask_digest.is_not(None)
            | frames.c.class_name.is_not(None)
        )
        keeps = self._is_said_of_others & ~self._is_said_of_mine
        count = sa.func.count()
        number = self._connection.scalar
        every = number(sa.select(count).where(shown)) or 0
        stay = number(sa.select(count).where(shared)) or 0
        of_patient = instances.c.patient == self._patient
        studies = _studies_of(self._patient)
        return Erased(
            frames=every - stay,
            frames_shared=stay,
            labelled=number(sa.select(count).where(shown & labelled & ~keeps)) or 0,
            instances=number(sa.select(count).where(of_patient)) or 0,
            studies=number(sa.select(count).select_from(studies.subquery())) or 0,
            volumes=number(sa.select(count).where(volumes.c.patient == self._patient)) or 0,
        )

    def delete(self, folder: Path) -> None:
        """Delete the rows; shared frames go over to another patient, with what is said of his."""
        run = self._connection.execute
        run(
            insert(catalogue.erasing, self._connection.dialect)
            .from_select(["frame_id"], self._shown)
            .on_conflict_do_nothing()
        )
        stays = frames.c.frame_id.in_(self._shown) & self._is_of_others
        said = stays & self._is_said_of_others
        to_hear = list(self._connection.scalars(sa.select(frames.c.frame_id).where(said)))
        run(frames.update().where(stays).values(_NO_LABELS))
        for frame_id, owner, frame_number in self._heirs():
            run(
                frames.update()
                .where(frames.c.frame_id == frame_id)
                .values(instance=owner, frame_number=frame_number)
            )
            catalogue.count_frames(self._connection, owner)
        run(sightings.delete().where(sightings.c.instance.in_(self._mine)))
        run(frames.delete().where(frames.c.instance.in_(self._mine)))
        run(instances.delete().where(instances.c.patient == self._patient))
        run(volumes.delete().where(volumes.c.patient == self._patient))
        hear_again(self._connection, folder, to_hear)

    def _heirs(self) -> list[tuple[str, str, int]]:
        """Return which instance of another patient each of the patient's shared frames goes to."""
        query = (
            sa.select(sightings.c.frame_id, sightings.c.instance, sightings.c.frame_number)
            .join(frames, frames.c.frame_id == sightings.c.frame_id)
            .where(frames.c.instance.in_(self._mine), sightings.c.instance.not_in(self._mine))
            .order_by(sightings.c.frame_id, sightings.c.instance, sightings.c.frame_number)
        )
        first = {
            row.frame_id: tuple(row) for row in reversed(self._connection.execute(query).all())
        }
        return [(str(a), str(b), int(c)) for a, b, c in first.values()]
