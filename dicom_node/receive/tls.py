"""The TLS side of the Application Entity (PS3.15 B.12: BCP 195)."""

import ssl
from typing import Final

from dicom_node.config import TlsSettings
from dicom_node.errors import ConfigError

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


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
