"""What ``dicom-node check`` says of the page for people."""

import socket

from dicom_node.certificates import expiry
from dicom_node.cli.listening import Finding, good_until
from dicom_node.config import Config, TlsSettings
from dicom_node.errors import ConfigError
from dicom_node.node.layout import Layout
from dicom_node.page.login import FIRST_USER
from dicom_node.page.people import opened
from dicom_node.page_settings import PageSettings


def page(config: Config) -> list[Finding]:
    """See whether the page's port is free, its certificate good, and who may log in."""
    if config.page is None:
        return [("page", "", "off: 'page: {}' in the configuration switches it on")]
    return [_port(config.page), *_certificate(config.page), _people(config, config.page)]


def _port(settings: PageSettings) -> Finding:
    where = f"{settings.bind}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    try:
        socket.create_server((settings.bind, settings.port), family=family).close()
    except OSError as exc:
        if _answers(settings):
            return "page", "", f"{where} is served, by this node or by something else"
        return "page", f"{where} cannot be used ({exc.strerror}); choose another page.port", ""
    return "page", "", f"{where} is free"


def _answers(settings: PageSettings) -> bool:
    try:
        socket.create_connection((settings.bind, settings.port), timeout=2).close()
    except OSError:
        return False
    return True


def _certificate(settings: PageSettings) -> list[Finding]:
    if settings.tls is None:
        return []
    files = TlsSettings(certificate=settings.tls.certificate, key=settings.tls.key)
    try:
        ends = expiry(files)
    except ConfigError as exc:
        return [("page.tls", str(exc).replace("node.tls", "page.tls"), "")]
    return [("page.tls", "", good_until(ends))]


def _people(config: Config, settings: PageSettings) -> Finding:
    count = 0
    if Layout(config.node.data).page.exists():
        with opened(config) as users:
            count = len(users.all())
    if not count and settings.trusted_proxy is None:
        return "page users", f"nobody can log in; make the first user: {FIRST_USER}", ""
    by_proxy = ", and whom the trusted proxy names" if settings.trusted_proxy else ""
    return "page users", "", f"{count}{by_proxy}"
