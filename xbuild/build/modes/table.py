"""The modes that there are. A new one is a module beside this one, and a line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from xbuild.base.errors import UsageError
from xbuild.base.nearest import did_you_mean
from xbuild.build.modes import substituted
from xbuild.build.modes.mode import Mode

DEFAULT = substituted.MODE


class _Modes(Mapping[str, Mode]):
    """By name. A command has one mode, and loads no other's module."""

    def __init__(self, **modules: str) -> None:
        self._modules = modules

    def __getitem__(self, name: str) -> Mode:
        mode: Mode = import_module(f"xbuild.build.modes.{self._modules[name]}").MODE
        return mode

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


MODES: Mapping[str, Mode] = _Modes(
    substituted="substituted", distcc="distcc", emulated="emulated", system="system.mode"
)


def mode_of(name: str) -> Mode:
    """The mode of this name. Raises UsageError if there is none."""
    if name not in MODES:
        raise UsageError(f"unknown mode {name!r}{did_you_mean(name, MODES)}", hint=f"modes: {', '.join(MODES)}")
    return MODES[name]
