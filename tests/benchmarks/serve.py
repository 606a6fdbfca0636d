"""Serving, measured: ``python -m tests.benchmarks.serve``, or ``make bench-serve``.

Four questions. What the node costs around a VGG16-BN U-Net at 256 x 384 with random weights:
decoding, pre- and post-processing, SEG, SR, the gate and sending, against onnxruntime alone on the
same frames, in turns. How long the SEG of a long cine takes. Whether the worker's memory stays flat
over a thousand small studies. How long a study takes from completion into the PACS at one study a
second, and what rate a node takes at most, with a small model.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console

from dicom_node import log
from tests.benchmarks import long_cine, streaming
from tests.benchmarks.long_cine import Made
from tests.benchmarks.report import BUILD, Row, show_goals, show_others, write
from tests.benchmarks.serving import Spent, Work, one_study, random_bundle, serving
from tests.benchmarks.streaming import Memory, Stream

#: Share of the bare call that the node may add.
MOST_OVERHEAD = 0.15
#: How much the worker may have grown from the first mark to the last.
MOST_GROWTH = 0.05
#: The SEG of a long cine shall be made within.
MOST_SEG_S = 0.5
BARE = "onnxruntime alone"
#: studies of one still in a round
_STILLS = 5
#: stills of a study that has several; examinations have thirty
_MANY = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write ``build/bench/serve.json``."""
    chosen = _arguments(arguments)
    console = _console()
    log.configure(level=logging.WARNING)
    work = _work(chosen)
    with tempfile.TemporaryDirectory() as scratch:
        rows = [row for arm in chosen.only for row in ARMS[arm](Path(scratch) / arm, chosen)]
    words = sys.argv[1:] if arguments is None else arguments
    command = " ".join(["python -m tests.benchmarks.serve", *words])
    note = (
        f"U-Net on {work.encoder}, {work.height}x{work.width}, random weights, cines of "
        f"{work.frames} frames, stills and studies of {_MANY}, {chosen.rounds} rounds; "
        f"load average {os.getloadavg()[0]:.1f} after"
    )
    path = write("serve", rows, command=command, note=note, folder=chosen.folder)
    console.print(note, highlight=False)
    show_goals(rows, console)
    show_others(rows, console)
    console.print(f"written to {path}")
    return 0


