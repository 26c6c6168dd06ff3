"""The page of a run, and its JUnit XML: what they say, and that they are whole, safe and need nothing beside them."""

from __future__ import annotations

import random
import re
from pathlib import Path
from xml.etree import ElementTree

from tests.unit.test_report import Elements
from tests.unit.test_run import Watch
from xbuild.graph.children import Part
from xbuild.graph.crew import Order
from xbuild.graph.junit import junit
from xbuild.graph.page import View, page
from xbuild.graph.run import Ended, Run
from xbuild.graph.scheduler import State, Task

ODD = '<b>&"\x1b[31m\x00'


def run_of(*all_ended: Ended, jobs: int = 4, took: float = 20.0) -> Run:
    run = Run([ended.order for ended in all_ended], Path("/nowhere"), Watch(Path("/nowhere")), jobs=jobs)
    run.ended = {ended.name: ended for ended in all_ended}
    run.took, run.started = took, 1000.0
    return run


def ended(name: str, began: float, seconds: float, *needs: str, state: State = State.DONE) -> Ended:
    parts = [
        Part("roots", 0, 1000.0 + began, None, 1000.0 + began + seconds / 4),
        Part("compile", 0, 1000.0 + began + seconds / 4, Path("/l"), 1000.0 + began + seconds),
    ]
    value = {"status": "built" if state is State.DONE else "failed"}
    held = [(began, 1), (began + seconds / 4, 2), (began + seconds / 2, 1)]
    order = Order(Task(name, needs), f"{name} for armhf", ())
    return Ended(order, state, began, seconds, 0, value, "it is new", "", Path("/log"), parts, 1 << 20, held)


def sample() -> Run:
    failed = ended("bad", 1, 3, state=State.FAILED)
    failed.code, failed.value = 3, {"status": "failed", "error": {"kind": "phase", "message": ODD, "details": [ODD]}}
    skipped = Ended(Order(Task("odd", ("bad",)), f"odd{ODD} for arm64", ()), State.SKIPPED, because="bad for armhf")
    there = Ended(Order(Task("old"), "old for armhf", ()), State.DONE, 0.0, 0.0, value={"status": "up-to-date"})
    return run_of(ended("a", 0, 8), ended("b", 0, 5), ended("c", 8, 12, "a", "b"), failed, skipped, there)


def shown(run: Run) -> str:
    text = page(run, "6 builds", "xbuild build --all")
    Elements(text)
    assert re.findall(r"<script|<link|<img|src=|@import|url\(|https?:", text) == []
    assert "<b>" not in text
    assert re.findall("[\x00-\x08\x0b-\x1f]", text) == []
    return text


def test_the_page_tells_what_came_of_all() -> None:
    text = shown(sample())
    assert text.index("✗ Failed") < text.index("When what ran") < text.index("What needs what") < text.index("<table>")
    for word in ("3 built", "1 failed", "1 skipped", "1 up-to-date", "20.0 s with 4 jobs", "why: it is new"):
        assert word in text
    assert "the longest chain took 20.0 s" in text
    assert "skipped, for bad for armhf failed" in text


def test_the_chain_that_took_longest_is_marked() -> None:
    view = View(sample(), "t", "c")
    assert view.critical == {"a", "c"}
    assert [row.ended.name for row in view.rows if row.critical] == ["a", "c"]
    assert [edge.critical for edge in view.edges] == [True, False, False]


def test_places_are_those_of_the_times() -> None:
    view = View(sample(), "t", "c")
    last = view.rows[-1]
    assert (last.ended.name, last.left, last.width) == ("c", 40.0, 60.0)
    places = [(one.name, one.left, one.width) for one in last.segments]
    assert places == [("roots", 40.0, 15.0), ("compile", 55.0, 45.0)]
    assert all(0 <= left <= 100 and left + width <= 100.01 for left, width, _, _ in view.held)
    # Each holds one job more for a quarter of its time.
    assert round(view.mean_jobs, 3) == round((8 + 5 + 12 + 3) * 1.25 / 20, 3)


def test_a_page_of_nothing_and_of_hundreds() -> None:
    assert "nothing had to be done" in shown(run_of(took=0.0))
    assert "1 built" in shown(run_of(ended("a", 0, 1), took=0.0))
    chance = random.Random(1)
    many = [
        ended(f"t{n}", n / 10, chance.random() * 9 + 0.1, *{f"t{chance.randrange(n)}" for _ in range(3) if n})
        for n in range(300)
    ]
    text = shown(run_of(*many, took=40.0))
    assert text.count('class="box ') == 300


def test_boxes_do_not_lie_on_each_other() -> None:
    view = View(sample(), "t", "c")
    assert len({(box.x, box.y) for box in view.boxes}) == len(view.boxes)
    places = {box.ended.name: box for box in view.boxes}
    assert all(places[need].x < box.x for box in view.boxes for need in box.ended.order.task.needs)


def test_junit_of_a_run() -> None:
    run = sample()
    text = junit(f"xbuild builds {ODD}", run.all, run.took)
    root = ElementTree.fromstring(text)
    suite = root[0]
    counts = {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "6", "failures": "1", "errors": "0", "skipped": "1"}
    cases = {case.attrib["name"]: [child.tag for child in case] for case in suite}
    assert cases["a for armhf"] == ["system-out"]
    assert cases["bad for armhf"] == ["failure", "system-out"]
    assert [name for name, tags in cases.items() if "skipped" in tags] == ['odd<b>&" for arm64']
    run.ended["bad"].code = 4
    assert ElementTree.fromstring(junit("x", run.all, 1))[0].attrib["errors"] == "1"
