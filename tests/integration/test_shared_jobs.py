"""One budget of jobs, with real makes in a root: native and emulated ones take their jobs from the pipe, and no more.

The jobs are those of test_jobserver.py: none ends before as many were there together as there are jobs.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import Target
from tests.integration.test_jobserver import EMULATED, JOB, MAKEFILE, NATIVE, SCRIPT
from xbuild.build.environment import JOBS_PIPE
from xbuild.build.jobs import _WITHOUT_NUMBER, reserved
from xbuild.graph.jobserver import TURN, Jobserver
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.run import Sandbox, capture, started

pytestmark = pytest.mark.integration

# As a phase of a preset has it: the number is our word for how many there are at all.
PHASE = SCRIPT.replace('"$@"', 'make -j"$JOBS" "$@"')
assert PHASE != SCRIPT


def sandbox_of(target: Target, pipe: Path, more: Mapping[str, str]) -> Sandbox:
    flags = f"-j9 --jobserver-auth=fifo:{JOBS_PIPE}"
    known = target.sandbox({"JOB": JOB, "MAKEFILE": MAKEFILE, "MAKEFLAGS": flags, "JOBS": "9", **more})
    return replace(known, mounts=(*known.mounts, Bind(str(pipe), JOBS_PIPE)))


def command(chain: str, jobs: int, how: str = "by-name by-mark") -> tuple[str, ...]:
    script = _WITHOUT_NUMBER.format(program="make") + PHASE
    words = ("--no-print-directory", "-f", "/tmp/makefile", f"CHAIN={chain}", f"HOW={how}", f"WANTED={jobs}")
    return ("sh", "-euc", script, "sh", *words)


@contextmanager
def serving(server: Jobserver) -> Iterator[threading.Lock]:
    """Hand tokens on meanwhile; whoever else uses the server takes the lock."""
    ended, lock = threading.Event(), threading.Lock()

    def turn() -> None:
        while not ended.wait(TURN):
            with lock:
                server.turn()

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield lock
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory of ours that no user inside can get into, as a run has it."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.mark.parametrize(
    ("chain", "jobs"), [(NATIVE, 3), (EMULATED, 2), (EMULATED, 4), (f"{EMULATED} {NATIVE}", 3)], ids=str
)
def test_as_many_run_as_there_are_tokens(target: Target, folder: Path, chain: str, jobs: int) -> None:
    server = Jobserver(folder, jobs)
    pipe = server.begin("a")
    with serving(server):
        code, said = capture(sandbox_of(target, pipe, {}), command(chain, jobs))
    assert (code, said.decode().split()) == (0, [str(jobs)])
    server.turn()
    assert server.held("a") == 1
    server.end("a")


def test_two_builds_share_what_there_is(target: Target, folder: Path) -> None:
    """One of them has a fixed number, as ninja has: with the other's jobs they are never more than there are."""
    server = Jobserver(folder, 4)
    pipe, other = server.begin("a"), server.begin("b")
    with serving(server):
        with reserved(other, 3) as tokens:
            assert tokens >= 1
            code, said = capture(sandbox_of(target, pipe, {}), command(EMULATED, 3 - tokens))
        assert code == 0
        assert int(said.decode().split()[-1]) <= 4 - 1 - tokens
    server.close()


def test_jobs_of_a_killed_make_come_back(target: Target, folder: Path) -> None:
    server = Jobserver(folder, 4)
    for number in range(10):
        pipe = server.begin("a")
        # They wait for one more than there can be, until they are killed.
        with started(sandbox_of(target, pipe, {}), command(EMULATED, 5)), serving(server) as lock:
            while True:
                with lock:
                    if server.held("a") == 4:
                        break
                time.sleep(0.01 * (number + 1))
        server.end("a")
        assert server.free == 4
