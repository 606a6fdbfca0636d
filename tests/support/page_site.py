"""A node that ran: phantoms with results that were delivered, and some that were given up."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from dicom_node.books.opened import Books, open_books
from dicom_node.config import Config
from dicom_node.node.layout import Layout, open_inbox
from dicom_node.outbox import DeliveryState
from dicom_node.phantom.study import PhantomInstance, StudySpec, ViewSpec, write_study
from dicom_node.records import Edition, Result
from dicom_node.register import register_waiting
from dicom_node.results import write_results
from tests.support.analyses import INSTALLATION, analysis_of
from tests.support.page import node_in
from tests.support.stills import write_each

DESTINATIONS: Final = """
destinations:
  - {name: pacs, ae_title: PACS, host: 127.0.0.1, port: 1}
"""
REFUSED: Final = "the Data Set does not match its SOP Class"


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a node ran."""

    config: Config
    #: its results are at the PACS
    delivered: str
    #: the PACS refused them
    refused: str
    #: of `delivered`: a still, then a cine
    images: tuple[PhantomInstance, ...]


def site_in(folder: Path, *others: Path, page: str = "{}") -> Site:
    """Let a node receive two phantom studies, and other files, and answer the phantoms."""
    config = node_in(folder, page, DESTINATIONS)
    good = _phantoms(folder / "sent", 1, ViewSpec(quality=4), ViewSpec(quality=3, frames=4))
    bad = _phantoms(folder / "sent", 2, ViewSpec(quality=2))
    inbox = open_inbox(config)
    for path in (*(one.path for one in (*good, *bad)), *others):
        part = inbox.create()
        part.write(path.read_bytes())
        part.commit()
    with closing(open_books(config)) as books:
        register_waiting(inbox, books.index, now=datetime.now(UTC))
        for row in books.index.studies(100):
            now = row.last_received_at + timedelta(seconds=30)
            books.index.complete(
                row.study_instance_uid, reason="nothing came for 30 s", evidence={}, now=now
            )
            books.index.finish(row.study_instance_uid, 1)
        for image in (*good, *bad):
            results = _answered(books, image)
            _settle(books, results, refused=image in bad)
    return Site(
        config=config,
        delivered=good[0].study_instance_uid,
        refused=bad[0].study_instance_uid,
        images=good,
    )


def say_in_shadow(site: Site, image: PhantomInstance) -> None:
    """Let a later version of both models speak of an image of `site.delivered`, for nobody."""
    with closing(open_books(site.config)) as books:
        instance = books.index.find(image.sop_instance_uid)
        assert instance is not None
        analysis = replace(analysis_of(image.path), instance=instance)
        [quality], [segmentation] = analysis.qualities, analysis.segmentations
        newer = [
            replace(one.algorithm, version="2", digest=digit * 64)
            for one, digit in ((quality, "2"), (segmentation, "3"))
        ]
        scores = tuple(replace(one, score=(one.score or 0) + 1) for one in quality.scores)
        analysis = replace(
            analysis,
            qualities=(replace(quality, scores=scores, algorithm=newer[0]),),
            segmentations=(replace(segmentation, algorithm=newer[1]),),
        )
        folder = Layout(books.config.node.data).results
        written = write_results(
            analysis, folder, installation=INSTALLATION, edition=Edition(is_shadow=True)
        )
        books.outbox.add_shadow(
            written, analysed=image.sop_instance_uid, models="later", now=datetime.now(UTC)
        )


def dead(config: Config) -> int:
    """Return how many deliveries were given up."""
    with closing(open_books(config)) as books:
        return books.outbox.counts()[DeliveryState.DEAD]


def _phantoms(folder: Path, patient: int, *views: ViewSpec) -> tuple[PhantomInstance, ...]:
    return write_study(folder / str(patient), StudySpec(seed=3, patient=patient, views=views))


def _answered(books: Books, image: PhantomInstance) -> Sequence[Result]:
    """Say of an image what is true of it."""
    analysis = analysis_of(image.path)
    [said] = analysis.segmentations
    truth = replace(said, label_map=image.label_maps)
    instance = books.index.find(image.sop_instance_uid)
    assert instance is not None
    analysis = replace(analysis, instance=instance, segmentations=(truth,))
    now = instance.received_at + timedelta(seconds=40)
    books.outbox.trail.note(analysis, rejected="", now=now)
    folder = Layout(books.config.node.data).results
    results = write_each(analysis, folder)
    owed = [(replace(one, merging=None), "pacs") for one in results]
    books.outbox.add(results, owed, analysed=image.sop_instance_uid, models="truth", now=now)
    return results


def _settle(books: Books, results: Sequence[Result], *, refused: bool) -> None:
    for result in results:
        uid, now = result.sop_instance_uid, datetime.now(UTC)
        if refused:
            books.outbox.bury(uid, "pacs", status=0xA900, reason=REFUSED, now=now)
        else:
            books.outbox.delivered(uid, "pacs", status=0, now=now)
