"""The page of a run: what it shows, in words and coordinates. Pure but for the records of builds, which it reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xbuild.graph.children import Part
from xbuild.graph.display import log_of, why
from xbuild.graph.run import Ended, Run
from xbuild.graph.scheduler import State, critical_path
from xbuild.model.phases import STEPS
from xbuild.proof import report
from xbuild.proof.trace.brief import emulated_line

_BOX = (210, 46)
"""Width and height of a node in the drawing, pixels; and what is free around it."""
_FREE = (70, 14)
_LETTERS = 27
"""Characters of a title that fit into a box."""
_NARROW = 0.4
"""Percent of the width below which a step of a build is not drawn by itself."""
_KINDS: Mapping[str, str] = {
    State.DONE: "good", State.FAILED: "bad", State.SKIPPED: "fair", State.WAITING: "soft", State.RUNNING: "soft",
}  # fmt: skip


def page(run: Run, title: str, command: str) -> str:
    """The page of a run that is over, as HTML. title: what was done; command: that was given."""
    return report.render("run.html.j2", view=View(run, title, command))


@dataclass(frozen=True)
class Segment:
    """A step of a build on the timeline. left, width: percent."""

    name: str
    seconds: float
    left: float
    width: float
    style: str


@dataclass(frozen=True)
class Row:
    """A build on the timeline. left, width: percent; critical: whether the whole would be shorter if it were."""

    ended: Ended
    left: float
    width: float
    segments: tuple[Segment, ...]
    critical: bool


@dataclass(frozen=True)
class Box:
    """A build in the drawing of the graph. x, y: of its left upper corner, pixels."""

    ended: Ended
    number: int
    x: int
    y: int
    critical: bool

    @property
    def label(self) -> str:
        """As much of its title as fits."""
        title = self.ended.order.title
        return title if len(title) <= _LETTERS else f"{title[: _LETTERS - 1]}…"


@dataclass(frozen=True)
class Edge:
    """A line from a build to one that needs it, as a path of SVG."""

    path: str
    critical: bool


class View:
    """What the template asks for."""

    def __init__(self, run: Run, title: str, command: str) -> None:
        all_ended = run.all
        self.all = all_ended
        self.title = title
        self.jobs = run.jobs
        self.started = run.started
        self.seconds = max(run.took, 0.001)
        self.command = command
        self.box = _BOX
        self.why = why
        self.log = log_of
        self._by_name = {ended.name: ended for ended in all_ended}
        self._numbers = {ended.name: number for number, ended in enumerate(all_ended, 1)}

    def kind(self, ended: Ended) -> str:
        """The colour of what came of it."""
        return _KINDS[ended.state]

    def number(self, ended: Ended) -> int:
        """By which the table and the drawing call it."""
        return self._numbers[ended.name]

    def needs(self, ended: Ended) -> list[Ended]:
        """What it needs itself."""
        return [self._by_name[name] for name in ended.order.task.needs]

    @cached_property
    def counts(self) -> list[tuple[str, int, str]]:
        """How many came out how: word, number, colour."""
        found: dict[str, tuple[int, str]] = {}
        for ended in self.all:
            count, kind = found.get(ended.status, (0, self.kind(ended)))
            found[ended.status] = (count + 1, kind)
        return [(status, count, kind) for status, (count, kind) in found.items()]

    @property
    def verdict(self) -> tuple[str, str]:
        """Colour and word of the whole."""
        states = {ended.state for ended in self.all}
        if State.FAILED in states:
            return "bad", "Failed"
        return ("good", "Done") if states <= {State.DONE} else ("fair", "Not finished")

    @property
    def work(self) -> float:
        """Seconds of all builds, one after the other."""
        return sum(ended.seconds for ended in self.ran)

    @cached_property
    def ran(self) -> list[Ended]:
        """What had a process, in the order in which it began."""
        return sorted((ended for ended in self.all if ended.log is not None), key=lambda ended: ended.began or 0.0)

    @cached_property
    def critical(self) -> frozenset[str]:
        """The names of the chain that took longest."""
        needs = {ended.name: ended.order.task.needs for ended in self.all}
        return frozenset(critical_path(needs, {ended.name: ended.seconds for ended in self.ran}) if self.ran else ())

    @property
    def chain(self) -> float:
        """Seconds of that chain: with any number of jobs it would not be faster, each build being as fast as it was."""
        return sum(ended.seconds for ended in self.ran if ended.name in self.critical)

    @cached_property
    def rows(self) -> list[Row]:
        """The timeline."""
        whole = max(self.seconds, 0.001)
        return [
            Row(
                ended,
                round(100 * (ended.began or 0.0) / whole, 3),
                round(100 * ended.seconds / whole, 3),
                tuple(_segments(ended, whole, self.started)),
                ended.name in self.critical,
            )
            for ended in self.ran
        ]

    @property
    def marks(self) -> list[tuple[float, float]]:
        """Of the axis below the timeline: seconds, percent."""
        step = _round_step(self.seconds / 8)
        return [(step * n, round(100 * step * n / self.seconds, 3)) for n in range(int(self.seconds / step) + 1)]

    @cached_property
    def held(self) -> list[tuple[float, float, float, int]]:
        """How many jobs ran when: left and width in percent of the time, height in percent of all jobs, jobs."""
        changes = sorted(
            (at, new - old)
            for ended in self.ran
            for (at, new), old in zip(_until_end(ended), [0, *(jobs for _, jobs in ended.held)], strict=True)
        )
        bars, jobs, last = [], 0, 0.0
        for at, change in [*changes, (self.seconds, 0)]:
            if at > last and jobs:
                left, width = 100 * last / self.seconds, 100 * (at - last) / self.seconds
                bars.append((round(left, 3), round(width, 3), round(100 * min(jobs, self.jobs) / self.jobs, 1), jobs))
            last, jobs = max(at, last), jobs + change
        return bars

    @property
    def mean_jobs(self) -> float:
        """How many jobs were held on average."""
        return sum(width * jobs for _, width, _, jobs in self.held) / 100

    def emulated(self, ended: Ended) -> str:
        """What ran emulated in it, in a line; "" where that is next to nothing, or not known."""
        records = ended.value.get("records")
        try:
            return emulated_line(Path(records)) if records else ""
        except (OSError, ValueError):
            return ""

    @cached_property
    def boxes(self) -> list[Box]:
        """The nodes of the drawing: each right of all that it needs."""
        columns: dict[str, int] = {}
        rows: dict[int, int] = {}
        boxes = []
        for ended in self.all:
            column = max((columns[need] + 1 for need in ended.order.task.needs), default=0)
            columns[ended.name] = column
            row = rows[column] = rows.get(column, -1) + 1
            x, y = column * (_BOX[0] + _FREE[0]), row * (_BOX[1] + _FREE[1])
            boxes.append(Box(ended, self.number(ended), x + 4, y + 4, ended.name in self.critical))
        return boxes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the drawing, pixels."""
        wide = max((box.x for box in self.boxes), default=0) + _BOX[0] + 4
        return wide, max((box.y for box in self.boxes), default=0) + _BOX[1] + 4

    @cached_property
    def edges(self) -> list[Edge]:
        """The lines of the drawing."""
        places = {box.ended.name: box for box in self.boxes}
        return [
            Edge(_curve(places[need], box), need in self.critical and box.critical)
            for box in self.boxes
            for need in box.ended.order.task.needs
        ]


