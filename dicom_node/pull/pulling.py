"""Pull the studies of an archive, study by study, until what it has is here.

What comes lies in the inbox, and the node that runs registers it as it registers anything. A study
counts when every instance that the archive names is registered; then it is noted, and not asked
for again. Killed at any moment, a pull that is begun anew asks for nothing that is here.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from dicom_node import log
from dicom_node.backoff import retry_delay_s
from dicom_node.errors import DestinationDownError, NotGivenError, TemporaryError
from dicom_node.inbox import Inbox, new_file_id
from dicom_node.index import Index
from dicom_node.pull.asked import Answer, Archive, FoundStudy, Image, Listing, Wanted
from dicom_node.pull.journal import Journal
from dicom_node.pull.pace import Pace
from dicom_node.pull.reconciled import Lack, Reconciled, Told
from dicom_node.pull.slices import Gathered, Slice, days, gather

#: What did not come is asked for once more.
ROUNDS: Final = 2
#: After so many failures without a success between them the archive counts as down.
MOST_FAILURES: Final = 6
#: What came is registered within this time, or not waited for: the node cannot take it then.
REGISTERED_S: Final = 60.0
_LOOK_S: Final = 0.1

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What a pull works with."""

    archive: Archive
    #: of the archive, as in the configuration
    name: str
    longest_answer: int
    index: Index
    inbox: Inbox
    journal: Journal
    pace: Pace
    #: whether the node runs that registers what comes
    is_served: Callable[[], bool]
    tell: Callable[[Told], None]


@dataclass(frozen=True, kw_only=True)
class _Pending:
    """A study that was asked for, and what of it the archive has."""

    study: FoundStudy
    listing: Listing
    #: sorts after the file ids of all that came of it
    mark: str
    #: why not all of it came, where that is so
    reason: str = "it did not come, or is in quarantine"


