"""The section ``page`` of the configuration: the page for people, and who may see what on it."""

from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from dicom_node.destinations import Port, Section


class Role(StrEnum):
    """What somebody may do on the page; each may do what those before it may."""

    #: look at studies, the queue and the node's health
    VIEWER = "viewer"
    #: map study descriptions
    LABELLER = "labeller"
    #: retry and drop deliveries
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether who has this role may do what the other one may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


class PageTls(Section):
    """PEM files of the page's own certificate, and its private key."""

    #: PEM file of the certificate, and of those above it
    certificate: Path = Field(strict=False)
    #: PEM file of its private key
    key: Path = Field(strict=False)


def _address(value: str) -> str:
    return str(ip_address(value))


class TrustedProxy(Section):
    """A server before the page that asks people who they are, and tells in a header."""

    #: in which the proxy names who asks
    header: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")] = "X-Remote-User"
    #: from where the header is believed; from any other address it is not looked at
    addresses: tuple[Annotated[str, AfterValidator(_address)], ...] = Field(strict=False)
    #: of a name that 'dicom-node page user' was not told of; null = it may not come in
    role: Role | None = Field(default=None, strict=False)


class PageSettings(Section):
    """Where the page is served, and to whom."""

    #: address on which it is served
    bind: str = "127.0.0.1"
    #: TCP port
    port: Port = 9180
    #: null = in the clear, for this machine or a proxy on it
    tls: PageTls | None = None
    #: a server before the page that says who somebody is; null = people log in by password
    trusted_proxy: TrustedProxy | None = None
    #: after so long somebody has to log in again
    session_hours: Annotated[float, Field(gt=0, le=168)] = 8.0
    #: from which role on the patient of a study may be looked at, which is written down; null =
    #: nobody may
    identity_for: Role | None = Field(default=Role.ADMIN, strict=False)

    def rooted(self, folder: Path) -> "PageSettings":
        """Return the same with its files' paths below `folder`, where they are relative."""
        if self.tls is None:
            return self
        files: dict[str, Any] = {
            "certificate": folder / self.tls.certificate,
            "key": folder / self.tls.key,
        }
        return self.model_copy(update={"tls": self.tls.model_copy(update=files)})
