from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import pytest

from xbuild.base.errors import EXIT_MACHINE, MachineError
from xbuild.doctor import install
from xbuild.sandbox import idmap


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PATH with nothing but apt-get, usermod, install and sudo, which write down how they were called.

    Each program says and ends as the next line of the file NAME.answers has it (`CODE WORDS`), then with 0.
    """
    script = """#!{python} -IS
import os, pathlib, sys
place = pathlib.Path("{place}")
words = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
with (place / "calls").open("a") as file:
    print(*words, file=file)
if words[0] == "sudo":
    words = [word for word in words[1:] if word != "-n"]
answers = place / (words[0] + ".answers")
code, said = "0", ""
if answers.exists() and "--help" not in words:
    first, _, rest = answers.read_bytes().decode().partition("\\n")
    code, _, said = first.partition(" ")
    answers.write_text(rest)
print(said, file=sys.stderr)
sys.exit(int(code or 0))
"""
    for name in ("apt-get", "usermod", "install", "sudo"):
        program = tmp_path / name
        program.write_text(script.format(python=sys.executable, place=tmp_path))
        program.chmod(0o755)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "mirror_dists_x_main_binary-amd64_Packages.lz4").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(install.YES, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    monkeypatch.setattr(install, "LISTS", tmp_path / "lists")
    monkeypatch.setattr(install, "LOCK_STEP", 0.0)
    monkeypatch.setattr(install, "SUBUID", tmp_path / "subuid")
    monkeypatch.setattr(install, "SUBGID", tmp_path / "subgid")
    for file in (install.SUBUID, install.SUBGID):
        file.write_text("54321:100000:65536\n")
    monkeypatch.setattr(install, "NEEDS", (install.Need("zstd", ("zstd",)), install.Need("tool", ("a", "b"))))
    become(monkeypatch, 54321)
    return tmp_path


INSTALL = "apt-get install -y --no-install-recommends zstd tool"


def calls(machine: Path) -> list[str]:
    file = machine / "calls"
    return file.read_text().splitlines() if file.exists() else []


def become(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


@pytest.mark.parametrize(
    ("files", "used", "first"),
    [
        ([], [], 100_000),
        (["dev:100000:65536\n"], [], 165_536),
        (["a:100000:65536\n", "b:165536:65536\n"], [], 231_072),
        (["a:165536:65536\n"], [], 100_000),
        (["a:120000:1\n"], [], 120_001),
        (["a:231072:65536\na:100000:131072\n"], [], 296_608),
        (["a:1000:99000\n"], [], 100_000),
        (["a:1000:99001\n"], [], 100_001),
        (["nonsense\n\n# a:100000:x\na:100000:0\n"], [], 100_000),
        ([], [0, 1000, 65534, 100_005], 100_006),
    ],
)
def test_free_range(files: list[str], used: list[int], first: int) -> None:
    assert install.free_range(files, used) == first


def test_no_free_range() -> None:
    with pytest.raises(MachineError, match="no 65536 free subordinate ids"):
        install.free_range([f"a:{install.FIRST_ID}:{install.LAST_ID}\n"])


def test_subordinate_command_fits_idmap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "SUBUID", tmp_path / "subuid")
    monkeypatch.setattr(install, "SUBGID", tmp_path / "subgid")
    (tmp_path / "subuid").write_text("other:100000:65536\n")
    (tmp_path / "subgid").write_text("other:165536:65536\n")
    command = install.subordinate_command()
    assert command[0] == "usermod"
    first, last = map(int, command[2].split("-"))
    assert command[1:4:2] == ["--add-subuids", "--add-subgids"]
    assert command[4] == command[2]
    assert first >= 231_072
    assert last - first + 1 == idmap.IDS


def test_missing_names_packages(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user_only = install.Need("uidmap", ("newuidmap", "newgidmap"), user_only=True)
    monkeypatch.setattr(install, "NEEDS", (*install.NEEDS, user_only, install.Need("apt", ("apt-get",))))
    assert install.missing() == {"zstd": ("zstd",), "tool": ("a", "b"), "uidmap": ("newuidmap", "newgidmap")}
    become(monkeypatch, 0)
    assert "uidmap" not in install.missing()


def test_a_need_is_met_by_one_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    both = (str(tmp_path / "a"), str(tmp_path / "b"))
    assert install.Need("x", files=both).lacking() == ()
    assert install.Need("x", files=both[:1]).lacking() == both[:1]


def test_nothing_is_done_without_consent(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for uid in (0, 54321):
        become(monkeypatch, uid)
        install.set_up()
    assert calls(machine) == []


def test_root_installs_with_a_yes(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0)
    monkeypatch.setenv(install.YES, "1")
    install.set_up()
    assert calls(machine) == [INSTALL]


def test_a_user_without_a_terminal_installs_by_sudo(machine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All is told before anything is done; sudo is tried first, and never asks."""
    install.SUBUID.unlink()
    install.set_up(assume_yes=True)
    own = "usermod --add-subuids 165536-231071 --add-subgids 165536-231071 54321"
    tried = [f"sudo -n {name} --help" for name in ("apt-get", "install", "usermod")]
    done = [f"sudo -n {line}" for line in (INSTALL, f"install -m 644 /dev/null {install.SUBUID}", own)]
    assert calls(machine) == [*tried, *done]
    told = capfd.readouterr().err.splitlines()
    assert told[0].endswith("packages zstd, tool; subordinate ids 165536-231071 for 54321")
    assert told[1:] == [f"running: sudo {line.removeprefix('sudo -n ')}" for line in done]


