"""How the figures of a benchmark are shown: table, Markdown, JSON, picture."""

from __future__ import annotations

import json
import random
import re
from xml.etree import ElementTree

import pytest

from tests.unit.bench_figures import LOG, MACHINE, MODES, RUNGS, SVG, TARGETS, assert_inside, made
from xbuild.proof.bench import bars, plot, series, show, steps
from xbuild.proof.bench.series import NATIVE, TOTAL, Series


def test_the_table_has_every_phase_and_every_failure() -> None:
    found = made(failing=("emulated",))
    lines = show.rows(found)
    assert {len(line) for line in lines} == {len(show.COLUMNS)}
    assert ("bash", "armhf", "substituted", "compile", "25.0", "25.0", "25.0", "1.25") in lines
    assert ("bash", "amd64", "native", "configure", "10.0", "9.0", "11.0", "") in lines
    assert ("bash", "armhf", "emulated", "failed", "", "", "", LOG) in lines


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table in a Markdown text."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block] for block in blocks]


@pytest.mark.parametrize("failing", [(), ("emulated",), ("compiler", "substituted"), (NATIVE,)], ids=",".join)
@pytest.mark.parametrize("rungs", [(), RUNGS], ids=["modes", "ladder"])
@pytest.mark.parametrize("targets", [TARGETS, TARGETS[:1]], ids=["native", "alone"])
def test_markdown_is_well_formed(
    failing: tuple[str, ...], rungs: tuple[str, ...], targets: tuple[tuple[str, bool], ...]
) -> None:
    found = made(failing=failing, rungs=rungs, targets=targets)
    text = show.markdown(found)
    assert len(tables(text)) == 1 + (2 if rungs else 0)
    for table in tables(text):
        assert len({len(line) for line in table}) == 1
        assert all(re.fullmatch(r" ---:? ", cell) for cell in table[1])
    assert "Repeat it: `invoke bench <x>`" in text
    assert r"Some \| CPU, 2 cores, 24.0 GiB of memory" in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    # One failure a variant, of two recipes.
    expected = sum(1 for variant in found.variants if variant.name in failing)
    assert text.count("Failed: ") == expected
    assert ("no native target" in text) == (targets == TARGETS[:1])


def test_markdown_says_the_figures() -> None:
    text = show.markdown(made(rungs=RUNGS))
    assert "| recipe | phase | amd64 native | armhf substituted | ratio | armhf emulated | ratio |" in text
    row = "| bash 1.0 | configure | 10.0 (9.0 to 11.0) | 12.5 (11.5 to 13.5) | 1.25 | 400.0 (399.0 to 401.0) | 40.00 |"
    assert row in text
    assert "| xz 1.0, armhf | configure | compile | total | ratio | programs emulated |" in text
    assert "| + sh | 30.0 (29.0 to 31.0) | 60.0 (60.0 to 60.0) | 90.0 (89.0 to 91.0) | 3.00 | 7 |" in text
    assert "| target amd64 | 10.0 (9.0 to 11.0) | 20.0 (20.0 to 20.0) | 30.0 (29.0 to 31.0) |  |  |" in text
    single = show.markdown(made(rounds=1))
    assert "|  | compile | 20.0 | 25.0 | 1.25 | 800.0 | 40.00 |" in single
    assert "one run" in single


def test_json_holds_every_run() -> None:
    found = made(failing=("emulated",))
    value = json.loads(json.dumps(show.as_json(found)))
    assert len(value["runs"]) == 2 * 2 * 3
    assert value["runs"][0] == {
        "recipe": "bash", "target": "amd64", "variant": "native", "round": 1, "version": "1.0", "emulated": 7,
        "by_twins": 30, "sha256": "a", "distcc": None, "seconds": {"configure": 9.0, "compile": 20.0, "total": 29.0},
    }  # fmt: skip
    assert {"phase": "total", "count": 3, "median": 37.5, "least": 36.5, "most": 38.5, "ratio": 1.25}.items() <= next(
        known for known in value["figures"] if (known["variant"], known["phase"]) == ("substituted", "total")
    ).items()
    assert value["failures"][0]["log"] == LOG
    assert (value["complete"], value["rounds"], value["machine"]) == (False, 3, MACHINE)


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def looks(root: ElementTree.Element, kind: str) -> list[str]:
    return [element.get("class", "") for element in root.iter(f"{SVG}{kind}")]


