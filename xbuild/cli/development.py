"""Tasks for people who work on xbuild itself."""

from __future__ import annotations

import sys
from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from xbuild import log, paths, process
from xbuild.cli.guard import guarded
from xbuild.errors import MachineError, UsageError

_CHECKOUT = paths.PACKAGE.parent

_NO_TESTS = 5
"""pytest: nothing was collected, such as where no name in a suite matches."""


def _run(*command: str | Path) -> int:
    return process.run(command, cwd=_CHECKOUT, check=False).returncode


@task(
    name="test",
    auto_shortflags=False,
    help={"suite": "unit, integration, e2e or all (the default)", "match": "only tests whose names match (pytest -k)"},
)
@guarded
def run_tests(_c: Context, suite: str = "all", match: str = "") -> int:
    """Run the tests."""
    log.configure()
    try:
        import pytest  # noqa: F401
    except ImportError as error:
        command = f"{sys.executable} -m pip install -e '.[dev]'"
        raise MachineError("pytest is not installed", hint=command) from error
    # The others build, which keeps all cores busy, and wait for each other's locks.
    runs = {"unit": ["-n", "auto", "tests/unit"], "integration": ["tests/integration"], "e2e": ["tests/e2e"]}
    if suite not in (*runs, "all"):
        raise UsageError(f"there is no suite {suite!r}", hint=f"one of {', '.join(runs)}, all")
    words = ["-k", match] if match else []
    codes = [
        _run(sys.executable, "-m", "pytest", *words, *run) for name, run in runs.items() if suite in (name, "all")
    ]
    return max((code for code in codes if code != _NO_TESTS), default=_NO_TESTS)


@task(auto_shortflags=False)
@guarded
def lint(_c: Context) -> int:
    """Run ruff and mypy."""
    log.configure()
    codes = [_run(sys.executable, "-m", *words) for words in (("ruff", "check", "."), ("mypy",))]
    return max(codes)
