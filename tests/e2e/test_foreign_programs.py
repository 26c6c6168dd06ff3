"""`invoke run`: one program made for another machine, as if it were one for this."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.command_line import CHECKOUT, Xbuild, mounts, own_sleep, processes, wait_for
from tests.e2e.foreign import Terminal, compile_hello, hear_the_terminal, prebuilt_hello

pytestmark = pytest.mark.e2e

TARGETS = ("armhf", "arm64", "riscv64")


@pytest.fixture(scope="session")
def programs(user_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a static and a dynamic program for each target, TARGET-static and TARGET-dynamic."""
    place = tmp_path_factory.mktemp("programs")
    for parent in (place, place.parent):
        # Tools of the native root work there as a subordinate user.
        parent.chmod(0o755)
    compile_hello("armhf", place)
    compile_hello("arm64", place)
    prebuilt_hello(place)
    return place


@pytest.mark.parametrize("target", TARGETS)
def test_a_static_and_a_dynamic_program(xbuild: Xbuild, programs: Path, target: str) -> None:
    static, dynamic = (programs / f"{target}-{kind}" for kind in ("static", "dynamic"))
    bits = 32 if target == "armhf" else 64
    assert xbuild("run", "--", str(dynamic)).out == f"hello from {dynamic}, word size {bits}\n"
    assert xbuild("run", "--target", target, "--", str(dynamic), "exit", "42", code=42).out == ""
    if target == "riscv64":
        assert xbuild("run", "--", str(static), "--version").out.startswith("ldconfig (Debian GLIBC")
    else:
        assert xbuild("run", "--", str(static)).out == f"hello from {static}, word size {bits}\n"
        assert xbuild("run", "--", str(static), "signal", "15", code=143).out == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_exit_code_tells_the_signal(xbuild: Xbuild, programs: Path, number: signal.Signals) -> None:
    xbuild("run", "--", str(programs / "armhf-dynamic"), "signal", str(int(number)), code=128 + number)


def test_the_user_is_himself(xbuild: Xbuild, tmp_path: Path) -> None:
    """His name, ids, files, directory, environment and network, on a machine that says it is ARM."""
    (tmp_path / "mine").write_text("secret")
    (tmp_path / "mine").chmod(0o600)
    script = f"uname -m; id -un; id -u; id -g; cat {tmp_path}/mine; echo; pwd; echo $COLOUR; echo $XBUILD_CACHE"
    said = xbuild("run", "--", "sh", "-c", f"{script}; touch {tmp_path}/new", env={"COLOUR": "blue"}).out.splitlines()
    name = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert said == ["armv7l", name, str(os.getuid()), str(os.getgid()), "secret", str(CHECKOUT), "blue", ""]
    state = (tmp_path / "new").stat()
    assert (state.st_uid, state.st_gid) == (os.getuid(), os.getgid())
    devices = xbuild("run", "--", "cat", "/proc/net/dev").out.splitlines()[2:]
    mine = {path.name for path in Path("/sys/class/net").iterdir() if path.is_dir()}
    assert {line.partition(":")[0].strip() for line in devices} == mine


def test_the_root_is_not_changed(xbuild: Xbuild) -> None:
    # It is root's: an ordinary user may not even try.
    xbuild("run", "--", "sh", "-c", "echo a > /etc/mine || true")
    assert "No such file" in xbuild("run", "--", "cat", "/etc/mine", code=1).err


def test_what_it_starts_has_twins_or_not(xbuild: Xbuild, programs: Path) -> None:
    hello = str(programs / "armhf-dynamic")
    words = ["--trace", "--", "sh", "-c", f"cat /dev/null; {hello}; true"]
    said = xbuild("run", *words)
    assert said.out == f"hello from {hello}, word size 32\n"
    assert re.search(r"^/usr/bin/dash +1 +native$", said.err, re.MULTILINE)
    assert re.search(r"^/usr/bin/cat +1 +native$", said.err, re.MULTILINE)
    assert re.search(rf"^{hello} +1 +emulated$", said.err, re.MULTILINE)
    said = xbuild("run", "--native", "off", *words)
    assert re.search(r"^/usr/bin/cat +1 +emulated$", said.err, re.MULTILINE)
    assert "native" not in said.err
    assert list((xbuild.cache / "tmp").glob("trace*")) == []


