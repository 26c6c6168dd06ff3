"""Runs inside gdb: makes its `run`, `start` and `starti` start the program under the emulator, which gdb then talks to.

Standard library and gdb's own module only.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import shlex
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

gdb: Any = importlib.import_module("gdb")

_GIVEN = json.loads(os.environ.pop("XBUILD_DEBUG"))
"""emulator: the words that start it. socket: where it is to listen. inner: variables that are only for gdb."""
_BETWEEN = f"{_GIVEN['socket']}-between"
"""Where gdb is listened to."""
_PAUSE = 0.01
"""Seconds until the next attempt to reach an emulator that has just been started."""
_CHUNK = 65536
_INTERRUPT, _BEGIN, _END = b"\x03$#"
"""gdb's word to stop a program, and the marks of all else that it says ("GDB Remote Serial Protocol", Packets)."""


class _Between(threading.Thread):
    """Carries what gdb and the emulator say to each other.

    The emulator reads nothing while the program runs, so gdb's word to stop it becomes a signal that it heeds.
    """

    def __init__(self, pid: int, emulator: socket.socket, listening: socket.socket) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._emulator = emulator
        self._listening = listening
        self._inside = False

    def run(self) -> None:
        """Until one of the two is gone."""
        with self._listening, self._emulator as emulator, contextlib.suppress(OSError):
            debugger, _ = self._listening.accept()
            with debugger:
                others = {emulator: debugger, debugger: emulator}
                while True:
                    for end in select.select([*others], [], [])[0]:
                        data = end.recv(_CHUNK)
                        if not data:
                            return
                        others[end].sendall(data if end is emulator else self._heard(data))

    def _heard(self, data: bytes) -> bytes:
        kept = bytearray()
        for byte in data:
            if byte == _INTERRUPT and not self._inside:
                os.kill(self._pid, signal.SIGTRAP)
                continue
            # In a packet both marks are escaped.
            self._inside = byte == _BEGIN or (self._inside and byte != _END)
            kept.append(byte)
        return bytes(kept)


class _Program:
    """The program that is debugged."""

    def __init__(self) -> None:
        self.pid = 0

    def start(self) -> None:
        """Start it, stopped at its first instruction; one that runs is ended."""
        file = gdb.current_progspace().filename
        if not file:
            raise gdb.GdbError('No executable file specified.\nUse the "file" command.')
        self.end()
        # A shell, for the user's arguments are words of one, and may redirect.
        text = f"exec {shlex.join([*_GIVEN['emulator'], '-g', _GIVEN['socket'], file])} {_setting('args')}"
        if terminal := _setting("inferior-tty"):
            text = f"exec < {shlex.quote(terminal)} > {shlex.quote(terminal)} 2>&1 && {text}"
        if folder := _setting("cwd"):
            text = f"cd {shlex.quote(folder)} && {text}"
        self.pid = os.posix_spawn(
            "/bin/sh",
            # The terminal sends SIGINT to both, and it is gdb that stops the program.
            ["sh", "-c", f"trap '' INT; {text}"],
            _environment(),
            # gdb ignores it, and what is ignored stays so across an exec.
            setsigdef=[signal.SIGTTOU],
            setsigmask=[],
        )
        self._connect()

    def end(self) -> None:
        """End it, if there is one."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
        if gdb.selected_inferior().pid:
            # By gdb's own `kill` the emulator would say so.
            gdb.execute("disconnect", to_string=True)
        for place in (_GIVEN["socket"], _BETWEEN):
            Path(place).unlink(missing_ok=True)

    def _connect(self) -> None:
        emulator, listening = self._reached(), socket.socket(socket.AF_UNIX)
        listening.bind(_BETWEEN)
        listening.listen()
        # Signals are gdb's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        _Between(self.pid, emulator, listening).start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            # Where it stops first is nothing that was asked for.
            gdb.execute("set suppress-cli-notifications on")
            gdb.execute(f"target remote {_BETWEEN}", to_string=True)
        finally:
            gdb.execute("set suppress-cli-notifications off")

    def _reached(self) -> socket.socket:
        """The emulator's socket, once it listens there."""
        while True:
            emulator = socket.socket(socket.AF_UNIX)
            try:
                emulator.connect(_GIVEN["socket"])
                return emulator
            except OSError:
                emulator.close()
                # Not there yet, or there and not listening.
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.pid = 0
                    code = os.waitstatus_to_exitcode(status)
                    raise gdb.GdbError(f"During startup program exited with code {code}.") from None
                time.sleep(_PAUSE)


def _setting(name: str) -> str:
    """The text of a setting of gdb's for programs that it starts, "" if it is not set (`gdb.parameter` has another)."""
    said = gdb.execute(f"show {name}", to_string=True)
    return str(said[said.index('"') + 1 : said.rindex('"')]) if '"' in said else ""


def _environment() -> dict[str, str]:
    """What the program gets: gdb's own, with what the user has set and unset there (values of one line)."""
    before = {name: text for name, text in os.environ.items() if name not in _GIVEN["inner"]}
    lines = gdb.execute("show environment", to_string=True).splitlines()
    shown = dict(line.split("=", 1) for line in lines if "=" in line)
    kept = {name: text for name, text in before.items() if name in shown}
    own = {
        name: text
        for name, text in shown.items()
        if name.isidentifier() and name not in _GIVEN["inner"] and before.get(name, "\n").split("\n")[0] != text
    }
    return {**kept, **own}


_PROGRAM = _Program()


class _Run(gdb.Command):  # type: ignore[misc]
    """Start debugged program under the emulator.
    You may specify arguments to give it; they are kept for the next time, as `set args` keeps them."""

    before: tuple[str, ...] = ()
    after = "continue"

    def invoke(self, argument: str, _from_terminal: bool) -> None:
        """Do it. Behind it `&` is for who goes on meanwhile."""
        words, apart, _ = argument.rpartition("&") if argument.rstrip().endswith("&") else (argument, "", "")
        if words.strip():
            gdb.execute(f"set args {words.strip()}")
        for command in self.before:
            gdb.execute(command)
        _PROGRAM.start()
        if self.after:
            gdb.execute(f"{self.after} {apart}".strip())


class _Start(_Run):
    """Start the debugged program stopping at the beginning of the main procedure."""

    before = ("tbreak main",)


class _StartAtFirst(_Run):
    """Start the debugged program stopping at the first instruction."""

    after = ""

    def invoke(self, argument: str, from_terminal: bool) -> None:
        """Do it."""
        super().invoke(argument, from_terminal)
        gdb.execute("frame", from_terminal)


for _name, _command in (("run", _Run), ("start", _Start), ("starti", _StartAtFirst)):
    _command(_name, gdb.COMMAND_RUNNING)
