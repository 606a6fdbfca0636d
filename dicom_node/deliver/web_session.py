"""Sessions with HTTP servers: whom they are shown, and whom they trust."""

import ssl
from pathlib import Path

import requests
from requests.auth import HTTPBasicAuth

from dicom_node.certificates import why
from dicom_node.destinations import WebPeer
from dicom_node.errors import ConfigError


def open_session(peer: WebPeer) -> requests.Session:
    """Open a session; what stands in the environment or in ~/.netrc counts for nothing.

    Raises
    ------
    ConfigError
        When a file of the peer cannot be used.
    """
    credentials = _Credentials(peer)
    verify = True if peer.ca is None else _authorities(peer.ca)
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0  # a redirected POST becomes a GET, which stores nothing
    session.auth, session.verify = credentials, verify
    return session


class _Credentials:
    """Shows the token or the password, as the files hold them now."""

    def __init__(self, peer: WebPeer) -> None:
        self._token, self._basic = "", None
        if peer.token_file is not None:
            self._token = _secret(peer.token_file, "token_file")
        elif peer.user is not None and peer.password_file is not None:
            password = _secret(peer.password_file, "password_file")
            self._basic = HTTPBasicAuth(peer.user.encode(), password.encode())

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # the library's Host lacks the port
        request.headers.pop("Host", None)
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request if self._basic is None else self._basic(request)


def _secret(path: Path, key: str) -> str:
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        words = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise ConfigError(
            f"{key}: {path} cannot be read ({words}); give a file that this user can read"
        ) from None
    if not secret or not secret.isprintable():
        raise ConfigError(f"{key}: {path} must hold one line, and nothing else")
    return secret


def _authorities(ca: Path) -> str:
    try:
        ssl.create_default_context(cafile=ca)
    except OSError as exc:
        raise ConfigError(
            f"ca: {ca} cannot be used ({why(exc)}); "
            "give a PEM file of the authorities that sign the destination's certificate"
        ) from None
    return str(ca)
