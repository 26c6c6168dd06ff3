"""The one place outside the sandbox that starts processes."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from xbuild.base.errors import MachineError, PhaseError

_FULL = (errno.ENOSPC, errno.EDQUOT)

Argument = str | os.PathLike[str]


@dataclass(frozen=True)
class Completed:
    """How a process ended. returncode: its exit code, or minus the number of the signal that ended it."""

    returncode: int
    stdout: bytes = b""
    stderr: bytes = b""


def show(command: Sequence[Argument]) -> str:
    """`command` as a line that can be pasted into a shell."""
    return shlex.join(os.fspath(word) for word in command)


def describe_exit(returncode: int) -> str:
    """`exit code 2` or `killed by SIGSEGV`, from a returncode as in `Completed`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def disk_full(lines: Iterable[str], returncode: int = 1) -> OSError | None:
    """The error that a program met whose output is `lines`, if it was that its disk is full, or a limit of sizes."""
    if returncode == -signal.SIGXFSZ:
        return OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    for line in lines:
        # tar says the last one if only a part of a block could be written.
        if any(words in line for words in (*map(os.strerror, _FULL), "Wrote only ")):
            return OSError(errno.ENOSPC, line)
    return None


def run(
    command: Sequence[Argument],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    input: bytes | IO[bytes] | None = None,
    capture: bool = False,
    check: bool = True,
    stdout: IO[bytes] | None = None,
) -> Completed:
    """Run `command` to its end; without `capture` its output goes to our stderr, or to `stdout`.

    env: the whole environment (None: ours, but what is captured is in English). input: bytes or a file for its stdin
    (None: /dev/null). Raises MachineError if the program is not there; if `check` and it fails, OSError for a full
    disk, of which whoever holds `writing_below` makes a message, else PhaseError.
    """
    # LANGUAGE goes before LC_ALL (gettext(3)).
    english = {**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": ""} if capture else None
    # Our stdout belongs to results (--json), so a child's talk never goes there.
    target = subprocess.PIPE if capture else (stdout if stdout is not None else sys.__stderr__)
    try:
        done = subprocess.run(
            [os.fspath(word) for word in command],
            env=english if env is None else dict(env),
            cwd=cwd,
            input=input if isinstance(input, bytes) else None,
            stdin=None if isinstance(input, bytes) else input or subprocess.DEVNULL,
            stdout=target,
            stderr=subprocess.PIPE if capture else None,
            check=False,
        )
    except (FileNotFoundError, PermissionError) as error:
        if error.filename != os.fspath(command[0]):
            raise
        # execvp(3) says EACCES if a directory of PATH may not be searched and the program is in no other.
        raise MachineError(f"program not found: {error.filename}", hint="`invoke doctor` names its package") from error
    result = Completed(done.returncode, done.stdout or b"", done.stderr or b"")
    if check and done.returncode != 0:
        raise _failure(command, result)
    return result


def _failure(command: Sequence[Argument], done: Completed) -> Exception:
    talk = (done.stderr or done.stdout).decode(errors="replace").splitlines()
    message = f"{show(command)}: {describe_exit(done.returncode)}"
    return disk_full(talk, done.returncode) or PhaseError(message, details=talk[-20:])


@contextlib.contextmanager
def output(command: Sequence[Argument], *, stdin: IO[bytes]) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """Start `command` on the file `stdin`; yield what it writes, and what waits for its returncode.

    It is killed when the block ends: who has read enough need not read the rest.
    Raises MachineError if the program is not there.
    """
    words = [os.fspath(word) for word in command]
    try:
        process = subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise MachineError(f"program not found: {error.filename}", hint="`invoke doctor` names its package") from error
    assert process.stdout is not None
    try:
        yield process.stdout, process.wait
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


class Child:
    """A started process that is killed, with all that it started in its sandbox, when the `with` block ends."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id, in our pid namespace."""
        return self._process.pid

    def ask_to_end(self) -> None:
        """Send SIGTERM, upon which one of our own commands ends in order."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def wait(self, seconds: float | None = None) -> int | None:
        """Its returncode (as in `Completed`), or None if it still runs after `seconds`."""
        # Popen.wait with a timeout looks again and again; a pidfd is told (pidfd_open(2)).
        descriptor = os.pidfd_open(self._process.pid) if self._process.poll() is None else None
        if descriptor is not None:
            try:
                ended = select.select([descriptor], [], [], seconds)[0]
            finally:
                os.close(descriptor)
            if not ended:
                return None
        return self._process.wait()

    def kill(self) -> None:
        """End it at once and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def started(
    command: Sequence[Argument],
    *,
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
    output: IO[bytes] | None = None,
    errors: IO[bytes] | None = None,
    interactive: bool = False,
    input: int | None = None,
) -> Iterator[Child]:
    """Start `command` and yield it.

    output: where its stdout and stderr go (None: our stderr; with `interactive` our own three streams). errors: where
    its stderr goes, if not there too. input: a descriptor for its stdin (None: /dev/null).
    A child that is not interactive gets a session of its own, so that ^C reaches only us and we end it in order.
    """
    stream: IO[bytes] | IO[str] | None = output if output is not None else sys.__stderr__
    process = subprocess.Popen(
        [os.fspath(word) for word in command],
        env=dict(env),
        stdin=None if interactive else subprocess.DEVNULL if input is None else input,
        stdout=None if interactive else stream,
        stderr=None if interactive else errors or subprocess.STDOUT,
        pass_fds=tuple(pass_fds),
        start_new_session=not interactive,
    )
    child = Child(process)
    try:
        yield child
    finally:
        child.kill()


LIFELINE = "XBUILD_LIFELINE"
"""Names a descriptor that nothing comes from: it ends with who has started us."""


def end_with_starter() -> None:
    """From now on this process gets SIGTERM when who has started it is gone, if he has given us a LIFELINE."""
    word = os.environ.pop(LIFELINE, "")
    if not word.isdigit():
        return
    descriptor = int(word)

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.set_inheritable(descriptor, False)
            os.read(descriptor, 1)
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Each process, and what proc(5), /proc/PID/stat, tells of it from `state` on; the files are readable for all."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The command name, in parentheses, may hold anything: the fixed fields start after the last ')'.
                yield int(entry.name), (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _belonging(parents: Mapping[int, int], tops: Collection[int]) -> Iterator[tuple[int, int]]:
    """Each process that is one of `tops` or a descendant of one, and which one."""
    for process in parents:
        ancestor = process
        while ancestor > 1 and ancestor not in tops:
            ancestor = parents.get(ancestor, 0)
        if ancestor in tops:
            yield process, ancestor


def memory_of(tops: Collection[int]) -> dict[int, int]:
    """Bytes that each of these processes and its descendants have in memory; what they share counts for each."""
    parents: dict[int, int] = {}
    pages: dict[int, int] = {}
    for process, fields in _stats():
        parents[process], pages[process] = int(fields[1]), int(fields[21])
    found = dict.fromkeys(tops, 0)
    for process, top in _belonging(parents, tops):
        found[top] += pages[process] * os.sysconf("SC_PAGE_SIZE")
    return found


def memory_available() -> int:
    """Bytes that new programs can have without swapping (proc(5), MemAvailable)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_ticks(pid: int) -> int:
    """Clock ticks of CPU that `pid`, its descendants and their reaped children have used (proc(5), /proc/PID/stat).

    It sees processes of a subordinate user too.
    """
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for process, fields in _stats():
        parents[process] = int(fields[1])
        ticks[process] = sum(int(field) for field in fields[11:15])
    return sum(ticks[process] for process, _ in _belonging(parents, {pid}))


def end_in_order(child: Child, seconds: float, *, spared: Collection[str] = ()) -> bool:
    """Send SIGTERM to the descendants of `child`, and whether it has ended of that within `seconds`.

    spared: programs by the names that the kernel has for them (proc(5), /proc/PID/comm), which only their children
    are to end.
    """
    told: set[int] = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        parents = {process: int(fields[1]) for process, fields in _stats()}
        for process in {process for process, _ in _belonging(parents, {child.pid})} - told - {child.pid}:
            # What is gone by now needs nothing.
            with contextlib.suppress(OSError):
                if Path(f"/proc/{process}/comm").read_text().strip() not in spared:
                    told.add(process)
                    os.kill(process, signal.SIGTERM)
        if child.wait(0.1) is not None:
            return True
    return False


InVain = Callable[[], object]
"""Asked from time to time while a child runs: gives something true once nothing good can come of it any more."""
_LOOK = 5.0
"""Seconds between two such questions, and looks at what a child does."""


def never() -> bool:
    """The `InVain` of what may run to its end."""
    return False


def wait(child: Child, in_vain: InVain) -> None:
    """Wait until `child` has ended, or is `in_vain`: then it is killed."""
    while child.wait(_LOOK) is None:
        if in_vain():
            child.kill()


def watch(
    child: Child, log: Path,
    *, idle_limit: float, on_idle: Callable[[float], None], in_vain: InVain = never,
) -> int | None:  # fmt: skip
    """Wait for `child`, whose output goes to the file `log`; give its returncode.

    A child that neither writes nor uses CPU for `idle_limit` seconds is ended, and None given; `on_idle` is told
    once, halfway, with the seconds so far. A busy one may take as long as it likes, unless it is `in_vain`: then it is
    ended, and None given, too.
    """
    step = min(_LOOK, idle_limit / 4)
    # Up to two ticks (20 ms) a step is what waking up to look around costs, not work.
    noise = 2
    size, ticks, since, told = log.stat().st_size, 0, time.monotonic(), False
    while (returncode := child.wait(step)) is None:
        if in_vain():
            child.kill()
            return None
        if (now := log.stat().st_size) != size:
            size, since, told = now, time.monotonic(), False
            continue
        used = cpu_ticks(child.pid)
        if abs(used - ticks) > noise:
            since, told = time.monotonic(), False
        ticks = used
        idle = time.monotonic() - since
        if idle >= idle_limit:
            child.kill()
            return None
        if idle >= idle_limit / 2 and not told:
            on_idle(idle)
            told = True
    return returncode
