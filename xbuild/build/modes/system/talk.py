"""What xbuild and the first process of the machine (init.c) say to each other, and what follows from silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from xbuild.base.errors import UsageError

BEAT_LIMIT = 300.0
"""Seconds without a beat after which the machine's kernel is taken for dead; a beat comes every 5 s (init.c)."""

_IDLE_SHARE = 0.05
"""Of one CPU: what an idle Linux uses stays well below."""

_TICKS = 100
"""A second: USER_HZ of ARM's Linux, in which /proc/stat counts."""


def spec(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    modules: Sequence[str],
    trees: Sequence[str],
    cwd: str,
    user: int,
    seconds: int,
    name: str,
    over: bool,
    keep: bool,
) -> bytes:
    """The machine's file /spec: what is to be run, and how.

    modules: paths in the machine, in order. trees: writable directories, without a leading slash. user: uid and gid.
    seconds: the time now, since 1970. over: the tar file has a directory `over`, to be laid over the root. keep: the
    trees are wanted back. Raises UsageError for a NUL, which nothing that is executed can have.
    """
    pairs = [("module", path) for path in modules]
    pairs += [("tree", path) for path in trees]
    pairs += [("cwd", cwd), ("name", name), ("uid", str(user)), ("gid", str(user)), ("time", str(seconds))]
    pairs += [("over", str(int(over))), ("keep", str(int(keep)))]
    pairs += [("env", f"{key}={value}") for key, value in env.items()]
    pairs += [("arg", word) for word in command]
    for key, value in pairs:
        if "\0" in value:
            raise UsageError(f"{key} {value!r} holds a NUL")
    return b"".join(f"{key}={value}".encode(errors="surrogateescape") + b"\0" for key, value in pairs)


@dataclass
class Said:
    """What the machine has said so far on its control port.

    ready: it has its disks. beats: how often it has shown to be alive. ticks: CPU time used until the last beat.
    code: how the command ended, as in process.Completed. free: bytes left for the build then. out: length and CRC-32
    of the tar file with the trees. error: what went wrong. done: it has said all.
    """

    ready: bool = False
    beats: int = 0
    ticks: int = 0
    code: int | None = None
    free: int | None = None
    out: tuple[int, int] | None = None
    error: str | None = None
    done: bool = False
    _rest: bytes = b""

    def hear(self, data: bytes) -> None:
        """Take more of what comes; a line that is not whole yet waits."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, *values = line.decode(errors="replace").split(" ")
            try:
                self._take(word, values)
            except ValueError:
                self.error = self.error or f"said {line!r}, which is no answer"

    def _take(self, word: str, values: list[str]) -> None:
        match word, values:
            case "ready", []:
                self.ready = True
            case "beat", [ticks]:
                self.beats, self.ticks = self.beats + 1, int(ticks)
            case "exit", [code]:
                self.code = int(code)
            case "free", [free]:
                self.free = int(free)
            case "out", [size, crc]:
                self.out = int(size), int(crc)
            case "error", _:
                self.error = self.error or " ".join(values)
            case "done", []:
                self.done = True


Silence = Literal["boot", "dead", "idle"]
"""Why a machine is ended: it did not become ready; its kernel no longer runs; its command does nothing."""


class Watch:
    """Decides from what a machine says, and when, whether it is to be ended. now: seconds of any steady clock."""

    def __init__(self, now: float, *, boot_limit: float, idle_limit: float, beat_limit: float = BEAT_LIMIT) -> None:
        self._limits = {"boot": boot_limit, "dead": beat_limit}
        self._idle_limit = idle_limit
        self._start = self._heard = self._busy = self._beat_at = now
        self._beats = self._ticks = self._size = 0
        self._ready = False

    def idle(self, now: float) -> float:
        """For how many seconds the command has neither written nor used CPU."""
        return now - self._busy

    def look(self, now: float, said: Said, size: int) -> Silence | None:
        """What is wrong now; None if nothing is. size: bytes that the command has written so far."""
        if not self._ready:
            self._ready = said.ready
            self._heard = self._busy = self._beat_at = now
            return "boot" if not said.ready and now - self._start > self._limits["boot"] else None
        if said.beats != self._beats:
            share = (said.ticks - self._ticks) / _TICKS / max(now - self._beat_at, 1.0)
            if share > _IDLE_SHARE:
                self._busy = now
            self._beats, self._ticks, self._beat_at, self._heard = said.beats, said.ticks, now, now
        if size != self._size or said.code is not None:
            self._size, self._busy = size, now
        if now - self._heard > self._limits["dead"]:
            return "dead"
        return "idle" if self.idle(now) >= self._idle_limit else None