def test_the_administrator_gets_one_line(machine: Path) -> None:
    install.SUBUID.write_text("")
    line = f"as root: {INSTALL} && usermod --add-subuids 165536-231071 --add-subgids 165536-231071 54321"
    (machine / "sudo").write_text("#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n")
    with pytest.raises(MachineError, match=r"without a password \(sudo: a password is required\)") as caught:
        install.set_up(assume_yes=True)
    assert (caught.value.exit_code, caught.value.hint) == (EXIT_MACHINE, line)
    (machine / "sudo").unlink()
    with pytest.raises(MachineError, match="there is no sudo, and 54321 is not root") as caught:
        install.set_up(assume_yes=True)
    assert caught.value.hint == line
    assert install.lack().line() == line
    assert calls(machine) == []


def test_sudo_refuses_at_a_terminal(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "sudo").write_text("#!/bin/sh\necho '54321 is not in the sudoers file.' >&2; exit 1\n")
    monkeypatch.setattr("sys.stdin", Terminal(""))
    monkeypatch.setattr("sys.stderr", Terminal())
    with pytest.raises(MachineError, match=f"sudo {INSTALL}: exit code 1") as caught:
        install.set_up(assume_yes=True)
    assert caught.value.hint == f"as root: {INSTALL}"


def test_another_distribution(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0)
    (machine / "apt-get").unlink()
    with pytest.raises(MachineError, match="there is no apt-get") as caught:
        install.set_up(assume_yes=True)
    assert (caught.value.hint or "").endswith("has to bring zstd a b")


