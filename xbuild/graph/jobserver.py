"""One count of jobs over many builds: a named pipe for each build, as GNU make 4.4 has it, and who hands tokens on.

A build holds one job by running. What runs besides takes a byte out of the build's pipe, and puts it back at its end
(https://www.gnu.org/software/make/manual/html_node/POSIX-Jobserver.html). With one pipe for all nobody could tell whose
bytes a killed build has taken along. Here each byte that was put into a pipe is that build's until it is taken out
again: when the build has ended, however it ended, all of them are free.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TURN = 0.05
"""Seconds between two turns: what a token may wait for its next user, where that is another build."""
_TOKEN = b"+"
_AGAIN = 20
"""Turns after which one that left its tokens lying is taken for hungry again: it may be in another phase."""


@dataclass
class _Pipe:
    """A build's pipe. given: tokens that were put in and not taken out again; unread: those that lie in it.

    priority: who is greater gets what is left first. refused: the turn in which it was seen to leave lying what it was
    offered; 0: it took it. stale: tokens that have lain there since the last turn.
    """

    path: Path
    descriptor: int
    priority: float
    given: int = 0
    unread: int = 0
    stale: int = 0
    refused: int = 0

    @property
    def held(self) -> int:
        return self.given - self.unread

    def look(self, turn: int) -> None:
        """See what has become of the tokens."""
        before = self.unread
        lying = struct.unpack("i", fcntl.ioctl(self.descriptor, termios.FIONREAD, b"\0" * 4))[0]
        if lying > self.given:
            # Whoever puts in more than he took gets nothing for it.
            self._read(lying - self.given)
            lying = self.given
        self.unread, self.stale = lying, min(lying, before)
        if before and lying < before:
            self.refused = 0
        elif self.stale:
            self.refused = turn

    def give(self, count: int) -> None:
        os.write(self.descriptor, _TOKEN * count)
        self.given += count
        self.unread += count

    def take(self, count: int) -> int:
        """Take up to `count` tokens out that nobody has read; how many that were."""
        taken = self._read(count)
        self.given -= taken
        self.unread = max(0, self.unread - taken)
        self.stale = max(0, self.stale - taken)
        return taken

    def _read(self, count: int) -> int:
        with suppress(BlockingIOError):
            return len(os.read(self.descriptor, count)) if count > 0 else 0
        return 0


class Jobserver:
    """`jobs` tokens for all builds together. place: a directory of ours that nobody else can write to."""

    def __init__(self, place: Path, jobs: int) -> None:
        self.jobs = jobs
        self._place = place
        self._pipes: dict[str, _Pipe] = {}
        self._turn = 0

    @property
    def free(self) -> int:
        """Tokens that no build has."""
        return self.jobs - len(self._pipes) - sum(pipe.given for pipe in self._pipes.values())

    def held(self, name: str) -> int:
        """How many jobs the build holds, as was seen in the last turn; 0: it does not run."""
        return 1 + self._pipes[name].held if name in self._pipes else 0

    def begin(self, name: str, priority: float = 0.0) -> Path:
        """Give the build its first job; its pipe. Raises ValueError if no token is free."""
        if self.free < 1:
            raise ValueError(f"no job is free for {name}")
        path = self._place / f"{name}.jobs"
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        # Users inside a sandbox are others; nobody else gets into the directory.
        path.chmod(0o666)
        # Both ends are ours: whoever opens one never waits for the other, and bytes stay while nobody has it open.
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._pipes[name] = _Pipe(path, descriptor, priority)
        return path

    def end(self, name: str) -> None:
        """The build has ended, however: what it had is free."""
        pipe = self._pipes.pop(name)
        os.close(pipe.descriptor)
        pipe.path.unlink(missing_ok=True)

    def close(self) -> None:
        """End all that has not been ended."""
        for name in list(self._pipes):
            self.end(name)

    def turn(self, starting: int = 0) -> None:
        """Hand tokens on, to be called every TURN. starting: how many builds want to begin, who come first."""
        self._turn += 1
        for pipe in self._pipes.values():
            pipe.look(self._turn)
        self._take_back(starting - self.free, self._pipes.values())
        hungry = sorted((pipe for pipe in self._pipes.values() if not pipe.unread), key=self._order)
        spare = max(0, self.free - starting)
        if not hungry:
            return
        idle = [pipe for pipe in self._pipes.values() if pipe.stale]
        spare += self._take_back(min(len(hungry) - spare, sum(pipe.stale for pipe in idle)), idle)
        each, more = divmod(spare, len(hungry))
        for number, pipe in enumerate(hungry):
            if count := each + (number < more):
                pipe.give(count)

    def contended(self, starting: int = 0) -> list[int]:
        """Descriptors that are readable when a token comes back which is due to somebody else: then `claim`.

        A make that puts a token back and takes it again at once would otherwise keep it to its end.
        """
        if not self._pipes:
            return []
        if starting > self.free:
            return [pipe.descriptor for pipe in self._pipes.values() if pipe.given]
        pipes, fair = self._pipes.values(), self._fair
        wanting = any(not pipe.unread and pipe.given < fair and not self._left_it(pipe) for pipe in pipes)
        return [pipe.descriptor for pipe in pipes if pipe.given > fair] if wanting else []

    def claim(self, descriptors: Iterable[int]) -> None:
        """Take a token out of each of these pipes, if there still is one: it is free."""
        wanted = set(descriptors)
        for pipe in self._pipes.values():
            if pipe.descriptor in wanted:
                pipe.take(1)

    @property
    def _fair(self) -> int:
        """Tokens of each build, if all want as many."""
        return (self.jobs - len(self._pipes)) // len(self._pipes)

    def _left_it(self, pipe: _Pipe) -> bool:
        return bool(pipe.refused) and self._turn - pipe.refused < _AGAIN

    def _order(self, pipe: _Pipe) -> tuple[bool, int, bool, float]:
        left = self._left_it(pipe)
        # Among those that leave them lying tokens go round.
        return left, pipe.refused if left else 0, pipe.given >= self._fair, -pipe.priority

    def _take_back(self, count: int, pipes: Iterable[_Pipe]) -> int:
        taken = 0
        for pipe in sorted(pipes, key=lambda pipe: pipe.priority):
            if taken < count:
                taken += pipe.take(min(count - taken, pipe.unread))
        return taken
