"""STOW-RS user agent: the objects of one study in a few requests (PS3.18 10.5).

What the server says is heard from its answer itself: the library raises on many of them, and reads
no body of a type with parameters.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset, dcmread

from dicom_node.deliver.outcome import LOST_FILE, Answer, Outcome, Verdict, outcome, outcomes
from dicom_node.deliver.stow_answers import Said, said_of, silence
from dicom_node.deliver.web_session import open_session
from dicom_node.destinations import DicomwebDestination
from dicom_node.errors import ConfigError
from dicom_node.header import BROKEN_BYTES
from dicom_node.records import Result

#: A request takes objects up to so many bytes, or one object.
REQUEST_BYTES: Final = 16 << 20
#: Larger than any request: as a whole it goes with its length, which every proxy takes.
_CHUNK_BYTES: Final = 1 << 40


def send(results: Sequence[Result], destination: DicomwebDestination) -> Iterator[Outcome]:
    """Send objects and yield one outcome each, in order.

    Parameters
    ----------
    results : sequence of Result
        Objects of one study.
    destination : DicomwebDestination
        Where to.
    """
    left = list(batches(results))
    try:
        with _connected(destination) as server:
            while left:
                found = list(server.store(left.pop(0)))
                yield from found
                if found[-1].is_down:
                    answer = Answer(
                        verdict=found[-1].verdict, reason=found[-1].reason, is_down=True
                    )
                    yield from outcomes(list(chain(*left)), answer)
                    return
    except ConfigError as exc:
        answer = Answer(verdict=Verdict.TEMPORARY, reason=str(exc), is_down=True)
        yield from outcomes(list(chain(*left)), answer)


def ask(destination: DicomwebDestination) -> str:
    """Ask a destination whether it is there (QIDO-RS, PS3.18 10.6), for one study at most.

    Returns
    -------
    str
        "" when it answered, else what is wrong and what to do.
    """
    try:
        with _connected(destination) as server:
            return server.call(lambda client: client.search_for_studies(limit=1)).answer.reason
    except ConfigError as exc:
        return str(exc)


def batches(results: Sequence[Result]) -> Iterator[list[Result]]:
    """Put objects together for requests of at most `REQUEST_BYTES`."""
    batch: list[Result] = []
    size = 0
    for result in results:
        more = result.path.stat().st_size if result.path.is_file() else 0
        if batch and size + more > REQUEST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(result)
        size += more
    if batch:
        yield batch


class _Server:
    """A DICOMweb server that is asked over one session."""

    def __init__(self, destination: DicomwebDestination, session: requests.Session) -> None:
        self._heard: list[requests.Response] = []
        session.hooks["response"].append(lambda response, *_, **__: self._heard.append(response))
        self._client = DICOMwebClient(
            destination.url.rstrip("/"),
            session=session,
            headers={"Accept": "application/dicom+json"},
            chunk_size=_CHUNK_BYTES,
            timeout=destination.timeout_s,
        )
        self._client.set_http_retry_params(retry=False)  # the outbox tries again

    def store(self, batch: Sequence[Result]) -> Iterator[Outcome]:
        """Send objects in one request, or each in its own where that is refused."""
        datasets = {result.sop_instance_uid: _read(result.path) for result in batch}
        whole = [dataset for dataset in datasets.values() if dataset is not None]
        said = self.call(lambda client: client.store_instances(whole)) if whole else None
        if said is not None and len(batch) > 1 and said.is_about_one:
            del datasets, whole
            for result in batch:
                yield from self.store([result])
            return
        for result in batch:
            is_lost = said is None or datasets[result.sop_instance_uid] is None
            answer = _LOST if is_lost or said is None else said.of(result.sop_instance_uid)
            yield outcome(result, answer)

    def call(self, function: Callable[[DICOMwebClient], Any]) -> Said:
        """Make a request; return what was answered, or why nothing was."""
        self._heard.clear()
        try:
            function(self._client)
        except (requests.ConnectionError, requests.Timeout) as exc:
            return Said(answer=silence(exc))
        except (SyntaxError, *BROKEN_BYTES):
            if not self._heard:  # it could not even be written
                return Said(answer=_LOST, http_status=400)
        return said_of(self._heard[-1])


_LOST: Final = Answer(verdict=Verdict.PERMANENT, reason=LOST_FILE)


@contextmanager
def _connected(destination: DicomwebDestination) -> Iterator[_Server]:
    with open_session(destination) as session:
        yield _Server(destination, session)


def _read(path: Path) -> Dataset | None:
    try:
        return dcmread(path)
    except BROKEN_BYTES:
        return None
