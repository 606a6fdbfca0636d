"""Send a phantom study by C-STORE, and say in words why it was not taken."""

import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from dicom_node.certificates import own_context
from dicom_node.config import Caller, Config, Destination
from dicom_node.deliver.secure import tls_of
from dicom_node.errors import ConfigError, DestinationDownError
from dicom_node.requestor import associate

#: Calling AE title where node.callers lets any in.
OWN_TITLE: Final = "SEND_TEST"
_LOOPBACK: Final = "127.0.0.1"
_ANY: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, and not bound to
_SUCCESS: Final = 0x0000
_OVER_TLS: Final = (
    "Over TLS 'dicom-node check' says more. A node with node.tls.callers_ca is shown its own "
    "certificate: where that may not call (no clientAuth, another authority), try with --to a PACS "
    "that routes to the node"
)


def receiver_of(config: Config, to: str | None) -> tuple[Destination, str]:
    """Return whom to send to, and our AE title for that.

    Parameters
    ----------
    config : Config
        Of the node.
    to : str or None
        ``[AE@]HOST:PORT``, or the name of a destination; None for the node itself.

    Raises
    ------
    ConfigError
        When that is no address, or the node would not take anything from here.
    """
    node = config.node
    if to is None:
        host = _LOOPBACK if node.bind in _ANY else node.bind
        return _peer(node.ae_title, host, node.ports[0][0]), _title(node.callers, host)
    for one in config.destinations:
        if one.name == to and isinstance(one, Destination):
            return one, OWN_TITLE
    title, _, address = to.rpartition("@")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(
            f"--to: {to!r} is no address: write HOST:PORT, AE@HOST:PORT, or the name of a "
            "DIMSE destination"
        )
    return _peer(title or node.ae_title, host.strip("[]"), int(port)), OWN_TITLE


def tls_towards(config: Config, to: str | None) -> tuple[ssl.SSLContext, str] | None:
    """Return TLS for whom `receiver_of` names, None where it is asked in the clear.

    Raises
    ------
    ConfigError
        When a file cannot be used.
    """
    receiver, _ = receiver_of(config, to)
    tls = config.node.tls
    if to is None and tls is not None and tls.only:
        return own_context(tls), receiver.host
    return tls_of(receiver)


def send(
    files: Sequence[Path],
    to: Destination,
    calling_ae_title: str,
    tls: tuple[ssl.SSLContext, str] | None = None,
) -> None:
    """Send files over one association.

    Raises
    ------
    DestinationDownError
        When not all of them were taken.
    """
    datasets = [dcmread(file) for file in files]
    wanted = {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in datasets}
    contexts = [build_context(*context) for context in sorted(wanted)]
    association = associate(to, contexts, calling_ae_title=calling_ae_title, tls=tls)
    if not association.is_established:
        why = _why_not(to, calling_ae_title, association.is_rejected)
        raise DestinationDownError(why if tls is None else f"{why} {_OVER_TLS}")
    try:
        for number, status in enumerate(_statuses(association, datasets), start=1):
            if status != _SUCCESS:
                said = "no answer" if status is None else f"status 0x{status:04X}"
                raise DestinationDownError(
                    f"{to.address} took {number - 1} of {len(files)} images, then: {said}; its log "
                    "says why (docs/statuses.md for a node's)"
                )
    finally:
        if association.is_established:
            association.release()


def _statuses(association: Association, datasets: Sequence[Dataset]) -> Iterator[int | None]:
    for dataset in datasets:
        try:
            answer = association.send_c_store(dataset)
        except (RuntimeError, ValueError):  # it ended, or the class was not accepted
            yield None
            return
        yield int(answer.Status) if "Status" in answer else None


def _peer(ae_title: str, host: str, port: int) -> Destination:
    return Destination(name="node", ae_title=ae_title, host=host, port=port)


def _title(callers: Sequence[Caller], host: str) -> str:
    """Return an AE title that may send from this machine."""
    for caller in callers:
        if caller.host in ("*", host, "localhost"):
            return OWN_TITLE if caller.ae_title == "*" else caller.ae_title
    raise ConfigError(
        f"node.callers: nobody may send from this machine: add {{ae_title: {OWN_TITLE}, "
        f"host: {host}}}, or name with --to a PACS that routes to the node"
    )


def _why_not(to: Destination, calling_ae_title: str, is_rejected: bool) -> str:
    if is_rejected:
        return (
            f"{to.address} rejects the association of {calling_ae_title}: it must be known there "
            "(node.callers of a node), and the called AE title must be right"
        )
    return (
        f"{to.address} cannot be reached: does it run ('dicom-node serve'), and are host and port "
        "right?"
    )
