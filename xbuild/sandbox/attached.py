"""Follows a command that the user is to have as if there were no sandbox around it: signals, stops, terminal.

Without a terminal of its own the command is in our process group, on our terminal: what the terminal sends reaches it
by itself. With one, the two terminals are connected, ours in raw mode.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path

from xbuild.sandbox.run import Running, Sandbox, returncode_of, started

_PASSED_ON = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGTSTP,
    signal.SIGCONT,
)
_SI_USER = 0
"""siginfo's si_code of a signal that a process has sent (sigaction(2)); those of the kernel are positive."""
_PATIENCE = 5.0
"""Seconds that a hung up session has to end in order."""
_CHUNK = 65536


def run_attached(sandbox: Sandbox, command: Sequence[str | Path]) -> int:
    """Run `command` on our three streams; give its returncode (as in process.Completed).

    It gets each signal that we get, and we stop when it stops. Raises MachineError if the sandbox cannot be had.
    """
    with _foreground_kept(), started(sandbox, command, interactive=True, attached="yes") as running:
        follower = _Follower(running)
        # Only now: a blocked signal would stay blocked in the command.
        watched = {*_PASSED_ON, signal.SIGCHLD, signal.SIGIO}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
        try:
            return follower.follow(watched)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Talk:
    """What the sandbox says, line by line, with the descriptors that come along."""

    def __init__(self, talk: socket.socket) -> None:
        self.socket = talk
        self.descriptors: list[int] = []
        self.lines: list[str] = []
        self.last = ""
        self._rest = b""

    def read(self) -> bool:
        """Take what has come; False at its end. With a blocking socket it waits for something."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, _CHUNK, 2)
        except BlockingIOError:
            return True
        self.descriptors += descriptors
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.decode(errors="replace") for line in lines]
        self.last = self.lines[-1] if self.lines else self.last
        return bool(data)

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


class _Follower:
    """The loop of `run_attached`, which waits for signals alone: the talk announces itself by SIGIO."""

    def __init__(self, running: Running) -> None:
        self.talk = _Talk(running.talk)
        self.handled = 0

    def follow(self, watched: set[signal.Signals]) -> int:
        descriptor = self.talk.socket.fileno()
        self.talk.socket.setblocking(False)
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
        try:
            # What came before the descriptor was made to announce itself is waiting already.
            while self._listen():
                info = signal.sigwaitinfo(watched)
                if info.si_signo in _PASSED_ON and (info.si_code <= _SI_USER or info.si_signo == signal.SIGCONT):
                    self._pass_on(info.si_signo)
            return returncode_of(self.talk.last)
        finally:
            self.talk.close()

    def _listen(self) -> bool:
        """Do what the sandbox says; False once it has said all."""
        while select.select([self.talk.socket], [], [], 0)[0]:
            if not self.talk.read():
                return False
            for line in self.talk.lines[self.handled :]:
                if line.startswith("stopped "):
                    # Who waits for us shall see what he would see of the command.
                    os.kill(os.getpid(), signal.SIGSTOP)
            self.handled = len(self.talk.lines)
        return True

    def _pass_on(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.talk.descriptors:
                signal.pidfd_send_signal(self.talk.descriptors[0], number)


@contextlib.contextmanager
def _foreground_kept() -> Iterator[None]:
    """A shell in the sandbox makes itself the terminal's foreground; afterwards we are that again."""
    group: int | None = None
    with contextlib.suppress(OSError):
        group = os.tcgetpgrp(0)
    try:
        yield
    finally:
        if group == os.getpgrp():
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
            with contextlib.suppress(OSError):
                os.tcsetpgrp(0, group)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def has_terminal() -> bool:
    """Whether a person sits at our three streams."""
    return all(os.isatty(descriptor) for descriptor in (0, 1, 2))


def run_on_terminal(sandbox: Sandbox, command: Sequence[str | Path]) -> int:
    """Run `command` on a terminal of its own, connected to ours; give its returncode.

    Its terminal belongs to the sandbox, so the names of devices are right there, and nothing in it can type into ours.
    If ours goes away, or we are told to end, its terminal hangs up; what does not end then is killed.
    """
    with started(sandbox, command, interactive=True, attached="terminal") as running:
        talk = _Talk(running.talk)
        try:
            while len(talk.descriptors) < 2:
                if not talk.read():
                    return returncode_of(talk.last)
            return _connected(talk, talk.descriptors[1])
        finally:
            talk.close()


def _connected(talk: _Talk, master: int) -> int:
    with _wakeup() as woken, _raw():
        _copy_size(master)
        sources = [0, master, talk.socket.fileno(), woken]
        hung_up = _relay(talk, master, sources, woken)
        if hung_up:
            os.close(talk.descriptors.pop(1))
            _wait(talk, _PATIENCE)
            return -signal.SIGHUP
        _drain(master)
    return returncode_of(talk.last)


def _relay(talk: _Talk, master: int, sources: list[int], woken: int) -> bool:
    """Carry bytes until the command has ended (False) or our side is gone (True)."""
    while True:
        ready = select.select(sources, [], [])[0]
        if woken in ready and {signal.SIGHUP, signal.SIGTERM} & set(os.read(woken, _CHUNK)):
            return True
        if woken in ready:
            _copy_size(master)
        if master in ready and not _carry(master, 1):
            # All who had it open are gone; what is left is the word how it ended.
            sources = [source for source in sources if source != master]
        if 0 in ready and not _carry(0, master):
            return True
        if talk.socket.fileno() in ready and not talk.read():
            return False


def _carry(source: int, destination: int) -> bool:
    """Carry what is there; False at the end of the source. A terminal's other end being gone is an error (EIO)."""
    try:
        data = os.read(source, _CHUNK)
        while data:
            done = os.write(destination, data)
            if done == len(data):
                return True
            data = data[done:]
    except OSError:
        return False
    return False


def _drain(master: int) -> None:
    while select.select([master], [], [], 0)[0] and _carry(master, 1):
        pass


def _wait(talk: _Talk, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([talk.socket], [], [], left)[0] and not talk.read():
            return


def _copy_size(master: int) -> None:
    """Give the terminal `master` the size of ours; the kernel tells the programs on it."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    saved = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, saved)


@contextlib.contextmanager
def _wakeup() -> Iterator[int]:
    """A descriptor that can be read when SIGWINCH, SIGHUP or SIGTERM has come; the bytes are their numbers."""
    reading, writing = os.pipe()
    for descriptor in (reading, writing):
        os.set_blocking(descriptor, False)
    numbers = (signal.SIGWINCH, signal.SIGHUP, signal.SIGTERM)
    handlers = [signal.signal(number, lambda *_: None) for number in numbers]
    before = signal.set_wakeup_fd(writing)
    sys.stdout.flush()
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
