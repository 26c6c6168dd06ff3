"""Who used how much: execs from the record, exact; CPU seconds from the samples, and what they missed estimated.

A look at all processes every `interval` seconds sees what each has used so far, to the clock tick. Hidden stays what a
process uses after the last look at it, and all that the many processes use that end before the first. How much that is
in all follows from the exact total. Whose it is, is estimated: looks fall on any moment alike, so the processes found
running when they were looked at for the first time (`caught`) stand for an interval each, of which they had used a part
by then (`before`) that was seen. One look more is shared out over the execs that no look has met, an emulated one
weighing more, for programs that were never caught. n looks have an error of about sqrt(n); the hidden part as a whole
bounds the error of every split.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from xbuild.base.digest import read_json
from xbuild.base.paths import BUILD
from xbuild.formats.record import Choice, Record

START = {True: 0.0007, False: 0.015}
"""CPU seconds of a process too short to be seen, native or not: posix_spawn and wait of `true`, measured on a 2-core
x86-64 machine with Debian 13, by its twin and under qemu. Only their ratio counts."""

_WRITABLE = (BUILD, "/tmp", "/var/tmp", "/run", "/dev/shm")
_GONE = " (deleted)"

Program = tuple[str, bool]
"""Name (a real path, or `made by the build: NAME`), and whether it ran natively."""

UNRECORDED: Program = ("?", False)
"""What the sampler calls processes that no exec led to."""


@dataclass(frozen=True)
class CpuUse:
    """The CPU use of a step, in seconds, as sandbox/sampler.py writes it.

    interval: between two looks. total: of all processes, exact. programs: what was seen of it, by real path and whether
    it ran natively. unrecorded: seen of processes that no exec of the record led to, such as distccd; not in the total.
    caught: processes that ran at the first look at them. before: what processes had used at the first look.
    """

    interval: float
    total: float
    programs: Mapping[Program, float]
    unrecorded: float = 0.0
    caught: Mapping[Program, int] = field(default_factory=dict)
    before: Mapping[Program, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """What is known of a step. status: done, failed or unfinished. cpu: None if the step was killed."""

    name: str
    status: str
    record: Record
    cpu: CpuUse | None


@dataclass
class Use:
    """What a program used, natively or not. verdicts: its execs. sampled, shared: CPU seconds seen, and unseen.

    spread: the square of the error of `shared`, in seconds squared.
    """

    name: str
    native: bool
    verdicts: Counter[tuple[str, Choice]] = field(default_factory=Counter)
    sampled: float = 0.0
    shared: float = 0.0
    spread: float = 0.0

    def add(self, other: Use) -> None:
        """Count what `other` used too."""
        self.verdicts += other.verdicts
        self.sampled += other.sampled
        self.shared += other.shared
        self.spread += other.spread

    @property
    def execs(self) -> int:
        """How often it was started."""
        return self.verdicts.total()

    @property
    def seconds(self) -> float:
        """The best estimate of its CPU seconds."""
        return self.sampled + self.shared

    @property
    def error(self) -> float:
        """The standard error of `seconds`."""
        return math.sqrt(self.spread)


def is_made(path: str) -> bool:
    """Has the build itself made the program at this real path? A root is read-only, but for a few directories."""
    return path.endswith(_GONE) or any(path.startswith(f"{folder}/") for folder in _WRITABLE)


def shown_name(path: str) -> str:
    """The program at the real path `path` as reports call it: what the build made itself goes by its name alone."""
    return f"made by the build: {file_name(path)}" if is_made(path) else path


def file_name(path: str) -> str:
    """The name of the program at the real path `path`, which may be gone."""
    return PurePosixPath(path.removesuffix(_GONE)).name


def read_cpu(path: Path) -> CpuUse | None:
    """What the sampler wrote to the file; None if there is nothing whole, as after a kill."""
    seconds: dict[Program, float] = defaultdict(float)
    caught: Counter[Program] = Counter()
    before: dict[Program, float] = defaultdict(float)
    try:
        value = read_json(path)
        for known in value["programs"]:
            key = (str(known["path"]), bool(known["native"]))
            seconds[key] += float(known["seconds"])
            caught[key] += int(known["caught"])
            before[key] += float(known["before"])
        interval, total = float(value["interval"]), float(value["total"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    unrecorded = seconds.pop(UNRECORDED, 0.0)
    caught.pop(UNRECORDED, None)
    # The total is of processes that were waited for; one that was not can have been seen all the same.
    return CpuUse(interval, max(total, sum(seconds.values())), seconds, unrecorded, caught, before)


def unseen(cpu: CpuUse) -> float:
    """CPU seconds of the total that no sample has seen."""
    return cpu.total - sum(cpu.programs.values())


def account(counts: Mapping[tuple[str, Choice], int], cpu: CpuUse | None) -> list[Use]:
    """What each program of a step used, in no order; without `cpu` only how often it was started.

    counts: of the record.

    The seconds of all add up to the total, if there was any exec or sample at all.
    """
    uses: dict[Program, Use] = {}
    for (path, verdict), count in counts.items():
        key = (path, verdict in (Choice.TWIN, Choice.WIDTH_TWIN))
        uses.setdefault(key, Use(*key)).verdicts[path, verdict] += count
    if cpu is not None:
        _add_seconds(uses, cpu)
    return merge(uses.values())


def _add_seconds(uses: dict[Program, Use], cpu: CpuUse) -> None:
    for key in {*cpu.programs, *cpu.caught}:
        uses.setdefault(key, Use(*key)).sampled = cpu.programs.get(key, 0.0)
    # A process that was seen at all was so for an interval or more, but for chance.
    starts = {
        key: max(0.0, use.execs - use.sampled / cpu.interval) * START[use.native] for key, use in uses.items()
    }
    all_starts = sum(starts.values())
    looks = {
        key: cpu.caught.get(key, 0) + (start / all_starts if all_starts else 0.0) for key, start in starts.items()
    }
    hidden = {key: max(0.0, count * cpu.interval - cpu.before.get(key, 0.0)) for key, count in looks.items()}
    rest, all_hidden = unseen(cpu), sum(hidden.values())
    if not all_hidden:
        # No process was short: all is in what they used after the last look at them.
        hidden, all_hidden = dict(cpu.programs), sum(cpu.programs.values())
    for key, seconds in hidden.items() if all_hidden else ():
        uses[key].shared = rest * seconds / all_hidden
        uses[key].spread = looks[key] * (cpu.interval * rest / all_hidden) ** 2


def merge(uses: Iterable[Use]) -> list[Use]:
    """`uses` of one or more steps by the name in reports."""
    found: dict[Program, Use] = {}
    for use in uses:
        key = (shown_name(use.name), use.native)
        found.setdefault(key, Use(*key)).add(use)
    return list(found.values())


@dataclass(frozen=True)
class Sum:
    """A step, or all: execs, and CPU seconds; None where they are not known.

    hidden: the part that no look has seen. error: the standard error of `emulated`.
    """

    native_execs: int
    emulated_execs: int
    total: float | None
    native: float
    emulated: float
    hidden: float
    error: float

    def share(self, seconds: float) -> float | None:
        """`seconds` as a part of the total, 0 to 1; None if that is not known, or none."""
        return seconds / self.total if self.total else None


def sum_up(uses: Sequence[Use], cpus: Sequence[CpuUse | None]) -> Sum:
    """`uses` together. cpus: of the steps that they are from."""
    known = [cpu for cpu in cpus if cpu is not None]

    def seconds(native: bool) -> float:
        return sum(use.seconds for use in uses if use.native is native)

    return Sum(
        native_execs=sum(use.execs for use in uses if use.native),
        emulated_execs=sum(use.execs for use in uses if not use.native),
        total=sum(cpu.total for cpu in known) if known else None,
        native=seconds(True),
        emulated=seconds(False),
        hidden=sum(unseen(cpu) for cpu in known),
        error=math.sqrt(sum(use.spread for use in uses if not use.native)),
    )
