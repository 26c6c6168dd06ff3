"""The figures of a benchmark as a picture: bars for the builds, steps for the ladders."""

from __future__ import annotations

import textwrap

from xbuild.model.phases import BUILDING
from xbuild.proof.bench import bars, steps
from xbuild.proof.bench.drawing import LETTER, MARGIN, WIDTH, Drawing, look_of, svg
from xbuild.proof.bench.series import TOTAL, Series, figures, ladders
from xbuild.proof.bench.show import machine_line

TITLE = "How long builds take"


def picture(series: Series) -> str:
    """The SVG file with all that has been measured."""
    drawing = Drawing()
    y = _head(drawing, series)
    y = bars.draw(drawing, series, y)
    for recipe, target in ladders(series):
        y = steps.draw(drawing, series, recipe, target, y)
    for line in textwrap.wrap(f"Measured on: {machine_line(series.machine)}", int((WIDTH - 2 * MARGIN) / LETTER)):
        drawing.text(MARGIN, y, line, "small")
        y += 15
    totals = [figure for figure in figures(series) if figure.phase == TOTAL]
    told = "; ".join(f"{figure.variant}: {figure.median:.1f} s" for figure in totals)
    return svg(drawing, title=TITLE, description=told or "nothing has been measured", height=round(y))


def _head(drawing: Drawing, series: Series) -> float:
    drawing.text(MARGIN, 28, TITLE, "head")
    many = "one run of each" if series.rounds == 1 else f"median of {series.rounds} runs, and their range"
    one = "native target's" if any(variant.native for variant in series.variants) else "first one's of each recipe"
    drawing.text(MARGIN, 46, f"Wall time; the {one} is 1; {many}", "soft")
    shown = {figure.phase for figure in figures(series)} - {TOTAL}
    named = [phase for phase in BUILDING if phase in shown]
    x = MARGIN
    for name in [*named, *(["other phases"] if shown - set(BUILDING) else [])]:
        drawing.box(x, 58, 11, 11, look_of(name))
        drawing.text(x + 16, 68, name)
        x += 32 + LETTER * len(name)
    return 84
