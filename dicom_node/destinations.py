"""The section ``destinations`` of the configuration: where results go, and how."""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

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
    #: PEM files: what the node shows of itself, and its private key; null = it shows nothing
    certificate: Path | None = Field(default=None, strict=False)
    key: Path | None = Field(default=None, strict=False)
    minimum_version: MinimumVersion = "1.2"
    #: the name in the destination's certificate; null = `host`
    server_name: str | None = None
    #: false: any certificate of these authorities will do, whatever name it bears
    check_server_name: bool = True


class _AnyDestination(Section):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    send: tuple[Literal["seg", "sr"], ...] = Field(default=("seg", "sr"), strict=False)
    timeout_s: Annotated[float, Field(gt=0)] = 30.0


class Destination(_AnyDestination):
    """A PACS that takes C-STORE."""

    kind: Literal["dimse"] = "dimse"
    ae_title: AETitle
    host: str
    port: Port
    #: null = in the clear
    tls: DestinationTls | None = None

    def rooted(self, folder: Path) -> Self:
        """Return the same with its files' paths below `folder`, where they are relative."""
        return self.model_copy(update={"tls": self.tls and _rooted(self.tls, folder)})


_SectionT = TypeVar("_SectionT", bound=Section)


def _rooted(section: _SectionT, folder: Path) -> _SectionT:
    files = {name: folder / value for name, value in section if isinstance(value, Path)}
    return section.model_copy(update=files)
