"""A picture made of a few shapes, and how it becomes an SVG file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xbuild.model.phases import BUILDING
from xbuild.proof.report import render

WIDTH = 880.0
"""Of a picture, in SVG's units, which are pixels of the size in which it is meant to be seen."""

MARGIN = 16.0
LETTER = 6.4
"""Mean width of a letter in the picture's text, a little more than it is in common fonts."""


def look_of(phase: str) -> str:
    """The name in the style sheet of what stands for `phase`."""
    return phase if phase in BUILDING else "other"


@dataclass
class Drawing:
    """Shapes in the order of drawing, each a mapping for bench.svg.j2. look: names of its style sheet."""

    shapes: list[dict[str, Any]] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, look: str = "", anchor: str = "start") -> None:
        """A line of text with its base line at y. anchor: start, middle or end: which part of it is at x."""
        self._add("text", x=x, y=y, text=text, look=look, anchor=anchor)

    def box(self, x: float, y: float, width: float, height: float, look: str, hint: str = "") -> None:
        """A filled rectangle. hint: shown when the pointer rests on it."""
        self._add("box", x=x, y=y, width=width, height=height, look=look, hint=hint)

    def line(self, points: list[tuple[float, float]], look: str) -> None:
        """A line through `points`."""
        self._add("line", points=" ".join(f"{round(x, 1):g},{round(y, 1):g}" for x, y in points), look=look)

    def _add(self, kind: str, **values: Any) -> None:
        rounded = {name: round(value, 1) if isinstance(value, float) else value for name, value in values.items()}
        self.shapes.append({"kind": kind, **rounded})


def times(ratio: float) -> str:
    """`ratio` as it stands beside a bar or a step."""
    return f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.1f}×"


def svg(drawing: Drawing, *, title: str, description: str, height: int) -> str:
    """The SVG file, complete in itself; it follows the reader's choice of light or dark, and is light on paper.

    title, description: for readers who do not see it.
    """
    words = {"title": title, "description": description, "width": round(WIDTH), "height": height}
    return render("bench.svg.j2", Path(__file__).parent, **words, shapes=drawing.shapes) + "\n"
