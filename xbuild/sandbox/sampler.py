"""Runs inside, in pid 1: how much CPU time which program uses, by looking at all processes again and again.

Standard library only, like everything that a starting sandbox loads.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections import defaultdict
from typing import Any

from xbuild.formats.record import Exec, Stream

INTERVAL = 0.05
"""Seconds between two looks. Each costs some 20 us a process, so about 1 % of one core."""

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

Program = tuple[str, bool]
"""Real path, and whether it ran natively."""

UNKNOWN: Program = ("?", False)


class Sampler:
    """Attributes the CPU time of processes to programs by the record of execs in the file `record`."""

    def __init__(self, record: str) -> None:
        self._record = Stream(os.open(record, os.O_RDONLY | os.O_CLOEXEC))
        self._latest: dict[int, Exec] = {}
        self._programs: dict[tuple[int, int], Program] = {}
        self._ticks: dict[tuple[int, int], int] = {}
        self._used: dict[Program, int] = defaultdict(int)
        self._caught: dict[Program, int] = defaultdict(int)
        self._before: dict[Program, int] = defaultdict(int)
        self._samples = 0

    def sample(self) -> None:
        """Look at all processes once."""
        self._samples += 1
        # One piece a look: a build that writes into its record cannot make this take long.
        for known in self._record.more():
            self._latest[known.pid] = known
        seen = {}
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit() and name != "1":
                # It may have ended meanwhile.
                with contextlib.suppress(OSError):
                    seen[int(name)] = _stat(name)
        alive = {}
        for pid, (parent, ticks, start, running) in seen.items():
            key = (pid, start)
            program = alive[key] = self._program(pid, start, parent, seen)
            self._used[program] += ticks - self._ticks.get(key, 0)
            if key not in self._ticks:
                self._caught[program] += running
                self._before[program] += ticks
            self._ticks[key] = ticks
        self._programs = alive
        self._latest = {pid: known for pid, known in self._latest.items() if pid in seen}
        self._ticks = {key: self._ticks[key] for key in alive}

    def _program(self, pid: int, start: int, parent: int, seen: dict[int, tuple[int, int, int, bool]]) -> Program:
        latest = self._latest.get(pid)
        # An older exec was that of another process with the same number.
        if latest is not None and latest.time >= start * _TICK_NS:
            return (latest.path, latest.native)
        known = self._programs.get((pid, start))
        if known is not None or parent not in seen:
            return known or UNKNOWN
        # It has not executed anything yet, so it is what its parent is.
        grandparent, _, parent_start, _ = seen[parent]
        return self._program(parent, parent_start, grandparent, seen)

    def result(self) -> dict[str, Any]:
        """What was found, as JSON; seconds. `total` is exact, once all processes were waited for.

        Of each program: `seconds` that were seen; `caught`: how many of its processes were found running when they were
        looked at for the first time, and `before`: what all of them had used by then. From these two follows what its
        processes used unseen (trace/account.py).
        """
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        total = usage.ru_utime + usage.ru_stime
        programs = [
            {"path": path.encode(errors="surrogateescape").decode(errors="replace"), "native": native,
             "seconds": round(ticks * _TICK, 2), "caught": self._caught[path, native],
             "before": round(self._before[path, native] * _TICK, 2)}
            for (path, native), ticks in sorted(self._used.items(), key=lambda item: -item[1])
            if ticks or ((path, native) != UNKNOWN and self._caught[path, native])
        ]  # fmt: skip
        seen = sum(self._used.values()) * _TICK
        return {
            "interval": INTERVAL,
            "samples": self._samples,
            "total": round(total, 3),
            "programs": programs,
            "unseen": round(max(0.0, total - seen), 3),
        }


def _stat(pid: str) -> tuple[int, int, int, bool]:
    """Parent, clock ticks of CPU used by all threads, start in clock ticks since boot, whether it is running.

    See proc(5), /proc/PID/stat.
    """
    descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    try:
        # The command name, in parentheses, may hold anything.
        fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
    finally:
        os.close(descriptor)
    return int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[19]), fields[0] == b"R"
