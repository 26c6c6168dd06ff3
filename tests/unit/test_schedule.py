"""What runs when, over abstract tasks: order, failures, nothing lost, nothing twice."""

from __future__ import annotations

import random
from graphlib import CycleError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.graph.scheduler import Schedule, State, Task, critical_path


def names(count: int) -> list[str]:
    return [f"t{number}" for number in range(count)]


@st.composite
def graphs(draw: st.DrawFn, most: int = 30) -> list[Task]:
    """Tasks that need earlier ones, in any order."""
    made = names(draw(st.integers(0, most)))
    tasks = []
    for number, name in enumerate(made):
        needs = draw(st.lists(st.sampled_from(made[:number]), max_size=4, unique=True)) if number else []
        seconds = draw(st.none() | st.floats(0, 1000))
        tasks.append(Task(name, tuple(needs), seconds))
    return draw(st.permutations(tasks))


@given(graphs(), st.integers(1, 5), st.booleans(), st.randoms(use_true_random=False), st.integers(0, 3))
def test_all_is_done_once_and_in_order(
    tasks: list[Task], jobs: int, keep_going: bool, chance: random.Random, bad: int
) -> None:
    failing = set(chance.sample([task.name for task in tasks], min(bad, len(tasks))))
    schedule = Schedule(tasks, keep_going=keep_going)
    done: list[str] = []
    told: list[str] = []
    begun: list[str] = []
    while not schedule.over:
        ready = schedule.ready()
        while ready and len(schedule.running) < jobs:
            task = ready.pop(0)
            assert set(task.needs) <= set(done)
            schedule.begin(task.name)
            begun.append(task.name)
        name = chance.choice(schedule.running)
        well = name not in failing
        told += schedule.end(name, well=well)
        done += [name] if well else []
    assert len(begun) == len(set(begun))
    assert len(told) == len(set(told))
    states = schedule.states
    assert {name for name, state in states.items() if state is State.DONE} == set(done)
    assert {name for name, state in states.items() if state is State.SKIPPED} == set(told)
    for name in told:
        assert states[schedule.because[name]] is State.FAILED
    waiting = [name for name, state in states.items() if state is State.WAITING]
    # What waits for ever does so only because all ends with the first failure.
    assert not waiting or (schedule.failed and not keep_going)
    if not failing:
        assert len(done) == len(tasks)


@given(graphs())
def test_what_holds_up_most_begins_first(tasks: list[Task]) -> None:
    schedule = Schedule(tasks)
    ways = schedule.priorities
    for task in tasks:
        assert all(ways[need] >= ways[task.name] for need in task.needs)
    ready = [ways[task.name] for task in schedule.ready()]
    assert ready == sorted(ready, reverse=True)


def test_the_long_chain_goes_before_the_long_task() -> None:
    tasks = [Task("long", (), 50), Task("a", (), 10), Task("b", ("a",), 30), Task("c", ("b",), 20)]
    assert [task.name for task in Schedule(tasks).ready()] == ["a", "long"]


def test_after_a_failure_what_needs_it_is_skipped() -> None:
    tasks = [Task("a"), Task("b", ("a",)), Task("c", ("b",)), Task("d")]
    for keep_going, ready in ((False, []), (True, ["d"])):
        schedule = Schedule(tasks, keep_going=keep_going)
        schedule.begin("a")
        assert schedule.end("a", well=False) == ["b", "c"]
        assert schedule.because == {"b": "a", "c": "a"}
        assert [task.name for task in schedule.ready()] == ready


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="one name"):
        Schedule([Task("a"), Task("a")])
    with pytest.raises(ValueError, match="which is no task"):
        Schedule([Task("a", ("b",))])
    with pytest.raises(CycleError):
        Schedule([Task("a", ("b",)), Task("b", ("a",))])
    schedule = Schedule([Task("a"), Task("b", ("a",))])
    with pytest.raises(ValueError, match="not ready"):
        schedule.begin("b")
    with pytest.raises(ValueError, match="does not run"):
        schedule.end("a", well=True)


def test_the_critical_path_is_the_longest_chain() -> None:
    needs = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ()}
    assert critical_path(needs, {"a": 1, "b": 5, "c": 2, "d": 1, "e": 6.5}) == ("a", "b", "d")
    assert critical_path(needs, {"a": 1, "b": 5, "c": 2, "d": 1, "e": 8}) == ("e",)
    assert critical_path({}, {}) == ()


def test_three_hundred_tasks_cost_little() -> None:
    """No clock: what is looked at for each that ends must not be all that there is."""
    tasks = [Task(f"t{n}", tuple(f"t{m}" for m in range(max(0, n - 3), n))) for n in range(300)]
    schedule = Schedule(tasks)
    rounds = 0
    while ready := schedule.ready():
        rounds += 1
        for task in ready:
            schedule.begin(task.name)
            schedule.end(task.name, well=True)
    assert (rounds, schedule.count(State.DONE)) == (300, 300)
