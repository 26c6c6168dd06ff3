"""The upper part of the picture: a bar a target and mode, with its phases, as multiples of the native target's time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from xbuild.base import log
from xbuild.proof.bench.drawing import MARGIN, WIDTH, Drawing, look_of, times
from xbuild.proof.bench.series import Figure, Series, Variant, figures

LONGEST = 4.0
"""Bars that are more than so many times as long as the native target's are broken off: else the others vanish."""

_LEFT = MARGIN + 150.0
_RIGHT = WIDTH - MARGIN - 124.0
_ROW = 19.0
_BAR = 12.0


@dataclass(frozen=True)
class Bar:
    """One variant. base: the seconds that are drawn as 1. total: None if it could not be built."""

    variant: Variant
    base: float
    phases: tuple[Figure, ...] = ()
    total: Figure | None = None

    @property
    def length(self) -> float:
        """Of the whole bar, in multiples of base."""
        return self.total.median / self.base if self.total else 0.0


def groups(series: Series) -> dict[str, list[Bar]]:
    """The bars by recipe, the native target first. Without it, the first bar is what the others are held against."""
    known = figures(series)
    found: dict[str, list[Bar]] = {}
    for variant in series.variants:
        own = [figure for figure in known if figure.variant == variant]
        if variant.rung is not None or not (own or series.failure(variant)):
            continue
        group = found.setdefault(variant.recipe, [])
        base = group[0].base if group and group[0].total else (own[-1].median if own else 0.0)
        group.append(Bar(variant, base or 1.0, tuple(own[:-1]), own[-1] if own else None))
    return found


@dataclass(frozen=True)
class Scale:
    """From multiples to the picture. end: the last multiple that it shows. step: between grid lines."""

    end: float
    step: float

    @classmethod
    def of(cls, lengths: list[float]) -> Scale:
        """The scale on which all `lengths` up to LONGEST have room."""
        longest = max((length for length in lengths if length <= LONGEST), default=1.0)
        step = 0.25 if longest <= 1.5 else 0.5
        return cls(max(math.ceil(longest / step), 1) * step, step)

    def x(self, length: float) -> float:
        """Where `length` is, at the right edge if it is beyond."""
        return _LEFT + (_RIGHT - _LEFT) * min(length, self.end) / self.end


def draw(drawing: Drawing, series: Series, y: float) -> float:
    """Draw all bars from y downwards; give where they end."""
    found = groups(series)
    scale = Scale.of([bar.length for group in found.values() for bar in group])
    top = y + 16
    bottom = top + sum(26 + _ROW * len(group) for group in found.values())
    for number in range(round(scale.end / scale.step) + 1):
        multiple = number * scale.step
        drawing.line([(scale.x(multiple), top), (scale.x(multiple), bottom)], "limit" if multiple == 1 else "grid")
        drawing.text(scale.x(multiple), top - 5, f"{multiple:g}", "small", "middle")
    y = top + 4
    for recipe, group in found.items():
        version = next((run.version for run in series.runs if run.variant.recipe == recipe), "")
        drawing.text(MARGIN, y + 13, f"{recipe} {version}".strip(), "strong")
        y += 20
        for bar in group:
            _draw_bar(drawing, bar, scale, y)
            y += _ROW
        y += 6
    return bottom + 26


def _draw_bar(drawing: Drawing, bar: Bar, scale: Scale, y: float) -> None:
    drawing.text(_LEFT - 8, y + 10, f"{bar.variant.target} {bar.variant.name}", "", "end")
    total = bar.total
    if total is None:
        drawing.text(_LEFT + 7, y + 10, "failed", "bad")
        return
    end = max(bar.length, total.most / bar.base) if total.count > 1 else bar.length
    if bar.length > scale.end:
        _draw_broken(drawing, bar, y)
    else:
        x = _LEFT
        # Medians of phases do not add up to the median of their sum, which is what the bar shows.
        whole = sum(figure.median for figure in bar.phases) or 1.0
        for figure in bar.phases:
            width = (scale.x(bar.length) - _LEFT) * figure.median / whole
            drawing.box(x, y, width, _BAR, look_of(figure.phase), f"{figure.phase} {figure.median:.1f} s")
            x += width
        if total.count > 1:
            _draw_range(drawing, scale.x(total.least / bar.base), scale.x(total.most / bar.base), y + _BAR / 2)
    drawing.text(scale.x(end) + 8, y + 10, log.human_time(total.median))
    if total.ratio is not None and not bar.variant.native:
        drawing.text(WIDTH - MARGIN, y + 10, times(total.ratio), "strong", "end")


def _draw_range(drawing: Drawing, least: float, most: float, y: float) -> None:
    drawing.line([(least, y), (most, y)], "range")
    for x in (least, most):
        drawing.line([(x, y - 3), (x, y + 3)], "range")


def _draw_broken(drawing: Drawing, bar: Bar, y: float) -> None:
    """A bar that goes on for long. True to scale it would show a part of its first phase only, so it shows none."""
    hint = ", ".join(f"{figure.phase} {figure.median:.1f} s" for figure in bar.phases)
    drawing.box(_LEFT, y, _RIGHT - _LEFT, _BAR, "beyond", hint)
    for x in (_RIGHT - 26, _RIGHT - 18):
        drawing.line([(x, y + _BAR + 2), (x + 5, y - 2)], "break")
