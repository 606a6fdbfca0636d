"""Commands that are imported when they are called: ``status`` does not wait for the models."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, cast

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


class Listed(NamedTuple):
    """A command as a group lists it."""

    module: str  #: holds the command, or the group of commands, as ``app``
    help: str  #: the first sentence of its own help, which is read without importing it


class LazyGroup(TyperGroup):
    """A group that knows its commands by the names of their modules.

    A subclass fills `listed`.
    """

    listed: ClassVar[Mapping[str, Listed]]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _Commands(self.listed)})

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, for which no command is imported."""
        imported = self.commands
        self.commands = {
            name: TyperCommand(name, help=one.help) for name, one in self.listed.items()
        }
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = imported


class _Commands(Mapping[str, TyperCommand | TyperGroup]):
    def __init__(self, listed: Mapping[str, Listed]) -> None:
        self._listed = listed

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        command = get_command(import_module(self._listed[name].module).app)
        command.name = name
        return cast(TyperCommand | TyperGroup, command)

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)
