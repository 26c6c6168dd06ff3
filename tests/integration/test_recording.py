"""The record of execs with the real dispatcher, and the CPU use by program with real processes."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Target
from xbuild.formats.record import Choice, read
from xbuild.sandbox.run import capture, give_tree

pytestmark = pytest.mark.integration


def verdicts(target: Target, name: str) -> list[Choice]:
    """Of the execs of the program of that name, in order."""
    return [known.verdict for known in target.execs() if known.path.endswith(f"/{name}")]


def test_every_exec_has_its_reason(target: Target) -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    target.sh(
        "readlink /bin; perl -e 1; sort -g /dev/null; LIBRARY_PATH=/ gcc -E - </dev/null >/dev/null;"
        "echo 'int x;' | gcc -flto -S -xc -o /dev/null -; touch /usr/bin/uname /usr/bin/readlink;"
        "readlink /bin; uname"
    )
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert verdicts(target, "readlink") == [Choice.TWIN, Choice.CHANGED]
    assert verdicts(target, "perl") == [Choice.TWIN]
    assert verdicts(target, "sort") == [Choice.ARGUMENT]
    assert verdicts(target, "arm-linux-gnueabihf-gcc-14") == [Choice.VARIABLE, Choice.TWIN]
    # The one below the emulated driver is its child like any other.
    assert verdicts(target, "cc1") == [Choice.TWIN, Choice.WIDTH_TWIN]
    # A program that has no twin has not lost one by being changed.
    assert verdicts(target, "uname") == [Choice.NO_ENTRY]
    times = [known.time for known in target.execs()]
    assert before < times[0] <= times[-1] < after
    assert len({known.pid for known in target.execs()}) > 5


def test_a_twin_that_cannot_start_is_corrected(target: Target) -> None:
    # The same files by a way to a root that lacks our directory: qemu and the record are reached by way of pid 1.
    target.sh(
        "mkdir /tmp/r; mount --bind / /tmp/r; mount --bind /proc /tmp/r/proc;"
        "chroot /tmp/r /usr/bin/readlink -f /usr/bin/cc"
    )
    assert verdicts(target, "readlink") == [Choice.TWIN, Choice.FAILED]
    assert read(target.place / "record").total(native=True)["/usr/bin/readlink"] == 0
    assert verdicts(target, "chroot") == [Choice.TWIN]


def test_nothing_is_lost_when_many_write_at_once(target: Target) -> None:
    target.sh("for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3 4 5 6 7 8 9 10; do /usr/bin/true; done) & done; wait")
    assert verdicts(target, "true") == [Choice.TWIN] * 80


_BUSY = 'i=0; while [ "$i" -lt "$1" ]; do i=$((i + 1)); done'


def accounts(target: Target, *command: str) -> dict[str, Any]:
    """What the sampler says of `command`."""
    folder = target.place / "accounts"
    give_tree(0, [folder])
    file = folder / "of-a-command"
    where = replace(target.sandbox(), record="/.xbuild/record", accounts=file)
    returncode, said = capture(where, command)
    assert returncode == 0, said
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_cpu_use_is_attributed_to_programs(target: Target) -> None:
    # The same loop natively, and by a copy of the shell that has no twin; each in a child that executes nothing more.
    script = f"cp /usr/bin/dash /tmp/dash; (sh -c '{_BUSY}' sh 3000000); /tmp/dash -c '{_BUSY}' sh 300000"
    found = accounts(target, "sh", "-c", script)
    used = {(program["path"], program["native"]): program["seconds"] for program in found["programs"]}
    assert set(used) <= {("/usr/bin/dash", True), ("/tmp/dash", False), ("/usr/bin/cp", True)}
    assert used["/usr/bin/dash", True] > 0.2
    assert used["/tmp/dash", False] > 0.2
    assert found["total"] == pytest.approx(sum(used.values()) + found["unseen"], abs=0.02)
    assert found["unseen"] < found["total"] / 3
    assert found["samples"] >= 5


def test_without_accounts_nothing_is_sampled(target: Target, tmp_path: Path) -> None:
    assert target.says("sh", "-c", "echo done") == "done"
    assert list(tmp_path.iterdir()) == []
