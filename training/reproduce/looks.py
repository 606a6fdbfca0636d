"""How strategies are called and coloured wherever they are shown, and how figures become bytes."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from training.reproduce.matrix import FROZEN

#: As the papers write them.
NAMES: Final = {
    "baseline": "Baseline",
    "imagenet": "ImageNet",
    "dcm": "DCM",
    "ce": "CE",
    "ce_dcm": "CE+DCM",
    "ce_dcm_log": "CE+DCM, log loss",
    "ce_tags": "CE+tags (ours)",
}
#: Told apart by colour-blind eyes too (after Okabe and Ito).
COLOURS: Final = {
    "baseline": "#7d858e",
    "imagenet": "#8c6bb1",
    "dcm": "#d99a1c",
    "ce": "#3d8ec9",
    "ce_dcm": "#c8502a",
    "ce_dcm_log": "#d77fa8",
    "ce_tags": "#1b8a63",
}
#: Of strategies that are not named above, in their order.
OTHERS: Final = ("#00798c", "#9c6644", "#5c4b99", "#6a994e")
TEXT: Final = "#1d2329"
SOFT: Final = "#66717c"
LINE: Final = "#d9dee3"
_STYLE: Final[Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": TEXT,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.linewidth": 0.8,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": TEXT,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    # paths look the same everywhere, on paper too
    "svg.fonttype": "path",
    "svg.hashsalt": "dicom-node",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style, and leave matplotlib's own as it was."""
    with mpl.rc_context(_STYLE):
        yield


def name_of(strategy: str) -> str:
    """Return what a strategy is called."""
    plain = strategy.removesuffix(FROZEN)
    return NAMES.get(plain, plain) + strategy[len(plain) :]


def heading_of(name: str) -> str:
    """Return what stands above a narrow column, on as many lines as its name has parts."""
    return name.replace(", ", ",\n")


def colour_of(strategy: str, strategies: tuple[str, ...]) -> str:
    """Return the colour of one of several strategies; frozen or not, it is the same."""
    plain = strategy.removesuffix(FROZEN)
    if plain in COLOURS:
        return COLOURS[plain]
    others = dict.fromkeys(s.removesuffix(FROZEN) for s in strategies)
    unknown = [name for name in others if name not in COLOURS]
    return OTHERS[unknown.index(plain) % len(OTHERS)]


def percent(share: float) -> str:
    """Return a share of the training patients as "5 %"."""
    return f"{100 * share:g} %"


def title_of(task: str) -> str:
    """Return a task's name as a heading."""
    text = task.replace("-", " ").replace("_", " ")
    return text[:1].upper() + text[1:]


def drawn(figure: Figure, kind: Literal["svg", "png"]) -> bytes:
    """Return a figure as a file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    if kind == "svg":
        with style():
            FigureCanvasSVG(figure).print_figure(buffer, format="svg", metadata={"Date": None})
    else:
        FigureCanvasAgg(figure).print_figure(
            buffer, format="png", dpi=150, metadata={"Software": None}
        )
    return buffer.getvalue()
