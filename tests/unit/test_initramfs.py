"""The machine's first file system: the archive, and which modules of the kernel go into it."""

from __future__ import annotations

import lzma
import stat
import struct
from pathlib import Path

import pytest

from xbuild.base.errors import MachineError
from xbuild.build.modes.system import cpio
from xbuild.build.modes.system.modules import WELCOME, contents, dependencies, load_order


def unpacked(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and contents by path, read as Documentation/driver-api/early-userspace/buffer-format.rst has it."""
    found = {}
    at = 0
    while at < len(data):
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        begin = at + (110 + name_size + 3) // 4 * 4
        if name != b"TRAILER!!!\0":
            found[name[:-1].decode()] = (mode, data[begin : begin + size])
        at = begin + (size + 3) // 4 * 4
    assert at == len(data)
    return found


def test_an_archive_holds_files_and_the_directories_above_them() -> None:
    data = cpio.archive({"modules/a.ko": b"12345", "init": b"x", "a/b/c": b""}, programs=frozenset({"init"}))
    found = unpacked(data)
    assert found["modules/a.ko"] == (stat.S_IFREG | 0o644, b"12345")
    assert found["init"] == (stat.S_IFREG | 0o755, b"x")
    assert found["a/b/c"] == (stat.S_IFREG | 0o644, b"")
    assert {path for path, (mode, _) in found.items() if stat.S_ISDIR(mode)} == {"modules", "a", "a/b"}
    names = list(found)
    assert names.index("a") < names.index("a/b") < names.index("a/b/c")


def test_archives_one_after_the_other_are_one() -> None:
    data = cpio.archive({"init": b"1"}) + cpio.archive({"spec": b"arg=a\0"})
    assert {path: content for path, (_, content) in unpacked(data).items()} == {"init": b"1", "spec": b"arg=a\0"}


def module(*info: str) -> bytes:
    """An ELF file with nothing but a section .modinfo (System V ABI, 64 bit, little endian)."""
    text = b"".join(line.encode() + b"\0" for line in info)
    names = b"\0.modinfo\0.shstrtab\0"
    start = 64
    table = (start + len(text) + len(names) + 7) // 8 * 8
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 1, 183, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, start, len(text), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, start + len(text), len(names), 0, 0, 1, 0)
    return (head + text + names).ljust(table, b"\0") + sections


def kernel(place: Path, builtin: str, modules: dict[str, bytes]) -> Path:
    """A directory lib/modules/RELEASE."""
    tree = place / "6.12-test"
    tree.mkdir()
    (tree / "modules.builtin").write_text(builtin)
    for name, data in modules.items():
        path = tree / "kernel" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(data) if name.endswith(".xz") else data)
    return tree


def test_what_a_module_depends_on_comes_before_it(tmp_path: Path) -> None:
    files = {
        "fs/ext4.ko.xz": module("depends=mbcache,jbd2,crc16", "softdep=pre: crypto-x fast-sum post: late", "a=b"),
        "fs/mbcache.ko.xz": module("depends="),
        "fs/jbd2.ko": module("depends=crc16"),
        "lib/crc16.ko.xz": module("depends="),
        "lib/fast-sum.ko.xz": module("depends="),
        "lib/late.ko": module("depends="),
        "other.ko": module("depends=crc16"),
    }
    found = load_order(kernel(tmp_path, "kernel/a/virtio-blk.ko\n", files), ("virtio_blk", "ext4"))
    names = list(found)
    assert sorted(names) == ["crc16", "ext4", "fast_sum", "jbd2", "mbcache"]
    assert names[-1] == "ext4"
    assert names.index("crc16") < names.index("jbd2")
    assert found["crc16"] == module("depends=")


def test_what_the_kernel_may_lack_is_left_out(tmp_path: Path) -> None:
    with_it = {"a.ko": module("depends="), f"lib/{WELCOME[0].replace('_', '-')}.ko": module("depends=")}
    (tmp_path / "with").mkdir()
    assert list(load_order(kernel(tmp_path / "with", "", with_it), ("a",))) == [WELCOME[0], "a"]
    (tmp_path / "without").mkdir()
    assert list(load_order(kernel(tmp_path / "without", "", {"a.ko": module("depends=")}), ("a",))) == ["a"]


def test_a_kernel_without_a_needed_module_is_refused(tmp_path: Path) -> None:
    tree = kernel(tmp_path, "kernel/a.ko\n", {"b.ko": module("depends=c")})
    with pytest.raises(MachineError, match=r"6\.12-test has no module c"):
        load_order(tree, ("a", "b"))


def test_a_damaged_module_is_an_error_with_a_hint() -> None:
    with pytest.raises(MachineError, match="no ELF file") as caught:
        dependencies(b"no module at all")
    assert caught.value.hint


def test_a_module_is_read_packed_or_not(tmp_path: Path) -> None:
    tree = kernel(tmp_path, "", {"a.ko": b"plain", "b.ko.xz": b"packed"})
    assert (contents(tree / "kernel/a.ko"), contents(tree / "kernel/b.ko.xz")) == (b"plain", b"packed")
