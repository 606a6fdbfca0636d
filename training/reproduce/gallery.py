"""The figures that are made of frames: filled holes, segmentations, classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from training.reproduce.looks import LINE, SOFT, TEXT, colour_of, heading_of, name_of, style

WIDTH: Final = 11.0
#: Contours of the labels 1, 2 and so on: of the reader, and of a network.
READER: Final = ("#ffffff", "#ffe08a", "#a8e6ff")
NETWORK: Final = ("#ff7a45", "#40a9ff", "#73d13d")

Plane = NDArray[np.float32] | NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One frame in a gallery."""

    #: (H, W)
    frame: Plane
    #: grey values that are black and white
    limits: tuple[float, float] = (0, 255)
    #: label map to draw the contours of, uint8 (H, W)
    contours: NDArray[np.uint8] | None = None
    is_reader: bool = False
    #: written into the corner
    text: str = ""
    #: of `text`
    colour: str = "#ffffff"


def gallery(
    rows: Mapping[str, Sequence[Picture]], headings: Sequence[str], colours: Sequence[str]
) -> Figure:
    """Draw pictures in a grid.

    Parameters
    ----------
    rows : mapping
        Pictures by what is written at the left of their row, all of one size and number.
    headings : sequence of str
        Above the columns.
    colours : sequence of str
        Of the headings.
    """
    first = next(iter(rows.values()))
    height, width = first[0].frame.shape
    margin, gap = 0.32, 1.03
    size = (WIDTH - margin) / len(first)
    above = 0.3 if all(heading_of(heading) == heading for heading in headings) else 0.45
    with style():
        figure = Figure(
            figsize=(WIDTH, len(rows) * size * height / width * gap + above),
            layout=ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015, hspace=0.0, wspace=0.0),
        )
        panels = figure.subplots(len(rows), len(first), squeeze=False)
        for line, (name, pictures) in zip(panels, rows.items(), strict=True):
            for axes, picture in zip(line, pictures, strict=True):
                _show(axes, picture)
            line[0].set_ylabel(name, color=SOFT, fontsize=8)
        for axes, heading, colour in zip(panels[0], headings, colours, strict=True):
            axes.set_title(heading_of(heading), color=colour, fontsize=9, loc="center")
    return figure


def _show(axes: Axes, picture: Picture) -> None:
    low, high = picture.limits
    axes.imshow(picture.frame, cmap="gray", vmin=low, vmax=high, interpolation="bicubic")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if picture.contours is not None:
        colours = READER if picture.is_reader else NETWORK
        for value in range(1, int(picture.contours.max()) + 1):
            inside = picture.contours == value
            if inside.any():
                colour = colours[(value - 1) % len(colours)]
                axes.contour(inside, levels=[0.5], colors=[colour], linewidths=1.2)
    if picture.text:
        box = {"facecolor": "#000000", "alpha": 0.55, "pad": 1.6, "linewidth": 0}
        axes.annotate(
            picture.text,
            (0.02, 0.97),
            xycoords="axes fraction",
            va="top",
            color=picture.colour,
            fontsize=8,
            bbox=box,
        )


def confusion(
    tables: Mapping[str, NDArray[np.int64]], classes: Sequence[str], strategies: tuple[str, ...]
) -> Figure:
    """Draw what frames of each class were taken for.

    Parameters
    ----------
    tables : mapping
        int64 (K, K) by strategy: rows are the reader's, columns the network's.
    classes : sequence of str
        Their names.
    strategies : tuple of str
        All of the matrix, for their colours.
    """
    panel = (WIDTH - 1) / len(tables)
    # a letter is 0.08 wide: names that do not fit below their column stand on end
    is_narrow = max(map(len, classes)) * 0.08 > min(panel, 1.6) / len(classes)
    with style():
        figure = Figure(
            figsize=(WIDTH, min(panel, 1.6) + (1.3 if is_narrow else 0.9)), layout="constrained"
        )
        panels = figure.subplots(1, len(tables), squeeze=False)[0]
        for number, (axes, (strategy, table)) in enumerate(
            zip(panels, tables.items(), strict=True)
        ):
            _confusion(axes, table)
            colour = colour_of(strategy, strategies)
            axes.set_title(heading_of(name_of(strategy)), color=colour, loc="center")
            places = range(len(classes))
            axes.set_yticks(places, classes if number == 0 else [""] * len(classes))
            axes.set_xticks(places, classes, color=TEXT, rotation=90 if is_narrow else 0)
        panels[0].set_ylabel("reader")
        figure.supxlabel("network", fontsize=9, color=SOFT)
    return figure


def _confusion(axes: Axes, table: NDArray[np.int64]) -> None:
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)  # (K, K)
    axes.imshow(share, cmap="Greys", vmin=0, vmax=1.35)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor=LINE)
    for row, column in np.ndindex(*table.shape):
        axes.annotate(
            str(table[row, column]),
            (column, row),
            ha="center",
            va="center",
            color="#ffffff" if share[row, column] > 0.6 else TEXT,
            fontweight="bold" if row == column else "normal",
        )
