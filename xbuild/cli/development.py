"""Tasks for people who work on xbuild itself."""

from __future__ import annotations

import sys
from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from xbuild import log, paths, process
from xbuild.cli.guard import guarded
from xbuild.errors import MachineError
from xbuild.model.schema import write_schemas

_CHECKOUT = paths.PACKAGE.parent


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
    folders = ["tests"] if suite == "all" else [f"tests/{suite}"]
    words = ["-k", match] if match else []
    return _run(sys.executable, "-m", "pytest", *words, *folders)


@task(auto_shortflags=False)
@guarded
def lint(_c: Context) -> int:
    """Run ruff and mypy."""
    log.configure()
    codes = [_run(sys.executable, "-m", *words) for words in (("ruff", "check", "."), ("mypy",))]
    return max(codes)


@task(auto_shortflags=False)
@guarded
def schema(_c: Context) -> None:
    """Write docs/schema from the models."""
    log.configure()
    write_schemas(_CHECKOUT / "docs" / "schema")
