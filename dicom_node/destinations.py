"""The section ``destinations`` of the configuration: where results go, and how.

What a destination may say depends on its ``kind``; without one it is ``dimse``.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

AETitle = Annotated[
    str,
    # PS3.5 6.2, VR AE: at most 16 characters of the default repertoire, no backslash
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]+$"
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]
MinimumVersion = Literal["1.2", "1.3"]


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no guessed types, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DestinationTls(Section):
    """TLS towards a destination (PS3.15 B.12, BCP 195)."""

    #: PEM file of the authorities that sign the destination's certificate; null = the system's
    ca: Path | None = Field(default=None, strict=False)
    #: PEM file of what the node shows of itself; null = it shows nothing
    certificate: Path | None = Field(default=None, strict=False)
    #: PEM file of the private key of `certificate`
    key: Path | None = Field(default=None, strict=False)
    #: the oldest TLS that is spoken
    minimum_version: MinimumVersion = "1.2"
    #: the name in the destination's certificate; null = `host`
    server_name: str | None = None
    #: false: any certificate of these authorities will do, whatever name it bears
    check_server_name: bool = True

    @property
    def fault(self) -> str:
        """What does not go together, "" when all does."""
        if (self.certificate is None) != (self.key is None):
            return "tls: certificate and key belong together; give both, or none"
        return ""


class WebPeer(Section):
    """A server that speaks DICOMweb (PS3.18), and as whom it is asked."""

    #: what ``/studies`` is added to
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")]
    #: file of one line: the bearer token
    token_file: Path | None = Field(default=None, strict=False)
    #: basic authentication: the name
    user: str | None = None
    #: ... and a file of one line: its password
    password_file: Path | None = Field(default=None, strict=False)
    #: PEM file of the authorities that sign the server's certificate; null = those of the library
    ca: Path | None = Field(default=None, strict=False)

    @property
    def address(self) -> str:
        """Where it is."""
        return self.url

    @property
    def fault(self) -> str:
        """What does not go together, "" when all does."""
        if (self.user is None) != (self.password_file is None):
            return "user and password_file belong together; give both, or none"
        if self.token_file is not None and self.user is not None:
            return "token_file and user exclude each other; keep one"
        return ""

    def rooted(self, folder: Path) -> Self:
        """Return the same with its files' paths below `folder`, where they are relative."""
        return rooted(self, folder)


class _AnyDestination(Section):
    #: what logs, metrics and `queue` call it
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    #: segmentations, reports, presentation states, captures with outlines burnt in
    send: tuple[Literal["seg", "sr", "pr", "sc"], ...] = Field(default=("seg", "sr"), strict=False)
    #: what goes in the place of a kind that it does not accept, the first that it does; empty: none
    fallback: tuple[Literal["pr", "sc"], ...] = Field(default=("pr", "sc"), strict=False)
    #: geometry and encoding of segmentations
    segmentation: Literal["hybrid", "nominal", "labelmap"] = "hybrid"
    #: SOP class of reports
    report: Literal["comprehensive_3d", "comprehensive", "enhanced"] = "comprehensive_3d"
    #: longest silence
    timeout_s: Annotated[float, Field(gt=0)] = 30.0


class Destination(_AnyDestination):
    """A PACS that takes C-STORE."""

    #: over which protocol
    kind: Literal["dimse"] = "dimse"
    #: whom to send to
    ae_title: AETitle
    #: name or address of its machine
    host: str
    #: where it listens
    port: Port
    #: null = in the clear
    tls: DestinationTls | None = None
    #: whether a result is delivered only when it has committed to keep it (PS3.4 J)
    commitment: bool = False
    #: ... and how long its report is waited for before it is asked again
    commitment_wait_s: Annotated[float, Field(gt=0)] = 3600.0

    @property
    def address(self) -> str:
        """Whom an association is asked of; what it accepts is known of this address alone."""
        return f"{self.ae_title}@{self.host}:{self.port}"

    @property
    def fault(self) -> str:
        """What does not go together, "" when all does."""
        return "" if self.tls is None else self.tls.fault

    def rooted(self, folder: Path) -> Self:
        """Return the same with its files' paths below `folder`, where they are relative."""
        return self.model_copy(update={"tls": self.tls and rooted(self.tls, folder)})


class DicomwebDestination(_AnyDestination, WebPeer):
    """A server that takes STOW-RS (PS3.18 10.5)."""

    #: over which protocol
    kind: Literal["dicomweb"]


KINDS: Final = ("dimse", "dicomweb")


def _kind_of(value: Any) -> str:
    kind = value.get("kind", "dimse") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(kind)


AnyDestination: TypeAlias = Annotated[
    Annotated[Destination, Tag("dimse")] | Annotated[DicomwebDestination, Tag("dicomweb")],
    Discriminator(_kind_of),
]


_SectionT = TypeVar("_SectionT", bound=Section)


def rooted(section: _SectionT, folder: Path) -> _SectionT:
    """Return a section with its files' paths below `folder`, where they are relative."""
    files = {name: folder / value for name, value in section if isinstance(value, Path)}
    return section.model_copy(update=files)
