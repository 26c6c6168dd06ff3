"""Fixtures for what runs commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke.program import Program

from tests.unit.commands import Run, run_with
from xbuild.cli.namespace import namespace
from xbuild.cli.program import XbuildProgram
from xbuild.roots.contents import Packages
from xbuild.roots.resolve import Question, Resolver

PROJECT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, beside all others."""
    items.sort(key=lambda item: item.name != "test_mypy")


@pytest.fixture(autouse=True)
def resolved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No unit test asks the network what a root will have: just what was asked for, of a version that is the suite."""

    def packages(self: Resolver, question: Question) -> Packages:
        below = packages(self, question.base) if question.base else {}
        text = f"{self.archive.suite} {question.architecture} {'0' * 64}"
        return {**below, **dict.fromkeys(question.packages, text)}

    if request.path.name != "test_resolve.py":
        monkeypatch.setattr(Resolver, "packages", packages)
        monkeypatch.setattr(Resolver, "status", lambda _resolver, _question: "")


@pytest.fixture(autouse=True)
def command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands look at the command line of their process, and that is pytest's own."""
    monkeypatch.setattr(sys, "argv", ["invoke"])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store; the recipes and targets are this project's."""
    monkeypatch.setenv("XBUILD_PROJECT", str(PROJECT))
    monkeypatch.setenv("XBUILD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts a process fails."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"a process was started: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "fork", refuse)


@pytest.fixture
def restored() -> Iterator[None]:
    """What a command changes in its process is as before afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    bytecode = sys.dont_write_bytecode
    yield
    sys.dont_write_bytecode = bytecode
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def xbuild(cache: Path, capsys: pytest.CaptureFixture[str], restored: None) -> Run:
    """Runs the installed program's commands in this process."""
    return run_with(XbuildProgram(), capsys)


@pytest.fixture
def invoke(cache: Path, capsys: pytest.CaptureFixture[str], restored: None) -> Run:
    """Runs the same as `invoke` does."""
    return run_with(Program(namespace=namespace, version="0"), capsys)