@pytest.mark.parametrize(
    ("answer", "done"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_asks_on_a_terminal(machine: Path, monkeypatch: pytest.MonkeyPatch, answer: str, done: bool) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stderr", Terminal())
    install.set_up()
    assert calls(machine) == ([f"sudo {INSTALL}"] if done else [])


def test_a_machine_without_lists_gets_them_first(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0)
    next((machine / "lists").iterdir()).unlink()
    install.set_up(assume_yes=True)
    assert calls(machine) == ["apt-get update", INSTALL]


def test_old_lists_are_renewed_once(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0)
    (machine / "apt-get.answers").write_text("100 E: Unable to locate package tool\n")
    install.set_up(assume_yes=True)
    assert calls(machine) == [INSTALL, "apt-get update", INSTALL]
    (machine / "calls").unlink()
    stale = "100 E: Unable to locate package tool\n"
    (machine / "apt-get.answers").write_text(f"{stale}0 W: Failed to fetch http://mirror.example/x\n{stale}")
    with pytest.raises(MachineError, match=f"{INSTALL}: exit code 100") as caught:
        install.set_up(assume_yes=True)
    assert caught.value.hint == "is the network there?"
    assert calls(machine) == [INSTALL, "apt-get update", INSTALL]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("E: dpkg was interrupted, you must manually run 'sudo dpkg --configure -a'", "dpkg --configure -a"),
        ("E: Sub-process /usr/bin/dpkg returned an error code (1)", "dpkg --configure -a"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "the disk is full"),
    ],
)
def test_a_failure_is_not_repeated(machine: Path, monkeypatch: pytest.MonkeyPatch, said: str, hint: str) -> None:
    become(monkeypatch, 0)
    (machine / "apt-get.answers").write_bytes(f"100 (Reading database ... 95%\r{said}\n".encode())
    with pytest.raises(MachineError, match=f"{INSTALL}: exit code 100") as caught:
        install.set_up(assume_yes=True)
    assert hint in (caught.value.hint or "")
    assert caught.value.details == (said,)
    assert calls(machine) == [INSTALL]


def test_a_lock_is_waited_for(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    become(monkeypatch, 0)
    locked = "100 E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt)\n"
    (machine / "apt-get.answers").write_text(locked * 3)
    install.set_up(assume_yes=True)
    assert calls(machine) == [INSTALL] * 4
    assert capfd.readouterr().err.count("waiting for another package manager") == 1
    monkeypatch.setattr(install, "LOCK_SECONDS", 0.0)
    (machine / "apt-get.answers").write_text(locked)
    with pytest.raises(MachineError) as caught:
        install.set_up(assume_yes=True)
    assert "another package manager runs" in (caught.value.hint or "")


def test_a_signal_does_not_cut_an_installation_off(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes when the command has ended; a wait for a lock it ends at once."""
    become(monkeypatch, 0)
    program = (machine / "apt-get").read_text()
    late = "import time; os.kill(os.getppid(), 15); time.sleep(0.5); (place / 'calls').open('a').write('ended'); "
    (machine / "apt-get").write_text(program.replace("sys.exit", f"{late}sys.exit"))
    came: list[list[str]] = []

    def hear(number: int, _frame: object) -> None:
        came.append([str(number), *calls(machine)])

    former = signal.signal(signal.SIGTERM, hear)
    try:
        install.set_up(assume_yes=True)
        assert came == [["15", INSTALL, "ended"]]
        assert signal.getsignal(signal.SIGTERM) is hear
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        monkeypatch.setattr("time.sleep", lambda _seconds: os.kill(os.getpid(), 15))
        (machine / "apt-get.answers").write_text("100 E: Could not get lock /x\n" * 9)
        (machine / "apt-get").write_text(program)
        with pytest.raises(KeyboardInterrupt):
            install.set_up(assume_yes=True)
        assert len((machine / "apt-get.answers").read_text().splitlines()) == 8
    finally:
        signal.signal(signal.SIGTERM, former)


def test_nothing_to_install(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "NEEDS", ())
    install.set_up(assume_yes=True)
    assert calls(machine) == []


def test_ids_cannot_be_given(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "NEEDS", ())
    install.SUBGID.write_text("")
    (machine / "usermod.answers").write_text("6 usermod: user '54321' does not exist in /etc/passwd\n")
    with pytest.raises(MachineError, match="exit code 6") as caught:
        install.set_up(assume_yes=True)
    assert "subuid(5)" in (caught.value.hint or "")
    assert install.needs_subordinate_ids()
    become(monkeypatch, 0)
    assert not install.needs_subordinate_ids()
