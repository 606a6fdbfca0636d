"""The harvest with all its parts opened under the node's data folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config import STORE, HarvestSettings
from dicom_node.errors import UnreadableError
from dicom_node.harvest.descriptions import DescriptionMap, load_map
from dicom_node.harvest.harvester import harvest_instance
from dicom_node.harvest.labels import weak_labels
from dicom_node.harvest.private import PrivateNotes
from dicom_node.harvest.pseudonyms import PseudonymKey, open_key
from dicom_node.harvest.reader_codes import load_reader_codes
from dicom_node.harvest.reader_notes import ReaderNotes
from dicom_node.harvest.readers import ReaderLabels
from dicom_node.harvest.supervised import ImportCount, attach_labels
from dicom_node.harvest.words import read_words
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
    label_map: DescriptionMap
    #: the labels of readers' SEG and SR
    readers: ReaderLabels

    def harvest(self, instance: Instance) -> dict[str, int]:
        """Put an instance into the store and its raw words into the private notes; count frames.

        Raises
        ------
        TemporaryError
            When the disk does not take it.
        """
        count = harvest_instance(
            instance,
            sandbox=self.sandbox,
            store=self.store,
            key=self.key,
            settings=self.settings,
            label_map=self.label_map,
        )
        with suppress(UnreadableError):  # counted above
            self.notes.record(read_words(instance.path), instance.study_instance_uid)
        return count.as_dict()

    def labels(self, instance: Instance) -> WeakLabels:
        """Return the weak labels of an instance; an unreadable header teaches nothing."""
        try:
            return weak_labels(instance.path, self.label_map)
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
        When the site's labels or the pseudonym key cannot be used.
    """
    with ExitStack() as stack:
        label_map = load_map(settings.label_map, settings.site_labels)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        notes = PrivateNotes(data / NOTES)
        stack.callback(notes.close)
        reader_notes = ReaderNotes(data / NOTES)
        stack.callback(reader_notes.close)
        store = stack.enter_context(WeakLabelStore(data / STORE))
        key = open_key(data / KEY)
        yield Harvester(
            sandbox=sandbox,
            store=store,
            key=key,
            notes=notes,
            settings=settings,
            label_map=label_map,
            readers=ReaderLabels(
                store=store,
                key=key,
                notes=reader_notes,
                codes=load_reader_codes(settings.reader_codes),
                sandbox=stack.enter_context(sandbox.another()),
            ),
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
    with ExitStack() as stack:
        store = stack.enter_context(WeakLabelStore(data / STORE))
        notes = ReaderNotes(data / NOTES)
        stack.callback(notes.close)
        return attach_labels(csv_path, store=store, key=open_key(data / KEY), notes=notes)
