"""Bars for the steps of builds, all to one scale: positions in percent of the width. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xbuild.model.phases import STEPS
from xbuild.proof.compare.outcome import Cpu, ModeRun

_NARROWEST = 640
"""Pixels: the width of a bar's row on A4 paper at the browser's 96 pixels an inch, within margins."""

_LETTER = 7.5
"""Pixels: the width of a letter in a bar, generously."""

_STEPS = 8
"""At most so many marks on the axis."""


@dataclass(frozen=True)
class Bar:
    """One step. left, width: percent. label: what fits into it. style: of its colour. share: emulated, 0 to 1."""

    name: str
    seconds: float
    left: float
    width: float
    label: str
    style: str
    share: float | None
    failed: bool

    @property
    def emulated(self) -> float:
        """How much of the width stands for emulated programs, in percent of the row."""
        return round(self.width * (self.share or 0), 3)


@dataclass(frozen=True)
class Row:
    """One mode's bars."""

    run: ModeRun
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Mark:
    """A mark on the axis. place: percent."""

    seconds: float
    place: float


@dataclass(frozen=True)
class Timeline:
    """All rows, and the axis below them. cpu: whether any row knows the share of emulated programs."""

    rows: tuple[Row, ...]
    marks: tuple[Mark, ...]

    @property
    def cpu(self) -> bool:
        """Whether any bar knows how much of its time was emulated."""
        return any(bar.share is not None for row in self.rows for bar in row.bars)


def timeline(runs: Sequence[ModeRun]) -> Timeline:
    """The bars of all modes that ran a step; the longest of them takes the whole width."""
    longest = max((run.seconds for run in runs), default=0.0)
    if longest <= 0:
        return Timeline((), ())
    return Timeline(tuple(Row(run, _bars(run, longest)) for run in runs if run.phases), _marks(longest))


def _bars(run: ModeRun, longest: float) -> tuple[Bar, ...]:
    bars, start = [], 0.0
    cpu: Mapping[str, Cpu] = run.cpu or {}
    for number, (name, seconds) in enumerate(run.phases):
        width = 100 * seconds / longest
        fits = width / 100 * _NARROWEST > _LETTER * len(name) + 8
        failed = run.status == "failed" and number == len(run.phases) - 1
        share = cpu[name].share if name in cpu else None
        style = f"p-{name}" if name in STEPS else "p-other"
        left = round(100 * start / longest, 3)
        bars.append(Bar(name, seconds, left, round(width, 3), name if fits else "", style, share, failed))
        start += seconds
    return tuple(bars)


def _marks(longest: float) -> tuple[Mark, ...]:
    """Marks at round numbers of seconds, minutes or hours."""
    unit = 3600.0 if longest >= 3 * 3600 else 60.0 if longest >= 180 else 1.0
    # Times are shown to a tenth of a second.
    rough = max(0.1, longest / unit / _STEPS)
    power = 10 ** math.floor(math.log10(rough))
    step = unit * next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    times = [number * step for number in range(int(longest / step) + 1)]
    return tuple(Mark(seconds, round(100 * seconds / longest, 3)) for seconds in times)
