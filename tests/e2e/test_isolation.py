"""What a build can see and do, asked from inside a phase and a shell."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild
from tests.e2e.foreign import Terminal

pytestmark = pytest.mark.e2e


def inside(xbuild: Xbuild, script: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    """What the shell text `script` says inside; a single word after `--` is shell text."""
    said = xbuild("shell", "bare", "--target", "armhf", "--", script, code=code, env=env)
    return (said.out + said.err).rstrip("\n")


def test_the_user_s_files_are_not_there(xbuild: Xbuild) -> None:
    with tempfile.NamedTemporaryFile(prefix="xbuild-secret-") as secret:
        Path(secret.name).chmod(0o644)
        places = [secret.name, str(Path.home()), str(xbuild.project), str(xbuild.cache), str(Path.cwd())]
        # Every root has a /root of its own.
        unwanted = [place for place in places if place not in ("/", "/root")]
        script = "".join(f'[ -e "{place}" ] && echo "{place} is there"; ' for place in unwanted)
        assert inside(xbuild, f"{script} ls -A /tmp /home /mnt /media /srv") == (
            "/home:\n\n/media:\n\n/mnt:\n\n/srv:\n\n/tmp:"
        )


def test_the_environment_is_made_from_nothing(xbuild: Xbuild) -> None:
    found = inside(xbuild, "env", env={"XBUILD_TEST_SECRET": "s3cret", "CFLAGS": "-O0", "LD_PRELOAD": ""})
    names = {line.partition("=")[0] for line in found.splitlines()}
    assert {"HOME", "PATH", "LC_ALL", "TZ", "SOURCE_DATE_EPOCH"} <= names
    assert names & {"XBUILD_TEST_SECRET", "CFLAGS", "XBUILD_CACHE", "PYTHONPATH", "TARGET", "JOBS", "HOSTTYPE"} == set()
    assert str(Path.home()) not in found


def test_identity(xbuild: Xbuild) -> None:
    found = inside(xbuild, "id -u; uname -n; umask; date +%Z; locale charmap; pwd")
    assert found.splitlines() == ["1000", "xbuild", "0022", "UTC", "UTF-8", "/build"]


def test_there_is_no_network(xbuild: Xbuild) -> None:
    # /proc/net/dev has two lines of heading.
    assert inside(xbuild, "tail -n +3 /proc/net/dev | cut -d: -f1").split() == ["lo"]


def test_phases_have_no_network(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' > answer"})
    xbuild.build("tiny", "--keep")
    assert (xbuild.place() / "build/src/answer").read_text() == "lo\n"


def test_the_fetch_phase_has_the_network(xbuild: Xbuild) -> None:
    devices = [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    fetch = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' > answer; cat /etc/resolv.conf > resolv"
    xbuild.recipe(build={"fetch": fetch, "compile": "true"})
    xbuild.build("tiny", "--keep")
    source = xbuild.place() / "build/src"
    assert (source / "answer").read_text().split() == devices
    # Names are looked up as the machine does.
    assert (source / "resolv").read_text() == Path("/etc/resolv.conf").read_text()


def test_only_its_own_processes_are_there(xbuild: Xbuild) -> None:
    assert str(os.getpid()) not in inside(xbuild, "cd /proc; echo [0-9]*").split()
    assert int(inside(xbuild, "ls -d /proc/[0-9]* | wc -l")) < 10


@pytest.mark.parametrize("place", ["/usr/bin/evil", "/etc/evil", "/evil", "/.xbuild/evil", "/proc/sys/kernel/hostname"])
def test_a_phase_cannot_write_outside_its_own_directories(xbuild: Xbuild, place: str) -> None:
    xbuild.recipe(build={"compile": f"echo evil > {place}"})
    said = xbuild.fails("tiny", code=3)
    assert "Read-only file system" in said or "Permission denied" in said


def test_no_program_gains_rights(xbuild: Xbuild) -> None:
    assert "NoNewPrivs:\t1" in inside(xbuild, "grep NoNewPrivs /proc/self/status")
    assert inside(xbuild, "grep CapEff /proc/self/status").split()[1].strip("0") == ""


def test_what_it_writes_is_the_user_s_or_a_subordinate_s(xbuild: Xbuild) -> None:
    """Nothing of a build has the machine's own root, or another real user, as owner."""
    xbuild.recipe()
    xbuild.build("tiny", "--keep")
    owners = {path.lstat().st_uid for path in xbuild.place().rglob("*")}
    real = {0, 1000, 65534} - {os.geteuid()}
    assert owners & real == set()


def test_the_shell_gives_the_command_s_code(xbuild: Xbuild) -> None:
    inside(xbuild, "exit 42", code=42)
    words = ["sh", "-c", 'echo "$1|$2"', "sh", "a b", "c"]
    assert xbuild("shell", "bare", "--target", "armhf", "--", *words).out == "a b|c\n"


def test_what_a_phase_leaves_running_ends_with_it(xbuild: Xbuild) -> None:
    # In brackets, so that grep does not find itself.
    look = "grep -l '[9]8702' /proc/[0-9]*/cmdline > answer || echo none > answer"
    xbuild.recipe(build={"configure": "sleep 98702 & echo started", "compile": look})
    xbuild.build("tiny", "--keep")
    assert (xbuild.place() / "build/src/answer").read_text() == "none\n"


def test_a_person_s_shell_has_a_terminal_of_its_own(xbuild: Xbuild) -> None:
    """So nothing in a tree can type into his."""
    terminal = Terminal(xbuild, ["shell", "bare", "--target", "armhf"])
    terminal.wait_for("$ ")
    terminal.type("tty; stty size; exit 3\n")
    assert terminal.wait_for("33 101\r\n").splitlines()[-2] == "/dev/pts/0"
    assert terminal.ended() == 3
