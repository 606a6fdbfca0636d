"""The images through a real node by C-STORE, and what became of each set."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress

from dicom_node.demo.peers import send_files
from dicom_node.harvest.opening import KEY
from dicom_node.store import WeakLabelStore
from tests.results.studies import Sent
from tests.support.nodes import Node, node_on, until

STORED = "frames stored"
_AE_TITLES = ("RESULTS", "NODE")
_TELL_EVERY = 500
_STUDY_DEADLINE_S = 300.0

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
    studies = list(dict.fromkeys(one.study_instance_uid for one in sent))
    for number, study in enumerate(studies, start=1):
        until(partial(node.finished, study), deadline_s=_STUDY_DEADLINE_S, why=node.last_words)
        if number % 500 == 0 or number == len(studies):
            tell(f"harvested {number} of {len(studies)} studies")


def _counted(node: Node, sent: Sequence[Sent]) -> Counts:
    """Return what the node's log says of each set; a study belongs to one set."""
    set_of = {one.study_instance_uid: one.set_name for one in sent}
    images = Counter(one.set_name for one in sent)
    counts: Counts = {name: {"sent": count} for name, count in images.items()}
    # the last word on a study holds: a job that was done twice counts once
    last = {line["study_instance_uid"]: line["counts"] for line in _harvested(node.log)}
    for study, found in last.items():
        row = counts[set_of[study]]
        for what, count in found.items():
            row[what] = row.get(what, 0) + count
    return counts


def _harvested(log: str) -> Iterator[dict[str, Any]]:
    for line in log.splitlines():
        if '"event": "harvested"' in line:
            yield json.loads(line)


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
