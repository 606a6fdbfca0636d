"""The harvest with all its parts opened under the node's data folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config import STORE, HarvestSettings
from dicom_node.errors import UnreadableError
from dicom_node.harvest.descriptions import DescriptionMap
from dicom_node.harvest.harvester import HarvestCount, Skip, harvest_instance
from dicom_node.harvest.labels import weak_labels
from dicom_node.harvest.private import PrivateNotes
from dicom_node.harvest.pseudonyms import PseudonymKey, open_key
from dicom_node.harvest.relabel import RelabelCount, relabel
from dicom_node.harvest.supervised import ImportCount, attach_labels
from dicom_node.harvest.tables import Tables, load_tables
from dicom_node.harvest.words import patient_of, read_words
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Geometry, Instance, WeakLabels
from dicom_node.store import WeakLabelStore

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

    @property
    def label_map(self) -> DescriptionMap:
        """The map of study descriptions with the decisions of this moment."""
        return self._tables_now().descriptions

    def _tables_now(self) -> Tables:
        # `labels map` decides while the node runs
        return self.tables.with_decisions(self.notes.decisions())

    def harvest(self, instance: Instance) -> dict[str, int]:
        """Put an instance into the store and its raw words into the private notes; count frames.

        Raises
        ------
        TemporaryError
            When the disk does not take it.
        """
        with self.store.holding_off_erasure():
            return self._harvest(instance).as_dict()

    def _harvest(self, instance: Instance) -> HarvestCount:
        words, patient = None, ""
        with suppress(UnreadableError):  # counted below
            words = read_words(instance.path)
        if words is not None:
            patient = patient_of(words, instance.study_instance_uid)
            if self.notes.refuses(self.key.token("refused", patient)):
                return HarvestCount(skipped={Skip.PATIENT_REFUSED: 1})
        count = harvest_instance(
            instance,
            sandbox=self.sandbox,
            store=self.store,
            key=self.key,
            settings=self.settings,
            tables=self._tables_now(),
        )
        if words is not None:
            self.notes.record(
                words, instance.study_instance_uid, self.key.token("patient", patient)
            )
        return count

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
    """
    with ExitStack() as stack:
        tables = load_tables(settings)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        notes = PrivateNotes(data / NOTES)
        stack.callback(notes.close)
        yield Harvester(
            sandbox=sandbox,
            store=stack.enter_context(WeakLabelStore(data / STORE)),
            key=open_key(data / KEY),
            notes=notes,
            settings=settings,
            tables=tables,
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
        notes = PrivateNotes(data / NOTES)
        stack.callback(notes.close)
        return relabel(
            load_tables(settings).with_decisions(notes.decisions()),
            store=stack.enter_context(WeakLabelStore(data / STORE)),
            notes=notes,
            key=open_key(data / KEY),
        )


def import_labels(csv_path: Path, *, data: Path) -> ImportCount:
    """Attach readers' labels to the store of a node; see `dicom_node.harvest.supervised`.

    Parameters
    ----------
    csv_path : Path
        Columns ``sop_instance_uid, frame, quality, mask``.
    data : Path
        The folder ``node.data``.

    Raises
    ------
    ConfigError
        When the pseudonym key cannot be used.
    StoreError
        When the CSV cannot be read or lacks a column.
    """
    with WeakLabelStore(data / STORE) as store:
        return attach_labels(csv_path, store=store, key=open_key(data / KEY))
