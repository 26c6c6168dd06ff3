"""Many commands at once, as real processes: never more jobs than there are, whoever dies; order; interruptions."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xbuild.base.events import events_to
from xbuild.graph import children
from xbuild.graph.crew import Order, Own, Running
from xbuild.graph.display import ending
from xbuild.graph.outcome import as_json, fault
from xbuild.graph.run import Ended, Run
from xbuild.graph.scheduler import State, Task

WORKER = Path(__file__).with_name("worker.py")


class Watch:
    """Takes note of what begins and ends; takes away the jobs of the dead, before anybody can have their tokens."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.told: list[tuple[str, str]] = []
        self.pids: dict[str, int] = {}

    def began(self, ended: Ended, running: Running) -> None:
        self.told.append(("began", ended.name))
        self.pids[ended.name] = running.pid  # type: ignore[attr-defined]

    def finished(self, ended: Ended) -> None:
        self.told.append((str(ended.state), ended.name))
        for file in self.place.glob(f"job-{self.pids.get(ended.name)}-*"):
            file.unlink()

    def looked(self) -> None:
        pass


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(children, "PROGRAM", (sys.executable, str(WORKER)))
    (tmp_path / "run").mkdir()
    yield tmp_path
    assert list((tmp_path / "run").glob("*.jobs")) == []


def work(name: str, place: Path, *needs: str, ending: str = "well", count: int = 6, longest: float = 0.02) -> Order:
    return Order(Task(name, needs), f"{name} for x", (str(place), str(count), ending, str(longest)))


def run_of(place: Path, orders: list[Order], **more: int) -> tuple[Run, Watch]:
    watch = Watch(place)
    return Run(orders, place / "run", watch, **{"jobs": 4, **more}), watch  # type: ignore[arg-type]


@pytest.mark.parametrize(("jobs", "seed"), [(1, 1), (2, 2), (4, 3), (7, 4)])
def test_never_more_jobs_than_there_are_whoever_is_killed(place: Path, jobs: int, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"t{number}" for number in range(16)]
    orders = []
    for number, name in enumerate(names):
        needs = chance.sample(names[:number], min(number, chance.randrange(2)))
        orders.append(work(name, place, *needs, ending=chance.choice(["well", "well", "die"]), count=12))
    run, watch = run_of(place, orders, jobs=jobs, keep_going=True)
    all_ended = run.run()
    most = [int(line) for line in (place / "most").read_text().split()] if (place / "most").exists() else []
    assert max(most, default=1) <= jobs
    assert isinstance(run.crew, Own)
    assert run.crew.jobserver.free == jobs
    for ended in all_ended:
        dies = ended.order.words[2] == "die"
        if ended.state is not State.SKIPPED:
            assert (ended.state, ended.code) == ((State.FAILED, -9) if dies else (State.DONE, 0))
    for name, order in zip(names, orders, strict=True):
        for need in order.task.needs:
            if ("began", name) in watch.told:
                assert watch.told.index(("done", need)) < watch.told.index(("began", name))


def test_one_alone_gets_all_jobs(place: Path) -> None:
    orders = [work(name, place, *needs, ending="greedy", count=3) for name, needs in (("a", ""), ("b", "a"))]
    run, _ = run_of(place, orders)
    assert [ended.state for ended in run.run()] == [State.DONE, State.DONE]


def test_jobs_of_the_dead_come_to_the_living(place: Path) -> None:
    orders = [work(f"d{n}", place, ending="die", count=4) for n in range(3)]
    run, _ = run_of(place, [*orders, work("a", place, ending="greedy", count=3)], keep_going=True)
    assert [ended.status for ended in run.run()] == ["failed"] * 3 + ["built"]


def test_what_failed_is_told_and_what_needs_it_is_skipped(place: Path) -> None:
    orders = [work("a", place, ending="fail"), work("b", place, "a"), work("c", place)]
    run, _ = run_of(place, orders, keep_going=True)
    all_ended = run.run()
    assert [ended.status for ended in all_ended] == ["failed", "built", "skipped"]
    assert [as_json(ended)["because"] for ended in all_ended] == [None, None, "a for x"]
    error = fault(all_ended, "builds")
    assert error is not None
    assert (error.exit_code, error.message) == (3, "1 of 3 builds failed: a for x")
    assert "not done: b for x" in error.details


