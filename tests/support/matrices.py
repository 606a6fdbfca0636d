"""Tiny matrices for tests, and folders of results as finished cells leave them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tests.support.finetuning import fabric
from training import curves, pretexts, runs, tasks
from training.curves import Point
from training.pack import Pack
from training.reproduce import estimate, results
from training.reproduce.attempt import Workshop
from training.reproduce.cells import FinetuneCell, Plan, PretrainCell, plan
from training.reproduce.display import showing
from training.reproduce.estimate import Clock
from training.reproduce.ledger import Ledger
from training.reproduce.matrix import Matrix
from training.reproduce.run import run
from training.tasks import labels

#: Score of each test frame, (N,), for a cell.
Scores = Callable[[FinetuneCell, int], NDArray[np.float64]]


def values(**changes: Any) -> dict[str, Any]:
    """Return the smallest matrix on phantoms, as a YAML file says it."""
    quality = {"task": "quality", "epochs": 1, "batch_size": 4, "learning_rate": 1e-3}
    given = {
        "name": "tiny",
        "title": "A tiny matrix",
        "caption": "Phantoms: nothing here is about patients.",
        "mark": "Phantoms.",
        "size": {"height": 64, "width": 64},
        "encoders": ["small"],
        "encoder_width": 4,
        "strategies": ["baseline", "ce_dcm"],
        "tasks": {"quality": quality},
        "seeds": [0, 1],
        "pretrain": {"epochs": 1, "batch_size": 8},
        "bootstraps": 50,
        "compare": [["ce_dcm", "baseline"]],
        "engine": {"accelerator": "cpu", "precision": "32-true"},
    }
    return given | changes


def tiny(**changes: Any) -> Plan:
    """Return the cells of a tiny matrix."""
    return plan(Matrix.model_validate(values(**changes)))


def write_results(layout: Plan, out: Path, opened: Pack, score: Scores) -> None:
    """Write what the runs of a matrix leave, with scores of the test's own and untrained networks.

    The pretrained networks are written as the filler's last player; fine-tuned ones as they are.
    """
    for cell in layout.pretrain:
        pretext = pretexts.build(cell.settings)
        network = list(pretext.players.values())[-1].network
        folder = _begin(out, cell, opened)
        runs.save(folder / runs.NETWORK, network.state_dict())
        _finish(folder, {"validation_loss": 0.5})
    for cell in layout.finetune:
        folder = _begin(out, cell, opened)
        network = tasks.build(cell.settings, labels.names(opened, cell.settings)).network
        runs.save(folder / runs.NETWORK, network.state_dict())
        rows = labels.splits(opened, cell.settings)["test"]
        column = results.COLUMN[cell.settings.task]
        content = io.BytesIO()
        np.savez(
            content,
            frame_id=opened.rows.frame_id[rows],
            patient=opened.rows.patient[rows],
            **{column: score(cell, len(rows))},
        )
        runs.replace(folder / results.SCORES, content.getvalue())
        _finish(folder, {f"test_{column}": 0.5})


def reproduce(layout: Plan, opened: Pack, out: Path) -> tuple[Ledger, list[str]]:
    """Run a matrix; return its ledger and what was told."""
    told = io.StringIO()
    clock = Clock(estimate.loads(layout, opened), None)
    shop = Workshop(
        plan=layout,
        pack=opened,
        out=out,
        fabric=fabric(),
        imagenet=None,
        clock=clock,
        at_once=layout.matrix.at_once,
    )
    with showing(Console(file=told, width=200), clock, layout.cells, shop.at_once) as display:
        entries = run(shop, display)
    return entries, told.getvalue().splitlines()


def _begin(out: Path, cell: PretrainCell | FinetuneCell, opened: Pack) -> Path:
    folder = results.folder_of(out, cell)
    is_finetune = isinstance(cell, FinetuneCell)
    runs.begin(
        folder,
        runs.RunInfo(
            kind="finetune" if is_finetune else "pretrain",
            settings=cell.settings,
            store_version=opened.store_version,
        ),
    )
    with curves.recording(folder) as record:
        for number in range(1, 4):
            validation = {"loss": 1 / number, "dice": 0.2 * number, "accuracy": 0.2 * number}
            record(
                Point(
                    number=number,
                    training={"network/loss": 1.1 / number},
                    validation=validation,
                    learning_rate=1e-3,
                    frames_per_s=100.0,
                )
            )
    return folder


def _finish(folder: Path, metrics: dict[str, float]) -> None:
    runs.write(folder, runs.read(folder).finished(metrics=metrics, best_epoch=3, seconds=1.0))
