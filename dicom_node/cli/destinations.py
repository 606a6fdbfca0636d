"""What ``dicom-node check`` says of the destinations."""

from dicom_node.certificates import client_expiry
from dicom_node.cli.listening import Finding, good_until
from dicom_node.config import Config, Destination
from dicom_node.deliver import echo, shake_hands
from dicom_node.destinations import DestinationTls
from dicom_node.errors import ConfigError


def destinations(config: Config) -> list[Finding]:
    """Ask every destination whether it is there."""
    return [
        (f"destination {one.name}", *_ask(one, config.node.ae_title)) for one in config.destinations
    ]


def _ask(destination: Destination, calling_ae_title: str) -> tuple[str, str]:
    if fault := echo(destination, calling_ae_title=calling_ae_title):
        return fault, ""
    where = f"{destination.ae_title}@{destination.host}:{destination.port}"
    found = f"{where} answers C-ECHO"
    if destination.tls is None:
        return "", found
    fault, over_tls = _look_at_tls(destination, destination.tls)
    return fault, "" if fault else found + over_tls


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
