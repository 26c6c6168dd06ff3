from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from xbuild.base import process
from xbuild.base.errors import MachineError, PhaseError

BUSY = "import time\nwhile time.process_time() < {}: pass\n"


def test_run_captures() -> None:
    done = process.run(["sh", "-c", "cat; echo said >&2"], input=b"given", capture=True)
    assert done == process.Completed(0, b"given", b"said\n")


def test_run_takes_environment_and_directory(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo $A $HOME; pwd"]
    said = process.run(command, env={"A": "1"}, cwd=tmp_path, capture=True).stdout
    assert said.decode().split() == ["1", str(tmp_path)]


def test_run_without_input_reads_nothing() -> None:
    assert process.run(["cat"], capture=True).stdout == b""


def test_run_writes_to_our_stderr_or_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    process.run(["echo", "a"])
    assert capfd.readouterr() == ("", "a\n")
    with (tmp_path / "out").open("wb") as stream:
        process.run(["echo", "b"], stdout=stream)
    assert (tmp_path / "out").read_text() == "b\n"


def test_failures() -> None:
    with pytest.raises(PhaseError, match=r"^sh -c 'seq 30 >&2; exit 3': exit code 3$") as caught:
        process.run(["sh", "-c", "seq 30 >&2; exit 3"], capture=True)
    assert caught.value.details == tuple(str(number) for number in range(11, 31))
    assert process.run(["sh", "-c", "kill -9 $$"], check=False).returncode == -9
    with pytest.raises(MachineError, match="program not found: no-such-program"):
        process.run(["no-such-program"])


def test_a_full_disk_is_no_failure_of_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever language the user speaks."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    command = ["dd", "if=/dev/zero", "count=1"]
    with pytest.raises(OSError, match="No space left") as caught:
        process.run([*command, "of=/dev/full"], capture=True)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="too large") as caught:
        process.run(["sh", "-c", 'ulimit -f 0; exec "$@" of="$0"', tmp_path / "x", *command], capture=True)
    assert caught.value.errno == errno.EFBIG
    assert process.run([*command, "of=/dev/full"], capture=True, check=False).returncode == 1


def test_a_directory_that_is_gone_is_no_missing_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        process.run(["true"], cwd=tmp_path / "none")


@pytest.mark.parametrize(
    ("returncode", "text"),
    [(0, "exit code 0"), (2, "exit code 2"), (-11, "killed by SIGSEGV"), (-99, "killed by signal 99")],
)
def test_describe_exit(returncode: int, text: str) -> None:
    assert process.describe_exit(returncode) == text


def test_show_can_be_pasted(tmp_path: Path) -> None:
    assert process.show(["sh", Path("/a b"), "$x"]) == "sh '/a b' '$x'"


def test_a_started_child_is_killed_at_the_end_of_its_block(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, process.started(["sleep", "100"], env=os.environ, output=log) as child:
        assert child.wait(0.05) is None
        # In a session of its own: no signal of the terminal reaches it.
        assert os.getsid(child.pid) == child.pid
    assert child.wait() == -signal.SIGKILL
    child.kill()


def test_cpu_ticks_count_descendants(tmp_path: Path) -> None:
    script = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {BUSY.format(0.3)!r}])"
    script += f"; subprocess.Popen([sys.executable, '-c', {BUSY.format(0.5)!r}]); time.sleep(100)"
    command = [sys.executable, "-c", script]
    with (tmp_path / "log").open("wb") as log, process.started(command, env=os.environ, output=log) as child:
        # Of the first, reaped one and of the second, which may be a zombie; the machine may be busy.
        until = time.monotonic() + 60
        while (ticks := process.cpu_ticks(child.pid)) <= 0.4 * os.sysconf("SC_CLK_TCK") and time.monotonic() < until:
            time.sleep(0.1)
    assert ticks > 0.4 * os.sysconf("SC_CLK_TCK")
    assert process.cpu_ticks(child.pid) == 0


def test_cpu_ticks_survive_odd_names(tmp_path: Path) -> None:
    odd = tmp_path / ") R 1 (x"
    odd.symlink_to(sys.executable)
    command = [str(odd), "-c", BUSY.format(100)]
    with (tmp_path / "log").open("wb") as log, process.started(command, env=os.environ, output=log) as child:
        until = time.monotonic() + 60
        while not process.cpu_ticks(child.pid) and time.monotonic() < until:
            time.sleep(0.1)
        assert process.cpu_ticks(child.pid) > 0


def watch(tmp_path: Path, code: str, idle_limit: float) -> tuple[int | None, list[float], float]:
    log, told = tmp_path / "log", list[float]()
    started = time.monotonic()
    command = [sys.executable, "-u", "-c", code]
    with log.open("wb") as output, process.started(command, env=os.environ, output=output) as child:
        returncode = process.watch(child, log, idle_limit=idle_limit, on_idle=told.append)
    return returncode, told, time.monotonic() - started


def test_what_is_in_vain_is_ended_however_busy_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LOOK", 0.1)
    command, asked = [sys.executable, "-c", BUSY.format(1000)], list[int]()

    def in_vain() -> bool:
        asked.append(1)
        return len(asked) == 3

    log = tmp_path / "log"
    with log.open("wb") as output, process.started(command, env=os.environ, output=output) as child:
        assert process.watch(child, log, idle_limit=1000, on_idle=lambda _: None, in_vain=in_vain) is None
    asked.clear()
    with log.open("wb") as output, process.started(command, env=os.environ, output=output) as child:
        process.wait(child, in_vain)
        assert child.wait() == -signal.SIGKILL
    with log.open("wb") as output, process.started(["sleep", "0.3"], env=os.environ, output=output) as child:
        process.wait(child, process.never)
        assert child.wait() == 0


def test_watch_ends_the_idle(tmp_path: Path) -> None:
    returncode, told, seconds = watch(tmp_path, "import time; time.sleep(100)", 1)
    assert returncode is None
    assert seconds < 20
    assert len(told) == 1
    assert 0.5 <= told[0] < 20


def test_watch_lets_the_busy_be(tmp_path: Path) -> None:
    # On a machine that is busy too it may be told of a moment without any CPU.
    assert watch(tmp_path, BUSY.format(3) + "raise SystemExit(7)", 2)[0] == 7


def test_watch_lets_the_talking_be(tmp_path: Path) -> None:
    code = "import time\nfor _ in range(10): print('x', flush=True); time.sleep(0.2)"
    assert watch(tmp_path, code, 1)[:2] == (0, [])


def test_watch_gives_what_ends_by_itself(tmp_path: Path) -> None:
    assert watch(tmp_path, "import os; os.kill(os.getpid(), 15)", 60)[0] == -15
