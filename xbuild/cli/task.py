"""What makes a function a command, without invoke: our own program reads its words by the table and calls it.

`xbuild.cli.namespace` makes invoke's tasks of all of them, for who calls them by `invoke`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Context:
    """What a command gets first; from invoke it is invoke's. remainder: the words after `--`."""

    remainder: str = ""


@dataclass(frozen=True)
class Task:
    """A command. name: "" for its function's. positional: words without an option, None: those without a default.

    iterable: options that may be given several times. help: of each option.
    """

    body: Callable[..., None]
    name: str
    positional: Sequence[str] | None
    iterable: Sequence[str]
    help: Mapping[str, str]

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Do what the command does."""
        self.body(*args, **kwargs)


def task(
    *,
    name: str = "",
    positional: Sequence[str] | None = None,
    iterable: Sequence[str] = (),
    help: Mapping[str, str] = {},
) -> Callable[[Callable[..., None]], Task]:
    """What makes a command of a function. The fields are those of `Task`."""
    return lambda body: Task(body, name or body.__name__, positional, iterable, help)
