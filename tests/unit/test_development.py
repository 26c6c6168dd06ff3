"""`invoke test --repeat`: real runs of a few small tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from xbuild.cli import development
from xbuild.cli.task import Context


@pytest.fixture
def tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of tests, which the command takes for xbuild's own."""
    place = tmp_path / "tests"
    for name in ("unit", "integration", "e2e"):
        (place / name).mkdir(parents=True)
    monkeypatch.setattr("xbuild.base.paths.checkout", lambda: tmp_path)
    monkeypatch.setattr("xbuild.doctor.install.set_up", lambda **_: None)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield place
    for number, handler in handlers.items():
        signal.signal(number, handler)


COUNTING = """
import os
from pathlib import Path
def test_counted():
    with Path("count").open("a") as file:
        file.write(".")
    assert len(Path("count").read_text()) < 3
def test_other():
    pass
"""


def run(**options: object) -> int:
    try:
        development.run_tests(Context(), **options)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_it_stops_at_the_first_failure(tests: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tests / "integration" / "test_it.py").write_text(COUNTING)
    assert run(suite="integration", match="other", repeat=2) == 0
    assert "2 of 2 runs passed" in capfd.readouterr().err
    assert not (tests.parent / "count").exists()
    assert run(suite="integration", match="counted", repeat=9) == 1
    assert "run 3 of 9 failed; 2 passed before it" in capfd.readouterr().err
    assert (tests.parent / "count").read_text() == "..."
    assert run(suite="integration", match="nothing", repeat=9) == 5


MARKED = """
from pathlib import Path
import pytest
@pytest.mark.parametrize("short", [1])
def test_short(short):
    Path("short").touch()
@pytest.mark.long
def test_long():
    Path("long").touch()
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({}, {"short"}),
        ({"suite": "e2e"}, {"short"}),
        ({"suite": "long"}, {"long"}),
        ({"suite": "all"}, {"short", "long"}),
    ],
)
def test_long_tests_run_when_asked_for(tests: Path, words: dict[str, str], wanted: set[str]) -> None:
    (tests / "e2e" / "test_it.py").write_text(MARKED)
    assert run(**words) == 0
    assert {path.name for path in tests.parent.iterdir()} & {"short", "long"} == wanted


BUSY = """
import os
from pathlib import Path
def test_beside_load():
    # The tests run in a child of the command's process, and what keeps the cores busy is another one.
    parent = os.getppid()
    own = Path("/proc", str(parent), "task", str(parent), "children").read_text().split()
    Path("loaded").write_text(str(len(own) - 1))
"""


@pytest.mark.parametrize("load", [False, True])
def test_load(tests: Path, load: bool) -> None:
    (tests / "integration" / "test_it.py").write_text(BUSY)
    assert run(suite="integration", load=load) == 0
    assert (tests.parent / "loaded").read_text() == str(len(os.sched_getaffinity(0)) if load else 0)
