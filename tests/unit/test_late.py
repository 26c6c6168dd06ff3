"""The late fallback of the shim (dispatcher/late.h), with a program for an emulator that tells what it finds."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from xbuild.base import paths
from xbuild.dispatcher.table import MAGIC, SIZE, encode
from xbuild.formats import record

HERE = Path(__file__).parent
FOREIGN = HERE / "data/armhf-pie"
PROBE = (HERE / "late_probe.c").read_text()
_BACK, _, _GONE = PROBE.partition("/* What can be seen")
WAYS_BACK = re.findall(r"DO\((\w+), ", _BACK.partition("int main")[2])
EFFECTS = re.findall(r"DO\((\w+), ", _GONE)

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("gcc") is None, reason="needs gcc for x86-64"
)


@dataclass(frozen=True)
class Made:
    folder: Path
    probe: Path
    shim: Path

    def run(self, action: str, where: Path, **more: str) -> tuple[subprocess.CompletedProcess[str], list[record.Exec]]:
        """Run the probe, with an input of two lines, and read what was written down."""
        written = self.folder / "record"
        written.write_bytes(b"")
        (where / "input").write_text("first\nsecond\n")
        with (where / "input").open() as stream:
            done = subprocess.run(
                [self.probe, action, FOREIGN, "two words"], stdin=stream, cwd=where, text=True, capture_output=True,
                env={"PATH": os.environ["PATH"], "LD_PRELOAD": str(self.shim), "Q": "given", **more}, timeout=60,
            )  # fmt: skip
        return done, record.parse(written.read_bytes())[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("late")
    table = encode([], near=str(folder), far=str(folder), record=True)
    assert table[:4] == MAGIC.to_bytes(4, "little")
    (folder / "dispatch").write_bytes(bytes(8192) + table.ljust(SIZE, b"\0"))
    subprocess.run(["gcc", "-static", "-o", folder / "qemu", HERE / "late_witness.c"], check=True)
    subprocess.run(["gcc", "-w", "-o", folder / "probe", HERE / "late_probe.c"], check=True)
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-stack-protector"]
    flags += ["-nostdlib", "-shared", "-fPIC"]
    names = ['-DMACHINE="armv7l"', '-DPRIVATE="/nowhere"', f'-DDISPATCH="{folder}/dispatch"', "-DLATE"]
    shim = folder / "shim.so"
    subprocess.run(["gcc", *flags, *names, "-o", shim, paths.DISPATCHER / "shim.c"], check=True)
    return Made(folder, folder / "probe", shim)


def found_by(made: Made, action: str, where: Path) -> str:
    """What the emulator would find if it had been started at once."""
    with (where / "input").open() as stream:
        command = [made.folder / "qemu", "-0", made.probe, made.probe, action, FOREIGN, "two words"]
        done = subprocess.run(
            command, stdin=stream, cwd=where, text=True, capture_output=True, check=True,
            env={"PATH": os.environ["PATH"], "Q": "given"},
        )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("action", WAYS_BACK)
def test_it_begins_again_as_if_nothing_had_been(made: Made, action: str, tmp_path: Path) -> None:
    done, execs = made.run(action, tmp_path)
    assert done.stdout == found_by(made, action, tmp_path), done.stderr
    assert [one.verdict for one in execs] == [record.Choice.BEGUN_AGAIN]


@pytest.mark.parametrize("action", EFFECTS)
def test_it_ends_where_something_was_done(made: Made, action: str, tmp_path: Path) -> None:
    done, execs = made.run(action, tmp_path)
    assert done.returncode == 126
    assert "it has done something already" in done.stderr
    assert [one.verdict for one in execs] == [record.Choice.TOO_LATE]
    assert done.stdout == ("seen\n" if "seen" in PROBE.partition(f"DO({action},")[2].partition("\n")[0] else "")


def test_both_kinds_are_tried() -> None:
    assert len(WAYS_BACK) > 10
    assert len(EFFECTS) > 20


def test_long_lists_of_arguments_are_kept(made: Made, tmp_path: Path) -> None:
    many = {f"LONG{number}": "x" * 100_000 for number in range(4)}
    done, execs = made.run("nothing", tmp_path, **many)
    assert done.stdout == found_by(made, "nothing", tmp_path), done.stderr
    assert [one.verdict for one in execs] == [record.Choice.BEGUN_AGAIN]
