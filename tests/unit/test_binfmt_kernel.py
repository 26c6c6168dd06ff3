"""What can be seen of the kernel's instances, in a tree that looks like /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xbuild.base.errors import UsageError
from xbuild.binfmt import kernel, serving
from xbuild.binfmt.kernel import INITIAL
from xbuild.dispatcher.preamble import MARK
from xbuild.doctor.programs import ARM

ENTRY = "enabled\ninterpreter {}\nflags: {}\noffset 0\nmagic {}\nmask {}\n"
ARM_MAGIC = "7f454c4601010100000000000000000002002800"
ARM_MASK = "ffffffffffffff00fffffffffffffffffeffffff"


def instance(place: Path, entries: dict[str, str], status: str = "enabled") -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "register").touch()
    (place / "status").write_text(f"{status}\n")
    for name, text in entries.items():
        (place / name).write_text(text)


def process(proc: Path, pid: str, namespace: str, mountinfo: str) -> Path:
    place = proc / pid
    (place / "ns").mkdir(parents=True)
    (place / "ns/user").symlink_to(namespace)
    (place / "mountinfo").write_text(mountinfo)
    return place


MOUNTED = "41 22 0:37 / /proc/sys/fs/binfmt_misc rw,relatime shared:9 - binfmt_misc none rw\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    path = tmp_path / "proc"
    process(path, "self", INITIAL, MOUNTED)
    (path / "filesystems").write_text("nodev\tproc\nnodev\tbinfmt_misc\n\text4\n")
    return path


def test_the_machines_own(proc: Path) -> None:
    instance(proc / "sys/fs/binfmt_misc", {"qemu-arm": ENTRY.format("/q", "POF", ARM_MAGIC, ARM_MASK)})
    state = kernel.look(proc)
    assert state.certain
    assert state.effective is not None
    assert (state.effective.owner, state.effective.enabled) == ("system", True)
    assert [(entry.name, entry.architecture, entry.flags) for entry in state.effective.entries] == [
        ("qemu-arm", "arm", "POF")
    ]
    assert state.as_json()["effective"]["entries"][0]["magic"] == ARM_MAGIC


def test_disabled_as_a_whole(proc: Path) -> None:
    instance(proc / "sys/fs/binfmt_misc", {}, status="disabled")
    state = kernel.look(proc)
    assert state.effective is not None
    assert not state.effective.enabled
    assert "disabled as a whole" in state.effective.title()


def test_an_entry_of_a_later_kernel_does_not_hide_the_others(proc: Path) -> None:
    texts = {"new": "enabled\nbpf program 7\n", "old": ENTRY.format("/q", "", "41", "ff")}
    instance(proc / "sys/fs/binfmt_misc", texts)
    state = kernel.look(proc)
    assert state.effective is not None
    found = {entry.name: entry.interpreter for entry in state.effective.entries}
    assert found == {"new": "(not understood)", "old": "/q"}


def test_not_mounted(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (proc / "self/mountinfo").write_text("")
    state = kernel.look(proc)
    assert state.effective is not None
    assert state.effective.entries == ()
    assert state.certain
    assert "it is not mounted" in state.remark


def test_a_kernel_without_it(proc: Path) -> None:
    (proc / "self/mountinfo").write_text("")
    (proc / "filesystems").write_text("nodev\tproc\n")
    state = kernel.look(proc)
    assert not state.supported
    assert "modprobe binfmt_misc" in state.remark


def test_in_a_namespace_that_shows_none(proc: Path) -> None:
    (proc / "self/mountinfo").write_text("")
    (proc / "self/ns/user").unlink()
    (proc / "self/ns/user").symlink_to("user:[4026532000]")
    state = kernel.look(proc)
    assert state.effective is None
    assert not state.certain


def test_mounted_elsewhere(proc: Path, tmp_path: Path) -> None:
    place = tmp_path / "a b"
    instance(place, {"x": ENTRY.format("/q", "", "41", "ff")})
    escaped = str(place).replace(" ", "\\040")
    (proc / "self/mountinfo").write_text(f"41 22 0:37 / {escaped} rw - binfmt_misc none rw\n")
    state = kernel.look(proc)
    assert state.effective is not None
    assert [entry.name for entry in state.effective.entries] == ["x"]


def test_those_of_other_namespaces(proc: Path) -> None:
    """By a mount, and by the descriptor that a sandbox keeps; what is inherited is nobody's own."""
    (proc / "self/mountinfo").write_text("")
    other = process(proc, "70", "user:[4026532001]", MOUNTED)
    instance(other / "root/proc/sys/fs/binfmt_misc", {"a": ENTRY.format("/a", "F", "41", "ff")})
    process(proc, "71", INITIAL, MOUNTED)
    found = kernel.look(proc).others
    assert [(one.owner, one.pid, [entry.name for entry in one.entries]) for one in found] == [("other", 70, ["a"])]
    kept = process(proc, "80", "user:[4026532002]", "")
    (other / "mountinfo").write_text("")
    instance(kept / "fd/5", {"b": ENTRY.format("/b", "F", "42", "ff")})
    (kept / "fd/1").symlink_to(os.devnull)
    assert [(one.pid, one.namespace) for one in kernel.look(proc).others] == [(80, "user:[4026532002]")]
    assert kernel.look(proc, others=False).others == ()


@pytest.mark.parametrize(
    ("setting", "release", "way"),
    [
        ("", "6.6.1", "system"),
        ("", "6.7.0", "private"),
        ("", "6.18.44-fc", "private"),
        ("", "odd", "private"),
        ("system", "6.18.0", "system"),
        ("private", "6.1.0", "private"),
    ],
)
def test_the_way_of_builds(monkeypatch: pytest.MonkeyPatch, setting: str, release: str, way: str) -> None:
    monkeypatch.setenv(serving.SETTING, setting)
    assert serving.way(release) == way


def test_an_unknown_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(serving.SETTING, "sytem")
    with pytest.raises(UsageError, match="XBUILD_BINFMT=sytem: unknown; did you mean 'system'"):
        serving.way()


@pytest.mark.parametrize(
    ("flags", "preamble", "status", "serves"),
    [
        ("POF", True, "enabled", True),
        ("POF", False, "enabled", False),
        ("PF", True, "enabled", False),
        ("POF", True, "disabled", False),
    ],
)
def test_which_entries_serve_builds(
    proc: Path, tmp_path: Path, flags: str, preamble: bool, status: str, serves: bool
) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_bytes(b"\x7fELF" + (MARK if preamble else b""))
    text = ENTRY.format(qemu, flags, ARM_MAGIC, ARM_MASK)
    instance(proc / "sys/fs/binfmt_misc", {"qemu-arm": text}, status)
    found = serving.entry_for(ARM.elf, kernel.look(proc))
    assert (found is not None) is serves
