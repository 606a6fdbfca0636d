from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from training.reproduce.examples import PLACES, place_of
from training.reproduce.gallery import Picture, confusion, gallery
from training.reproduce.looks import NAMES, name_of

STRATEGIES = tuple(NAMES)


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Return the headings and labels that lie on each other."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts: list[Text] = []
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
    extents = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text().strip()]
    return [(a, b) for (a, one), (b, other) in combinations(extents, 2) if one.overlaps(other)]


@pytest.mark.parametrize("count", [2, len(STRATEGIES)])
def test_headings_and_labels_of_a_gallery_do_not_lie_on_each_other(count: int) -> None:
    shown = STRATEGIES[-count:]
    pictures = [Picture(frame=np.zeros((64, 96), np.uint8))] * (count + 1)
    headings = ["reader", *map(name_of, shown)]
    rows = {place_of(place): pictures for place in PLACES}
    assert overlapping(gallery(rows, headings, ["#000000"] * len(headings))) == []


@pytest.mark.parametrize("classes", [("benign", "malignant", "normal"), ("0", "1", "2", "3", "4")])
@pytest.mark.parametrize("count", [1, 3, len(STRATEGIES)])
def test_headings_and_classes_of_a_confusion_do_not_lie_on_each_other(
    count: int, classes: tuple[str, ...]
) -> None:
    table = np.ones((len(classes), len(classes)), np.int64)
    tables = dict.fromkeys(STRATEGIES[-count:], table)
    assert overlapping(confusion(tables, classes, STRATEGIES)) == []