def test_what_a_command_tells_is_passed_on_to_its_end(place: Path) -> None:
    """Also what it tells last, before anybody has looked."""
    with events_to(place / "all", print):
        run, _ = run_of(place, [work("a", place, count=0)])
        run.run()
    told = [json.loads(line) for line in (place / "all").read_text().splitlines()]
    assert [(one["event"], one["build"]) for one in told] == [
        (event, "a for x") for event in ("build-began", "began", "build-ended")
    ]
    assert [part.name for part in run.ended["a"].parts] == ["work"]


def test_what_is_there_costs_no_process(place: Path) -> None:
    there = Order(Task("a"), "a for x", (), lambda: {"status": "up-to-date"})
    run, watch = run_of(place, [there, work("b", place, "a")])
    run.run()
    assert watch.told == [("done", "a"), ("began", "b"), ("done", "b")]
    assert run.ended["a"].status == "up-to-date"


def test_one_that_needs_much_memory_begins_alone(place: Path) -> None:
    orders = [work("small", place), Order(Task("large", (), 9.0, 1 << 60), "large", work("l", place).words)]
    run, watch = run_of(place, orders)
    run.run()
    # It has the longest way to go, so it is first; nothing fits beside what takes all there is.
    assert watch.told == [("began", "large"), ("done", "large"), ("began", "small"), ("done", "small")] or (
        watch.told[0] == ("began", "large")
    )
    orders = [work("small", place), Order(Task("large", (), 0.0, 1 << 60), "large", work("l", place).words)]
    orders[0] = Order(Task("small", (), 5.0), "small", orders[0].words)
    run, watch = run_of(place, orders)
    run.run()
    assert watch.told == [("began", "small"), ("done", "small"), ("began", "large"), ("done", "large")]


def test_an_interrupted_run_ends_what_it_has_begun(place: Path) -> None:
    class Interrupting(Watch):
        def looked(self) -> None:
            if list(self.place.glob("pid-*")):
                raise KeyboardInterrupt

    orders = [work(name, place, ending="wait") for name in ("a", "b")]
    watch = Interrupting(place)
    run = Run([*orders, work("c", place, "a")], place / "run", watch, jobs=2)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert [run.ended[name].status for name in ("a", "b", "c")] == ["interrupted", "interrupted", "skipped"]
    assert list(ending(run.ended["c"])) == ["c for x:", "skipped, for a for x was interrupted"]
    for pid in watch.pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_second_interruption_ends_all_at_once(place: Path) -> None:
    class Interrupting(Watch):
        def looked(self) -> None:
            if len(list(self.place.glob("pid-*"))) == 2:
                signal.signal(signal.SIGALRM, signal.default_int_handler)
                signal.setitimer(signal.ITIMER_REAL, 0.5)
                raise KeyboardInterrupt

    watch = Interrupting(place)
    run = Run([work(name, place, ending="deaf") for name in ("a", "b")], place / "run", watch, jobs=2)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert [(ended.status, ended.code) for ended in run.all] == [("interrupted", -9)] * 2
    assert run.took > 0
    assert all(gone(pid) for pid in watch.pids.values())


KILLED = """
import sys
from pathlib import Path
from test_run import Watch, work
from xbuild.graph import children
from xbuild.graph.run import Run
place = Path(sys.argv[1])
children.PROGRAM = (sys.executable, sys.argv[2])
Run([work(name, place, ending="wait") for name in "abc"], place / "run", Watch(place), jobs=3).run()
"""


def gone(pid: int) -> bool:
    """Whether it has ended: as an orphan it may wait for a parent that reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_killed_run_takes_along_what_it_has_begun(place: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(place), str(WORKER)]
    runner = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(WORKER.parent)})
    while len(pids := list(place.glob("pid-*"))) < 3:
        assert runner.poll() is None
        time.sleep(0.05)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    while not all(gone(int(pid.name.partition("-")[2])) for pid in pids):
        time.sleep(0.05)
    for file in (place / "run").glob("*.jobs"):
        file.unlink()


def test_three_hundred_tasks_that_are_there_cost_no_process(place: Path) -> None:
    orders = [
        Order(Task(f"t{n}", tuple(f"t{m}" for m in range(max(0, n - 3), n))), f"t{n}", (), lambda: {"status": "ok"})
        for n in range(300)
    ]
    run, watch = run_of(place, orders)
    assert [ended.state for ended in run.run()] == [State.DONE] * 300
    assert len(watch.told) == 300
