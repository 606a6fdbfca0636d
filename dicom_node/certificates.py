"""The certificates of the TLS side (PS3.15 B.12: BCP 195), and until when the node's is good.

The standard library reads a certificate's dates only of a peer that it verified. So the node calls
itself, in memory: a handshake with its own certificate as the only authority.
"""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from dicom_node import log
from dicom_node.config import TlsSettings
from dicom_node.errors import ConfigError

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
#: X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL
_DATES: Final = {9: "is not valid yet", 10: "has expired"}
#: What tells one state of a file from the next: inode, size, time of change; None = not there.
_Stamp: TypeAlias = tuple[int, int, int] | None


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return the context of a listener that speaks TLS.

    Raises
    ------
    ConfigError
        When a file cannot be read, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.minimum_version]
    _load_own(context, settings)
    if settings.callers_ca is not None:
        _load_callers(context, settings)
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
    try:
        return _end(server, _callers_side(settings))
    except ssl.SSLCertVerificationError as exc:
        what = _DATES.get(exc.verify_code, f"will not do: {exc.verify_message}")
        raise ConfigError(
            f"node.tls.certificate: {settings.certificate} {what}; put a new one in its place"
        ) from None


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _load_own(context: ssl.SSLContext, settings: TlsSettings) -> None:
    try:
        # a key with a passphrase must not wait for somebody at a terminal
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: b"")
    except OSError as exc:  # ssl.SSLError is one
        raise ConfigError(
            f"node.tls: {settings.certificate} and {settings.key} cannot be used ({_why(exc)}); "
            "give PEM files that this user can read, a key without passphrase, and its certificate"
        ) from None


def _load_callers(context: ssl.SSLContext, settings: TlsSettings) -> None:
    try:
        context.load_verify_locations(settings.callers_ca)
    except OSError as exc:
        raise ConfigError(
            f"node.tls.callers_ca: {settings.callers_ca} cannot be used ({_why(exc)}); "
            "give a PEM file of the authorities that sign the callers' certificates"
        ) from None


def _why(exc: OSError) -> str:
    return (exc.reason if isinstance(exc, ssl.SSLError) else exc.strerror) or type(exc).__name__


def _callers_side(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(settings.certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _end(server: ssl.SSLContext, client: ssl.SSLContext) -> datetime:
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
    certificate = theirs.getpeercert() or {}
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
