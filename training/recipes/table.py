"""What every table says: which strategies stand in it, each by its recipe and options."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from training import recipes
from training.config import Count, Engine, Name, OptionValue, Settings, Strategy
from training.recipes.reading import checked

Seed = Annotated[int, Field(ge=0)]
#: of a batch, whose statistics normalise it
BatchSize = Annotated[int, Field(ge=2)]


class Table(Settings):
    """Strategies that are held against each other, a row each."""

    name: Name
    title: str
    #: what the numbers are, and are not
    caption: str
    #: each a row, named as its recipe, or by a name of its own
    strategies: Annotated[tuple[str, ...], Field(min_length=1)]
    #: of a row with a name of its own: so that a recipe may stand there with several options
    recipes: dict[Name, str] = Field(default_factory=dict)
    #: of a row's pretext, above those of its recipe
    options: dict[str, dict[str, OptionValue]] = Field(default_factory=dict)
    #: of the encoder ``small`` alone
    encoder_width: Count = 16
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    engine: Engine = Engine()

    @property
    def rows(self) -> tuple[str, ...]:
        """The strategies, as `recipes` and `options` name them."""
        return self.strategies

    @model_validator(mode="after")
    def _rows_are_known(self) -> Self:
        for key in ("strategies", "seeds"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: one is named twice; name each once")
        for key in ("recipes", "options"):
            for name in getattr(self, key):
                if name not in self.rows:
                    raise ValueError(f"{key}: {name!r} is none of the strategies; add it there")
        return self

    def strategy(self, row: str) -> Strategy:
        """Return a row's recipe with the options of this table, under the row's name.

        Raises
        ------
        ConfigError
            When it has no recipe, or one that takes no options.
        """
        recipe = recipes.load(self.recipes.get(row, row))
        values = recipe.model_dump()
        values["options"] |= self.options.get(row, {})
        if row in self.recipes:
            values["name"] = row
        return checked(values, Strategy, where=f"options.{row}")
