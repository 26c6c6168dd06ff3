"""The only place that writes to the terminal: talk goes to stderr, results go to stdout.

Names and texts that others made cannot speak for xbuild: a line stays one line, control characters are shown or taken
out. Talk that nobody can hear is lost and the work goes on; a result that cannot be written is an error.

Module-level state, set once by `configure`, because there is one terminal.
"""

from __future__ import annotations

import contextlib
import io
import json as json_
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TextIO, cast

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from xbuild.base.errors import MachineError, XbuildError

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_REFRESHES_PER_SECOND = 4
_CHUNK = 1 << 20
# Beside C0 and C1 controls those that turn the order of what is seen (UAX #9), and the other separators of lines.
_OTHERS = r"\x7f-\x9f\u2028-\u202e\u2066-\u2069"
# ECMA-48 control sequences, OSC strings (titles, links), and every control but tab and newline: what comes out of a
# build's log must not move the user's cursor. An OSC string that does not end hides no further line.
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
    rf"|[\x00-\x08\x0b-\x1a\x1c-\x1f{_OTHERS}]+|\x1b"
)
_UNSEEN = re.compile(rf"[\x00-\x08\x0a-\x1f{_OTHERS}]")


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
    """Text of many lines, such as a log, without what steers a terminal."""
    return _CONTROL.sub("", text)


def _line(text: str) -> str:
    """`text` as one line, what cannot be seen in it as in Python: a file's name may hold anything."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Activity:
    """Something that takes time, shown while it runs and once more when it ends."""

    def __init__(self, title: str) -> None:
        self.title = _line(title)
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
    told: list[Callable[[str], None]] = field(default_factory=list)


def _silence(stream: TextIO) -> None:
    """Let `stream` lead nowhere, also for what Python flushes at its end: it would end with exit code 120."""
    with contextlib.suppress(OSError, ValueError):
        number = os.open(os.devnull, os.O_WRONLY)
        os.dup2(number, stream.fileno())
        os.close(number)


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    """For what writes to stderr: if it takes nothing, the work goes on."""
    try:
        yield
    except OSError:
        _silence(sys.stderr)


class _Talk(io.TextIOBase):
    """stderr, for rich, which would end the program on its own when that takes nothing."""

    def write(self, text: str) -> int:
        """Write `text`."""
        with _lost():
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush stderr."""
        with _lost():
            sys.stderr.flush()

    def isatty(self) -> bool:
        """Whether stderr is a terminal."""
        return sys.stderr.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of stderr."""
        return sys.stderr.encoding or "utf-8"


def _console() -> Console:
    # soft_wrap: a path or a command must stay one line, so that it can be copied and found by grep.
    return Console(file=cast("IO[str]", _Talk()), highlight=False, markup=False, emoji=False, soft_wrap=True)


def _open_streams() -> None:
    """Give each of the three streams that is closed a file: the next one that is opened would get its number.

    Nothing comes from stdin, what goes to stderr is lost, and whoever writes to stdout is told (EBADF).
    """
    for number, name, mode in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free; children have it too.
            os.set_inheritable(os.open(os.devnull, mode), True)
            how = "r" if number == 0 else "w"
            stream = open(number, how, errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


# Before anything else is opened.
_open_streams()
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
    _state.console.print(Text(f"{indent}{_line(text)}" if text else "", style))


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
    for tell in _state.told:
        tell(text)


@contextlib.contextmanager
def warnings_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Inside the block `tell` gets each warning too."""
    _state.told.append(tell)
    try:
        yield
    finally:
        _state.told.remove(tell)


def error(fault: XbuildError) -> None:
    """Tell why the work ends: the message, the details indented, the hint."""
    _say(f"error: {fault.message}", "bold red")
    for line in "\n".join(fault.details).split("\n") if fault.details else ():
        _say(_clean(line), indent="  ")
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


@contextlib.contextmanager
def to_stdout() -> Iterator[None]:
    """For what writes to stdout: MachineError, also for what is still to be flushed, if it takes nothing.

    The program ends where its reader has seen enough (`| head`).
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        _silence(sys.stdout)
        if isinstance(error, BrokenPipeError):
            sys.exit(128 + signal.SIGPIPE)
        hint = "it goes where the shell was told: to a terminal, a file (>) or a program (|)"
        raise MachineError(f"cannot write to stdout: {error.strerror}", hint=hint) from error


def _put(text: str, stream: TextIO) -> None:
    # Names may be bytes that are no text, and a terminal may know few letters.
    encoding = stream.encoding or "utf-8"
    with paused(), to_stdout() if stream is sys.stdout else _lost():
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def output(text: str) -> None:
    """Write the line `text`, a result for people, to stdout; in json mode to stderr: stdout then holds one object.

    Raises MachineError if stdout takes nothing.
    """
    _put(_line(text), sys.stderr if _state.json else sys.stdout)


def output_text(text: str) -> None:
    """As `output`, for what a program said: lines, without what steers a terminal."""
    _put(_clean(text), sys.stderr if _state.json else sys.stdout)


def output_file(path: Path) -> None:
    """As `output_text`, for a file of any size."""
    with path.open("rb") as file:
        # To the end of a line, but for lines that are endless.
        while chunk := file.read(_CHUNK) + file.readline(_CHUNK):
            output_text(chunk.decode(errors="replace").removesuffix("\n"))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write `rows` below the headings `columns`, aligned, to where `output` writes."""
    lines = [[_line(str(cell)) for cell in line] for line in (columns, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        output("  ".join(padded).rstrip())


def result(value: dict[str, Any]) -> None:
    """In json mode write `value` to stdout as the one JSON object; otherwise nothing: `output` has told it.

    Raises RuntimeError when called twice, for a reader of stdout parses one object; MachineError if stdout takes
    nothing.
    """
    if not _state.json:
        return
    if _state.result_written:
        raise RuntimeError("log.result was called twice")
    _state.result_written = True
    _put(json_.dumps(value, indent=2, sort_keys=True), sys.stdout)
