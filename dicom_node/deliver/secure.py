"""TLS towards a destination, and what is wrong where it does not come to be."""

import socket
import ssl
from datetime import datetime

from dicom_node.certificates import client_context, end_of, why
from dicom_node.destinations import Destination
from dicom_node.errors import ConfigError

NO_CONNECTION = "no connection; check host, port and that the destination runs"


def tls_of(destination: Destination) -> tuple[ssl.SSLContext, str] | None:
    """Return what `associate` needs for TLS, None for a destination that is asked in the clear.

    Raises
    ------
    ConfigError
        When a file of ``tls:`` cannot be used.
    """
    if destination.tls is None:
        return None
    return client_context(destination.tls), destination.tls.server_name or destination.host


def shake_hands(destination: Destination) -> tuple[str, datetime | None]:
    """Connect to a destination and hang up again.

    Returns
    -------
    tuple of str and datetime or None
        What is wrong and what to do, "" when TLS came to be; until when the destination's
        certificate is good.
    """
    address = destination.host, destination.port
    try:
        tls = tls_of(destination)
        with socket.create_connection(address, timeout=destination.timeout_s) as connection:
            if tls is None:
                return "", None
            context, name = tls
            with context.wrap_socket(connection, server_hostname=name) as secured:
                return "", end_of(secured.getpeercert())
    except ConfigError as exc:
        return str(exc), None
    except OSError as exc:  # ssl.SSLError is one
        return _fault(exc), None


def _fault(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        words = f"the destination's certificate will not do ({why(exc)})"
        return f"{words}; correct tls.ca or tls.server_name, or renew it there"
    if isinstance(exc, ssl.SSLError):
        return f"no TLS ({why(exc)}); check the port, and tls.minimum_version"
    return NO_CONNECTION
