"""Presentation states and captures for the tests."""

from contextlib import nullcontext
from pathlib import Path

from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import FIRST_EDITION, Analysis, Edition, Result, ResultKind
from dicom_node.results.overlays import Overlays, write_overlays
from tests.support.analyses import INSTALLATION


def overlays_of(
    analysis: Analysis,
    folder: Path,
    *kinds: ResultKind,
    sandbox: PixelSandbox | None = None,
    edition: Edition = FIRST_EDITION,
) -> tuple[Result, ...]:
    """Write the overlays of these kinds; all when none is named."""
    own = PixelSandbox(memory_mib=768, timeout_s=60) if sandbox is None else nullcontext(sandbox)
    with own as decoder:
        return write_overlays(
            analysis,
            folder,
            installation=INSTALLATION,
            edition=edition,
            overlays=Overlays(
                kinds=frozenset(kinds or (ResultKind.PR, ResultKind.SC)), sandbox=decoder
            ),
        )
