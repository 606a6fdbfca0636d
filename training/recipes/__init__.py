"""Pretraining strategies, one recipe file each.

A recipe says which pretext an encoder learns on, or where its weights come from without one. A
recipe of one's own is a file like those beside this one; it is named by its path.
"""

from pathlib import Path

from training.config import Strategy
from training.recipes.reading import load_settings, shipped

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the shipped strategies."""
    return shipped(FOLDER)


def load(name: str) -> Strategy:
    """Read a strategy by its name, or from a file.

    Raises
    ------
    ConfigError
        When there is none of that name, or the file says something that is not known.
    """
    return load_settings(name, Strategy, FOLDER, "recipe")
