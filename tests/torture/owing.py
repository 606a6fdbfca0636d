"""What the outbox owes while the node is killed: small studies, always some of them waiting."""

import hashlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dicom_node.outbox import DeliveryState, Outbox
from tests.support.owed import SEG, SR, result
from tests.support.receiving import data_set
from tests.torture.moody import MoodyPacs

_MOST_WAITING: Final = 24
_LARGEST_STUDY: Final = 4
#: the class that the PACS takes no context for; the objects that it cannot understand
_REJECTED_SHARE, _REFUSED_SHARE = 0.08, 0.08


@dataclass(frozen=True, kw_only=True)
class Owed:
    """One object, and what must become of it."""

    sha256: str
    is_deliverable: bool


class Owing:
    """Puts studies into the outbox of a node, and lets the PACS change its mood.

    Parameters
    ----------
    outbox : Outbox
    results : Path
        Folder of the objects.
    pacs : MoodyPacs
    seed : int
    """

    def __init__(self, outbox: Outbox, results: Path, pacs: MoodyPacs, seed: int) -> None:
        self.objects: dict[str, Owed] = {}
        self.studies = 0
        self._outbox, self._results, self._pacs = outbox, results, pacs
        self._rng, self._seed = random.Random(f"owing {seed}"), seed

    def feed(self) -> None:
        """Let something be owed at all times."""
        self._pacs.turn()
        while self._outbox.counts()[DeliveryState.WAITING] < _MOST_WAITING:
            self._owe_study()

    def _owe_study(self) -> None:
        self.studies += 1
        study = f"1.2.{self._seed}.{self.studies}"
        results = []
        for number in range(1, self._rng.randint(1, _LARGEST_STUDY) + 1):
            uid = f"{study}.{number}"
            drawn = self._rng.random()
            is_rejected = drawn < _REJECTED_SHARE
            is_refused = not is_rejected and drawn < _REJECTED_SHARE + _REFUSED_SHARE
            sop_class, kind = (SR, "sr") if is_rejected else (SEG, "seg")
            made = result(self._results, uid, sop_class, kind, study=study)
            if is_refused:
                self._pacs.refused.add(uid)
            self.objects[uid] = Owed(
                sha256=hashlib.sha256(data_set(made.path)).hexdigest(),
                is_deliverable=not (is_rejected or is_refused),
            )
            results.append(made)
        owed = [(one, self._pacs.destination.name) for one in results]
        self._outbox.add(results, owed, analysed=study, models="m", now=datetime.now(UTC))
