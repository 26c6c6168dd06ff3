from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from xbuild import install
from xbuild.errors import MachineError
from xbuild.sandbox import idmap


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PATH with nothing but apt-get, usermod and sudo, which write down how they were called."""
    for name in ("apt-get", "usermod", "sudo"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\nexit ${{ANSWER:-0}}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(install.YES, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    return tmp_path


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
    become(monkeypatch, 1000)
    found = install.missing()
    assert found["mmdebstrap"] == ("mmdebstrap",)
    assert found["uidmap"] == ("newuidmap", "newgidmap")
    assert "apt" not in found
    assert [*found] == install.missing_packages()
    become(monkeypatch, 0)
    assert "uidmap" not in install.missing()


def test_a_need_is_met_by_one_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    both = (str(tmp_path / "a"), str(tmp_path / "b"))
    assert install.Need("x", files=both).lacking() == ()
    assert install.Need("x", files=both[:1]).lacking() == both[:1]


def test_nothing_is_done_without_consent(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for uid, command in ((0, "apt-get install zstd"), (1000, "sudo apt-get install zstd")):
        become(monkeypatch, uid)
        assert not install.may_offer()
        assert not install.offer(["zstd"])
        assert f"run: {command}\n" in capfd.readouterr().err
    assert calls(machine) == []


def test_yes_in_the_environment(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0)
    monkeypatch.setenv(install.YES, "1")
    assert install.offer(["zstd", "mmdebstrap"])
    assert calls(machine) == ["apt-get install -y zstd mmdebstrap"]


def test_yes_without_sudo_is_of_no_use(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 1000)
    (machine / "sudo").unlink()
    assert not install.offer(["zstd"], assume_yes=True)
    assert calls(machine) == []


@pytest.mark.parametrize(
    ("answer", "done"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_asks_on_a_terminal(machine: Path, monkeypatch: pytest.MonkeyPatch, answer: str, done: bool) -> None:
    become(monkeypatch, 1000)
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stderr", Terminal())
    assert install.offer(["zstd"]) is done
    assert calls(machine) == (["sudo apt-get install -y zstd"] if done else [])


def test_a_failure_is_tried_again_after_an_update(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0)
    monkeypatch.setenv("ANSWER", "100")
    with pytest.raises(MachineError, match="apt-get install zstd: exit code 100"):
        install.offer(["zstd"], assume_yes=True)
    assert calls(machine) == ["apt-get install -y zstd", "apt-get update", "apt-get install -y zstd"]


def test_nothing_to_install(machine: Path) -> None:
    assert install.offer([])
    assert calls(machine) == []


def test_subordinate_ids(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "SUBUID", machine / "subuid")
    monkeypatch.setattr(install, "SUBGID", machine / "subgid")
    become(monkeypatch, 54321)
    assert install.needs_subordinate_ids()
    assert not install.offer_subordinate_ids()
    assert calls(machine) == []
    assert install.offer_subordinate_ids(assume_yes=True)
    assert len(calls(machine)) == 1
    assert calls(machine)[0].startswith("sudo usermod --add-subuids ")
    assert calls(machine)[0].endswith(" 54321")
    monkeypatch.setenv("ANSWER", "6")
    with pytest.raises(MachineError, match="exit code 6"):
        install.offer_subordinate_ids(assume_yes=True)
    become(monkeypatch, 0)
    assert install.offer_subordinate_ids()
