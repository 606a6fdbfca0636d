"""What destinations accept, for ``dicom-node check``."""

from dicom_node.config import Destination
from dicom_node.deliver import probe
from dicom_node.ladder import classes_of_kinds, missing


def probed(destination: Destination, calling_ae_title: str) -> tuple[str, str]:
    """Ask what a destination accepts; return the fault, or "", and the kinds. Nothing is sent."""
    found = probe(destination, calling_ae_title=calling_ae_title)
    return _fault(destination, found), _accepts(destination, found)


def _accepts(destination: Destination, answers: dict[str, bool]) -> str:
    kinds = [
        kind.upper()
        for kind, classes in classes_of_kinds(destination).items()
        if all(answers.get(one) for one in classes)
    ]
    return f"accepts {', '.join(kinds) or 'no kind of object'}"


def _fault(destination: Destination, answers: dict[str, bool]) -> str:
    kinds = ", ".join(kind.upper() for kind in missing(destination, answers))
    if not kinds:
        return ""
    return (
        f"{destination.address} accepts neither {kinds} nor what the ladder has in its place "
        f"(fallback: {', '.join(destination.fallback) or 'none'}); enable the SOP class there, or "
        "leave it out of 'send:'"
    )
