"""The only place that writes to the terminal: talk goes to stderr, results go to stdout.

Module-level state, set once by `configure`, because there is one terminal.
"""

from __future__ import annotations

import contextlib
import json as json_
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from xbuild.errors import XbuildError

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_REFRESHES_PER_SECOND = 4
# ECMA-48 control sequences, OSC strings (titles, links), and every C0 or C1 control but tab and newline: what
# comes out of a build's log must not move the user's cursor.
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def human_time(seconds: float) -> str:
    """`seconds` as `12.3 s`, `14m 02s` or `1h 05m`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    if (whole := round(seconds)) < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}h {minutes % 60:02}m"


def human_size(size: int) -> str:
    """`size` in bytes as `512 B`, `1.5 KiB`, `40.0 MiB` ... (units of 1024)."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if round(amount, 1) < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def _clean(text: str) -> str:
    return _CONTROL.sub("", text)


class _Activity:
    """Something that takes time, shown while it runs and once more when it ends."""

    def __init__(self, title: str) -> None:
        self.title = _clean(title)
        self._start = time.monotonic()

    def _amount(self) -> str:
        return ""

    @property
    def seconds(self) -> float:
        """How long it runs already."""
        return time.monotonic() - self._start

    def line(self) -> str:
        """The title, how much, and how long."""
        return "  ".join(part for part in (self.title, self._amount(), human_time(self.seconds)) if part)


class Progress(_Activity):
    """The progress of a transfer. title: its name; total: its size in bytes, None if unknown."""

    def __init__(self, title: str, total: int | None) -> None:
        super().__init__(title)
        self.total = total
        self.done = 0

    def advance(self, count: int) -> None:
        """`count` more bytes have come."""
        self.done += count

    def _amount(self) -> str:
        if self.total is None or self.done >= self.total:
            return human_size(self.done)
        return f"{human_size(self.done)} of {human_size(self.total)}"


@dataclass
class _State:
    json: bool = False
    verbose: int = 0
    result_written: bool = False
    console: Console = field(default_factory=lambda: _console())
    active: list[_Activity] = field(default_factory=list)
    live: Live | None = None


def _console() -> Console:
    # soft_wrap: a path or a command must stay one line, so that it can be copied and found by grep.
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


_state = _State()


def configure(json: bool = False, verbose: int = 0) -> None:
    """Set how to talk.

    json: stdout gets the one object of `result` and nothing else. verbose: from 1 on `detail` is shown.
    """
    global _state
    _stop_live()
    _state = _State(json=json, verbose=verbose)


def _on_terminal() -> bool:
    # rich alone would animate into a file when FORCE_COLOR is set.
    return _state.console.is_interactive and sys.stderr.isatty()


def _render() -> Group:
    frame = _FRAMES[int(time.monotonic() * _REFRESHES_PER_SECOND) % len(_FRAMES)]
    lines = []
    for depth, activity in enumerate(_state.active):
        mark = frame if depth == len(_state.active) - 1 else " "
        lines.append(Text(f"{'  ' * depth}{mark} {activity.line()}", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def _stop_live() -> None:
    if _state.live is not None:
        _state.live.stop()
        _state.live = None


def _update_live() -> None:
    if not _state.active:
        _stop_live()
    elif _state.live is None and _on_terminal():
        # Without the redirections: they would cover Python's streams, but not those of the children.
        _state.live = Live(
            console=_state.console,
            get_renderable=_render,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        _state.live.start(refresh=True)


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """No animation inside the block: for children that write to the terminal themselves."""
    _stop_live()
    try:
        yield
    finally:
        _update_live()


def _say(text: str, style: str = "", indent: str = "") -> None:
    indent = "  " * len(_state.active) + indent
    for line in _clean(text).split("\n"):
        _state.console.print(Text(f"{indent}{line}" if line else "", style))


def info(text: str) -> None:
    """Tell what happens."""
    _say(text)


def detail(text: str) -> None:
    """Tell what only a verbose run shows."""
    if _state.verbose:
        _say(text, "dim")


def warn(text: str) -> None:
    """Tell what the user should look at though the work goes on."""
    _say(f"warning: {text}", "yellow")


def error(fault: XbuildError) -> None:
    """Tell why the work ends: the message, the details indented, the hint."""
    _say(f"error: {fault.message}", "bold red")
    for line in fault.details:
        _say(line, indent="  ")
    if fault.hint:
        _say(f"hint: {fault.hint}", "cyan", indent="  ")


@contextlib.contextmanager
def _running(activity: _Activity) -> Iterator[None]:
    if not _on_terminal():
        _say(f"{activity.title} ...")
    _state.active.append(activity)
    _update_live()
    finished = False
    try:
        yield
        finished = True
    finally:
        _state.active.remove(activity)
        _update_live()
        # Dim while an exception passes, so that the step that failed and the error stay what the eye finds.
        _say(activity.line() if finished else f"{activity.line()}  (not finished)", "" if finished else "dim")


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Show that `title` runs (a spinner on a terminal, else a line), and at its end how long it took.

    What is told inside the block is indented.
    """
    with _running(_Activity(title)):
        yield


@contextlib.contextmanager
def progress(title: str, total_bytes: int | None) -> Iterator[Progress]:
    """As `step`, for a transfer of `total_bytes` (None: unknown): call `advance` of what it yields."""
    transfer = Progress(title, total_bytes)
    with _running(transfer):
        yield transfer


def output(text: str) -> None:
    """Write `text`, a result for people, to stdout; in json mode to stderr: stdout then holds one object."""
    stream = sys.stderr if _state.json else sys.stdout
    with paused():
        try:
            print(_clean(text), file=stream, flush=True)
        except BrokenPipeError:
            # The reader has seen enough (`| head`). What Python flushes at its end must not find the pipe again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            sys.exit(128 + signal.SIGPIPE)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write `rows` below the headings `columns`, aligned, to where `output` writes."""
    lines = [[_clean(str(cell)).replace("\n", " ") for cell in line] for line in (columns, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        output("  ".join(padded).rstrip())


def result(value: dict[str, Any]) -> None:
    """In json mode write `value` to stdout as the one JSON object; otherwise nothing: `output` has told it.

    Raises RuntimeError when called twice, for a reader of stdout parses one object.
    """
    if not _state.json:
        return
    if _state.result_written:
        raise RuntimeError("log.result was called twice")
    _state.result_written = True
    with paused():
        print(json_.dumps(value, indent=2, sort_keys=True), flush=True)
