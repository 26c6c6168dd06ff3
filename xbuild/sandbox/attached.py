"""Follows a command that the user is to have as if there were no sandbox around it: signals, stops, terminal.

Without a terminal of its own the command is in our process group, on our terminal: what the terminal sends reaches it
by itself. With one, the two terminals are connected, ours in raw mode. Either way signals are blocked from before the
sandbox is made, and read from a descriptor: none is lost, and none ends us. They stay blocked: when the command has
ended we only tidy up, and what comes then must not take its exit code.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path

from xbuild.sandbox import syscalls
from xbuild.sandbox.run import Sandbox, returncode_of, started

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
_HEARD_AT_TERMINAL = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGWINCH)
_SI_USER = 0
"""siginfo's si_code of a signal that a process has sent (sigaction(2)); those of the kernel are positive."""
_PATIENCE = 5.0
"""Seconds that a hung up session has to end in order."""
_CHUNK = 65536


def run_attached(sandbox: Sandbox, command: Sequence[str | Path]) -> int:
    """Run `command` on our three streams; give its returncode (as in process.Completed).

    It gets each signal that we get, and we stop when it stops. Raises MachineError if the sandbox cannot be had.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    with (
        _heard(_PASSED_ON) as heard,
        _foreground_kept(),
        started(sandbox, command, attached="yes", mask=before) as running,
        contextlib.closing(_Talk(running.talk)) as talk,
    ):
        return _Follower(talk, heard).follow()


@contextlib.contextmanager
def _heard(numbers: Sequence[int]) -> Iterator[int]:
    """A descriptor that can be read when one of these signals, which are blocked, has come."""
    descriptor = syscalls.signalfd(numbers)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Talk:
    """What the sandbox says, line by line, with the descriptors that come along."""

    def __init__(self, talk: socket.socket) -> None:
        self.socket = talk
        self.descriptors: list[int] = []
        self.lines: list[str] = []
        self.last = ""
        self._rest = b""

    def read(self) -> bool:
        """Wait for something and take it; False at its end."""
        data, descriptors, _, _ = socket.recv_fds(self.socket, _CHUNK, 2)
        self.descriptors += descriptors
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.decode(errors="replace") for line in lines]
        self.last = self.lines[-1] if self.lines else self.last
        return bool(data)

    def let_go(self) -> None:
        """Let the command, which has handed out its descriptors, begin."""
        # If the sandbox has been killed, that is what is read next.
        with contextlib.suppress(BrokenPipeError):
            self.socket.sendall(b"run\n")

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


class _Follower:
    """The loop of `run_attached`. heard: the descriptor of the signals."""

    def __init__(self, talk: _Talk, heard: int) -> None:
        self.talk = talk
        self.heard = heard
        self.handled = 0

    def follow(self) -> int:
        # Until there is a command, signals wait.
        while not self.talk.descriptors:
            if not self.talk.read():
                return returncode_of(self.talk.last)
        # What came so far it may have missed. It still has its signals blocked: what it gets twice waits there once.
        self._pass_on(all_=True)
        self.talk.let_go()
        while True:
            ready = select.select([self.talk.socket.fileno(), self.heard], [], [])[0]
            if self.heard in ready:
                self._pass_on()
            if self.talk.socket.fileno() in ready and not self._listen():
                return returncode_of(self.talk.last)

    def _listen(self) -> bool:
        """Do what the sandbox says; False once it has said all."""
        more = self.talk.read()
        for line in self.talk.lines[self.handled :]:
            if line.startswith("stopped "):
                # Who waits for us shall see what he would see of the command.
                os.kill(os.getpid(), signal.SIGSTOP)
        self.handled = len(self.talk.lines)
        return more

    def _pass_on(self, *, all_: bool = False) -> None:
        for number, code in syscalls.waiting_signals(self.heard):
            if all_ or code <= _SI_USER or number == signal.SIGCONT:
                with contextlib.suppress(ProcessLookupError):
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


def run_apart(sandbox: Sandbox, command: Sequence[str | Path]) -> int:
    """Run a command that is not to have the user's terminal: on one of its own, or on our streams if we have none."""
    return (run_on_terminal if has_terminal() else run_attached)(sandbox, command)


def run_on_terminal(sandbox: Sandbox, command: Sequence[str | Path]) -> int:
    """Run `command` on a terminal of its own, connected to ours; give its returncode.

    Its terminal belongs to the sandbox, so the names of devices are right there, and nothing in it can type into ours.
    If ours goes away, or we are told to end, its terminal hangs up; what does not end then is killed.
    """
    # Ignored stays ignored: that is what nohup is for.
    numbers = [number for number in _HEARD_AT_TERMINAL if signal.getsignal(number) is not signal.SIG_IGN]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    with (
        _heard(numbers) as heard,
        started(sandbox, command, attached="terminal") as running,
        contextlib.closing(_Talk(running.talk)) as talk,
    ):
        while len(talk.descriptors) < 2:
            if not talk.read():
                return returncode_of(talk.last)
        return _connected(talk, talk.descriptors[1], heard)


def _connected(talk: _Talk, master: int, heard: int) -> int:
    with _raw():
        _copy_size(master)
        talk.let_go()
        number = _relay(talk, master, heard)
        if number is not None:
            os.close(talk.descriptors.pop(1))
            _wait(talk, _PATIENCE)
            return -number
        _drain(master)
    return returncode_of(talk.last)


def _relay(talk: _Talk, master: int, heard: int) -> int | None:
    """Carry bytes until the command has ended (None), or give the signal by which our side does."""
    sources = [0, master, talk.socket.fileno(), heard]
    while True:
        ready = select.select(sources, [], [])[0]
        if heard in ready:
            for number, _ in syscalls.waiting_signals(heard):
                if number != signal.SIGWINCH:
                    return number
            _copy_size(master)
        if master in ready and not _carry(master, 1):
            # All who had it open are gone; what is left is the word how it ended.
            sources = [source for source in sources if source != master]
        if 0 in ready and not _carry(0, master):
            return signal.SIGHUP
        if talk.socket.fileno() in ready and not talk.read():
            return None


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
