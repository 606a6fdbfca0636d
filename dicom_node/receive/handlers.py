"""Who may associate, for what, and what happens when an association ends."""

import ipaddress
import socket
from collections.abc import Sequence
from typing import cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AddressInformation

from dicom_node import log
from dicom_node.config import Caller, NodeSettings
from dicom_node.receive import statuses
from dicom_node.receive.contexts import contexts_for
from dicom_node.receive.dimse import StreamingDimse

ANY = "*"

#: A-ASSOCIATE-RJ (PS3.8 9.3.4): result, source, reason
CALLING_AE_TITLE_NOT_RECOGNISED = (0x01, 0x01, 0x03)
LOCAL_LIMIT_EXCEEDED = (0x02, 0x03, 0x02)


def handlers(settings: NodeSettings) -> list[evt.EventHandlerType]:
    """Return the event handlers of a receiver."""
    return [
        (evt.EVT_REQUESTED, _on_requested, [settings]),
        (evt.EVT_C_ECHO, _on_echo),
        (evt.EVT_C_STORE, _on_store_without_data_set),
        (evt.EVT_CONN_CLOSE, _on_end),
        (evt.EVT_ABORTED, _on_end),
    ]


def is_listed(callers: Sequence[Caller], ae_title: str, address: str) -> bool:
    """Tell whether an AE title may call from an address; nobody may when the list is empty."""
    return any(
        caller.ae_title in (ANY, ae_title.strip()) and _is_host(caller.host, address)
        for caller in callers
    )


def wake(assoc: Association) -> None:
    """End the wait for an A-ASSOCIATE request that will not come."""
    if not assoc.is_established:
        # what pynetdicom itself takes for the end of its time-out
        assoc.dul.to_user_queue.put(None)


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


def _on_requested(event: evt.Event, settings: NodeSettings) -> None:
    assoc = event.assoc
    request = cast(A_ASSOCIATE, assoc.requestor.primitive)
    ae_title, address = request.calling_ae_title, _address(assoc)
    if not is_listed(settings.callers, ae_title, address):
        _reject(assoc, CALLING_AE_TITLE_NOT_RECOGNISED, "caller is not in node.callers")
    elif _established(assoc) >= settings.max_associations:
        _reject(assoc, LOCAL_LIMIT_EXCEEDED, "node.max_associations is reached")
    else:
        assoc.acceptor.supported_contexts = contexts_for(
            request.presentation_context_definition_list
        )


def _reject(assoc: Association, result_source_reason: tuple[int, int, int], reason: str) -> None:
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


def _established(assoc: Association) -> int:
    return sum(other.is_established for other in assoc.ae.active_associations)


def _on_echo(event: evt.Event) -> int:
    return statuses.SUCCESS.code


def _on_store_without_data_set(event: evt.Event) -> int:
    # with a data set it never comes here: see StreamingDimse
    return statuses.CANNOT_UNDERSTAND.code


def _on_end(event: evt.Event) -> None:
    dimse = event.assoc.dimse
    if isinstance(dimse, StreamingDimse):
        dimse.discard()
    wake(event.assoc)
