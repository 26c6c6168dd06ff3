"""The lower part of the picture: for each ladder, how the time goes down step by step, on a logarithmic scale."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

from xbuild.base import log
from xbuild.proof.bench.drawing import LETTER, MARGIN, WIDTH, Drawing, look_of, times
from xbuild.proof.bench.series import TOTAL, Series, Variant, climb, figures

_LEFT = MARGIN + 36.0
_RIGHT = WIDTH - MARGIN
_HEIGHT = 220.0
_TICKS = tuple(digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5))


@dataclass(frozen=True)
class Scale:
    """From values to the picture: logarithmic, as the first steps save many times what the last ones do."""

    low: float
    high: float
    top: float

    @classmethod
    def of(cls, values: list[float], top: float) -> Scale:
        """The scale from a tick below all `values` (0 is left out) to a little above them."""
        positive = [value for value in values if value > 0] or [1.0]
        low = max((tick for tick in _TICKS if tick <= min(positive) * 0.95), default=_TICKS[0])
        return cls(low, max(positive) * 2.4, top)

    def y(self, value: float) -> float:
        """Where `value` is."""
        part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.top + _HEIGHT * (1 - part)

    def ticks(self) -> list[float]:
        """The values with a grid line."""
        return [tick for tick in _TICKS if self.low <= tick <= self.high]


@dataclass(frozen=True)
class Step:
    """One step of a ladder. values: by phase, ratios to the native target or, without one, seconds; {} if it failed."""

    label: str
    values: dict[str, float]
    seconds: float


def steps(series: Series, recipe: str, target: str) -> list[Step]:
    """The steps of a ladder that have been measured or have failed, the slowest first."""
    known = figures(series)
    labels = climb(series, recipe, target)
    relative = any(variant.native and series.of(variant) for variant in labels)

    def step(variant: Variant, label: str) -> Step:
        own = {figure.phase: figure for figure in known if figure.variant == variant}
        values = {phase: (figure.ratio or 0.0) if relative else figure.median for phase, figure in own.items()}
        return Step(label, values, own[TOTAL].median if own else 0.0)

    return [
        step(variant, label) for variant, label in labels.items() if series.of(variant) or series.failure(variant)
    ]


def draw(drawing: Drawing, series: Series, recipe: str, target: str, y: float) -> float:
    """Draw one ladder from y downwards; give where it ends."""
    found = steps(series, recipe, target)
    if not found:
        return y
    relative = any(variant.native and series.of(variant) for variant in climb(series, recipe, target))
    drawing.text(MARGIN, y + 10, f"{recipe} for {target}: one group of tools after the other runs natively", "strong")
    unit = "times the native target's" if relative else "seconds"
    drawing.text(MARGIN, y + 27, f"Total (thick) and phases, {unit}, logarithmic", "soft")
    values = [value for step in found for value in step.values.values()]
    scale = Scale.of(values, y + 38)
    for tick in scale.ticks():
        limit = relative and tick == 1
        drawing.line([(_LEFT, scale.y(tick)), (_RIGHT, scale.y(tick))], "limit" if limit else "grid")
        drawing.text(_LEFT - 6, scale.y(tick) + 4, f"{tick:g}", "small", "end")
    width = (_RIGHT - _LEFT) / len(found)
    for phase in [*sorted({name for step in found for name in step.values} - {TOTAL}), TOTAL]:
        _draw_stairs(drawing, found, phase, scale, width)
    bottom = scale.y(scale.low) + 16
    lines = 1
    for number, step in enumerate(found):
        middle = _LEFT + width * (number + 0.5)
        _draw_value(drawing, step, middle, scale, relative=relative)
        wrapped = textwrap.wrap(step.label, int(width / LETTER))
        lines = max(lines, len(wrapped))
        for place, text in enumerate(wrapped):
            drawing.text(middle, bottom + 14 * place, text, "", "middle")
    return bottom + 14 * lines + 22


def _draw_stairs(drawing: Drawing, found: list[Step], phase: str, scale: Scale, width: float) -> None:
    """One line; a gap where a step has no value."""
    points: list[tuple[float, float]] = []
    look = "total" if phase == TOTAL else f"line {look_of(phase)}"
    for number, step in enumerate(found):
        value = step.values.get(phase)
        if value:
            left = _LEFT + width * number
            points += [(left, scale.y(value)), (left + width, scale.y(value))]
        if points and (not value or number == len(found) - 1):
            drawing.line(points, look)
            points = []


def _draw_value(drawing: Drawing, step: Step, middle: float, scale: Scale, *, relative: bool) -> None:
    if not step.values:
        drawing.text(middle, scale.y(scale.low) - 8, "failed", "bad", "middle")
        return
    # Above all lines, so that none runs through the words.
    y = min(scale.y(value) for value in step.values.values() if value) - 8
    seconds = log.human_time(step.seconds)
    if not relative:
        drawing.text(middle, y, seconds, "strong", "middle")
        return
    drawing.text(middle, y - 14, times(step.values[TOTAL]), "strong", "middle")
    drawing.text(middle, y, seconds, "small", "middle")
