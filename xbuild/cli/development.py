"""Tasks for people who work on xbuild itself."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from xbuild.base import log, paths, process
from xbuild.base.errors import MachineError, UsageError
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.doctor import install

_SLOWEST = "--durations=20"
"""pytest: name those that took longest. Whoever has to make a run shorter begins with them."""

_NO_TESTS = 5
"""pytest: nothing was collected, such as where no name in a suite matches."""

# However its parent ends, it ends as well.
_BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"

# The others build, which keeps all cores busy, and wait for each other's locks.
_SUITES = {
    "unit": ["-n", "auto", "--dist", "worksteal", "tests/unit"],
    "integration": ["-m", "not long", "tests/integration"],
    "e2e": ["-m", "not long", "tests/e2e"],
    "long": ["-m", "long", "tests/integration", "tests/e2e"],
}
_USUAL = ("unit", "integration", "e2e")


def _run(*command: str | Path) -> int:
    return process.run(command, cwd=paths.checkout(), check=False).returncode


@task(
    name="test",
    help={
        "suite": "unit, integration, e2e (these three by default), long (what CI has no time for), or all four",
        "match": "only tests whose names match (pytest -k)",
        "repeat": "run them this many times, until one fails: for what has a race in it",
        "load": "keep all cores busy meanwhile",
        "yes": "install what the machine lacks for builds without asking",
    },
)
@guarded
def run_tests(
    _c: Context, suite: str = "", match: str = "", repeat: int = 1, load: bool = False, yes: bool = False
) -> int:
    """Run the tests."""
    log.configure()
    # Before anything is installed for the tests that are not there.
    paths.checkout()
    try:
        import pytest  # noqa: F401
    except ImportError as error:
        command = f"{sys.executable} -m pip install -e '.[dev]'"
        raise MachineError("pytest is not installed", hint=command) from error
    if suite not in ("", *_SUITES, "all"):
        raise UsageError(f"there is no suite {suite!r}", hint=f"one of {', '.join(_SUITES)}, all")
    if repeat < 1:
        raise UsageError(f"--repeat {repeat} is no number of times", hint="give 1 or more")
    if suite != "unit":
        # Without agreement nothing is installed, and tests that need it are skipped.
        install.set_up(assume_yes=yes)
    words = ["-k", match] if match else []
    names = {"": _USUAL, "all": tuple(_SUITES)}.get(suite, (suite,))
    commands = [[*words, *_SUITES[name]] for name in names]
    with _load() if load else contextlib.nullcontext():
        return _run_once(commands)[0] if repeat == 1 else _run_often(commands, repeat)


def _run_once(commands: Sequence[Sequence[str]]) -> tuple[int, list[Sequence[str]]]:
    """Run pytest with each of these words; give the exit code of all, and those words that fit any test."""
    codes = [_run(sys.executable, "-m", "pytest", _SLOWEST, *words) for words in commands]
    ran = [words for words, code in zip(commands, codes, strict=True) if code != _NO_TESTS]
    return max((code for code in codes if code != _NO_TESTS), default=_NO_TESTS), ran


def _run_often(commands: Sequence[Sequence[str]], times: int) -> int:
    for number in range(1, times + 1):
        code, commands = _run_once(commands)
        if code == _NO_TESTS:
            return code
        if code:
            log.warn(f"run {number} of {times} failed; {number - 1} passed before it")
            return code
    log.info(f"{times} of {times} runs passed")
    return 0


@contextlib.contextmanager
def _load() -> Iterator[None]:
    """A process on each core that does nothing but keep it busy."""
    with contextlib.ExitStack() as stack:
        for _ in os.sched_getaffinity(0):
            stack.enter_context(process.started([sys.executable, "-c", _BUSY], env=os.environ))
        yield


@task()
@guarded
def lint(_c: Context) -> int:
    """Run ruff and mypy."""
    log.configure()
    codes = [_run(sys.executable, "-m", *words) for words in (("ruff", "check", "."), ("mypy",))]
    return max(codes)
