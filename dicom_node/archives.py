"""The section ``archives`` of the configuration: from where ``dicom-node harvest`` pulls, and how.

What an archive may say depends on its ``kind``; without one it is ``dimse``.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag

from dicom_node.destinations import AETitle, DestinationTls, Port, Section, WebPeer, rooted


def _not_empty(window: str) -> str:
    begin, end = window.split("-")
    if begin == end:
        raise ValueError("it begins when it ends; null = at any time")
    return window


#: ``22:00-06:00``: from, inclusive, to, exclusive, in local time
WindowText = Annotated[
    str,
    StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"),
    AfterValidator(_not_empty),
]
PerMinute = Annotated[float, Field(gt=0)]


class PaceSettings(Section):
    """How much an archive is asked for, and when."""

    #: ``22:00-06:00``, local time: outside of it nothing is asked for; null = at any time
    window: WindowText | None = None
    #: on the average; null = as fast as they come
    studies_per_minute: PerMinute | None = None
    #: the same, of instances
    instances_per_minute: PerMinute | None = None


class _AnyArchive(PaceSettings):
    #: what `--from` calls it
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    #: an answer of so many studies may have been cut short: the question is asked anew, for hours
    #: in the place of a day, and for minutes in the place of an hour
    longest_answer: Annotated[int, Field(ge=1)] = 100
    #: longest silence
    timeout_s: Annotated[float, Field(gt=0)] = 60.0


class DimseArchive(_AnyArchive):
    """An archive that answers C-FIND, and gives by C-GET or C-MOVE (PS3.4 C)."""

    #: over which protocol
    kind: Literal["dimse"] = "dimse"
    #: whom to ask
    ae_title: AETitle
    #: name or address of its machine
    host: str
    #: where it listens
    port: Port
    #: get: over the association of the question; move: to this node's AE title, which it knows
    retrieve: Literal["get", "move"] = "get"
    #: null = in the clear
    tls: DestinationTls | None = None

    @property
    def fault(self) -> str:
        """What does not go together, "" when all does."""
        return "" if self.tls is None else self.tls.fault

    def rooted(self, folder: Path) -> Self:
        """Return the same with its files' paths below `folder`, where they are relative."""
        return self.model_copy(update={"tls": self.tls and rooted(self.tls, folder)})


class DicomwebArchive(_AnyArchive, WebPeer):
    """An archive that answers QIDO-RS and WADO-RS (PS3.18 10.4, 10.6)."""

    #: over which protocol
    kind: Literal["dicomweb"]


def _kind_of(value: Any) -> str:
    kind = value.get("kind", "dimse") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(kind)


AnyArchive: TypeAlias = Annotated[
    Annotated[DimseArchive, Tag("dimse")] | Annotated[DicomwebArchive, Tag("dicomweb")],
    Discriminator(_kind_of),
]
