"""What ``dicom-node check`` says of the destinations."""

from dicom_node.certificates import client_expiry
from dicom_node.cli import clocks
from dicom_node.cli.accepting import probed
from dicom_node.cli.listening import Finding, good_until
from dicom_node.config import (
    AnyDestination,
    Config,
    Destination,
    DicomwebDestination,
    NodeSettings,
)
from dicom_node.deliver import ask, lacks_commitment, shake_hands
from dicom_node.destinations import DestinationTls
from dicom_node.errors import ConfigError


def destinations(config: Config) -> list[Finding]:
    """Ask every destination whether it is there."""
    return [(f"destination {one.name}", *_ask(one, config.node)) for one in config.destinations]


def _ask(destination: AnyDestination, node: NodeSettings) -> tuple[str, str]:
    calling_ae_title = node.ae_title
    if fault := ask(destination, calling_ae_title=calling_ae_title):
        return fault, ""
    if isinstance(destination, DicomwebDestination):
        found = f"{destination.url} answers QIDO-RS{_openly(destination)}"
        return "", found + clocks.doubt_of(destination)
    found = f"{destination.address} answers C-ECHO"
    if destination.tls is not None:
        fault, over_tls = _look_at_tls(destination, destination.tls)
        if fault:
            return fault, ""
        found += over_tls
    fault, accepts = probed(destination, calling_ae_title)
    if destination.commitment:
        fault = fault or _commitment_fault(destination, node)
        accepts += "; commits to keep what it stores"
    return fault, "" if fault else f"{found}; {accepts}"


def _commitment_fault(destination: Destination, node: NodeSettings) -> str:
    if fault := lacks_commitment(destination, calling_ae_title=node.ae_title):
        return fault
    if any(caller.ae_title in (destination.ae_title, "*") for caller in node.callers):
        return ""
    return (
        f"its storage commitment reports are turned away: list {destination.ae_title} under "
        "node.callers"
    )


def _openly(destination: DicomwebDestination) -> str:
    has_secret = destination.token_file is not None or destination.user is not None
    if destination.url.startswith("https:") or not has_secret:
        return ""
    return "; warning: token and password travel in the clear, use https"


def _look_at_tls(destination: Destination, tls: DestinationTls) -> tuple[str, str]:
    try:
        ours = client_expiry(tls)
    except ConfigError as exc:
        return str(exc), ""
    fault, theirs = shake_hands(destination)
    found = " over TLS"
    if theirs is not None:
        found += f"; its certificate is {good_until(theirs)}"
    if ours is not None:
        found += f"; the one that the node shows is {good_until(ours)}"
    return fault, found
