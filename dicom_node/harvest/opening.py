"""The harvest with all its parts opened under the node's data folder."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config import STORE, HarvestSettings
from dicom_node.errors import UnreadableError
from dicom_node.harvest.decoding import Decoding
from dicom_node.harvest.descriptions import DescriptionMap
from dicom_node.harvest.labels import weak_labels
from dicom_node.harvest.private import PrivateNotes
from dicom_node.harvest.pseudonyms import PseudonymKey, open_key
from dicom_node.harvest.reader_codes import load_reader_codes
from dicom_node.harvest.reader_notes import ReaderNotes
from dicom_node.harvest.readers import ReaderLabels
from dicom_node.harvest.relabel import RelabelCount, relabel
from dicom_node.harvest.storing import Storing
from dicom_node.harvest.supervised import ImportCount, attach_labels
from dicom_node.harvest.tables import Tables, load_tables
from dicom_node.harvest.volumes import VolumeHarvest
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Geometry, Instance, WeakLabels
from dicom_node.store import WeakLabelStore, open_store

#: Under ``node.data``, private: they lie outside the store.
KEY = "pseudonym.key"
NOTES = "harvest.db"


@dataclass(frozen=True, kw_only=True)
class Harvester:
    """All that a harvest needs; for one caller at a time, as its sandbox is."""

    sandbox: PixelSandbox
    store: WeakLabelStore
    key: PseudonymKey
    notes: PrivateNotes
    settings: HarvestSettings
    #: as configured
    tables: Tables
    #: the labels of readers' SEG and SR
    readers: ReaderLabels

    @property
    def label_map(self) -> DescriptionMap:
        """The map of study descriptions with the decisions of this moment."""
        return self._tables_now().descriptions

    def _tables_now(self) -> Tables:
        # `labels map` decides while the node runs
        return self.tables.with_decisions(self.notes.decisions())

    @property
    def volumes(self) -> VolumeHarvest:
        """The harvest of CT and MR series."""
        return VolumeHarvest(
            sandbox=self.sandbox,
            store=self.store,
            key=self.key,
            notes=self.notes,
            settings=self.settings,
        )

    def harvest(self, instance: Instance) -> dict[str, int]:
        """Put an instance into the store and its raw words into the private notes; count frames.

        Raises
        ------
        TemporaryError
            When the disk does not take it.
        """
        [(_, counts)] = self.harvest_all([instance])
        return counts

    def harvest_all(
        self, instances: Iterable[Instance]
    ) -> Generator[tuple[Instance, dict[str, int]], None, None]:
        """Harvest instances as `harvest` does; while one is stored, the next is decoded.

        Yields
        ------
        Instance
            Its frames are durable.
        dict of str to int
            Counts of its frames.

        Raises
        ------
        TemporaryError
            When the disk does not take it.
        """
        storing = Storing(
            store=self.store, key=self.key, notes=self.notes, tables=self._tables_now()
        )
        decoding = Decoding(
            sandbox=self.sandbox, store=self.store, key=self.key, settings=self.settings
        )
        with closing(decoding.ahead(instances)) as seen:
            yield from storing.all(seen)

    def labels(self, instance: Instance) -> WeakLabels:
        """Return the weak labels of an instance; an unreadable header teaches nothing."""
        try:
            return weak_labels(instance.path, self._tables_now())
        except UnreadableError:
            return WeakLabels(
                probe=None,
                geometry=Geometry.UNKNOWN,
                geometry_rule="none",
                groups=frozenset(),
                description_mapped=False,
            )


@contextmanager
def open_harvester(
    settings: HarvestSettings, data: Path, sandbox: PixelSandbox
) -> Iterator[Harvester]:
    """Open the harvest of a node.

    Parameters
    ----------
    settings : HarvestSettings
        The section ``harvest`` of the configuration.
    data : Path
        The folder ``node.data``.
    sandbox : PixelSandbox
        Decodes the frames.

    Raises
    ------
    ConfigError
        When the site's tables or the pseudonym key cannot be used.
    DatabaseDownError
        When notes or store may only be read: opened so, they would stay so until the next start.
    """
    with ExitStack() as stack:
        tables = load_tables(settings)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        notes = stack.enter_context(closing(PrivateNotes(data / NOTES)))
        notes.need_writable()
        reader_notes = stack.enter_context(closing(ReaderNotes(data / NOTES)))
        store = stack.enter_context(WeakLabelStore(data / STORE, new_on=settings.catalogue))
        store.need_writable()
        key = open_key(data / KEY)
        yield Harvester(
            sandbox=sandbox,
            store=store,
            key=key,
            notes=notes,
            settings=settings,
            tables=tables,
            readers=ReaderLabels(
                store=store,
                key=key,
                notes=reader_notes,
                private=notes,
                codes=load_reader_codes(settings.reader_codes),
                sandbox=stack.enter_context(sandbox.another()),
            ),
        )


def relabel_store(settings: HarvestSettings, *, data: Path) -> RelabelCount:
    """Bring the labels of a node's store up to the tables and decisions of today.

    Parameters
    ----------
    settings : HarvestSettings
        The section ``harvest`` of the configuration.
    data : Path
        The folder ``node.data``.

    Raises
    ------
    ConfigError
        When the site's tables or the pseudonym key cannot be used.
    """
    with ExitStack() as stack:
        notes = stack.enter_context(closing(PrivateNotes(data / NOTES)))
        decided = notes.book.unapplied()
        count = relabel(
            load_tables(settings).with_decisions(notes.decisions()),
            store=stack.enter_context(WeakLabelStore(data / STORE, new_on=settings.catalogue)),
            notes=notes,
            key=open_key(data / KEY),
        )
        notes.book.note_applied(decided)
        return count


def import_labels(csv_path: Path, *, data: Path) -> ImportCount:
    """Attach readers' labels to the store of a node; see `dicom_node.harvest.supervised`.

    Parameters
    ----------
    csv_path : Path
        Columns ``sop_instance_uid, frame`` and at least one of ``quality, mask, class``.
    data : Path
        The folder ``node.data``.

    Raises
    ------
    ConfigError
        When the pseudonym key cannot be used.
    StoreError
        When the CSV cannot be read or lacks a column, or there is no store.
    """
    with ExitStack() as stack:
        store = stack.enter_context(open_store(data / STORE))
        notes = stack.enter_context(closing(ReaderNotes(data / NOTES)))
        return attach_labels(csv_path, store=store, key=open_key(data / KEY), notes=notes)
