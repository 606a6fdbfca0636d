"""The tables of the DICOM Conformance Statement, made of those that the node runs on.

``python -m tests.support.conformance`` writes docs/conformance.md anew: what stands between
``<!-- table NAME -->`` and ``<!-- end -->`` comes from here, all else is written by hand.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.uid import UID, UID_dictionary
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node import archives, codes, config
from dicom_node.deliver import dimse
from dicom_node.deliver.asking_commitment import REFUSALS
from dicom_node.deliver.committed import FAILURE_REASONS
from dicom_node.deliver.outcome import STATUSES as ANSWERS
from dicom_node.deliver.stow_answers import HTTP_STATUSES
from dicom_node.receive import handlers, request
from dicom_node.receive.contexts import (
    AVAILABILITY,
    COMMITMENT,
    PROCEDURE_STEP,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    contexts_for,
    is_storage,
)
from dicom_node.receive.notice_statuses import NOTICE_STATUSES
from dicom_node.receive.reader import MAXIMUM_PDU_BYTES
from dicom_node.receive.statuses import STATUSES
from dicom_node.records import CodedConcept
from dicom_node.sop_classes import RESULTS, ULTRASOUND_IMAGES

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PAGE: Final = REPOSITORY / "docs" / "conformance.md"
_BLOCK: Final = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
#: Query/Retrieve is asked for only: the node answers none (PS3.4 C).
_QUERY_RETRIEVE: Final = re.compile(r'"(1\.2\.840\.10008\.5\.1\.4\.1\.2\.[0-9.]+)"')
_SOURCE: Final = REPOSITORY / "dicom_node"


def table(head: str, rows: Iterable[Iterable[object]]) -> str:
    """Return a table; `head` names its columns, divided by bars."""
    columns = head.split("|")
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(str(cell).strip() for cell in line)} |\n" for line in lines)


def name_of(uid: str) -> str:
    """Return what PS3.6 calls a UID, without what follows a colon."""
    known = {**RESULTS, **ULTRASOUND_IMAGES}
    name = known.get(uid) or UID(uid).name.partition(":")[0]
    is_retired = UID(uid).is_valid and uid in UID_dictionary and UID_dictionary[uid][3] == "Retired"
    return f"{name} (Retired)" if is_retired and "(Retired)" not in name else name


def queried() -> list[str]:
    """Return the classes of Query/Retrieve that stand in the code."""
    text = "".join(path.read_text("utf-8") for path in sorted(_SOURCE.rglob("*.py")))
    return sorted({*_QUERY_RETRIEVE.findall(text)})


def network_services() -> str:
    """Every SOP class but Storage, and those of Storage that are sent."""
    both = {VERIFICATION: ("yes", "yes"), COMMITMENT: ("yes", "yes")}
    told = dict.fromkeys((PROCEDURE_STEP, AVAILABILITY), ("no", "yes"))
    asked = dict.fromkeys(queried(), ("yes", "no"))
    sent = dict.fromkeys(RESULTS, ("yes", "yes"))
    rows: list[tuple[str, str, str, str]] = [
        (name_of(uid), uid, *roles) for uid, roles in (both | told | asked | sent).items()
    ]
    others = len([uid for uid in storage_classes() if uid not in RESULTS])
    rows.append((f"{others} other Storage classes, see 8.4", "", "no", "yes"))
    return table("SOP class|UID|SCU|SCP", rows)


def storage_classes() -> list[str]:
    """Return the classes of the standard that are taken in."""
    known = {uid for uid, about in UID_dictionary.items() if about[1] == "SOP Class"}
    # what the node makes is older in the standard than in the library
    return sorted(uid for uid in known | {*RESULTS} if is_storage(uid))


def all_storage() -> str:
    """Every class of Storage that is taken in."""
    return table("SOP class|UID", ((name_of(uid), uid) for uid in storage_classes()))


def ultrasound() -> str:
    """The classes whose pixels the models see."""
    return table("SOP class|UID", ((name, uid) for uid, name in ULTRASOUND_IMAGES.items()))


def transfer_syntaxes() -> str:
    """What instances may come in."""
    rows = ((n, name_of(uid), uid) for n, uid in enumerate(TRANSFER_SYNTAXES, 1))
    return table("order|transfer syntax|UID", rows)


def accepted_contexts() -> str:
    """What is accepted, but for Storage, of a peer that proposes everything."""
    uids = (VERIFICATION, COMMITMENT, PROCEDURE_STEP, AVAILABILITY)
    proposed = [build_context(uid) for uid in uids]
    found = contexts_for(proposed)
    return _contexts(sorted(found, key=lambda one: uids.index(str(one.abstract_syntax))))


def proposed_contexts() -> str:
    """What is proposed to destinations."""
    return _contexts(dimse.contexts_for([*RESULTS, VERIFICATION, COMMITMENT]))


def _contexts(contexts: Iterable[PresentationContext]) -> str:
    def syntaxes(context: PresentationContext) -> str:
        return ", ".join(name_of(str(uid)) for uid in context.transfer_syntax)

    rows = ((name_of(str(one.abstract_syntax)), syntaxes(one)) for one in contexts)
    return table("abstract syntax|transfer syntaxes, in this order", rows)


def identity() -> str:
    """What the node calls itself."""
    rows = (
        (
            "Implementation Class UID, of associations and of files as received",
            PYNETDICOM_IMPLEMENTATION_UID,
        ),
        ("Implementation Version Name, of associations", PYNETDICOM_IMPLEMENTATION_VERSION),
        ("Implementation Version Name, of files as received", "DICOM_NODE and the version"),
        (
            "both, of results sent by STOW-RS",
            "those of the library that wrote them: highdicom, pydicom",
        ),
        ("Application Context Name", "1.2.840.10008.3.1.1.1"),
    )
    return table("what|value", rows)


def limits() -> str:
    """How much a receiver takes."""
    fields = config.NodeSettings.model_fields
    rows = [
        ("Maximum Length Received", f"{MAXIMUM_PDU_BYTES} bytes"),
        ("presentation contexts of a request", request.MOST_CONTEXTS),
        ("transfer syntaxes of a request, all contexts together", request.MOST_TRANSFER_SYNTAXES),
        ("outstanding asynchronous transactions", 1),
    ]
    configurable = ("processes", "max_associations", "max_connections_per_host")
    rows += [(f"`node.{key}`", f"{fields[key].default}, configurable") for key in configurable]
    return table("limit|value", rows)


def rejections() -> str:
    """A-ASSOCIATE-RJ, with the words of PS3.8."""
    when = {
        "CALLING_AE_TITLE_NOT_RECOGNISED": "AE title and host are not in `node.callers`",
        "TEMPORARY_CONGESTION": "storage is proposed and the inbox has no room",
        "LOCAL_LIMIT_EXCEEDED": "`node.max_associations` of a receiver stand",
    }
    rows = []
    for name, cause in when.items():
        said = A_ASSOCIATE_RJ()
        said.result, said.source, said.reason_diagnostic = getattr(handlers, name)
        rows.append((said.result_str, said.source_str, said.reason_str, cause))
    return table("result|source|reason|when", rows)


def statuses() -> str:
    """What C-STORE is answered with."""
    return table(
        "status|Error Comment (0000,0902)|clause",
        ((f"0x{s.code:04X}", s.comment or "Success", s.clause) for s in STATUSES),
    )


def notice_statuses() -> str:
    """What the other requests are refused with."""
    return table(
        "status|Error Comment (0000,0902)|clause",
        ((f"0x{s.code:04X}", s.comment, s.clause) for s in NOTICE_STATUSES),
    )


def answers() -> str:
    """What the node makes of an answer to its C-STORE."""
    rows = (
        (_span(low, high, "0x{:04X}".format), verdict, reason or "stored")
        for low, high, verdict, reason in ANSWERS
    )
    return table("status|means|reason", rows)


def commitment_answers() -> str:
    """What the node makes of an answer to its N-ACTION, and of Failure Reasons."""
    rows = [("N-ACTION", f"0x{code:04X}", "asked again", why) for code, why in REFUSALS.items()]
    rows += [
        ("Failure Reason", f"0x{code:04X}", state.value, why)
        for code, (state, why) in FAILURE_REASONS.items()
    ]
    return table("where|code|the object is then|words", rows)


def http_answers() -> str:
    """What the node makes of an answer to STOW-RS."""
    rows = (
        (_span(low, high, str), verdict, reason or "stored", clause)
        for low, high, verdict, reason, clause in HTTP_STATUSES
    )
    return table("HTTP|means|reason|PS3.18", rows)


def _span(low: int, high: int, shown: Callable[[int], str]) -> str:
    return shown(low) if low == high else f"{shown(low)} to {shown(high)}"


#: Sections whose keys say with whom and how the network is spoken to.
_SECTIONS: Final[Mapping[str, type[BaseModel]]] = {
    "node": config.NodeSettings,
    "node.callers": config.Caller,
    "node.tls": config.TlsSettings,
    "study": config.StudySettings,
    "study.count_at": config.CountAt,
    "destinations (dimse)": config.Destination,
    "destinations (dicomweb)": config.DicomwebDestination,
    "destinations.tls": config.DestinationTls,
    "archives (dimse)": archives.DimseArchive,
    "archives (dicomweb)": archives.DicomwebArchive,
}


def parameters() -> str:
    """The configuration of the network, with what its code says of each key."""
    rows = []
    for section, model in _SECTIONS.items():
        about = comments(model)
        for name, field in model.model_fields.items():
            default = "none" if field.is_required() else shown(field.default)
            rows.append((f"`{section}`", f"`{name}`", default, about.get(name, "")))
    return table("section|key|default|meaning", rows)


def shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    # 1.0 is no truth
    return (
        str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
    )


def comments(model: type[BaseModel]) -> dict[str, str]:
    """Return the ``#:`` comment above each field of a model and of those that it is built on."""
    found = {}
    for one in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        comments = re.findall(
            r"((?:^    #: .*\n)+)    (\w+):", inspect.getsource(one), re.MULTILINE
        )
        for lines, name in comments:
            words = " ".join(line.strip().removeprefix("#: ") for line in lines.splitlines())
            found[name] = words.replace("``", "`").replace("|", "\\|")
    return found


