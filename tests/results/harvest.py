"""The images through a real node by C-STORE, and what became of each set."""

import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import Progress

from dicom_node.demo.peers import send_files
from dicom_node.harvest.opening import KEY
from dicom_node.store import WeakLabelStore
from tests.results.studies import Sent
from tests.support.nodes import Node, node_on

STORED = "frames stored"
_ALREADY = "already stored"
_AE_TITLES = ("RESULTS", "NODE")
_TELL_EVERY = 500
_STALLED_S, _POLL_S = 300.0, 5.0

#: The images are public, so nobody is hidden behind the key: a known one puts every image into the
#: same split wherever this is run.
_PUBLIC_SECRET = hashlib.sha256(b"dicom-node: public images").hexdigest()

Counts = dict[str, dict[str, int]]


def harvest(
    folder: Path, port: int, sent: Sequence[Sent], tell: Callable[[str], None]
) -> tuple[Counts, list[str]]:
    """Start a node on `folder`, send, wait until all is harvested, and stop it.

    Returns
    -------
    counts : dict
        By set: how many images were sent, stored, and left out for which reason.
    faults : list of str
        What does not add up; empty when every image is accounted for.
    """
    _put_key(folder / "data")
    with node_on(folder, port) as node:
        node.start()
        faults = list(_send(sent, port, tell))
        _wait(node, sent, tell)
        node.stop()
        counts = _counted(node, sent)
    return counts, [*faults, *_differences(folder, counts)]


@contextmanager
def stored(folder: Path) -> Iterator[WeakLabelStore]:
    """Open the store of the node on `folder`."""
    with WeakLabelStore(folder / "data" / "store") as store:
        yield store


def _put_key(data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = data / KEY
    key.touch(mode=0o600)
    key.write_text(_PUBLIC_SECRET, "ascii")


def _send(sent: Sequence[Sent], port: int, tell: Callable[[str], None]) -> Iterator[str]:
    """Send all images as a modality does, and yield a fault where the node took fewer."""
    taken = 0
    with Progress(disable=True) as progress:
        for start in range(0, len(sent), _TELL_EVERY):
            files = [one.file for one in sent[start : start + _TELL_EVERY]]
            taken += send_files(files, port, ae_titles=_AE_TITLES, progress=progress, what="send")
            tell(f"sent {start + len(files)} of {len(sent)} images")
    if taken != len(sent):
        yield f"{len(sent)} images were sent and {taken} of them acknowledged"


def _wait(node: Node, sent: Sequence[Sent], tell: Callable[[str], None]) -> None:
    """Wait until every study was worked on, however long, as long as the node gets on."""
    waiting = list(dict.fromkeys(one.study_instance_uid for one in sent))
    total, told, moved_at = len(waiting), 0, time.monotonic()
    with node.index() as index:
        while waiting:
            left = [study for study in waiting if not index.is_finished(study)]
            if len(left) < len(waiting):
                waiting, moved_at = left, time.monotonic()
            elif time.monotonic() > moved_at + _STALLED_S:
                raise SystemExit(f"no study was harvested for {_STALLED_S:g} s: {node.last_words}")
            if (total - len(left)) // _TELL_EVERY > told or not left:
                told = (total - len(left)) // _TELL_EVERY
                tell(f"harvested {total - len(left)} of {total} studies")
            time.sleep(_POLL_S)


def _counted(node: Node, sent: Sequence[Sent]) -> Counts:
    """Return what the node's log says of each set; a study belongs to one set."""
    set_of = {one.study_instance_uid: one.set_name for one in sent}
    images = Counter(one.set_name for one in sent)
    counts: Counts = {name: {"sent": count} for name, count in images.items()}
    for study, found in became(node.log).items():
        row = counts[set_of[study]]
        for what, count in found.items():
            row[what] = row.get(what, 0) + count
    return counts


def became(log: str) -> dict[str, dict[str, int]]:
    """Return what a node's log says of each study's images, by study.

    A study that an image came late to is harvested again, and so is one whose job was done twice:
    what was stored the first time is there already the second time, and counts once.
    """
    studies: dict[str, dict[str, int]] = {}
    for line in log.splitlines():
        if '"event": "harvested"' not in line:
            continue
        told = json.loads(line)
        found = Counter(told["counts"])
        before = studies.get(told["study_instance_uid"], {}).get(STORED, 0)
        found[STORED] += before
        found[_ALREADY] -= before
        studies[told["study_instance_uid"]] = {n: c for n, c in found.items() if c or n == STORED}
    return studies


def _differences(folder: Path, counts: Counts) -> Iterator[str]:
    for name, row in counts.items():
        known = sum(count for what, count in row.items() if what != "sent")
        if known != row["sent"]:
            yield f"{name}: {row['sent']} images were sent and {known} are accounted for"
    with stored(folder) as store:
        frames = len(store.frames())
    said = sum(row.get(STORED, 0) for row in counts.values())
    if frames != said:
        yield f"the store holds {frames} frames where the log says {said}"


def reasons(counts: Counts) -> list[str]:
    """Return every reason for which an image was left out, in the order of the sets."""
    found = itertools.chain.from_iterable(counts.values())
    return [what for what in dict.fromkeys(found) if what not in {"sent", STORED}]