def overhead(
    folder: Path, work: Work, rounds: int, threads: int | None
) -> dict[tuple[int, ...], list[Spent]]:
    """Serve a cine, stills and a study of stills a round; the model alone goes first every second.

    Returns
    -------
    dict of tuple of int to list of Spent
        The rounds, by the numbers of frames of a study's images.
    """
    (folder / "bundles").mkdir(parents=True)
    random_bundle(folder / "bundles" / "random.onnx", work)
    with serving(folder, threads) as parts:
        spent: dict[tuple[int, ...], list[Spent]] = {(work.frames,): [], (1,) * _MANY: [], (1,): []}
        for turn in range(rounds + 1):
            for views, found in spent.items():
                sent = folder / f"sent-{len(views)}-{views[0]}"
                # a still takes a second, in which chance says more than in a cine's twenty
                often = _STILLS if views == (1,) else 1
                for seed in range(turn * often, (turn + 1) * often):
                    found.append(one_study(parts, sent, seed, views, bare_first=bool(seed % 2)))
    # in the first one pages and caches warmed up
    return {views: found[len(found) // (rounds + 1) :] for views, found in spent.items()}


def shown(views: Sequence[int]) -> str:
    """Return what a study with images of so many frames is called."""
    if len(views) > 1:
        return f"a study of {len(views)} stills"
    return "a still" if views[0] == 1 else f"a cine of {views[0]} frames"


def overhead_rows(spent: Sequence[Spent], views: Sequence[int]) -> Iterator[Row]:
    """Yield the share that the node adds, and where its seconds go."""
    shares = [one.overhead for one in spent]
    share = median(shares)
    yield Row(
        row=f"what the node adds to the model's time, {shown(views)}",
        value=100 * share,
        unit="%",
        against=f"{BARE}, at most {100 * MOST_OVERHEAD:g} %",
        ratio=(1 + MOST_OVERHEAD) / (1 + share),
        goal=1.0,
        met=share <= MOST_OVERHEAD,
        low=(1 + MOST_OVERHEAD) / (1 + max(shares)),
        high=(1 + MOST_OVERHEAD) / (1 + min(shares)),
        why="decoding, pre- and post-processing, SEG, SR, gate, outbox and C-STORE on loopback",
    )
    parts = {
        BARE: [one.bare_s for one in spent],
        "decode, model and label maps": [one.analyse_s for one in spent],
        "SEG, SR, gate, outbox": [one.write_s for one in spent],
        "C-STORE": [one.send_s for one in spent],
    }
    for name, seconds in parts.items():
        each = [1000 * value / sum(views) for value in seconds]
        yield Row(
            row=f"{shown(views)} | {name} | time a frame",
            value=median(each),
            unit="ms",
            low=min(each),
            high=max(each),
        )


def long_rows(found: Sequence[Made]) -> Iterator[Row]:
    """Yield how long the SEG of a long cine takes."""
    seconds = [one.made_s for one in found]
    made = median(seconds)
    what = f"SEG of {long_cine.FRAMES} frames of {long_cine.ROWS}x{long_cine.COLUMNS}"
    yield Row(
        row=f"{what}, made and on the disk",
        value=made,
        unit="s",
        against=f"at most {MOST_SEG_S:g} s",
        ratio=MOST_SEG_S / made,
        goal=1.0,
        met=made <= MOST_SEG_S,
        low=MOST_SEG_S / max(seconds),
        high=MOST_SEG_S / min(seconds),
        why=f"two segments, {found[-1].size_bytes / 2**20:.0f} MiB",
    )
    yield Row(
        row=f"{what}, then read back and compared",
        value=median(one.checked_s for one in found),
        unit="s",
        low=min(one.checked_s for one in found),
        high=max(one.checked_s for one in found),
    )


def memory_rows(memory: Memory) -> Iterator[Row]:
    """Yield the worker's resident memory at each mark, and whether it grew."""
    for studies, rss_bytes in memory.worker_rss_bytes.items():
        yield Row(
            row=f"memory of the worker | after {studies} studies | resident",
            value=rss_bytes / 2**20,
            unit="MiB",
        )
    first, last = min(memory.worker_rss_bytes), max(memory.worker_rss_bytes)
    before, after = memory.worker_rss_bytes[first], memory.worker_rss_bytes[last]
    yield Row(
        row=f"resident memory of the worker after {last} studies",
        value=after / 2**20,
        unit="MiB",
        against=f"after {first} studies, at most {100 * MOST_GROWTH:g} % more",
        ratio=before * (1 + MOST_GROWTH) / after,
        goal=1.0,
        met=after <= before * (1 + MOST_GROWTH),
    )


def rate_rows(stream: Stream) -> Iterator[Row]:
    """Yield the time into the PACS at one study a second, and the highest rate."""
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        yield Row(
            row=f"from completion into the PACS, {name}",
            value=streaming.quantile(stream.waited_s, share),
            unit="s",
            why=f"one study a second for {len(stream.waited_s)} studies, the last of its results",
        )
    yield Row(
        row="studies a second that one node takes at most",
        value=stream.most_per_s,
        unit="1/s",
        why=f"{stream.burst} studies sent at once, from the first completion to the last delivery",
    )


def _overhead(folder: Path, chosen: argparse.Namespace) -> Iterator[Row]:
    spent = overhead(folder, _work(chosen), chosen.rounds, chosen.threads)
    for views, rounds in spent.items():
        for one in rounds:
            told = f"{shown(views)}: overhead {one.overhead:.1%}: {one}"
            _console().print(told, highlight=False)
        yield from overhead_rows(rounds, views)


def _long(folder: Path, chosen: argparse.Namespace) -> Iterator[Row]:
    return long_rows(long_cine.long_cine(folder, chosen.rounds))


def _memory(folder: Path, chosen: argparse.Namespace) -> Iterator[Row]:
    return memory_rows(streaming.memory(folder, chosen.marks))


def _rate(folder: Path, chosen: argparse.Namespace) -> Iterator[Row]:
    return rate_rows(streaming.stream(folder, chosen.seconds, chosen.burst))


ARMS: Final = {"overhead": _overhead, "long": _long, "memory": _memory, "rate": _rate}


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


def _work(chosen: argparse.Namespace) -> Work:
    encoder = "resnet18" if chosen.quick else "vgg16_bn"
    return Work(
        encoder=chosen.encoder or encoder,
        height=chosen.height,
        width=chosen.width,
        frames=chosen.frames,
    )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serve", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small network, few studies")
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--encoder", help="of the U-Net whose overhead is measured")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--frames", type=int, default=20, help="of the cine")
    parser.add_argument("--rounds", type=int, help="5, or 2 when quick")
    parser.add_argument("--threads", type=int, help="of onnxruntime")
    parser.add_argument("--marks", type=int, nargs="+", help="studies after which memory is read")
    parser.add_argument("--seconds", type=int, help="of one study a second")
    parser.add_argument("--burst", type=int, help="studies sent at once")
    parser.add_argument("--folder", type=Path, default=BUILD, help="where serve.json goes")
    chosen = parser.parse_args(arguments)
    quick = chosen.quick
    chosen.rounds = chosen.rounds or (2 if quick else 5)
    chosen.marks = chosen.marks or ([10, 50, 100] if quick else [100, 500, 1000])
    chosen.seconds = chosen.seconds or (20 if quick else 120)
    chosen.burst = chosen.burst or (20 if quick else 100)
    return chosen


if __name__ == "__main__":
    sys.exit(main())
