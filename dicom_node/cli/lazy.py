"""Commands that are imported when they are called: ``status`` does not wait for the models."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, cast

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


class LazyGroup(TyperGroup):
    """A group that knows its commands by the names of their modules.

    A subclass fills `modules`; every module holds its command, or its group of commands, as
    ``app``. Only help imports them all.
    """

    modules: ClassVar[Mapping[str, str]]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _Commands(self.modules)})


class _Commands(Mapping[str, TyperCommand | TyperGroup]):
    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        command = get_command(import_module(self._modules[name]).app)
        command.name = name
        return cast(TyperCommand | TyperGroup, command)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)