class Pull:
    """One run.

    Parameters
    ----------
    desk : Desk
    wanted : Wanted
        Which studies.
    """

    def __init__(self, desk: Desk, wanted: Wanted) -> None:
        self._desk, self._wanted = desk, wanted
        self._pending: deque[_Pending] = deque()
        self._lacks: dict[str, Lack] = {}
        #: by Study Instance UID, how many instances it has
        self._whole: dict[str, int] = {}
        self._before = self._total = self._asked_for = self._not_wanted = 0
        self._was_heard = False

    def run(self) -> Reconciled:
        """Find the studies, let them come, and hold what is here against what the archive has.

        Raises
        ------
        DestinationDownError
            When the archive stays down; what came counts, and the next run goes on from there.
        TemporaryError
            When the node has no room, or does not run any more.
        """
        self._await_registered(new_file_id())  # what a run that was killed has left
        gathered = self._find()
        todo = self._not_noted(gathered.studies.values())
        for _ in range(ROUNDS):
            todo = self._round(todo)
        return Reconciled(
            found=self._total,
            whole_before=self._before,
            whole=len(self._whole),
            instances=sum(self._whole.values()),
            asked_for=self._asked_for,
            not_wanted=self._not_wanted,
            lacks=tuple(self._lacks[study.study_instance_uid] for study in todo),
            cut=tuple(str(one) for one in gathered.cut),
        )

    def _find(self) -> Gathered:
        """Ask for each day, and keep what is wanted."""
        wanted, found = self._wanted, Gathered()
        spans = list(days(wanted.since, wanted.until))
        longest = self._desk.longest_answer
        for number, span in enumerate(spans):
            self._desk.tell(Told(step="days", done=number, total=len(spans)))
            found.add(self._patiently(partial(gather, self._ask, span, longest_answer=longest)))
        every = len(found.studies)
        found.studies = {uid: one for uid, one in found.studies.items() if wanted.takes(one)}
        self._not_wanted = every - len(found.studies)
        self._total = len(found.studies)
        return found

    def _ask(self, span: Slice) -> Answer:
        # a day that is asked for by the hour and the minute may outlast the window
        self._desk.pace.wait()
        return self._desk.archive.studies(span, self._wanted)

    def _patiently(self, function: Callable[[], _T]) -> _T:
        """Ask again after a while, once the archive has answered at all."""
        failures = 0
        while True:
            try:
                found = function()
            except DestinationDownError as exc:
                if not self._was_heard:
                    raise
                failures += 1
                self._leave_alone(failures, exc)
            else:
                self._was_heard = True
                return found

    def _not_noted(self, studies: Iterable[FoundStudy]) -> list[FoundStudy]:
        """Leave out what was noted as whole while the archive counted as many, and is here still.

        Here is what is registered: the index keeps the row of a file that the site's own rules took
        out of the inbox, so none of these is fetched again. An index that was lost and rebuilt has
        the files alone that there are.
        """
        noted = self._desk.journal.whole(self._desk.name)
        here = self._desk.index.instances_of(noted)
        todo = []
        for study in studies:
            counted, instances = noted.get(study.study_instance_uid, (None, 0))
            is_here = here.get(study.study_instance_uid, 0) >= instances
            if study.study_instance_uid in noted and counted == study.instances and is_here:
                self._whole[study.study_instance_uid] = instances
            else:
                todo.append(study)
        self._before = len(self._whole)
        return todo

    def _round(self, todo: Sequence[FoundStudy]) -> list[FoundStudy]:
        """Let studies come; return those of which not all is here."""
        self._lacks = {}
        failures = 0
        failed = self._desk.journal.failures(self._desk.name)
        # what failed before comes last, the least first: it keeps nothing else from coming
        order = sorted(todo, key=lambda study: failed.get(study.study_instance_uid, 0))
        for number, study in enumerate(order, 1):
            self._tell()
            self._desk.pace.wait()
            self._desk.inbox.check_room()
            down = self._try(study)
            failures = 0 if down is None else failures + 1
            if failures > MOST_FAILURES and study.study_instance_uid in failed:
                self._leave_out(order[number:])
                break
            if down is not None:
                self._leave_alone(failures, down)
            self._settle(wait=False)
        self._settle(wait=True)
        self._tell()
        return [study for study in todo if study.study_instance_uid in self._lacks]

    def _try(self, study: FoundStudy) -> DestinationDownError | None:
        """Ask for a study; return what speaks against the archive, not against this study alone."""
        try:
            self._ask_for(study)
        except NotGivenError as exc:
            self._desk.pace.spent(studies=1, instances=0)
            self._lack_all(study, str(exc))
        except DestinationDownError as exc:
            self._desk.journal.note_failure(self._desk.name, study)
            self._lack_all(study, str(exc))
            return exc
        return None

    def _leave_out(self, studies: Iterable[FoundStudy]) -> None:
        """Ask for no more of those that failed before; all others were asked for."""
        for study in studies:
            self._lack_all(
                study,
                f"not asked for: the archive failed {MOST_FAILURES + 1} times in a row, and at "
                "this study in an earlier run; give the same line again",
            )

    def _ask_for(self, study: FoundStudy) -> None:
        listing = self._desk.archive.images(study.study_instance_uid)
        self._was_heard = True
        if not self._wanted.takes_listed(study, listing.images):
            self._not_wanted += 1
            self._total -= 1
            return
        reason = _Pending.reason
        if self._missing(study, listing):
            lacking = self._lacking(listing)
            whole = len(lacking) == len(listing.images) or not listing.is_whole
            try:
                self._desk.archive.retrieve(study.study_instance_uid, lacking, whole=whole)
            except NotGivenError as exc:  # of some instances
                reason = str(exc)
            self._desk.pace.spent(studies=1, instances=len(lacking))
            self._asked_for += len(lacking)
        self._pending.append(
            _Pending(study=study, listing=listing, mark=new_file_id(), reason=reason)
        )

    def _settle(self, *, wait: bool) -> None:
        """Note what is here, of the studies of which all that came is registered."""
        while self._pending:
            first = self._pending[0]
            # in this order: what is registered in between is counted
            is_last = self._is_registered(first.mark)
            missing = self._missing(first.study, first.listing)
            if missing and not is_last:
                if not wait:
                    return
                self._await_registered(first.mark)
                missing = self._missing(first.study, first.listing)
            self._pending.popleft()
            instances = len(first.listing.images)
            if not (first.listing.is_whole and instances):  # then the archive's count decided
                instances = max(instances, first.study.instances or 0)
            if missing:
                self._lack(first.study, instances, missing, first.reason)
                continue
            self._desk.journal.note(self._desk.name, first.study, instances=instances)
            self._whole[first.study.study_instance_uid] = instances

    def _lack_all(self, study: FoundStudy, reason: str) -> None:
        self._lack(study, study.instances or 0, study.instances or 1, reason)

    def _lack(self, study: FoundStudy, instances: int, missing: int, reason: str) -> None:
        uid = study.study_instance_uid
        self._lacks[uid] = Lack(
            study_instance_uid=uid, instances=instances, missing=missing, reason=reason
        )
        log.get("pull").warning(
            "study lacks instances",
            study_instance_uid=uid,
            reason=reason,
            counts={"instances": instances, "missing": missing},
        )

    def _lacking(self, listing: Listing) -> list[Image]:
        uids = [image.sop_instance_uid for image in listing.images]
        here = self._desk.index.find_all(uids)
        return [image for image in listing.images if image.sop_instance_uid not in here]

    def _missing(self, study: FoundStudy, listing: Listing) -> int:
        """Return how many instances are not registered."""
        missing = len(self._lacking(listing))
        if listing.is_whole and listing.images:
            return missing
        row = self._desk.index.study(study.study_instance_uid)
        here = 0 if row is None else row.instances
        return max(missing, (study.instances or 1) - here)

    def _is_registered(self, mark: str) -> bool:
        waiting = self._desk.inbox.waiting(1)
        return not waiting or waiting[0] > mark

    def _await_registered(self, mark: str) -> None:
        """Wait until all files that came before a mark are registered, while some are."""
        first, since_s = "", time.monotonic()
        while not self._is_registered(mark):
            if not self._desk.is_served():
                raise TemporaryError(
                    "the node does not run any more, which registers what came: start it with "
                    "'dicom-node serve', then give the same line again"
                )
            waiting = self._desk.inbox.waiting(1)
            if waiting != [first]:
                first, since_s = "".join(waiting), time.monotonic()
            elif time.monotonic() - since_s > REGISTERED_S:
                return
            time.sleep(_LOOK_S)

    def _leave_alone(self, failures: int, exc: DestinationDownError) -> None:
        if failures > MOST_FAILURES or not self._was_heard:
            raise exc
        # jitter only spreads the questions, it guards nothing
        seconds = retry_delay_s(failures - 1, random.Random())  # noqa: S311
        log.get("pull").warning("left alone", reason=str(exc), seconds=round(seconds, 1))
        self._desk.pace.pause(
            seconds, f"the archive does not answer: asked again in {seconds:.0f} s"
        )

    def _tell(self) -> None:
        done = len(self._whole) + len(self._lacks)
        self._desk.tell(Told(step="studies", done=done, total=self._total))
