"""Who may associate, for what, and who serves what is no C-STORE."""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AddressInformation

from dicom_node import log, metrics
from dicom_node.config import Caller, NodeSettings
from dicom_node.errors import TemporaryError
from dicom_node.inbox import Inbox
from dicom_node.notices import open_notices
from dicom_node.receive import statuses
from dicom_node.receive.contexts import contexts_for, has_storage
from dicom_node.receive.notices import notice_handlers

ANY = "*"

#: A-ASSOCIATE-RJ (PS3.8 9.3.4): result, source, reason
CALLING_AE_TITLE_NOT_RECOGNISED = (0x01, 0x01, 0x03)
TEMPORARY_CONGESTION = (0x02, 0x03, 0x01)
LOCAL_LIMIT_EXCEEDED = (0x02, 0x03, 0x02)


def handlers(
    settings: NodeSettings, inbox: Inbox, established: Callable[[], int]
) -> list[evt.EventHandlerType]:
    """Return the event handlers of a receiver.

    Parameters
    ----------
    settings : NodeSettings
    inbox : Inbox
        While it has no room, nobody may associate for storage.
    established : callable
        Returns how many associations stand.
    """
    return [
        (evt.EVT_REQUESTED, _on_requested, [settings, inbox, established]),
        (evt.EVT_C_ECHO, _on_echo),
        *notice_handlers(settings, open_notices(inbox)),
    ]


def is_listed(callers: Sequence[Caller], ae_title: str, address: str) -> bool:
    """Tell whether an AE title may call from an address; nobody may when the list is empty."""
    return any(
        caller.ae_title in (ANY, ae_title.strip()) and _is_host(caller.host, address)
        for caller in callers
    )


def _is_host(host: str, address: str) -> bool:
    if host == ANY:
        return True
    try:
        return _plain(host) == _plain(address)
    except ValueError:
        pass  # a name; it may mean another address than yesterday
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return _plain(address) in {_plain(str(entry[4][0])) for entry in found}


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def _on_requested(
    event: evt.Event, settings: NodeSettings, inbox: Inbox, established: Callable[[], int]
) -> None:
    assoc = event.assoc
    request = cast(A_ASSOCIATE, assoc.requestor.primitive)
    if not is_listed(settings.callers, request.calling_ae_title, _address(assoc)):
        reason = "caller is not in node.callers"
        _reject(assoc, CALLING_AE_TITLE_NOT_RECOGNISED, reason, kind="caller")
        return
    if established() >= settings.max_associations:
        reason = "node.max_associations is reached"
        _reject(assoc, LOCAL_LIMIT_EXCEEDED, reason, kind="limit")
        return
    contexts = contexts_for(request.presentation_context_definition_list)
    if has_storage(contexts) and (reason := _lack_of_room(inbox)):
        _reject(assoc, TEMPORARY_CONGESTION, reason, kind="no_room")
    else:
        assoc.acceptor.supported_contexts = contexts


def _lack_of_room(inbox: Inbox) -> str:
    try:
        inbox.check_room()
    except TemporaryError as exc:
        return str(exc)
    return ""


def _reject(
    assoc: Association, result_source_reason: tuple[int, int, int], reason: str, *, kind: str
) -> None:
    metrics.count(metrics.REJECTED, kind)
    log.get("receive").warning(
        "association_rejected",
        ae_title=cast(A_ASSOCIATE, assoc.requestor.primitive).calling_ae_title,
        host=_address(assoc),
        reason=reason,
    )
    assoc.acse.send_reject(*result_source_reason)
    assoc.kill()  # returns when the rejection was sent


def _address(assoc: Association) -> str:
    return cast(AddressInformation, assoc.requestor.address_info).address


def _on_echo(event: evt.Event) -> int:
    return statuses.SUCCESS.code
