"""What ``dicom-node check`` says of the archives that are pulled from, and the PACS that counts."""

from collections.abc import Sequence
from typing import Final

from pynetdicom.presentation import build_context

from dicom_node.cli.listening import Finding
from dicom_node.config import (
    AnyArchive,
    Config,
    CountAt,
    DicomwebArchive,
    DicomwebDestination,
    DimseArchive,
)
from dicom_node.deliver import ask
from dicom_node.errors import ConfigError
from dicom_node.pull.associating import associate_with
from dicom_node.requestor import associate

_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
#: Query/Retrieve of the study root (PS3.4 C), by SOP class.
_NAMES: Final = {_FIND: "C-FIND", _MOVE: "C-MOVE", _GET: "C-GET"}


def archives(config: Config) -> list[Finding]:
    """Ask every archive for what a harvest wants of it; nothing is pulled."""
    ours = config.node.ae_title
    found = [(f"archive {one.name}", *_ask(one, ours)) for one in config.archives]
    peers: dict[str, tuple[CountAt | None, str]] = {
        "study.count_at": (config.study.count_at, _FIND),
        "study.fetch_from": (config.study.fetch_from, _MOVE),
    }
    for name, (peer, wanted) in peers.items():
        if peer is not None:
            found.append((name, *_ask_peer(peer, [wanted], ours)))
    return found


def _ask(archive: AnyArchive, calling_ae_title: str) -> tuple[str, str]:
    if isinstance(archive, DicomwebArchive):
        fault = ask(_as_destination(archive), calling_ae_title=calling_ae_title)
        return fault, "" if fault else f"{archive.url} answers QIDO-RS"
    wanted = [_FIND, _MOVE if archive.retrieve == "move" else _GET]
    return _ask_peer(archive, wanted, calling_ae_title)


def _ask_peer(
    peer: DimseArchive | CountAt, wanted: Sequence[str], calling_ae_title: str
) -> tuple[str, str]:
    where = f"{peer.ae_title}@{peer.host}:{peer.port}"
    contexts = [build_context(uid) for uid in wanted]
    try:
        if isinstance(peer, DimseArchive):
            association = associate_with(peer, contexts, calling_ae_title=calling_ae_title)
        else:
            association = associate(peer, contexts, calling_ae_title=calling_ae_title)
    except ConfigError as exc:
        return str(exc), ""
    accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
    is_there = association.is_established or bool(association.rejected_contexts)
    if association.is_established:
        association.release()
    if not is_there:
        return _absent(where, calling_ae_title, is_rejected=association.is_rejected), ""
    missing = ", ".join(_NAMES[uid] for uid in wanted if uid not in accepted)
    if missing:
        return f"{where} does not accept {missing} (study root); enable it there", ""
    return "", f"{where} accepts {', '.join(_NAMES[uid] for uid in wanted)}"


def _absent(where: str, calling_ae_title: str, *, is_rejected: bool) -> str:
    if is_rejected:
        return f"{where} rejects the association; let it know the AE title {calling_ae_title}"
    return f"{where} gives no answer; is it up, are host and port right?"


def _as_destination(archive: DicomwebArchive) -> DicomwebDestination:
    shared = set(DicomwebDestination.model_fields) & set(DicomwebArchive.model_fields)
    return DicomwebDestination.model_validate({name: getattr(archive, name) for name in shared})
