from pathlib import Path

import pytest

from tests.support.folds import LABELS, lines, written
from tests.support.lesions import lesions_pack
from training.config import Size
from training.folds import frames
from training.folds.frames import FoldedFrames
from training.pack import Pack


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> FoldedFrames:
    """Three folds, each with two clips of three frames of each class."""
    index = written(tmp_path_factory.mktemp("pictures"), lines())
    return frames.read(index, labels=LABELS, size=Size(height=64, width=64))


@pytest.fixture(scope="session")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Stills with masks."""
    return lesions_pack(tmp_path_factory.mktemp("lesions"))


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """The index of such clips."""
    return written(tmp_path / "pictures", lines())
