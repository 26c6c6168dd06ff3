"""Where every error ends: shown once, in its own words, with the exit code that the README documents."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec

from xbuild.base import log, paths, process
from xbuild.base.errors import EXIT_INTERRUPTED, MachineError, UsageError, XbuildError
from xbuild.base.events import events_to
from xbuild.base.paths import fix_umask
from xbuild.cli import summary
from xbuild.store import shared

P = ParamSpec("P")

_SILENT = (
    "--dry", "-R", "--echo", "-e", "--pty", "-p", "--hide", "--warn-only", "-w", "--command-timeout", "-T",
    "--prompt-for-sudo-password",
)  # fmt: skip
"""Options of invoke's that are about commands that it runs itself."""
_INSTEAD = "options stand behind the command; `build --plan` tells what would be done"

_FILES = ("events", "summary")
_SHARED = {"store": "", "push": True}
"""Options that `guarded` adds, and what they are by themselves; their help stands in `xbuild.cli.words`."""

_BUGS = (errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ECHILD, errno.ESRCH, errno.ENOTTY, errno.ENOTSOCK)
"""What the kernel says to a program that uses it wrongly, whatever the machine is."""

_OF_PATHLIB = ("Symlink loop", "Could not determine home directory")
"""What pathlib says of a file system by a RuntimeError."""

_FULL = "free some space, or run: invoke clean"
_DENIED = "is it yours, and may you read and write it?"
_STORE = "; XBUILD_CACHE names another store"
"""What to say besides of a place in the store that cannot be used."""
_IN_THE_WAY = "something else has its place: move it away"
_MEMORY = "end other programs, raise the limit (ulimit -v, -u), or build with --jobs 1"
_HINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or name a store on another file system by XBUILD_CACHE",
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: "name a place that can be written to",
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the machine has too many files open: end other programs",
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _MEMORY,
    errno.EIO: "the disk may be failing: dmesg tells more",
    errno.ENOENT: "did something remove it while xbuild ran?",
    errno.E2BIG: "give fewer or shorter words, or a smaller environment",
}


class _Terminated(BaseException):
    """SIGTERM or SIGHUP: end in order, as for ^C."""


def _terminate(number: int, _frame: object) -> None:
    raise _Terminated(number)


def _hear_no_more() -> None:
    """The end has begun: what comes now must neither take its exit code nor cut its words short."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def fault_of(error: BaseException) -> XbuildError | None:
    """What to tell the user of `error` where the machine, or what he gave, is at fault; None where xbuild is.

    A file that the command line names is the user's (exit code 2), all else is the machine's (4).
    """
    where = [_place(error)]
    match error:
        case XbuildError():
            return error
        case MemoryError():
            return MachineError("not enough memory", details=where, hint=_MEMORY)
        case RecursionError():
            return UsageError("something given is nested too deeply", details=where)
        case UnicodeError():
            return UsageError(f"a name or a text has the wrong encoding: {error}", details=where)
        case RuntimeError() if str(error).startswith(_OF_PATHLIB):
            return UsageError(str(error), details=where)
        case OSError() if error.errno is not None and error.errno not in _BUGS:
            return _fault_of_system(error, error.errno, where)
    return None


def _fault_of_system(error: OSError, number: int, where: list[str]) -> XbuildError:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    what = error.strerror or type(error).__name__
    if not names and number == errno.ENOENT and not _working_directory():
        return UsageError("the working directory was removed", hint="cd to one that is there")
    message, hint = ": ".join([" -> ".join(names), what] if names else [what]), _HINTS.get(number)
    if hint and number in (errno.EACCES, errno.EPERM, errno.EROFS) and any(map(_in_store, names)):
        hint += _STORE
    kind = UsageError if any(map(_named, names)) else MachineError
    return kind(message, details=where, hint=hint)


def _in_store(name: str) -> bool:
    """Whether `name` is the store, a place in it, or one on the way to it."""
    return any(Path(name) in (store, *store.parents) or store in Path(name).parents
               for store in (paths.named_cache(), paths.cache()))  # fmt: skip


def _place(error: BaseException) -> str:
    """Where in xbuild it was met, for whoever reads a report of it."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [f"{file.relative_to(paths.PACKAGE)}:{line}" for file, line in frames if file.is_relative_to(paths.PACKAGE)]
    return f"xbuild met it in {own[-1]}" if own else "xbuild met it at its start"


