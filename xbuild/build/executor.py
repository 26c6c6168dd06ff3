"""What crosses between who wants a build and what runs it: an order, events, an outcome. All of it can be JSON.

An executor may be on another machine, with another store and other paths. So it gets words only, prepares the build
itself, and refuses an order whose key is not what it comes to there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from xbuild.base import errors
from xbuild.base.errors import PhaseError, XbuildError
from xbuild.build.request import Request


@dataclass(frozen=True)
class Order:
    """What is to be built. key: of the artifact as the one who orders knows it; None if he leaves that open."""

    request: Request
    key: str | None = None


@dataclass(frozen=True)
class Event:
    """What happens meanwhile: a part of the build (a phase, or what goes before and after) begins, ends or fails.

    seconds: how long it took, at its end. log: the name of its file among the build's logs. text: of a warning.
    `anew`: after this phase the build begins again from unpack, with `programs` (real paths in the root) emulated.
    """

    kind: Literal["began", "ended", "failed", "warning", "anew"]
    part: str = ""
    seconds: float | None = None
    log: str | None = None
    text: str = ""
    programs: tuple[str, ...] = ()


Tell = Callable[[Event], None]


@dataclass(frozen=True)
class Failure:
    """An XbuildError. kind: its class. code: the exit code. log: the file, there, with what the failed phase said."""

    kind: str
    code: int
    message: str
    details: tuple[str, ...] = ()
    hint: str | None = None
    log: str | None = None

    def error(self) -> XbuildError:
        """The error again. One of a class that only the executor has is a plain one with the same exit code."""
        own = getattr(errors, self.kind, None)
        kind = own if isinstance(own, type) and issubclass(own, XbuildError) else XbuildError
        error = kind(self.message, details=self.details, hint=self.hint)
        error.exit_code = self.code
        if isinstance(error, PhaseError) and self.log is not None:
            error.log = Path(self.log)
        return error


def failure_of(error: XbuildError) -> Failure:
    """`error` as what crosses."""
    log = str(error.log) if isinstance(error, PhaseError) and error.log is not None else None
    return Failure(type(error).__name__, error.exit_code, error.message, error.details, error.hint, log)


@dataclass(frozen=True)
class Answers:
    """What the compiler cache did with the calls that it got. others: those that it never keeps an answer for."""

    hits: int = 0
    misses: int = 0
    others: int = 0

    def __str__(self) -> str:
        others = f"; {self.others} more calls were none that can be kept" if self.others else ""
        return f"compiler cache: {self.hits} of {self.hits + self.misses} calls answered{others}"


@dataclass(frozen=True)
class Outcome:
    """What a build gave. key: the artifact's; None if the build failed before that was known.

    manifest: the artifact's, with its file's name, sha256 and size, and how long each phase took; {} without artifact.
    parts: what took how long in this run, in order. failure: why there is no artifact. anew: the phases after which it
    began again from unpack, each with the programs that were emulated from then on. cache: None where there was none.
    """

    status: Literal["built", "up-to-date", "failed"]
    key: str | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    parts: tuple[tuple[str, float], ...] = ()
    failure: Failure | None = None
    anew: tuple[tuple[str, tuple[str, ...]], ...] = ()
    cache: Answers | None = None


class Executor(Protocol):
    """What runs builds."""

    def perform(self, order: Order, tell: Tell) -> Outcome:
        """Build what is ordered, unless it is there; `tell` is called as it goes on. What fails is an outcome too."""


def unheard(_: Event) -> None:
    """For who does not want to be told."""
