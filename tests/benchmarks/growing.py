"""What each part costs at 10, 1,000 and 100,000 studies a day, out of what was measured.

``python -m tests.benchmarks.growing`` writes the table of docs/growing.md anew. Every figure that
it starts from is read from docs/performance.md, but for `Study`, which is assumed, and `ROW_BYTES`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.support.conformance import REPOSITORY, page, table

PAGE: Final = REPOSITORY / "docs" / "growing.md"
PERFORMANCE: Final = REPOSITORY / "docs" / "performance.md"
STUDIES_A_DAY: Final = (10, 1_000, 100_000)
#: The busiest hour of a day has this share of its studies.
BUSIEST: Final = 0.15
#: On the disk, with indexes: 20,000 instances of `tests.benchmarks.populate`.
ROW_BYTES: Final = {"index.db": 540, "outbox.db": 270}
_GROWN: Final = 1_000_000
_ADDS: Final = "what the node adds to the model's time, a "


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study is taken to be: an examination of the abdomen, and one segmentation model."""

    stills: int = 30
    #: as the benchmarks' stills
    still_mb: float = 0.5
    cines: int = 3
    cine_mb: float = 5.0
    frames: int = 60
    #: of a cine, that the store keeps: three a second of 30
    kept: int = 6

    @property
    def instances(self) -> int:
        """Images."""
        return self.stills + self.cines

    @property
    def megabytes(self) -> float:
        """As they are sent."""
        return self.stills * self.still_mb + self.cines * self.cine_mb

    @property
    def model_frames(self) -> int:
        """Frames that a model sees."""
        return self.stills + self.cines * self.frames

    @property
    def stored_frames(self) -> int:
        """Frames that the store keeps."""
        return self.stills + self.cines * self.kept

    @property
    def rows(self) -> dict[str, int]:
        """Rows that stay in each database."""
        index = self.instances + 3  # the study, its series, its completion
        said = 3 * self.instances  # harvested, analysed, answered
        segs, merged = self.instances, 1
        results = self.instances + segs + merged
        owed = self.instances + self.cines + merged
        parts = 2 * self.stills
        return {"index.db": index, "outbox.db": said + 2 * results + owed + parts}


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the table: what a study costs, and from which figures that comes."""

    what: str
    start: str
    #: of how many studies a day
    of: Callable[[int], str]


def figure(name: str, column: str = "value", *, after: str = "") -> float:
    """Return a number of docs/performance.md.

    Parameters
    ----------
    name : str
        The row's first cell begins with it.
    column : str
        Its heading begins with it.
    after : str
        A heading that stands before the table.

    Raises
    ------
    LookupError
        When no such row is there.
    """
    text = PERFORMANCE.read_text("utf-8")
    text = text.partition(f"{after}\n")[2] if after else text
    heads: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            heads = []
        elif not heads:
            heads = cells
        elif cells[0].startswith(name):
            [place] = [n for n, head in enumerate(heads) if head.startswith(column)][:1]
            return float(re.sub(r"[^0-9.].*", "", cells[place]))
    raise LookupError(f"{name!r} is not in docs/performance.md after {after!r}; name it anew")


def worker_s(study: Study) -> float:
    """Return how long the worker of a node has to do with a study, whoever runs the models."""
    return _harvest_s(study) + _added_s(study)


def _harvest_s(study: Study) -> float:
    stills = study.stills / figure("harvest of JPEG stills")
    return stills + study.cines * study.kept / figure("harvest of JPEG cines")


def _added_s(study: Study) -> float:
    still, cine = _model_ms()
    on_stills = study.stills * still * figure(f"{_ADDS}still") / 100
    on_cines = study.cines * study.frames * cine * figure(f"{_ADDS}cine") / 100
    return (on_stills + on_cines) / 1000


def _model_ms() -> tuple[float, float]:
    still = figure("onnxruntime alone", "time a frame", after="### a still")
    return still, figure("onnxruntime alone", "time a frame", after="### a cine of 20 frames")


def _model_s(study: Study) -> float:
    still, cine = _model_ms()
    return (study.stills * still + study.cines * study.frames * cine) / 1000


def _receive_s(study: Study) -> float:
    still, hundred_mb = _receive_ms()
    return (study.stills * still + study.cines * study.cine_mb * hundred_mb / 100) / 1000


def _receive_ms() -> tuple[float, float]:
    still = figure("dicom-node", "CPU, ms", after="### 0.5 MB stills, 4 associations")
    return still, figure("dicom-node", "CPU, ms", after="### 100 MB cine, 1 association")


def _result_mb(study: Study) -> float:
    found = re.search(r"two segments, (\d+) MiB", PERFORMANCE.read_text("utf-8"))
    if found is None:
        raise LookupError("the size of a SEG is not in docs/performance.md any more")
    # 100 frames; a still's mask lies there twice, alone and merged
    return int(found[1]) / 100 * 2**20 / 1e6 * (2 * study.stills + study.cines * study.frames)


def _start_s(instances: float) -> float:
    empty = figure("start-up until ready, nothing kept")
    full = figure("start-up until ready, 1,000,000 instances, page cache dropped")
    return empty + (full - empty) * instances / _GROWN


def lines(study: Study) -> Iterator[Line]:
    """Yield the table's lines."""
    yield from _sizes(study)
    yield from _times(study)
    yield from _limits(study)


