from pathlib import Path

import pytest

from tests.support.folds import LABELS, lines, written
from training.config import Size
from training.folds import frames
from training.folds.frames import FoldedFrames


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three folds, each with two clips of three frames of each class."""
    return written(tmp_path_factory.mktemp("pictures"), lines())


@pytest.fixture(scope="session")
def folded(index: Path) -> FoldedFrames:
    """Its frames."""
    return frames.read(index, labels=LABELS, size=Size(height=64, width=64))
