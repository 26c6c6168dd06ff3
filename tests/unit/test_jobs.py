"""What a phase is given of a shared budget of jobs: a pipe where all takes from it, else a number; alone, as ever."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xbuild.build import jobs
from xbuild.build.environment import JOBS_PIPE
from xbuild.build.prepared import Prepared, prepare
from xbuild.build.request import Here, Request
from xbuild.formats.debian import Tree
from xbuild.store.local import Store

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The descriptor of a build's pipe, which is empty."""
    os.mkfifo(tmp_path / "jobs")
    monkeypatch.setenv(jobs.VARIABLE, str(tmp_path / "jobs"))
    monkeypatch.setattr(jobs, "_PATIENCE", 0.05)
    descriptor = os.open(tmp_path / "jobs", os.O_RDWR | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def built(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    for kind in ("recipes", "toolchains"):
        shutil.copytree(PROJECT / kind, tmp_path / "project" / kind)
    monkeypatch.setenv("XBUILD_PROJECT", str(tmp_path / "project"))
    return prepare(Request(name, "armhf", here=Here(jobs=4)), Store(tmp_path / "store"))


def tree(version: str = "4.4.1-2") -> Tree:
    return cast("Tree", SimpleNamespace(packages={"make": SimpleNamespace(version=version)}))


def granted(build: Prepared, phase: str, known: Tree, env: dict[str, str] | None = None) -> Any:
    step = next(step for step in build.steps if step.name == phase)
    return jobs.granted(build.subject, step, known, env or {})


def jobs_in(text: str) -> str:
    done = subprocess.run(["sh", "-c", f'{text}echo "$JOBS"'], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def tokens(descriptor: int) -> int:
    with suppress(BlockingIOError):
        return len(os.read(descriptor, 100))
    return 0


def test_alone_all_is_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(jobs.VARIABLE, raising=False)
    build = built("zlib", tmp_path, monkeypatch)
    for phase in ("configure", "compile", "install"):
        with granted(build, phase, tree()) as may:
            assert may == jobs.Granted(build.subject.assignments)


def test_make_has_the_pipe_and_no_number(tmp_path: Path, pipe: int, monkeypatch: pytest.MonkeyPatch) -> None:
    build = built("zlib", tmp_path, monkeypatch)
    with granted(build, "compile", tree()) as may:
        assert may.env == {"MAKEFLAGS": f"-j4 --jobserver-auth=fifo:{JOBS_PIPE}"}
        assert may.pipe == tmp_path / "jobs"
        # A program that says what it was given.
        (tmp_path / "make").write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
        (tmp_path / "make").chmod(0o755)
        script = f'{may.text}\nmake -j"$JOBS" "a  b" -j3 \'\' -jx'
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        said = subprocess.run(["sh", "-euc", script], env=env, capture_output=True, text=True, check=True).stdout
    assert said == "<a  b><-j3><><-jx>"


@pytest.mark.parametrize("phase", ["configure", "install"])
def test_what_uses_no_jobs_is_given_none(
    tmp_path: Path, pipe: int, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    os.write(pipe, b"+++")
    with granted(built("zlib", tmp_path, monkeypatch), phase, tree()) as may:
        assert (may.env, may.pipe) == ({}, None)
        assert tokens(pipe) == 3


@pytest.mark.parametrize(
    ("recipe", "version", "env"),
    [
        ("zlib", "4.3-4.1", {}),
        ("zlib", "4.4.1-2", {"MAKEFLAGS": "-k"}),
        ("brotli", "4.4.1-2", {}),
        ("libinih", "4.4.1-2", {}),
    ],
)
def test_all_else_has_a_number_out_of_the_pipe(
    tmp_path: Path, pipe: int, monkeypatch: pytest.MonkeyPatch, recipe: str, version: str, env: dict[str, str]
) -> None:
    build = built(recipe, tmp_path, monkeypatch)
    for lying, number in ((0, 1), (2, 3), (9, 4)):
        os.write(pipe, b"+" * lying)
        with granted(build, "compile", tree(version), env) as may:
            assert (jobs_in(may.text), may.env, may.pipe) == (str(number), {}, None)
            assert tokens(pipe) == lying - (number - 1)
        assert tokens(pipe) == number - 1


def test_a_phase_of_the_recipes_own_has_a_number(
    tmp_path: Path, pipe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = built("zlib", tmp_path, monkeypatch)
    step = next(step for step in build.steps if step.name == "compile")
    assert step.phase is not None
    own = replace(step, phase=replace(step.phase, script='make -j"$JOBS" all'))
    with jobs.granted(build.subject, own, tree(), {}) as may:
        assert (jobs_in(may.text), may.pipe) == ("1", None)


def test_a_pipe_that_is_gone_is_no_error(tmp_path: Path) -> None:
    with jobs.reserved(tmp_path / "none", 3) as count:
        assert count == 0
