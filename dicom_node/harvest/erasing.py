"""Take a patient out of all that the harvest made of him, and take him in no more if asked so."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config import STORE
from dicom_node.errors import ConfigError
from dicom_node.harvest.opening import KEY, NOTES
from dicom_node.harvest.private import PrivateNotes
from dicom_node.harvest.pseudonyms import PseudonymKey, open_key
from dicom_node.harvest.reader_notes import ReaderNotes
from dicom_node.store import Erased, Erasure, is_store


@dataclass(frozen=True, kw_only=True)
class PatientErasure:
    """The erasure of one patient from one node; made by `erasing_patient`."""

    patient_id: str
    key: PseudonymKey
    notes: PrivateNotes
    reader_notes: ReaderNotes
    store: Erasure

    def preview(self) -> Erased:
        """Count what `run` would erase from the store."""
        return self.store.preview()

    def run(
        self, packs: Sequence[Path] = (), exports: Sequence[str] = (), *, refuse: bool = False
    ) -> tuple[Erased, int]:
        """Erase, between two images of a harvest that runs; may be killed and repeated.

        Parameters
        ----------
        packs : sequence of Path
            Folders that hold packs of the store.
        exports : sequence of str
            Where exports of packs are: folders, or ``s3://BUCKET/PREFIX``.
        refuse : bool
            Remember the patient, by a pseudonym, as not to be taken in again.

        Returns
        -------
        Erased
            What left the store.
        int
            How many private notes were erased.

        Raises
        ------
        TemporaryError
            When something could not be deleted yet; repeat it.
        """
        with self.store.alone():
            if refuse:
                self.notes.refuse(self.key.token("refused", self.patient_id))
            # the notes go first: the store's rows say which studies they are of
            uids = self._study_uids()
            of_uids = {self.key.token("study", uid) for uid in uids}
            notes = self.reader_notes.erase(of_uids | self.store.studies())
            notes += self.notes.erase(uids)
            return self.store.run(packs, exports), notes

    def _study_uids(self) -> frozenset[str]:
        """Return the studies that are noted as the patient's, or that the store knows as his."""
        studies = self.store.studies()
        known = self.notes.study_uids()
        of_store = {uid for uid in known if self.key.token("study", uid) in studies}
        return self.notes.study_uids(self.key.token("patient", self.patient_id)) | of_store


@contextmanager
def erasing_patient(patient_id: str, *, data: Path) -> Iterator[PatientErasure]:
    """Open what a node's harvest made of a patient, to erase it.

    Parameters
    ----------
    patient_id : str
        Patient ID (0010,0020); the Study Instance UID for a study without one.
    data : Path
        The folder ``node.data``.

    Raises
    ------
    ConfigError
        When there is no Patient ID, no store, or no key: a new one would find nobody.
    """
    if not is_store(data / STORE):
        raise ConfigError(f"{data / STORE}: no store yet, nobody is in it; see node.data")
    patient_id, key = _known(patient_id, data)
    with ExitStack() as stack:
        notes = stack.enter_context(closing(PrivateNotes(data / NOTES)))
        reader_notes = stack.enter_context(closing(ReaderNotes(data / NOTES)))
        yield PatientErasure(
            patient_id=patient_id,
            key=key,
            notes=notes,
            reader_notes=reader_notes,
            store=stack.enter_context(Erasure(data / STORE, key.token("patient", patient_id))),
        )


def accept_patient(patient_id: str, *, data: Path) -> bool:
    """Take a patient in again who was erased with the word not to, and say whether he was refused.

    Parameters
    ----------
    patient_id, data
        As in `erasing_patient`.

    Raises
    ------
    ConfigError
        When there is no Patient ID or no key.
    """
    patient_id, key = _known(patient_id, data)
    with closing(PrivateNotes(data / NOTES)) as notes:
        return notes.accept(key.token("refused", patient_id))


def _known(patient_id: str, data: Path) -> tuple[str, PseudonymKey]:
    """Return a Patient ID as the harvest reads it, and the key that is there."""
    patient_id = patient_id.strip(" \0")
    if not patient_id:
        raise ConfigError("the Patient ID is empty; name one with --patient-id")
    if not (data / KEY).is_file():
        raise ConfigError(f"{data / KEY}: no key, nobody can be found; restore it from the backup")
    return patient_id, open_key(data / KEY)