def _sizes(study: Study) -> Iterator[Line]:
    stored_mb = study.stored_frames * 0.6 * 0.8 * 0.44  # of 600x800 pixels, as PNG
    rows = sum(study.rows.values())
    kb = sum(study.rows[name] * ROW_BYTES[name] for name in ROW_BYTES) / 1000
    yield _line("instances a day", "assumed", study.instances, _count)
    yield _line("received a day", "assumed", study.megabytes, _megabytes)
    yield _line(
        "results a day",
        "SEG of 100 frames of 768x1024, two segments",
        _result_mb(study),
        _megabytes,
    )
    yield _line(
        "frames for the store a day", "three a second of a cine", study.stored_frames, _count
    )
    yield _line("the store a day", "44 % of 600x800 bytes", stored_mb, _megabytes)
    yield _line(
        "a pack for training, more each day",
        "98 kB a frame",
        study.stored_frames * 0.098,
        _megabytes,
    )
    yield _line("database rows a day", "counted in the tables", rows, _count)
    yield _line(
        "databases a day",
        f"{ROW_BYTES['index.db']} and {ROW_BYTES['outbox.db']} bytes a row",
        kb / 1000,
        _megabytes,
    )


def _times(study: Study) -> Iterator[Line]:
    stills, cines = (figure(f"harvest of JPEG {kind}") for kind in ("stills", "cines"))
    still, cine = (figure(f"{_ADDS}{kind}") for kind in ("still", "cine"))
    received = "{:g} ms a still, {:g} ms for 100 MB".format(*_receive_ms())
    for what, start, each in (
        ("CPU of receiving and registering", received, _receive_s(study)),
        ("the harvest", f"{stills:g} and {cines:g} frames/s", _harvest_s(study)),
        (
            "SEG, SR, gate, outbox and C-STORE",
            f"{still:.0f} % of a still's model, {cine:.0f} % of a cine's",
            _added_s(study),
        ),
        ("VGG16-BN on two cores", "{:g} and {:g} ms a frame".format(*_model_ms()), _model_s(study)),
    ):
        yield _line(f"{what} a day", start, each, _duration)


def _limits(study: Study) -> Iterator[Line]:
    rate = figure("0.5 MB stills, 4 associations: dicom-node")

    def busiest(number: int) -> float:
        return number * BUSIEST / 3600

    yield Line(
        what="instances a second, busiest hour",
        start=f"{rate:g}/s were taken",
        of=lambda number: f"{busiest(number) * study.instances:.3g}",
    )
    yield Line(
        what="frames a second for the models, busiest hour",
        start=f"two cores do {1000 / _model_ms()[1]:.2g}",
        of=lambda number: f"{busiest(number) * study.model_frames:.3g}",
    )
    yield Line(
        what="workers, busiest hour, models elsewhere",
        start=f"{worker_s(study):.3g} s a study, one at a time",
        of=lambda number: _count(busiest(number) * worker_s(study)),
    )
    yield Line(
        what="days until a node has a million instances",
        start="`make bench-growth`",
        of=lambda number: _count(_GROWN / number / study.instances),
    )
    yield Line(
        what="start after a year",
        start=f"{_start_s(0):g} s empty, {_start_s(_GROWN):g} s with a million",
        of=lambda number: _duration(_start_s(365 * number * study.instances)),
    )


def _line(what: str, start: str, each: float, shown: Callable[[float], str]) -> Line:
    return Line(what=what, start=start, of=lambda number: shown(number * each))


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _megabytes(value: float) -> str:
    for unit, size in (("TB", 1e6), ("GB", 1e3), ("MB", 1)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1000:.3g} kB"


def _duration(value: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.2g} s"


def costs() -> str:
    """The table."""
    study = Study()
    days = [f"{number:,} studies a day" for number in STUDIES_A_DAY]
    rows = (
        (line.what, line.start, *(line.of(number) for number in STUDIES_A_DAY))
        for line in lines(study)
    )
    return table(f"what|starts from|{'|'.join(days)}", rows)


def written(text: str) -> str:
    """Return the page with its table made anew."""
    return page(text, {"costs": costs})


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
