"""The late fallback of the shim (dispatcher/late.h), with a program for an emulator that tells what it finds."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from xbuild.base import paths
from xbuild.dispatcher.table import MAGIC, SIZE, Entry, encode
from xbuild.formats import record
from xbuild.model.rules import Rules

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

    def run(
        self, action: str, where: Path, library: str | Path = FOREIGN, **more: str
    ) -> tuple[subprocess.CompletedProcess[str], list[record.Exec]]:
        """Run the probe, with an input of two lines, and read what was written down."""
        written = self.folder / "record"
        written.write_bytes(b"")
        (where / "input").write_text("first\nsecond\n")
        with (where / "input").open() as stream:
            done = subprocess.run(
                [self.probe, action, library, "two words"], stdin=stream, cwd=where, text=True, capture_output=True,
                env={"PATH": os.environ["PATH"], "LD_PRELOAD": str(self.shim), "Q": "given", **more}, timeout=60,
            )  # fmt: skip
        return done, record.parse(written.read_bytes())[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("late")
    entries = [
        Entry(str(folder / "probe"), "/nowhere/probe", Rules(caches=("kept", "kept/x", "kept/x.*"))),
        Entry(str(folder / "broken.so"), str(folder / "no.so"), module=True),
    ]
    table = encode(entries, near=str(folder), far=str(folder), record=True)
    assert table[:4] == MAGIC.to_bytes(4, "little")
    (folder / "dispatch").write_bytes(bytes(8192) + table.ljust(SIZE, b"\0"))
    subprocess.run(["gcc", "-static", "-o", folder / "qemu", HERE / "late_witness.c"], check=True)
    subprocess.run(["gcc", "-w", "-o", folder / "probe", HERE / "late_probe.c"], check=True)
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-stack-protector"]
    flags += ["-nostdlib", "-shared", "-fPIC"]
    names = ['-DMACHINE="armv7l"', '-DPRIVATE="/nowhere"', f'-DDISPATCH="{folder}/dispatch"', "-DLATE"]
    names += [f'-DTARGET_CACHE="{folder}/cache"']
    names += ["-DTARGET_WORD=4"]
    names += ['-DLAYER="/none"', '-DTRIPLET="arm-linux-gnueabihf"', '-DNATIVE_TRIPLET="x86_64-linux-gnu"']
    shim = folder / "shim.so"
    subprocess.run(["gcc", *flags, *names, "-o", shim, paths.DISPATCHER / "shim.c"], check=True)
    return Made(folder, folder / "probe", shim)


def found_by(made: Made, action: str, where: Path, library: str | Path = FOREIGN) -> str:
    """What the emulator would find if it had been started at once."""
    with (where / "input").open() as stream:
        command: list[str | Path] = [made.folder / "qemu", "-0", made.probe, made.probe, action, library, "two words"]
        done = subprocess.run(
            command, stdin=stream, cwd=where, text=True, capture_output=True, check=True,
            env={"PATH": os.environ["PATH"], "Q": "given"},
        )  # fmt: skip
    return str(done.stdout)


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


@pytest.mark.parametrize("action", ["keep_a_cache", "keep_two_caches"])
def test_a_cache_is_kept(made: Made, action: str, tmp_path: Path) -> None:
    made.run(action, tmp_path)
    assert [(path.name, path.read_text()) for path in (tmp_path / "kept").iterdir()] == [("x", "cache\n")]


def begins_again(made: Made, where: Path, library: str | Path, **more: str) -> None:
    done, execs = made.run("nothing", where, library, **more)
    assert done.stdout == found_by(made, "nothing", where, library), done.stderr
    assert [one.verdict for one in execs] == [record.Choice.BEGUN_AGAIN]


def test_a_library_by_its_name_where_the_target_s_program_would_find_it(made: Made, tmp_path: Path) -> None:
    shutil.copy(FOREIGN, tmp_path / "libnobody.so.1")
    done, execs = made.run("nothing", tmp_path, "libnobody.so.1")
    assert done.stdout.startswith("went on: libnobody.so.1: cannot open")
    assert not execs
    begins_again(made, tmp_path, "libnobody.so.1", LD_LIBRARY_PATH=f"/nowhere:{tmp_path}")
    begins_again(made, tmp_path, "libnobody.so.1", LD_LIBRARY_PATH=":/nowhere")


def test_a_library_in_the_target_s_cache(made: Made, tmp_path: Path) -> None:
    library = tmp_path / "libnobody.so.1"
    shutil.copy(FOREIGN, library)
    # struct cache_file_new and one entry, as ldconfig writes them (glibc's sysdeps/generic/dl-cache.h).
    names = b"libnobody.so.1\0" + os.fsencode(library) + b"\0"
    head = struct.pack("<20s7I", b"glibc-ld.so.cache1.1", 1, len(names), 2, 0, 0, 0, 0)
    entry = struct.pack("<3IIQ", 1, 72, 72 + 15, 0, 0)
    cache = made.folder / "cache"
    cache.write_bytes(head + entry + names)
    try:
        begins_again(made, tmp_path, "libnobody.so.1")
        cache.write_bytes(head + entry + names[:20])
        assert made.run("nothing", tmp_path, "libnobody.so.1")[0].stdout.startswith("went on")
        cache.write_bytes(head)
        assert made.run("nothing", tmp_path, "libnobody.so.1")[0].stdout.startswith("went on")
    finally:
        cache.unlink()


def test_what_is_loaded_or_there_already_is_the_twin_s_own(made: Made, tmp_path: Path) -> None:
    done, execs = made.run("nothing", tmp_path, "libc.so.6")
    assert done.stdout == "went on: opened\n"
    assert not execs


def test_a_partner_that_does_not_open(made: Made, tmp_path: Path) -> None:
    shutil.copy(FOREIGN, made.folder / "broken.so")
    begins_again(made, tmp_path, made.folder / "broken.so")


def test_a_library_of_the_native_machine_that_the_build_has_is_as_foreign(made: Made, tmp_path: Path) -> None:
    subprocess.run(["gcc", "-shared", "-o", tmp_path / "own.so", "-xc", "-"], input="int x;", text=True, check=True)
    begins_again(made, tmp_path, tmp_path / "own.so")


def test_a_path_of_the_native_machine_compiled_into_a_program(made: Made, tmp_path: Path) -> None:
    done, _ = made.run("nothing", tmp_path, "/usr/lib/x86_64-linux-gnu/nobody/has.so")
    assert "cannot open shared object file" in done.stdout


def test_signals_that_come_at_any_time(made: Made, tmp_path: Path) -> None:
    """It begins again as if none had come, or it has handled one and ends."""
    written = made.folder / "record"
    (tmp_path / "input").write_text("first\nsecond\n")
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    env = {"PATH": os.environ["PATH"], "Q": "given"}
    try:
        wanted = found_by(made, "meet_signals", tmp_path)
        for _ in range(20):
            written.write_bytes(b"")
            with (tmp_path / "input").open() as stream:
                running = subprocess.Popen(
                    [made.probe, "meet_signals", FOREIGN, "two words"], stdin=stream, cwd=tmp_path, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**env, "LD_PRELOAD": str(made.shim)},
                )  # fmt: skip
            while running.poll() is None:
                running.send_signal(signal.SIGUSR1)
            said = running.communicate()[0]
            (one,) = record.parse(written.read_bytes())[0]
            outcomes = {record.Choice.BEGUN_AGAIN: (0, wanted), record.Choice.TOO_LATE: (126, "")}
            assert (running.returncode, said) == outcomes[one.verdict]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_where_the_kernel_does_not_let_it_a_mark_is_left(made: Made, tmp_path: Path) -> None:
    done, execs = made.run("refused", tmp_path)
    assert (done.returncode, done.stdout) == (126, "")
    assert "cannot begin again emulated: the kernel or the length of its arguments does not let it" in done.stderr
    assert [one.verdict for one in execs] == [record.Choice.TOO_LATE]