def written_codes() -> str:
    """Every code that the node's own objects hold, but those of models."""
    found = [value for value in vars(codes).values() if isinstance(value, CodedConcept)]
    return table("value|scheme|meaning", ((one.value, one.scheme, one.meaning) for one in found))


def attributes_read() -> str:
    """Attributes of received instances that the node reads, by what for."""
    uses = {
        "the index": ("register.py", "header.py"),
        "pixels: where, how large, in what colours": ("pixels",),
        "weak labels (only in the de-identified store as probe, groups and geometry)": ("harvest",),
        "results, as 8.1 says": ("results/source.py", "results/presentation.py"),
    }
    rows = ((use, ", ".join(sorted(_keywords(places)))) for use, places in uses.items())
    return table("for|attributes", rows)


def _keywords(places: Iterable[str]) -> Iterator[str]:
    paths = [path for place in places for path in _files(_SOURCE / place)]
    text = "".join(path.read_text("utf-8") for path in paths)
    for word in {*re.findall(r'"([A-Z][A-Za-z]+)"', text)}:
        tag = tag_for_keyword(word)
        if tag is not None and dictionary_has_tag(tag) and dictionary_VR(tag) != "NONE":
            yield word


def _files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "network-services": network_services,
    "ultrasound": ultrasound,
    "transfer-syntaxes": transfer_syntaxes,
    "accepted-contexts": accepted_contexts,
    "proposed-contexts": proposed_contexts,
    "identity": identity,
    "limits": limits,
    "rejections": rejections,
    "statuses": statuses,
    "notice-statuses": notice_statuses,
    "answers": answers,
    "commitment-answers": commitment_answers,
    "http-answers": http_answers,
    "parameters": parameters,
    "codes": written_codes,
    "attributes-read": attributes_read,
    "storage-classes": all_storage,
}


def page(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Return the statement with these tables made anew."""

    def made(block: re.Match[str]) -> str:
        begin, name, end = block.groups()
        return f"{begin}{tables[name]()}{end}" if name in tables else block.group()

    return _BLOCK.sub(made, text)


def names(text: str) -> list[str]:
    """Return the names of the tables that stand in the statement."""
    return [name for _, name, _ in _BLOCK.findall(text)]


if __name__ == "__main__":
    from tests.support.contents import TABLES as CONTENTS

    PAGE.write_text(page(PAGE.read_text("utf-8"), {**TABLES, **CONTENTS}), "utf-8")