def _curve(one: Box, other: Box) -> str:
    x, y = one.x + _BOX[0], one.y + _BOX[1] // 2
    to_x, to_y = other.x, other.y + _BOX[1] // 2
    bend = (to_x - x) // 2
    return f"M{x} {y} C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"


def _segments(ended: Ended, whole: float, started: float) -> Iterator[Segment]:
    """The steps of a build one after the other: the outermost of those that have no name of a phase, and all phases."""
    for part in ended.parts:
        if part.ended is None or not (part.name in STEPS or part.depth == 0) or _holds(part, ended.parts):
            continue
        seconds, width = part.ended - part.began, 100 * (part.ended - part.began) / whole
        if width >= _NARROW:
            left = max(0.0, 100 * (part.began - started) / whole)
            style = f"p-{part.name}" if part.name in STEPS else "p-other"
            yield Segment(part.name, seconds, round(left, 3), round(width, 3), style)


def _holds(part: Part, parts: Sequence[Part]) -> bool:
    """Whether a phase runs inside this step, which then says nothing more."""
    return any(
        other.depth > part.depth and other.name in STEPS and part.began <= other.began <= (part.ended or other.began)
        for other in parts
    )


def _until_end(ended: Ended) -> list[tuple[float, int]]:
    return [*ended.held, ((ended.began or 0.0) + ended.seconds, 0)]


def _round_step(rough: float) -> float:
    rough = max(rough, 0.01)
    unit = 3600.0 if rough >= 1800 else 60.0 if rough >= 30 else 1.0
    power = 10.0 ** math.floor(math.log10(rough / unit))
    return unit * next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= rough / unit)
