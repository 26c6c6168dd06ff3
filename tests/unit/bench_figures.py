"""Made-up figures of a benchmark, for the tests of what is shown of them."""

from __future__ import annotations

from xml.etree import ElementTree

from xbuild.proof.bench import series
from xbuild.proof.bench.series import NATIVE, TOTAL, Failure, Run, Series, Variant

TARGETS = (("armhf", False), ("amd64", True))
MODES: tuple[str, ...] = ("substituted", "emulated")
RUNGS = ("compiler", "+ sh", "+ rest")
MACHINE = {
    "cpu": "Some | CPU", "cores": 2, "memory": 24 << 30, "kernel": "6.18.0", "system": "Debian 12", "jobs": 2,
    "load": 0.1, "date": "2025-11-21 10:00 UTC",
}  # fmt: skip
LOG = "/logs/02-compile.log"
FACTORS = {NATIVE: 1.0, "compiler": 10.0, "+ sh": 3.0, "substituted": 1.25, "emulated": 40.0}
SVG = "{http://www.w3.org/2000/svg}"


def run_of(variant: Variant, turn: int, seconds: dict[str, float], sha256: str = "a") -> Run:
    return Run(variant, turn, "1.0", series.timed(list(seconds.items())), 7, 30, sha256)


def made(
    *,
    recipes: tuple[str, ...] = ("bash", "xz"),
    targets: tuple[tuple[str, bool], ...] = TARGETS,
    modes: tuple[str, ...] = MODES,
    rungs: tuple[str, ...] = (),
    rounds: int = 3,
    failing: tuple[str, ...] = (),
) -> Series:
    """A series in which configure takes a second longer in each round; variants of the names `failing` fail."""
    found = Series(series.variants(recipes, targets, modes, rungs[:-1]), rounds, "invoke bench <x>", MACHINE, rungs)
    for turn, variant in series.schedule(found.variants, rounds):
        if variant.name in failing:
            if turn == 1:
                found.failures.append(Failure(variant, 1, "phase 'compile' failed", ("a | line",), LOG))
            continue
        factor = FACTORS[variant.name]
        configure = 10 * factor + turn - (rounds + 1) / 2
        seconds = {"unpack": 1.0, "configure": configure, "compile": 20 * factor, "check": 99.0}
        found.runs.append(run_of(variant, turn, seconds))
    return found


def figure(of: Series, name: str, phase: str = TOTAL, recipe: str = "bash") -> series.Figure:
    return next(
        known
        for known in series.figures(of)
        if (known.variant.recipe, known.variant.name, known.phase) == (recipe, name, phase)
    )


def assert_inside(root: ElementTree.Element) -> None:
    """Nothing is drawn beyond the picture's edges, nothing has a negative size."""
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for box in root.iter(f"{SVG}rect"):
        x, y, wide, high = (float(box.get(name, "0")) for name in ("x", "y", "width", "height"))
        assert wide >= 0
        assert 0 <= x <= x + wide <= width + 0.2
        assert 0 <= y <= y + high <= height
    for line in root.iter(f"{SVG}polyline"):
        for point in line.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x", "")) <= width
        assert 0 <= float(text.get("y", "")) <= height
