"""What is known of one study, step by step; ``--json`` prints it as it is."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from dicom_node.books.opened import Books, opened
from dicom_node.books.where import facts_of, found, place_of
from dicom_node.config import Config
from dicom_node.errors import DatabaseDownError, PermanentError
from dicom_node.inbox import sender_of
from dicom_node.node.layout import Layout
from dicom_node.outbox import UNSETTLED, AnswerRow, DeliveryRow, Outbox, Said
from dicom_node.records import Instance
from dicom_node.sop_classes import ULTRASOUND_IMAGES

#: Of the harvest's counts: frames whose pixels the store has, by this harvest or an earlier one.
HELD: Final = ("frames stored", "already stored", "duplicate")
#: So many studies are named where a part of a UID fits several.
SHOWN: Final = 5


def collect(config: Config, part: str) -> dict[str, Any]:
    """Return what is known of the study whose UID holds `part`.

    Raises
    ------
    PermanentError
        When there is none, or more than one.
    """
    with opened(config) as books:
        return tell(books, _the_one(found(books.index, part, SHOWN + 1), part))


def tell(books: Books, uid: str) -> dict[str, Any]:
    """Return what is known of a study; raises PermanentError where there is none."""
    config, index, outbox = books.config, books.index, books.outbox
    now, study = datetime.now(UTC), index.study(uid)
    if study is None:
        raise PermanentError(f"study {uid} went while it was looked at; ask again")
    facts = facts_of(study, config, outbox=outbox, jobs=books.jobs, now=now)
    place = place_of(facts)
    instances = index.instances(uid)
    images = [i for i in instances if i.sop_class_uid in ULTRASOUND_IMAGES]
    return {
        "study": {
            "study_instance_uid": uid,
            "state": study.state.value,
            "revision": study.revision,
            "worked_on_to_revision": study.finished,
            "asked_at": _at(now),
        },
        "where": {"word": place.word, "sentence": place.sentence},
        "received": _received(instances, images),
        "completions": [
            {
                "revision": completion.revision,
                "at": _at(completion.completed_at),
                "reason": completion.reason,
                "evidence": completion.evidence,
            }
            for completion in index.completions(uid)
        ],
        "harvested": {
            **_harvested(outbox, uid, images, is_on=config.harvest.enabled),
            "labels": _labels(Layout(config.node.data), uid),
        },
        "inferred": _inferred(outbox, uid, images, has_models=config.bundles is not None),
        "validated": _validated(outbox, uid),
        "delivered": [_delivery(row) for row in facts.deliveries],
        "shadow": [
            {"kind": kept.kind.value, "version": kept.version, "file": kept.path.name}
            for kept in outbox.shadow_results(uid)
        ],
    }


def _the_one(uids: Sequence[str], part: str) -> str:
    if not uids:
        raise PermanentError(
            f"no study {part!r} is registered: it never came, or its files are not readable; "
            "'dicom-node status' shows the latest studies and the quarantine, the log has "
            "associations and objects that were refused"
        )
    if len(uids) > 1:
        shown = "".join(f"\n  {uid}" for uid in uids[:SHOWN])
        more = "\n  and others" if len(uids) > SHOWN else ""
        raise PermanentError(f"{part!r} stands in several studies; give more of one:{shown}{more}")
    return uids[0]


def _received(instances: Sequence[Instance], images: Sequence[Instance]) -> dict[str, Any]:
    senders = Counter(_sender(instance) for instance in instances)
    return {
        "instances": len(instances),
        "images": len(images),
        "series": len({instance.series_instance_uid for instance in instances}),
        "bytes": sum(instance.size_bytes for instance in instances),
        # an index that was rebuilt from the inbox has them in the order of their arrival too
        "first_at": _at(instances[0].received_at) if instances else None,
        "last_at": _at(instances[-1].received_at) if instances else None,
        "from": dict(senders.most_common()),
    }


def _sender(instance: Instance) -> str:
    try:
        title = sender_of(instance.path)
    except OSError:
        return "(no file)"
    return "".join(c if c.isprintable() else "?" for c in title) or "(not written down)"


def _harvested(
    outbox: Outbox, uid: str, images: Sequence[Instance], *, is_on: bool
) -> dict[str, Any]:
    rows = outbox.trail.harvested(uid)
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.counts)
    return {
        "enabled": is_on,
        "images": len(rows),
        "of": len(images),
        "last_at": _at(rows[-1].harvested_at) if rows else None,
        "frames_in_store": sum(total[name] for name in HELD),
        "left_out": {name: n for name, n in sorted(total.items()) if n and name not in HELD},
    }


def _labels(layout: Layout, uid: str) -> list[dict[str, Any]]:
    """Return what the scanner taught of the images that the store has; never its own words."""
    if not layout.store.is_dir():
        return []
    # loads numpy and pydicom, which no other step needs
    from dicom_node.harvest import open_key  # noqa: PLC0415
    from dicom_node.harvest.opening import KEY  # noqa: PLC0415
    from dicom_node.store import is_store, open_store  # noqa: PLC0415

    if not (layout.data / KEY).exists() or not is_store(layout.store):
        return []
    token = open_key(layout.data / KEY).token("study", uid)
    try:
        with open_store(layout.store) as store:
            found = store.labels_of_study(token)
    except DatabaseDownError:  # what was made of a study is told without its catalogue, too
        return []
    return [
        {
            "probe": one.probe,
            "geometry": one.geometry.value,
            "groups": sorted(one.groups),
            "images": one.images,
        }
        for one in found
    ]


def _inferred(
    outbox: Outbox, uid: str, images: Sequence[Instance], *, has_models: bool
) -> dict[str, Any]:
    answers = outbox.trail.answers(uid)
    answered = {row.source_sop_instance_uid for row in answers}
    passed = {image for row in outbox.trail.passed(uid) for image in row.images}
    by_model: dict[tuple[str, str, str], list[AnswerRow]] = {}
    for row in answers:
        by_model.setdefault((row.name, row.version, row.digest), []).append(row)
    return {
        "has_models": has_models,
        "images": len(answered),
        # those of a former version of the program, which noted no answers
        "images_without_answers": len(passed - answered),
        "of": len(images),
        "last_at": _at(answers[-1].answered_at) if answers else None,
        "models": [_model(model, rows) for model, rows in sorted(by_model.items())],
    }


def _model(model: tuple[str, str, str], rows: Sequence[AnswerRow]) -> dict[str, Any]:
    name, version, digest = model
    counts = Counter(row.said for row in rows)
    return {
        "name": name,
        "version": version,
        "digest": digest,
        "first_at": _at(rows[0].answered_at),
        "last_at": _at(rows[-1].answered_at),
        "said": {said.value: counts[said] for said in Said if counts[said]},
        "failures": [
            {"sop_instance_uid": row.source_sop_instance_uid, "reason": row.reason}
            for row in rows
            if row.said is Said.FAILED
        ],
    }


def _validated(outbox: Outbox, uid: str) -> dict[str, Any]:
    passed = outbox.trail.passed(uid)
    return {
        "passed": [
            {
                "kind": row.kind.value,
                "version": row.version,
                "at": _at(row.created_at),
                "sop_instance_uid": row.sop_instance_uid,
                "image_sop_instance_uids": list(row.images),
            }
            for row in passed
        ],
        "rejected": [
            {
                "image_sop_instance_uid": row.source_sop_instance_uid,
                "at": _at(row.rejected_at),
                "reason": row.reason,
            }
            for row in outbox.trail.rejections(uid)
        ],
    }


def _delivery(row: DeliveryRow) -> dict[str, Any]:
    return {
        "kind": row.kind.value,
        "version": row.version,
        "destination": row.destination,
        "state": row.state.value,
        "status": None if row.status is None else f"0x{row.status:04X}",
        "attempts": row.attempts,
        "next_try_at": _at(row.due_at) if row.state in UNSETTLED else None,
        "reason": row.reason,
        "changed_at": _at(row.changed_at),
        "sop_instance_uid": row.sop_instance_uid,
        "supersedes": row.supersedes or "",
    }


def _at(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