def _named(name: str) -> bool:
    words = {word.partition("=")[2] if word.startswith("--") else word for word in sys.argv[1:]} - {""}
    here = _working_directory()
    return any(name == word or (here and name == str(here / word)) for word in words)


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def outcome(work: Callable[[], int | None], end: Callable[[dict[str, Any]], None] | None = None) -> int:
    """Do `work`, whose result is an exit code (None: 0); give the exit code, with an error told.

    end: gets what came of it, as `log.finish` gives it.
    """
    code, fault = _done(work)
    try:
        value = log.finish(code, fault)
        if end is not None:
            end(value)
    except XbuildError as error:
        log.error(error)
        return code or error.exit_code
    return code


def _done(work: Callable[[], int | None]) -> tuple[int, XbuildError | None]:
    try:
        return work() or 0, None
    except (KeyboardInterrupt, _Terminated):
        log.warn("interrupted; a build goes on where it stopped when the same command is given again")
        return EXIT_INTERRUPTED, None
    except SystemExit:
        raise
    except Exception as error:
        fault = fault_of(error)
        if fault is None:
            lines = traceback.format_exc().splitlines()
            hint = "this is a bug in xbuild; please report it with the lines above"
            fault = XbuildError(f"{type(error).__name__}: {error}", details=lines, hint=hint)
        log.error(fault)
        return fault.exit_code, fault


def _added(taken: Collection[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Options that a task with these parameters gets: those for files, and those about shared stores."""
    long = "json" in taken and bool({"jobs", "verbose"}.intersection(taken))
    others = {name: value for name, value in _SHARED.items() if long and name not in taken}
    return _FILES if long else (), others


def _choose(asked: Mapping[str, object]) -> None:
    shared.choose(str(asked.get("store", "")), push=bool(asked.get("push", True)))


def guarded(task: Callable[P, int | None]) -> Callable[P, None]:
    """Make `task` end the program with the right exit code; what it returns is an exit code too (None: 0).

    A task with --json that takes long also gets --events, --summary, --store and --no-push.
    """
    signature = inspect.signature(task)
    more, others = _added(set(signature.parameters))

    @functools.wraps(task)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        _hear()
        process.end_with_starter()
        fix_umask()
        refused = _of_invoke(args)
        files = {name: _file(kwargs.pop(name, "")) for name in more}
        _choose({name: kwargs.pop(name, value) for name, value in others.items()})
        log.configure(json=bool(kwargs.get("json")))

        with contextlib.ExitStack() as stack:

            def work() -> int | None:
                try:
                    if refused:
                        raise _of_invoke_alone(refused)
                    stack.enter_context(events_to(files.get("events"), log.warn))
                    return task(*args, **kwargs)
                finally:
                    _hear_no_more()

            def end(value: dict[str, Any]) -> None:
                summary.write(task.__name__.rstrip("_"), value, files.get("summary"))

            code = outcome(work, end if more else None)
        if code:
            sys.exit(code)

    known = {**dict.fromkeys(more, ""), **others}
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in known.items()]
    wrapper.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    return wrapper


def _of_invoke_alone(option: str) -> UsageError:
    return UsageError(f"{option} is an option of invoke; xbuild's commands do not have it", hint=_INSTEAD)


def _of_invoke(args: Sequence[Any]) -> str | None:
    """An option of invoke's, before the command, that would say nothing to us; None if there is none."""
    if not any(hasattr(context, "config") for context in args[:1]):
        return None
    for word in itertools.takewhile(lambda word: word.startswith("-"), sys.argv[1:]):
        if word.partition("=")[0] in _SILENT:
            return word
    return None


def _file(word: object) -> Path | None:
    return Path(str(word)).absolute() if word else None


def _hear() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Ignored stays ignored: that is what nohup is for.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
