"""One way to send and to ask, whatever kind a destination is."""

from collections.abc import Iterable, Sequence

from dicom_node.config import AnyDestination, Destination
from dicom_node.deliver import dimse
from dicom_node.deliver.outcome import Outcome
from dicom_node.records import Result


def send_to(
    destination: AnyDestination, results: Sequence[Result], *, calling_ae_title: str
) -> Iterable[Outcome]:
    """Send the objects of one study; yield one outcome each, in order."""
    if isinstance(destination, Destination):
        return dimse.send(results, destination, calling_ae_title=calling_ae_title)
    # only a worker that sends this way takes the time and the memory for it
    from dicom_node.deliver import stow  # noqa: PLC0415

    return stow.send(results, destination)


def ask(destination: AnyDestination, *, calling_ae_title: str) -> str:
    """Ask a destination whether it is there; return "", or what is wrong and what to do."""
    if isinstance(destination, Destination):
        return dimse.echo(destination, calling_ae_title=calling_ae_title)
    from dicom_node.deliver import stow  # noqa: PLC0415

    return stow.ask(destination)
