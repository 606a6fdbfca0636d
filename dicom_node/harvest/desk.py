"""What a labeller works on: words that nobody mapped, with pictures, and his decisions."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.config import STORE, HarvestSettings
from dicom_node.harvest.decisions import Decision
from dicom_node.harvest.descriptions import Mapped, normalised
from dicom_node.harvest.evidence import MOST_CHARACTERS, text_evidence
from dicom_node.harvest.opening import KEY, NOTES
from dicom_node.harvest.private import PrivateNotes
from dicom_node.harvest.pseudonyms import PseudonymKey, open_key
from dicom_node.harvest.tables import Tables, load_tables
from dicom_node.store import Source, WeakLabelStore, is_store

DESCRIPTION = Source.STUDY_DESCRIPTION
#: Sources for which a decision on study descriptions holds, too.
_SAME_TEXT = (DESCRIPTION, Source.PERFORMED_PROCEDURE_STEP_DESCRIPTION)


@dataclass(frozen=True, kw_only=True)
class MetDescription:
    """A study description that was met."""

    #: pseudonym: what an address may hold
    token: str
    #: may hold what somebody typed: never logged
    words: str = field(repr=False)
    studies: int
    #: None where no table knows it
    mapped: Mapped | None


@dataclass(frozen=True, kw_only=True)
class LabelDesk:
    """The label map of a node; may be used by several threads."""

    notes: PrivateNotes
    store: WeakLabelStore
    key: PseudonymKey
    #: as configured
    tables: Tables

    def descriptions(self, *, mapped: bool = False) -> list[MetDescription]:
        """Return the study descriptions that some table knows, or none, most frequent first."""
        return [one for one in self._met() if (one.mapped is not None) is mapped]

    def find(self, token: str) -> MetDescription | None:
        """Return the description of a pseudonym, None when it was never met, or was erased."""
        return next((one for one in self._met() if one.token == token), None)

    def token(self, words: str) -> str:
        """Return the pseudonym of a description, the same as in the store."""
        return self.key.token("description", normalised(words)[:MOST_CHARACTERS])

    def samples(self, token: str, most: int) -> list[str]:
        """Return ids of frames of studies that are described so."""
        return self.store.evidence.samples(DESCRIPTION, token, most)

    def apply(self, decision: Decision) -> int:
        """Bring the store up to what holds of the words of a decision; may be repeated.

        Returns
        -------
        int
            How many instances have other groups than before.

        Raises
        ------
        TemporaryError
            When the disk does not take it.
        """
        label_map = self._tables_now().descriptions
        source, words = decision.key
        sources = _SAME_TEXT if source is DESCRIPTION else (source,)
        count = self.store.evidence.relabel(
            text_evidence(one, words, label_map, self.key) for one in sources
        )
        self.notes.book.note_applied([decision])
        return count

    def apply_rest(self) -> int:
        """Apply the decisions that were taken and not applied, and return how many it were."""
        rest: Sequence[Decision] = self.notes.book.unapplied()
        for decision in rest:
            self.apply(decision)
        return len(rest)

    def _met(self) -> Iterator[MetDescription]:
        label_map = self._tables_now().descriptions
        for seen in self.notes.descriptions(label_map):
            yield MetDescription(
                token=self.key.token("description", seen.description[:MOST_CHARACTERS]),
                words=seen.description,
                studies=seen.studies,
                mapped=label_map.mapped(DESCRIPTION, seen.description) if seen.is_mapped else None,
            )

    def _tables_now(self) -> Tables:
        return self.tables.with_decisions(self.notes.decisions())


def is_harvested(data: Path) -> bool:
    """Whether there is anything under ``node.data`` to decide on."""
    return all((data / name).exists() for name in (KEY, NOTES)) and is_store(data / STORE)


@contextmanager
def open_desk(settings: HarvestSettings, *, data: Path) -> Iterator[LabelDesk]:
    """Open the label map of a node.

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
        yield LabelDesk(
            notes=notes,
            store=stack.enter_context(WeakLabelStore(data / STORE, new_on=settings.catalogue)),
            key=open_key(data / KEY),
            tables=load_tables(settings),
        )
