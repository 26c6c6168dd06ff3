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
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from xbuild.base.activity import Activity, screen
from xbuild.base.activity import Progress as Progress
from xbuild.base.errors import MachineError, XbuildError
from xbuild.base.events import conclusion, emit
from xbuild.base.follow import Follower
from xbuild.base.sections import Sections
from xbuild.base.streams import open_streams
from xbuild.base.text import aligned, clean, one_line
from xbuild.base.text import human_size as human_size
from xbuild.base.text import human_time as human_time

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_REFRESHES_PER_SECOND = 4
_CHUNK = 1 << 20


@dataclass
class _State:
    json: bool = False
    theirs: bool = False
    verbose: int = 0
    value: dict[str, Any] | None = None
    finished: bool = False
    warnings: list[str] = field(default_factory=list)
    console: Console | None = None
    active: list[Activity] = field(default_factory=list)
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
    if _state.console is None:
        # Only here: it takes long to load, and only what goes to a terminal needs it.
        from rich.console import Console

        # soft_wrap: a path or a command must stay one line, so that it can be copied and found by grep.
        talk = cast("IO[str]", _Talk())
        _state.console = Console(file=talk, highlight=False, markup=False, emoji=False, soft_wrap=True)
    return _state.console


def _plain() -> bool:
    """Whether nothing of what a terminal can do is wanted. These variables are rich's."""
    wanted = any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"))
    return not wanted and not sys.stderr.isatty()


# Before anything else is opened.
open_streams()
_state = _State()


def configure(json: bool = False, verbose: int = 0, *, theirs: bool = False) -> None:
    """Set how to talk.

    json: stdout gets the one object of `finish` and nothing else. verbose: from 1 on `detail` is shown. theirs: stdout
    is that of a program of the user's.
    """
    global _state
    _stop_live()
    _state = _State(json=json, verbose=verbose, theirs=theirs)


def _on_terminal() -> bool:
    # rich alone would animate into a file when FORCE_COLOR is set.
    return sys.stderr.isatty() and _console().is_interactive


def _render() -> Group:
    from rich.console import Group
    from rich.text import Text

    frame = _FRAMES[int(time.monotonic() * _REFRESHES_PER_SECOND) % len(_FRAMES)]
    return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in screen(_state.active, frame)))


def _hears() -> bool:
    return threading.current_thread() is threading.main_thread()


def _stop_live() -> None:
    if _hears() and signal.getsignal(signal.SIGTSTP) is _suspend:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    if _state.live is not None:
        _state.live.stop()
        _state.live = None


def _suspend(number: int, _frame: object) -> None:
    """^Z: the shell gets its terminal as it was, and the line comes back with `fg`."""
    _stop_live()
    os.kill(os.getpid(), number)
    _update_live()


