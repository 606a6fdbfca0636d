"""The certificates of the TLS sides (PS3.15 B.12: BCP 195), and until when the node's are good.

The standard library reads a certificate's dates only of a peer that it verified. So the node calls
itself, in memory: a handshake with its own certificate as the only authority.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from dicom_node import log
from dicom_node.config import TlsSettings
from dicom_node.destinations import DestinationTls
from dicom_node.errors import ConfigError

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
#: X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL
_DATES: Final = {9: "is not valid yet", 10: "has expired"}
#: What tells one state of a file from the next: inode, size, time of change; None = not there.
_Stamp: TypeAlias = tuple[int, int, int] | None


def server_context(settings: TlsSettings, *, where: str = "node.tls") -> ssl.SSLContext:
    """Return the context of a listener that speaks TLS; errors name the section `where`.

    Raises
    ------
    ConfigError
        When a file cannot be read, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.minimum_version]
    _load_own(context, settings.certificate, settings.key, where)
    if settings.callers_ca is not None:
        _load_authorities(
            context, settings.callers_ca, "node.tls.callers_ca", "the callers' certificates"
        )
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class ServerContext:
    """The context of a listener, made anew when one of its files was replaced.

    Parameters
    ----------
    settings : TlsSettings

    Raises
    ------
    ConfigError
        As `server_context` does.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._seen = self._stamps()
        self._context = server_context(settings)

    def current(self) -> ssl.SSLContext:
        """Return the context for a connection that begins; for one thread.

        While the files cannot be used, as between the new certificate and its key, it is the last
        one that could.
        """
        # before the files are read: what changes meanwhile is seen the next time
        found = self._stamps()
        if found != self._seen:
            self._seen = found
            try:
                self._context = server_context(self._settings)
            except ConfigError as exc:
                log.get("receive").warning("certificate_not_taken", reason=str(exc))
            else:
                log.get("receive").info("certificate_taken")
        return self._context

    def _stamps(self) -> list[_Stamp]:
        files = (self._settings.certificate, self._settings.key, self._settings.callers_ca)
        return [_stamp(path) for path in files if path is not None]


def client_context(settings: DestinationTls) -> ssl.SSLContext:
    """Return the context of a connection to a destination.

    Raises
    ------
    ConfigError
        When a file cannot be read, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[settings.minimum_version]
    context.check_hostname = settings.check_server_name
    if settings.ca is None:
        context.load_default_certs()
    else:
        _load_authorities(context, settings.ca, "tls.ca", "the destination's certificate")
    if settings.certificate is not None and settings.key is not None:
        _load_own(context, settings.certificate, settings.key, "tls")
    return context


def own_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return the context of the node as a caller of itself: it trusts, and shows, its own files.

    Raises
    ------
    ConfigError
        When a file cannot be read, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[settings.minimum_version]
    context.check_hostname = False  # the name that callers know is not loopback's
    _load_own(context, settings.certificate, settings.key, "node.tls")
    _trust(context, settings.certificate)
    return context


def client_expiry(settings: DestinationTls) -> datetime | None:
    """Return when the certificate ends that the node shows to a destination, None without one.

    Raises
    ------
    ConfigError
        As `expiry` does.
    """
    if settings.certificate is None or settings.key is None:
        return None
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    _load_own(client, settings.certificate, settings.key, "tls")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(settings.certificate, settings.key, password=lambda: b"")
    server.verify_mode = ssl.CERT_REQUIRED
    _trust(server, settings.certificate)
    with _saying_what_is_wrong("tls.certificate", settings.certificate):
        ours, _ = _shake_hands(server, client)
        return end_of(ours.getpeercert())


def expiry(settings: TlsSettings) -> datetime:
    """Return when the certificate ends.

    Raises
    ------
    ConfigError
        When it ended, or did not begin, or cannot serve; or when a file cannot be read, or key
        and certificate do not belong together.
    """
    server = server_context(settings)
    server.verify_mode = ssl.CERT_NONE  # the node has no certificate of a caller
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    _trust(client, settings.certificate)
    with _saying_what_is_wrong("node.tls.certificate", settings.certificate):
        _, theirs = _shake_hands(server, client)
        return end_of(theirs.getpeercert())


def end_of(certificate: Any) -> datetime:
    """Return when a certificate ends that ``getpeercert`` returned."""
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path, where: str) -> None:
    try:
        # a key with a passphrase must not wait for somebody at a terminal
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except OSError as exc:  # ssl.SSLError is one
        raise ConfigError(
            f"{where}: {certificate} and {key} cannot be used ({why(exc)}); "
            "give PEM files that this user can read, a key without passphrase, and its certificate"
        ) from None


def _load_authorities(context: ssl.SSLContext, ca: Path, where: str, whose: str) -> None:
    try:
        context.load_verify_locations(ca)
    except OSError as exc:
        raise ConfigError(
            f"{where}: {ca} cannot be used ({why(exc)}); "
            f"give a PEM file of the authorities that sign {whose}"
        ) from None


def why(exc: OSError) -> str:
    """Return the few words that OpenSSL or the system has for a failure."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return str(exc.verify_message)
    return (exc.reason if isinstance(exc, ssl.SSLError) else exc.strerror) or type(exc).__name__


@contextmanager
def _saying_what_is_wrong(where: str, certificate: Path) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as exc:
        what = _DATES.get(exc.verify_code, f"will not do: {exc.verify_message}")
        raise ConfigError(f"{where}: {certificate} {what}; put a new one in its place") from None


def _trust(context: ssl.SSLContext, certificate: Path) -> None:
    """Let a certificate be its own authority."""
    context.load_verify_locations(certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server)
    waiting = [theirs, ours]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
    return ours, theirs
