"""A command that somebody waits for as if there were no sandbox around it: no signal and no exit code is lost."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.integration.conftest import Armhf

pytestmark = pytest.mark.integration

ATTACHED = """
import os, signal, sys
from pathlib import Path
from xbuild.sandbox import idmap
from xbuild.sandbox.attached import run_attached
from xbuild.sandbox.mounts import Devices, Overlay, Proc
from xbuild.sandbox.run import Sandbox

def killed(number=signal.SIGTERM):
    os.kill(os.getpid(), number)

def asked():
    print("setting up", flush=True)
    sys.stdin.readline()

root, script, early, late, times = Path(sys.argv[1]), *sys.argv[2:]
apply = idmap.apply
idmap.apply = lambda *words: (eval(early), apply(*words))
sandbox = Sandbox(mounts=(Overlay((str(root),), None, None), Proc(), Devices()), mount_point=root,
                  env={"PATH": "/usr/bin"})
codes = {run_attached(sandbox, ["bash", "-c", script]) for _ in range(int(times))}
eval(late)
assert len(codes) == 1, codes
sys.exit(codes.pop() % 256)
"""


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(armhf: Armhf) -> Start:
    """Starts the script above. early: what happens while the sandbox is set up; late: after the command's end."""
    root = armhf.natives.trees["amd64"]

    def started(
        script: str, early: str = "0", late: str = "0", times: int = 1, terminal: int | None = None
    ) -> subprocess.Popen[str]:
        def hear() -> None:
            # A test run in the background ignores them, and hands that on.
            for number in (signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            if terminal is not None:
                os.login_tty(os.dup(terminal))
            else:
                os.setpgid(0, 0)

        words = [sys.executable, "-c", ATTACHED, str(root), script, early, late, str(times)]
        pipe = subprocess.PIPE if terminal is None else None
        return subprocess.Popen(
            words, stdin=pipe, stdout=pipe, text=True, preexec_fn=hear, pass_fds=[terminal] if terminal else []
        )

    return started


def test_one_after_the_other(start: Start) -> None:
    with start("exit 7", times=10) as process:
        assert process.wait(120) == 7


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_before_there_is_a_command_waits_for_it(start: Start, name: str) -> None:
    with start("exit 7", early=f"killed(signal.{name})") as process:
        assert process.wait(60) == 256 - signal.Signals[name]


def test_a_signal_after_its_end_does_not_take_its_exit_code(start: Start) -> None:
    with start("exit 7", late="(killed(signal.SIGTERM), killed(signal.SIGINT), killed(signal.SIGUSR1))") as process:
        assert process.wait(60) == 7


def test_control_c_before_there_is_a_command(start: Start) -> None:
    master, slave = os.openpty()
    with start("exit 7", early="asked()", terminal=slave) as process:
        os.close(slave)
        said = ""
        while "setting up" not in said:
            said += os.read(master, 1000).decode()
        os.write(master, b"\x03")
        os.write(master, b"\n")
        assert process.wait(60) == 256 - signal.SIGINT
    os.close(master)


def test_what_the_whole_group_gets(start: Start) -> None:
    """As timeout(1) does it."""
    with start("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) == 7


def test_ignored_stays_ignored_and_blocked_stays_blocked(start: Start) -> None:
    words = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]
    with start(" ".join(map(shlex.quote, words))) as process:
        assert process.communicate()[0].split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
    try:
        with start(" ".join(map(shlex.quote, words))) as process:
            _, blocked, _, ignored = process.communicate()[0].split()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGURG])
        signal.signal(signal.SIGHUP, before)
    assert [int(word, 16) for word in (blocked, ignored)] == [1 << signal.SIGURG - 1, 1 << signal.SIGHUP - 1]
