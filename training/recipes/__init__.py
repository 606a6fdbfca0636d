"""Pretraining strategies, one recipe file each.

A recipe says which pretext an encoder learns on, or where its weights come from without one. A
recipe of one's own is a file like those beside this one; it is named by its path.
"""

from pathlib import Path
from typing import Final

from training.config import Strategy
from training.recipes.reading import Shelf

_SHELF: Final = Shelf(Path(__file__).parent, Strategy, "recipe")
#: the shipped ones, and one by its name or from a file
names, load = _SHELF.names, _SHELF.load