@pytest.mark.parametrize("failing", [(), ("emulated",), ("compiler", "substituted"), (NATIVE,)], ids=",".join)
@pytest.mark.parametrize("rungs", [(), RUNGS], ids=["modes", "ladder"])
@pytest.mark.parametrize("targets", [TARGETS, TARGETS[:1]], ids=["native", "alone"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_the_picture_is_well_formed(
    failing: tuple[str, ...], rungs: tuple[str, ...], targets: tuple[tuple[str, bool], ...], rounds: int
) -> None:
    found = made(failing=failing, rungs=rungs, targets=targets, rounds=rounds)
    root = ElementTree.fromstring(plot.picture(found))
    assert_inside(root)
    said = texts(root)
    assert said.count("failed") >= sum(1 for variant in found.variants if variant.name in failing and rungs == ())
    names = [f"{variant.target} {variant.name}" for variant in found.variants if variant.rung is None]
    assert [text for text in said if text in names] == names
    assert not re.search(r"""(href|src|url)\s*[=(]""", plot.picture(found))


def test_the_picture_of_nothing() -> None:
    for rungs in ((), RUNGS):
        known = series.variants(["a"], TARGETS, MODES, rungs[:-1])
        root = ElementTree.fromstring(plot.picture(Series(known, 3, "", MACHINE, rungs)))
        assert_inside(root)
        assert looks(root, "rect") == ["paper"]


def test_names_are_escaped() -> None:
    found = made(recipes=("a<b>&'\"",))
    root = ElementTree.fromstring(plot.picture(found))
    assert "a<b>&'\" 1.0" in texts(root)


def test_bars_are_to_scale_and_the_longest_broken() -> None:
    root = ElementTree.fromstring(plot.picture(made(recipes=("bash",), rounds=1)))
    boxes = [box for box in root.iter(f"{SVG}rect") if box.find(f"{SVG}title") is not None]
    wide = {(box.get("class"), box[0].text): float(box.get("width", "")) for box in boxes}
    native, armhf = wide["compile", "compile 20.0 s"], wide["compile", "compile 25.0 s"]
    assert armhf / native == pytest.approx(1.25, rel=0.01)
    assert looks(root, "rect").count("beyond") == 1
    assert {"40.0×", "1.25×"} <= set(texts(root))
    assert "limit" in looks(root, "polyline")


def test_bars_without_a_native_target_are_held_against_the_first() -> None:
    groups = bars.groups(made(targets=TARGETS[:1], recipes=("bash",)))
    assert [bar.length for bar in groups["bash"]] == [1.0, pytest.approx(32, rel=0.01)]


@pytest.mark.parametrize(
    ("lengths", "end"),
    [([1.0], 1.0), ([1.0, 1.2], 1.25), ([1.0, 1.6, 30.0], 2.0), ([0.2], 0.25), ([], 1.0), ([9.0], 1.0)],
)
def test_where_the_scale_of_the_bars_ends(lengths: list[float], end: float) -> None:
    assert bars.Scale.of(lengths).end == end


def test_the_steps_go_down() -> None:
    found = made(rungs=RUNGS, recipes=("bash",))
    known = steps.steps(found, "bash", "armhf")
    assert [round(step.values[TOTAL], 2) for step in known] == [40, 10, 3, 1.25, 1]
    scale = steps.Scale.of([value for step in known for value in step.values.values()], 0.0)
    heights = [scale.y(step.values[TOTAL]) for step in known]
    assert heights == sorted(heights)
    # Logarithmic: the same factor is the same way down.
    assert scale.y(10) - scale.y(20) == pytest.approx(scale.y(1) - scale.y(2))
    assert 1 in scale.ticks()


def test_a_wild_series_can_be_shown() -> None:
    # Whatever the figures are, the picture has room for them.
    chance = random.Random(1)
    for _ in range(5):
        found = made(rungs=RUNGS, rounds=2)
        for run in found.runs:
            for phase in run.seconds:
                run.seconds[phase] = chance.choice([0.0, 0.001, chance.uniform(0, 2), chance.uniform(0, 90000)])
        assert_inside(ElementTree.fromstring(plot.picture(found)))
        assert all(len({len(line) for line in table}) == 1 for table in tables(show.markdown(found)))
