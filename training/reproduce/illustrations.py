"""All figures of a report, in their order, as files."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final, Literal

from markupsafe import Markup
from matplotlib.figure import Figure

from dicom_node.records import Task
from training import curves
from training.curves import Point
from training.pack import Pack
from training.reproduce import examples, figures, results
from training.reproduce.cells import Plan
from training.reproduce.looks import drawn, percent, title_of
from training.reproduce.results import COLUMN, MEASURE, Result
from training.reproduce.table import Column, Table

FIGURES: Final = "figures"
Kind = Literal["svg", "png"]
#: Under the two figures of a classification, and how they are drawn.
_SAID: Final = (
    "All test frames: rows are what the reader said, columns what the network says. First seed.",
    "The first test frames of each class, by their place in the store; in the corners what the "
    "network says. First seed.",
)
_KINDS: Final[tuple[Kind, Kind]] = ("svg", "png")
_MEDIA: Final = {"svg": "image/svg+xml", "png": "image/png"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A figure of the report."""

    #: of its file
    name: str
    title: str
    caption: str
    kind: Kind
    content: bytes

    @property
    def file(self) -> str:
        """Path from the report."""
        return f"{FIGURES}/{self.name}.{self.kind}"

    @property
    def uri(self) -> Markup:
        """The whole figure as an address."""
        data = base64.b64encode(self.content).decode()
        return Markup(f"data:{_MEDIA[self.kind]};base64,{data}")  # noqa: S704 (our own bytes)


def illustrations(
    plan: Plan, out: Path, pack: Pack | None, table: Table, found: list[Result]
) -> Iterator[Shown]:
    """Draw what is finished of a matrix.

    Parameters
    ----------
    plan, out
        The matrix and its folder.
    pack : Pack, optional
        The frames; without them there are no pictures of frames.
    table, found
        What is counted, and of which results.
    """
    for encoder, group in groupby(table.columns, key=lambda column: column.encoder):
        columns = list(group)
        yield from _of_numbers(plan, table, encoder, columns)
        if pack is not None:
            yield from _of_frames(plan, out, pack, encoder, found)
        yield from _of_epochs(plan, out, table, encoder, columns, found=found)


def _of_numbers(plan: Plan, table: Table, encoder: str, columns: list[Column]) -> Iterator[Shown]:
    measures = {name: MEASURE[task.task] for name, task in plan.matrix.tasks.items()}
    draws = plan.matrix.bootstraps
    yield from _shown(
        f"differences-{encoder}",
        f"Does it pay? One strategy against another{_of(plan, encoder)}",
        "Scores of the same frames, mean over the seeds.",
        figures.differences(table, encoder),
    )
    yield from _shown(
        f"boxplots-{encoder}",
        f"Scores on the test patients{_of(plan, encoder)}",
        f"After the papers' Figure 6: {draws} bootstraps of half of the test frames for each seed; "
        "box: quartiles, whiskers: 95 %, dots: the mean of each seed, dashed: median of the first "
        "strategy.",
        figures.boxplots(table, columns, measures),
    )


def _of_frames(
    plan: Plan, out: Path, pack: Pack, encoder: str, found: list[Result]
) -> Iterator[Shown]:
    yield from _shown(
        f"inpainting-{encoder}",
        f"Filled holes{_of(plan, encoder)}",
        "After the papers' Figure 5: frames of test patients, with other tags each while there "
        "are some; what the networks fill in without tags (CE) and with them. Chosen by their "
        "place in the store.",
        examples.inpainting(plan, out, pack, encoder),
        "png",
    )
    share = percent(min(plan.matrix.shares))
    for name, task in plan.matrix.tasks.items():
        chosen = examples.choose(plan, out, found, encoder=encoder, task=name)
        title = f"{title_of(name)} after {share} of the training patients{_of(plan, encoder)}"
        if task.task is Task.SEGMENTATION:
            yield from _shown(
                f"segmentation-{name}-{encoder}",
                title,
                "Test frames at fixed places of the order of their mean Dice over the strategies; "
                "in the corners the Dice. First seed.",
                examples.segmentations(plan, out, pack, chosen),
                "png",
            )
        else:
            drawings = examples.classifications(plan, out, pack, chosen)
            for number, (text, kind, figure) in enumerate(
                zip(_SAID, _KINDS, drawings, strict=False)
            ):
                yield from _shown(f"classes-{name}-{number}-{encoder}", title, text, figure, kind)


def _of_epochs(
    plan: Plan,
    out: Path,
    table: Table,
    encoder: str,
    columns: list[Column],
    *,
    found: list[Result],
) -> Iterator[Shown]:
    measures = {
        name: (COLUMN[task.task], MEASURE[task.task]) for name, task in plan.matrix.tasks.items()
    }
    learned: dict[tuple[str, Column], list[list[Point]]] = {}
    for result in found:
        settings = result.cell.settings
        column = Column(encoder=settings.encoder, task=result.cell.task, share=settings.share)
        points = curves.read(results.folder_of(out, result.cell))
        learned.setdefault((result.cell.strategy, column), []).append(points)
    yield from _shown(
        f"finetuning-{encoder}",
        f"Learning curves of fine-tuning{_of(plan, encoder)}",
        "Validation patients; line: mean of the seeds, band: their range. The epoch with the "
        "lowest validation loss is the one that is tested.",
        figures.finetuning(learned, table, columns, measures) if learned else None,
    )
    pretrained = {
        cell.strategy: curves.read(results.folder_of(out, cell))
        for cell in reversed(plan.pretrain)
        if cell.settings.encoder == encoder and results.finished(out, cell) is not None
    }
    in_order = {name: pretrained[name] for name in reversed(pretrained)}
    yield from _shown(
        f"pretraining-{encoder}",
        f"Learning curves of pretraining{_of(plan, encoder)}",
        "Each pretext has losses of its own: their heights do not compare.",
        figures.pretraining(in_order, table.strategies),
    )


def _of(plan: Plan, encoder: str) -> str:
    """Name the encoder where there are several."""
    return f", {encoder}" if len(plan.matrix.encoders) > 1 else ""


def _shown(
    name: str, title: str, caption: str, figure: Figure | None, kind: Kind = "svg"
) -> Iterator[Shown]:
    if figure is not None:
        yield Shown(
            name=name.replace("_", "-"),
            title=title,
            caption=caption,
            kind=kind,
            content=drawn(figure, kind),
        )
