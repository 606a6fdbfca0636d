"""What ``dicom-node check`` says of the page for monitoring and of the TLS files."""

import json
import socket
import urllib.error
import urllib.request
from datetime import UTC, datetime

from dicom_node.certificates import expiry
from dicom_node.config import Config
from dicom_node.errors import ConfigError

#: A certificate that ends sooner is worth a word.
SOON_DAYS = 30

#: (what was checked, fault or "", what was found)
Finding = tuple[str, str, str]


def web(config: Config) -> list[Finding]:
    """See whether the port of the page is free, or the page is there already."""
    if config.web is None:
        return [("web", "", "off: neither metrics nor health are served")]
    host, port = config.web.bind, config.web.port
    where = f"{host}:{port}"
    try:
        socket.create_server((host, port), family=_family(host)).close()
    except OSError as exc:
        if word := _word_of_node(host, port):
            return [("web", "", f"{where} is served: {word}")]
        fault = (
            f"{where} cannot be used ({exc.strerror}); choose a free port under web:, "
            "or end what listens there"
        )
        return [("web", fault, "")]
    return [("web", "", f"{where} is free")]


def tls(config: Config) -> list[Finding]:
    """See whether the TLS files can be read, belong together, and how long they are good."""
    settings = config.node.tls
    if settings is None:
        return [("tls", "", "off: DIMSE goes in the clear")]
    try:
        ends = expiry(settings)
    except ConfigError as exc:
        return [("tls", str(exc), "")]
    return [("tls", "", f"the certificate is {good_until(ends)}")]


def good_until(ends: datetime) -> str:
    """Return how long a certificate is good, with a warning when it is not long."""
    days = (ends - datetime.now(UTC)).days
    found = f"good for {days} days, until {ends:%Y-%m-%d}"
    return found if days >= SOON_DAYS else f"{found}; warning: order a new one now"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _word_of_node(host: str, port: int) -> str:
    """Return what a node that runs says of itself, "" when none is there."""
    address = f"[{host}]" if ":" in host else host
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/healthz", timeout=5) as answer:
            body = answer.read(1 << 16)
    except urllib.error.HTTPError as exc:
        with exc:
            body = exc.read(1 << 16)
    except OSError:
        return ""
    try:
        return "the node is healthy" if json.loads(body)["healthy"] else "the node is not healthy"
    except (ValueError, LookupError, TypeError):
        return ""