def test_a_script_and_a_link(xbuild: Xbuild, programs: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nuname -m; echo $1\n")
    script.chmod(0o755)
    (tmp_path / "link").symlink_to(programs / "arm64-static")
    assert xbuild("run", "--target", "arm64", "--", str(script), "a b").out == "aarch64\na b\n"
    assert xbuild("run", "--", str(tmp_path / "link")).out == f"hello from {tmp_path / 'link'}, word size 64\n"


def test_a_sysroot(xbuild: Xbuild, programs: Path, tmp_path: Path) -> None:
    """A directory with nothing but libraries in it."""
    sysroot = tmp_path / "sysroot"
    root = next(path for path in (xbuild.cache / "roots").glob("*/root") if (path / "lib/ld-linux-armhf.so.3").exists())
    (sysroot / "lib").mkdir(parents=True)
    shutil.copy(root / "lib/ld-linux-armhf.so.3", sysroot / "lib")
    hello = programs / "armhf-dynamic"
    said = xbuild("run", "--sysroot", str(sysroot), "--", str(hello), code=127).err
    assert f"there is no libc.so.6 for armhf, which {hello} needs" in said
    shutil.copy(root / "usr/lib/arm-linux-gnueabihf/libc.so.6", sysroot / "lib")
    assert xbuild("run", "--sysroot", str(sysroot), "--", str(hello)).out == f"hello from {hello}, word size 32\n"
    (sysroot / "lib/ld-linux-armhf.so.3").unlink()
    said = xbuild("run", "--sysroot", str(sysroot), "--", str(hello), code=2).err
    assert "needs the loader /lib/ld-linux-armhf.so.3" in said


def test_what_cannot_run_is_named(xbuild: Xbuild, programs: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes((programs / "armhf-static").read_bytes()[:9000])
    cut.chmod(0o755)
    for words, reason in (
        (["--", sys.executable], "is a program for x86-64, as this machine is"),
        (["--target", "armhf", "--", str(programs / "arm64-static")], "--target arm64 runs it"),
        (["--", str(cut)], "is a broken ELF file"),
        (["--", "nosuch"], "the root of armhf has no program 'nosuch'"),
        ([], "there is no program to run"),
    ):
        said = xbuild("run", *words, code=2)
        assert reason in said.err
        assert said.out == ""


def start(xbuild: Xbuild, *words: str) -> subprocess.Popen[bytes]:
    """`invoke run WORDS` with pipes for its three streams."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "invoke", "run", *words]
    return subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=xbuild.environment(),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        preexec_fn=hear_the_terminal,
    )


def test_a_long_pipe(xbuild: Xbuild) -> None:
    """100 MB through an emulated cat: whole, and not slowly."""
    block = os.urandom(1 << 20)
    digest = hashlib.sha256(block * 100).hexdigest()
    begun = time.monotonic()
    with start(xbuild, "--native", "off", "--target", "armhf", "--", "cat") as process:
        out, err = process.communicate(block * 100)
    assert process.returncode == 0, err
    assert hashlib.sha256(out).hexdigest() == digest
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "WINCH", "QUIT"])
def test_signals_reach_it(xbuild: Xbuild, name: str) -> None:
    script = f"trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.1; done"
    with start(xbuild, "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.Signals[f"SIG{name}"])
        assert process.stdout.read() == f"got {name}\n".encode()
        assert process.wait(60) == 7


def test_it_stops_and_goes_on(xbuild: Xbuild) -> None:
    with start(xbuild, "--", "sh", "-c", "echo stopping; kill -STOP $$; echo going on; exit 3") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"stopping\n"
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == b"going on\n"
        assert process.wait(60) == 3


def test_the_terminal_is_the_user_s(xbuild: Xbuild) -> None:
    script = "tty; stty size; trap 'echo control-c' INT; echo ready; until read a; do :; done; echo \"[$a]\"; exit 5"
    terminal = Terminal(xbuild, ["run", "--", "sh", "-c", script])
    said = terminal.wait_for("ready\r\n").splitlines()
    assert said[-3:-1] == [terminal.name, "33 101"]
    terminal.type("\x03")
    terminal.wait_for("control-c\r\n")
    terminal.type("word\n")
    terminal.wait_for("[word]\r\n")
    assert terminal.ended() == 5


def test_control_c_ends_what_does_not_care(xbuild: Xbuild) -> None:
    terminal = Terminal(xbuild, ["run", "--", "sh", "-c", f"echo ready; exec {own_sleep(98651)}"])
    terminal.wait_for("ready\r\n")
    terminal.type("\x03")
    assert terminal.ended() == 130
    assert "Traceback" not in terminal.said
    assert processes(own_sleep(98651)) == []


def test_nothing_is_left_of_what_was_killed(xbuild: Xbuild) -> None:
    sleep = own_sleep(98652)
    with start(xbuild, "--trace", "--", "sh", "-c", f"echo ready; {sleep} & {sleep}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        process.wait(60)
    wait_for("its end", lambda: processes(sleep) == [])
    assert mounts(xbuild.cache) == []
    xbuild("clean")
    assert list((xbuild.cache / "tmp").iterdir()) == []


def test_a_second_start_asks_nobody(xbuild: Xbuild, programs: Path) -> None:
    """With all in the store neither a network nor a tool that makes roots is needed."""
    xbuild("run", "--", str(programs / "armhf-static"))
    dead = "http://127.0.0.1:9/"
    env = {"XBUILD_MIRROR": dead, "http_proxy": dead}
    before = sorted((xbuild.cache / "sessions").iterdir())
    assert "..." not in xbuild("run", "--", str(programs / "armhf-static"), env=env).err
    assert sorted((xbuild.cache / "sessions").iterdir()) == before
