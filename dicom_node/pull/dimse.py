"""An archive that speaks DIMSE: C-FIND, then C-GET or C-MOVE (PS3.4 C.4)."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom.presentation import build_context

from dicom_node.config import DimseArchive
from dicom_node.pull.asked import Answer, Image, Keep, Listing, Span, Wanted
from dicom_node.pull.associating import associate_with
from dicom_node.pull.find import Finder, image_query
from dicom_node.pull.get import get
from dicom_node.pull.move import STUDY_ROOT_MOVE, move

#: UIDs in one question: the value of an attribute is at most 65,534 bytes long (PS3.5 7.1.2).
_UIDS: Final = 500


class DimsePuller:
    """Asks an archive, and lets it give.

    Parameters
    ----------
    at : DimseArchive
    calling_ae_title : str
        Our own AE title, and the move destination.
    keep : callable
        Keeps what comes by C-GET; what comes by C-MOVE is received like anything else.
    """

    def __init__(self, at: DimseArchive, *, calling_ae_title: str, keep: Keep) -> None:
        self._at, self._calling_ae_title, self._keep = at, calling_ae_title, keep
        self._finder = Finder(at, calling_ae_title=calling_ae_title)

    def studies(self, span: Span, wanted: Wanted) -> Answer:
        """Return the studies of a piece of time, those of the keys that it knows."""
        return self._finder.studies(span, wanted)

    def images(self, study_instance_uid: str) -> Listing:
        """Return the instances of a study."""
        return self._finder.images(study_instance_uid)

    def retrieve(self, study_instance_uid: str, images: Sequence[Image], *, whole: bool) -> None:
        """Let instances of a study come; `whole` says that they are all that it has."""
        self._finder.close()  # an archive may give each peer one association only
        for query in _queries(study_instance_uid, images, whole=whole):
            if self._at.retrieve == "move":
                self._move(query)
            else:
                classes = {image.sop_class_uid for image in images}
                get(
                    query,
                    self._at,
                    classes=classes,
                    calling_ae_title=self._calling_ae_title,
                    keep=self._keep,
                )

    def close(self) -> None:
        """Release the association."""
        self._finder.close()

    def _move(self, query: Dataset) -> None:
        ours = self._calling_ae_title
        contexts = [build_context(STUDY_ROOT_MOVE)]
        assoc = associate_with(self._at, contexts, calling_ae_title=ours)
        key = f"archives: {self._at.name}"
        move(assoc, query, self._at, to_ae_title=ours, key=key)


def _queries(study_uid: str, images: Sequence[Image], *, whole: bool) -> Iterator[Dataset]:
    if whole:
        yield image_query(study_uid)
        return

    def series_of(image: Image) -> str:
        return image.series_instance_uid

    for series_uid, group in groupby(sorted(images, key=series_of), key=series_of):
        uids = [image.sop_instance_uid for image in group]
        for start in range(0, len(uids), _UIDS):
            yield image_query(study_uid, series_uid, uids[start : start + _UIDS])
