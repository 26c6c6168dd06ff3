from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest

from xbuild.build import check
from xbuild.build.check import Finding, check_tree
from xbuild.model.toolchain import Toolchain

DATA = Path(__file__).parent / "data"


def toolchain(name: str, triplet: str, architecture: str, elf: dict[str, Any]) -> Toolchain:
    return Toolchain.model_validate(
        {
            "schema": 1,
            "name": name,
            "summary": "a target",
            "triplet": triplet,
            "architecture": architecture,
            "elf": elf,
            "qemu": {"binary": "/usr/bin/qemu-x", "package": "qemu-user"},
            "distribution": {"suite": "trixie"},
            "native-root": {"packages": ["gcc"]},
            "identity": {},
            "uname-machine": "x",
            "policy": "default",
        }
    )


ARMHF = toolchain(
    "armhf",
    "arm-linux-gnueabihf",
    "armhf",
    {
        "machine": "ARM",
        "class": 32,
        "data": "little",
        "float-abi": "hard",
        "interpreter": "/lib/ld-linux-armhf.so.3",
    },
)
ARM64 = toolchain(
    "arm64",
    "aarch64-linux-gnu",
    "arm64",
    {"machine": "AARCH64", "class": 64, "data": "little", "interpreter": "/lib/ld-linux-aarch64.so.1"},
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty DESTDIR tree; `install` puts files of tests/unit/data into it."""
    root = tmp_path / "dest"
    for directory in ("usr/bin", "usr/lib"):
        (root / directory).mkdir(parents=True)
    return root


def install(tree: Path, *names: str, into: str = "usr/bin") -> None:
    for name in names:
        shutil.copy(DATA / name, tree / into / name)


def rules(
    tree: Path, target: Toolchain = ARMHF, libraries: AbstractSet[str] = frozenset()
) -> list[tuple[str, str]]:
    return [(finding.path, finding.rule) for finding in check_tree(tree, target, libraries).findings]


def test_good_tree(tree: Path) -> None:
    install(tree, "armhf-static", "armhf-static-pie", "armhf-pie", "armhf-debug")
    install(tree, "armhf.o", "armhf-neutral.o", "armhf.a", "libhalf.so.1", into="usr/lib")
    (tree / "usr/lib/libhalf.so").symlink_to("libhalf.so.1")
    (tree / "usr/bin/script").write_text("#!/bin/sh\nexec /usr/bin/armhf-pie\n")
    (tree / "usr/bin/empty").touch()
    assert check_tree(tree, ARMHF, frozenset()).findings == []


def test_good_arm64_tree(tree: Path) -> None:
    install(tree, "arm64-static", "arm64.o")
    assert rules(tree, ARM64) == []


@pytest.mark.parametrize("name", ["amd64-static", "amd64.o", "arm64-static", "arm64.o"])
def test_other_machines(tree: Path, name: str) -> None:
    install(tree, name)
    assert rules(tree) == [(f"usr/bin/{name}", "machine")]


def test_other_machine_says_which(tree: Path) -> None:
    install(tree, "amd64-static")
    message = (
        "usr/bin/amd64-static: is code for X86_64, 64 bit, little-endian, "
        "not for armhf: ARM, 32 bit, little-endian"
    )
    assert [str(finding) for finding in check_tree(tree, ARMHF, frozenset()).findings] == [message]


def test_class_is_seen(tree: Path) -> None:
    # The same machine number with another class: x32 and ILP32 are such.
    data = bytearray((DATA / "arm64-static").read_bytes())
    data[18:20] = (40).to_bytes(2, "little")
    (tree / "usr/bin/program").write_bytes(data)
    assert rules(tree) == [("usr/bin/program", "machine")]


def test_soft_float_object(tree: Path) -> None:
    install(tree, "armel.o")
    assert rules(tree) == [("usr/bin/armel.o", "float-abi")]


def test_x86_member_of_an_archive(tree: Path) -> None:
    install(tree, "mixed.a", into="usr/lib")
    assert rules(tree) == [("usr/lib/mixed.a(amd64.o)", "machine")]


def test_wrong_interpreter(tree: Path) -> None:
    install(tree, "armhf-interpreter")
    assert rules(tree, libraries={"libhalf.so.1"}) == [("usr/bin/armhf-interpreter", "interpreter")]


def test_rpath_into_the_machinery(tree: Path) -> None:
    install(tree, "armhf-rpath", "armhf-runpath")
    assert rules(tree, libraries={"libhalf.so.1"}) == [
        ("usr/bin/armhf-rpath", "private-string"),
        ("usr/bin/armhf-rpath", "rpath"),
        ("usr/bin/armhf-runpath", "rpath"),
    ]


def test_rpath_beside_the_machinery_is_fine(tree: Path) -> None:
    data = (DATA / "armhf-runpath").read_bytes()
    (tree / "usr/bin/program").write_bytes(data.replace(b"/build/src", b"/buildings"))
    assert rules(tree, libraries={"libhalf.so.1"}) == []


def test_needed_is_in_neither_place(tree: Path) -> None:
    install(tree, "armhf-pie")
    (finding,) = check_tree(tree, ARMHF, {"libc.so.6"}).findings
    assert finding == Finding(
        "usr/bin/armhf-pie", "needed", "needs libhalf.so.1, which is neither built nor in the root"
    )


def test_needed_is_in_the_root(tree: Path) -> None:
    install(tree, "armhf-pie")
    asked: list[str] = []

    def libraries(name: str) -> bool:
        asked.append(name)
        return True

    assert check_tree(tree, ARMHF, libraries).findings == []
    assert asked == ["libhalf.so.1"]


@pytest.mark.parametrize("links", [{}, {"libhalf.so.1": "b", "b": "../lib/renamed"}])
def test_needed_is_in_the_tree_under_another_name(tree: Path, links: dict[str, str]) -> None:
    install(tree, "armhf-pie")
    data = (DATA / "libhalf.so.1").read_bytes()
    if links:
        # Without its soname, only the links say that this is the library.
        data = data.replace(b"libhalf.so.1", b"nothing.so.1")
    (tree / "usr/lib/renamed").write_bytes(data)
    for name, target in links.items():
        (tree / "usr/lib" / name).symlink_to(target)
    assert rules(tree) == []


def test_a_library_for_another_machine_is_no_help(tree: Path) -> None:
    install(tree, "armhf-pie")
    data = bytearray((DATA / "libhalf.so.1").read_bytes())
    data[18:20] = (183).to_bytes(2, "little")
    (tree / "usr/lib/libhalf.so.1").write_bytes(data)
    assert rules(tree) == [("usr/bin/armhf-pie", "needed"), ("usr/lib/libhalf.so.1", "machine")]


def test_private_string_in_any_file(tree: Path) -> None:
    (tree / "usr/lib/config").write_bytes(b"x" * 5000 + b"CC=/.xbuild/bin/gcc -O2\nmore\n")
    (finding,) = check_tree(tree, ARMHF, frozenset()).findings
    assert (finding.path, finding.rule) == ("usr/lib/config", "private-string")
    assert "byte 5003" in finding.message
    assert "'/.xbuild/bin/gcc -O2'" in finding.message


def test_further_private_strings(tree: Path) -> None:
    (tree / "usr/lib/config").write_text("root=/home/me/cache\n")
    assert check_tree(tree, ARMHF, frozenset()).findings == []
    (finding,) = check_tree(tree, ARMHF, frozenset(), private=("/.xbuild", "/home/me")).findings
    assert finding.rule == "private-string"


def test_link_into_the_machinery(tree: Path) -> None:
    (tree / "usr/bin/cc").symlink_to("/.xbuild/bin/gcc")
    (tree / "usr/lib/directory").symlink_to("/usr/lib/nowhere")
    assert rules(tree) == [("usr/bin/cc", "private-string")]


def test_links_are_not_followed(tree: Path, tmp_path: Path) -> None:
    shutil.copy(DATA / "amd64-static", tmp_path / "outside")
    (tree / "usr/bin/link").symlink_to(tmp_path / "outside")
    (tree / "usr/lib/link").symlink_to(tmp_path)
    assert rules(tree) == []


def test_broken_files(tree: Path) -> None:
    for name, source in (("program", "armhf-pie"), ("lib.a", "armhf.a")):
        (tree / "usr/bin" / name).write_bytes((DATA / source).read_bytes()[:80])
    (tree / "usr/bin/member.a").write_bytes(
        (DATA / "armhf.a").read_bytes().replace(b"\x7fELF\x01\x01\x01", b"\x7fELF\x09\x09\x09")
    )
    assert ("usr/bin/lib.a", "broken") in rules(tree)
    assert ("usr/bin/program", "broken") in rules(tree)
    assert ("usr/bin/member.a(armhf.o)", "broken") in rules(tree)
    # The name of the directory that xbuild happens to use says nothing to the user.
    assert not any(str(tree) in finding.message for finding in check_tree(tree, ARMHF, frozenset()).findings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_unreadable(tree: Path) -> None:
    install(tree, "armhf-static")
    (tree / "usr/bin/armhf-static").chmod(0)
    (tree / "usr/lib").chmod(0)
    try:
        assert rules(tree) == [("usr/bin/armhf-static", "unreadable"), ("usr/lib", "unreadable")]
    finally:
        (tree / "usr/lib").chmod(0o755)


def test_names_that_are_no_text(tree: Path) -> None:
    shutil.copy(DATA / "amd64.o", tree / os.fsdecode(b"usr/bin/\xff.o"))
    assert rules(tree) == [("usr/bin/\\xff.o", "machine")]


def test_what_an_archive_cannot_hold(tree: Path) -> None:
    os.mkfifo(tree / "usr/bin/fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "usr/bin/socket"))
    found = check_tree(tree, ARMHF, frozenset()).findings
    assert [str(finding) for finding in found] == [
        "usr/bin/fifo: is a fifo, which cannot be part of an artifact",
        "usr/bin/socket: is a socket, which cannot be part of an artifact",
    ]


def test_links_to_what_may_not_be_entered(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    for number, target in enumerate(("/root/x", f"{tmp_path}/closed/x", "x" * 3000, "link-3")):
        (tree / f"usr/bin/link-{number}").symlink_to(target)
    assert rules(tree) == []


def test_a_tree_deeper_than_any_path(tree: Path) -> None:
    folder = os.open(tree, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("deep", dir_fd=folder)
        below = os.open("deep", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    findings = check_tree(tree, ARMHF, frozenset()).findings
    subprocess.run(["rm", "-rf", tree / "deep"], check=True)
    assert {finding.rule for finding in findings} == {"name"}
    # 4095 bytes with the slash in front: 819 times "deep" and 818 slashes are 4094.
    assert len(findings) == 1100 - 819


def test_names_cannot_forge_lines(tree: Path) -> None:
    shutil.copy(DATA / "amd64.o", tree / "usr/bin" / "x\nerror: y")
    assert rules(tree) == [("usr/bin/x\\nerror: y", "machine")]


def test_private_strings_across_pieces_and_behind_holes(tree: Path) -> None:
    chunk = 1 << 20
    with (tree / "usr/lib/sparse").open("wb") as file:
        # 16 GiB that are not there.
        file.seek((16 << 30) - 4)
        file.write(b"x" * chunk + b"/.xbuild/lib\n")
    (tree / "usr/lib/hole").touch()
    os.truncate(tree / "usr/lib/hole", 16 << 30)
    (finding,) = check_tree(tree, ARMHF, frozenset()).findings
    assert finding.path == "usr/lib/sparse"
    assert finding.message == f"holds, at byte {(16 << 30) + chunk - 4}, a path of the build's own: '/.xbuild/lib'"


@pytest.mark.parametrize("at", [0, (1 << 20) - 60, (1 << 20) - 4, 1 << 20, (3 << 20) - 1])
def test_a_private_string_is_found_once_wherever_it_is(tree: Path, at: int) -> None:
    (tree / "usr/lib/config").write_bytes(b"x" * at + b"/.xbuild/a\0" + b"y" * 100)
    (finding,) = check_tree(tree, ARMHF, frozenset()).findings
    assert f"at byte {at}, " in finding.message


def test_a_signal_ends_the_search(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        pass

    def end(number: int, frame: object) -> None:
        raise Ended

    (tree / "usr/lib/large").touch()
    os.truncate(tree / "usr/lib/large", 1 << 42)
    # As if it were no hole: 4 TiB to read.
    monkeypatch.setattr(check, "_extents", lambda _file: iter([(0, 1 << 42)]))
    before = signal.signal(signal.SIGALRM, end)
    try:
        signal.alarm(1)
        with pytest.raises(Ended):
            check_tree(tree, ARMHF, frozenset())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_an_archive_with_a_member_that_memory_does_not_hold(tree: Path) -> None:
    size = 9 << 30
    with (tree / "usr/lib/large.a").open("wb") as file:
        file.write(b"!<arch>\n" + b"large.o/".ljust(48) + str(size).encode().ljust(10) + b"`\n")
        file.write((DATA / "amd64.o").read_bytes())
        file.truncate(8 + 60 + size)
    assert rules(tree) == [("usr/lib/large.a(large.o)", "machine")]


@pytest.mark.parametrize("pattern", ["usr/lib/bpf/filter.o", "usr/lib/*/*.o", "usr/lib/bpf", "usr/**/filter.o"])
def test_data_is_no_code(tree: Path, pattern: str) -> None:
    (tree / "usr/lib/bpf").mkdir()
    shutil.copy(DATA / "amd64.o", tree / "usr/lib/bpf/filter.o")
    shutil.copy(DATA / "amd64.o", tree / "usr/bin/other.o")
    checked = check_tree(tree, ARMHF, frozenset(), data=[pattern])
    assert [(finding.path, finding.rule) for finding in checked.findings] == [("usr/bin/other.o", "machine")]
    assert checked.data == ["usr/lib/bpf/filter.o"]


def test_data_may_be_broken_but_holds_no_private_string_and_is_there(tree: Path) -> None:
    (tree / "usr/lib/sample").write_bytes(b"\x7fELF")
    (tree / "usr/lib/sample.a").write_bytes(b"!<arch>\nxx")
    (tree / "usr/lib/leak").write_bytes(b"\x7fELF /.xbuild/lib")
    data = ["usr/lib/sample*", "usr/lib/leak", "usr/lib/gone"]
    findings = check_tree(tree, ARMHF, frozenset(), data=data).findings
    assert [(finding.path, finding.rule) for finding in findings] == [
        ("usr/lib/gone", "data"), ("usr/lib/leak", "private-string"),
    ]  # fmt: skip


def test_a_library_that_is_data_helps_no_program(tree: Path) -> None:
    install(tree, "armhf-pie")
    install(tree, "libhalf.so.1", into="usr/lib")
    findings = check_tree(tree, ARMHF, frozenset(), data=["usr/lib/libhalf.so.1"]).findings
    assert [(finding.path, finding.rule) for finding in findings] == [("usr/bin/armhf-pie", "needed")]
