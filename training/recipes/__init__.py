"""Pretraining strategies, one recipe file each.

A recipe says which pretext an encoder learns on, or where its weights come from without one. A
recipe of one's own is a file like those beside this one; it is named by its path.
"""

from pathlib import Path

from dicom_node.errors import ConfigError
from training.config import Strategy
from training.recipes.reading import read_settings

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the shipped strategies."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Strategy:
    """Read a strategy by its name, or from a file.

    Raises
    ------
    ConfigError
        When there is none of that name, or the file says something that is not known.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"no recipe {name!r}: give one of {', '.join(names())}, or the path of a .yaml file"
        )
    return read_settings(path, Strategy)