def _update_live() -> None:
    if not _state.active:
        _stop_live()
    elif _state.live is None and _on_terminal():
        from rich.live import Live

        if _hears() and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, _suspend)

        # Without the redirections: they would cover Python's streams, but not those of the children.
        _state.live = Live(
            console=_console(),
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
    line = f"{indent}{one_line(text)}" if text else ""
    if _plain():
        _Talk().write(f"{line}\n")
        _Talk().flush()
        return
    from rich.text import Text

    _console().print(Text(line, style))


def info(text: str) -> None:
    """Tell what happens."""
    _say(text)
    emit("info", text=text)


def detail(text: str) -> None:
    """Tell what only a verbose run shows."""
    if _state.verbose:
        _say(text, "dim")


def warn(text: str) -> None:
    """Tell what the user should look at though the work goes on."""
    _say(f"warning: {text}", "yellow")
    _state.warnings.append(text)
    emit("warning", text=text)
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
    emit("error", error=fault.as_json())
    _say(f"error: {fault.message}", "bold red")
    for line in "\n".join(fault.details).split("\n") if fault.details else ():
        _say(clean(line), indent="  ")
    if fault.hint:
        _say(f"hint: {fault.hint}", "cyan", indent="  ")


@contextlib.contextmanager
def running(activity: Activity) -> Iterator[None]:
    """As `step`, of an activity that knows how it is shown."""
    terminal = _on_terminal()
    if not terminal:
        _say(f"{activity.title} ...")
    emit("began", **activity.facts(), depth=len(_state.active))
    _state.active.append(activity)
    _update_live()
    finished = False
    try:
        with _followed(activity, terminal=terminal):
            yield
        finished = True
    finally:
        _state.active.remove(activity)
        _update_live()
        facts = {**activity.facts(), "seconds": round(activity.seconds, 3), "depth": len(_state.active)}
        emit("ended" if finished else "failed", **facts)
        # Dim while an exception passes, so that the step that failed and the error stay what the eye finds.
        _say(activity.line() if finished else f"{activity.line()}  (not finished)", "" if finished else "dim")


@contextlib.contextmanager
def _followed(activity: Activity, *, terminal: bool) -> Iterator[None]:
    streamed = activity.file is not None and _state.verbose > 0
    sections = Sections(os.environ)
    folded = streamed and not terminal and sections.known
    if folded:
        _Talk().write(sections.begin(activity.title))
    try:
        with Follower(activity, (lambda line: _say(line, "dim")) if streamed else None, None if terminal else _say):
            yield
    finally:
        if folded:
            _Talk().write(sections.end(activity.title))


@contextlib.contextmanager
def step(title: str, file: Path | None = None, expected: float | None = None) -> Iterator[None]:
    """Show that `title` runs, and at its end how long it took. What is told inside the block is indented.

    file: its log: the last line is shown, in a verbose run each. expected: the seconds that it took another time.
    """
    with running(Activity(title, file, expected)):
        yield


@contextlib.contextmanager
def progress(title: str, total_bytes: int | None) -> Iterator[Progress]:
    """As `step`, for a transfer of `total_bytes` (None: unknown): call `advance` of what it yields."""
    transfer = Progress(title, total_bytes, emit)
    with running(transfer):
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


def _for_people() -> TextIO:
    return sys.stderr if _state.json or _state.theirs else sys.stdout


def output(text: str) -> None:
    """Write the line `text`, a result for people, to stdout; in json mode to stderr: stdout then holds one object.

    Raises MachineError if stdout takes nothing.
    """
    _put(one_line(text), _for_people())


def output_text(text: str) -> None:
    """As `output`, for what a program said: lines, without what steers a terminal."""
    _put(clean(text), _for_people())


def output_file(path: Path) -> None:
    """As `output_text`, for a file of any size."""
    with path.open("rb") as file:
        # To the end of a line, but for lines that are endless.
        while chunk := file.read(_CHUNK) + file.readline(_CHUNK):
            output_text(chunk.decode(errors="replace").removesuffix("\n"))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write `rows` below the headings `columns`, aligned, to where `output` writes."""
    from rich.cells import cell_len

    for line in aligned([columns, *rows], cell_len):
        output(line)


def result(value: dict[str, Any]) -> None:
    """`value` is what the command gives, for `finish`: for programs, `output` has told it to people.

    Raises RuntimeError when called twice, for a reader of stdout parses one object.
    """
    if _state.value is not None:
        raise RuntimeError("log.result was called twice")
    _state.value = value


def finish(code: int, fault: XbuildError | None = None) -> dict[str, Any]:
    """The command ends with the exit code `code`, for `fault` if there is one: give its one object (`conclusion`).

    In json mode it is written to stdout. Raises MachineError if stdout takes nothing. A second call writes nothing.
    """
    value = conclusion(code, fault, _state.value or {}, _state.warnings)
    if not _state.finished:
        _state.finished = True
        emit("finished", status=value["status"], exit_code=code)
        if _state.json:
            _put(json_.dumps(value, indent=2, sort_keys=True), sys.stdout)
    return value
