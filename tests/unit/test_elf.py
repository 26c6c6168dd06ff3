"""ELF files of tests/unit/data: how each was made is told in its README."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbuild.formats.elf import ElfError, ElfInfo, NotElf, archive_members, is_elf, read_elf, section_location

DATA = Path(__file__).parent / "data"
LOADER = "/lib/ld-linux-armhf.so.3"


def info(name: str) -> ElfInfo:
    return read_elf(DATA / name)


@pytest.mark.parametrize(
    ("name", "machine", "elf_class", "e_type", "float_abi", "is_static"),
    [
        ("armhf-static", "ARM", 32, "EXEC", "hard", True),
        ("armhf-static-pie", "ARM", 32, "DYN", "hard", True),
        ("armhf-pie", "ARM", 32, "DYN", "hard", False),
        ("libhalf.so.1", "ARM", 32, "DYN", "hard", False),
        ("armhf.o", "ARM", 32, "REL", "hard", False),
        ("armel.o", "ARM", 32, "REL", "soft", False),
        ("armhf-neutral.o", "ARM", 32, "REL", None, False),
        ("arm64-static", "AARCH64", 64, "EXEC", None, True),
        ("arm64.o", "AARCH64", 64, "REL", None, False),
        ("amd64-static", "X86_64", 64, "EXEC", None, True),
        ("amd64.o", "X86_64", 64, "REL", None, False),
    ],
)
def test_identity(
    name: str, machine: str, elf_class: int, e_type: str, float_abi: str | None, is_static: bool
) -> None:
    found = info(name)
    assert (found.machine, found.elf_class, found.e_type) == (machine, elf_class, e_type)
    assert (found.data, found.float_abi, found.is_static, found.osabi) == ("little", float_abi, is_static, 0)


def test_dynamic_program() -> None:
    found = info("armhf-pie")
    assert (found.interpreter, found.needed, found.soname) == (LOADER, ("libhalf.so.1",), None)
    assert found.build_id == "f653c08212cc25f573c10298564741b660de73e8"
    assert (found.rpath, found.runpath) == ((), ())


def test_library() -> None:
    found = info("libhalf.so.1")
    assert (found.soname, found.needed, found.interpreter, found.build_id) == ("libhalf.so.1", (), None, None)


def test_rpath_and_runpath() -> None:
    assert (info("armhf-rpath").rpath, info("armhf-rpath").runpath) == (("/.xbuild/lib",), ())
    assert (info("armhf-runpath").rpath, info("armhf-runpath").runpath) == ((), ("/usr/lib", "/build/src"))


def test_debug_file_has_no_interpreter() -> None:
    found = info("armhf-debug")
    assert (found.interpreter, found.needed, found.build_id) == (None, (), info("armhf-pie").build_id)


def test_float_abi_from_flags_without_attributes() -> None:
    header = bytearray((DATA / "armhf-static").read_bytes())
    # e_shoff, e_shnum and e_shstrndx of Elf32_Ehdr: no sections, as sstrip leaves a file.
    header[32:36], header[48:52] = bytes(4), bytes(4)
    assert read_elf(bytes(header)).float_abi == "hard"
    # e_flags: EABI 5 and EF_ARM_ABI_FLOAT_SOFT.
    header[36:40] = (0x05000200).to_bytes(4, "little")
    assert read_elf(bytes(header)).float_abi == "soft"


def test_osabi_is_byte_seven() -> None:
    data = bytearray((DATA / "armhf-static").read_bytes())
    data[7] = 3
    assert read_elf(bytes(data)).osabi == 3


def test_unknown_machine_is_its_number() -> None:
    data = bytearray((DATA / "armhf-static").read_bytes())
    data[18:20] = (0xFEED).to_bytes(2, "little")
    assert read_elf(bytes(data)).machine == str(0xFEED)


def test_is_elf(tmp_path: Path) -> None:
    script, fifo, empty, link = (tmp_path / name for name in ("script", "fifo", "empty", "link"))
    script.write_text("#!/bin/sh\n")
    empty.touch()
    os.mkfifo(fifo)
    link.symlink_to(DATA / "armhf-pie")
    assert not any(is_elf(path) for path in (script, empty, fifo, tmp_path))
    assert is_elf(link)


def test_not_elf(tmp_path: Path) -> None:
    with pytest.raises(NotElf, match="ELF data: not an ELF file"):
        read_elf(b"#!/bin/sh\n")
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(NotElf, match=f"{path}: not an ELF file"):
        read_elf(path)
    with pytest.raises(NotElf):
        section_location(path, ".text")


@pytest.mark.parametrize("length", [4, 15, 16, 40, 51])
def test_cut_off(length: int) -> None:
    with pytest.raises(ElfError, match="broken ELF file"):
        read_elf((DATA / "armhf-pie").read_bytes()[:length])


# Damage can claim 65535 sections: half a second.
@settings(deadline=None)
@given(
    name=st.sampled_from(["armhf-pie", "armhf.o", "arm64-static", "libhalf.so.1"]),
    at=st.integers(0, 1500),
    change=st.binary(min_size=1, max_size=8),
    length=st.integers(0, 1500),
)
def test_damaged_file_is_an_elf_error(name: str, at: int, change: bytes, length: int) -> None:
    data = bytearray((DATA / name).read_bytes())
    data[at : at + len(change)] = change
    for damaged in (data, data[:length]):
        try:
            read_elf(bytes(damaged))
        except ElfError as error:
            assert error.message.startswith("ELF data: ")  # noqa: PT017 - either outcome is right


def test_section_location() -> None:
    path = DATA / "armhf-pie"
    offset, size = section_location(path, ".interp")
    assert path.read_bytes()[offset : offset + size] == LOADER.encode() + b"\0"
    with pytest.raises(ElfError, match=r"no section \.nonsense"):
        section_location(path, ".nonsense")
    # It has an address, but no bytes in the file.
    with pytest.raises(ElfError, match=r"no section \.bss"):
        section_location(path, ".bss")


def test_archive_members() -> None:
    long = "a-name-longer-than-fifteen-characters.o"
    members = dict(archive_members((DATA / "mixed.a").read_bytes(), "mixed.a"))
    assert list(members) == ["armhf.o", "amd64.o", long]
    assert members["amd64.o"] == (DATA / "amd64.o").read_bytes()
    assert members[long] == members["armhf.o"] == (DATA / "armhf.o").read_bytes()


def archive(*members: tuple[bytes, bytes]) -> bytes:
    result = b"!<arch>\n"
    for name, data in members:
        result += b"%-16s%-12d%-6d%-6d%-8o%-10d`\n" % (name, 0, 0, 0, 0o644, len(data))
        result += data + b"\n" * (len(data) % 2)
    return result


def test_archive_of_bsd_kind() -> None:
    data = archive((b"#1/8", b"name.o\0\0odd"), (b"short.o", b"even"))
    assert list(archive_members(data, "x.a")) == [("name.o", b"odd"), ("short.o", b"even")]


def test_archive_without_members() -> None:
    assert list(archive_members(b"!<arch>\n", "x.a")) == []
    assert list(archive_members(b"!<thin>\n" + b"x" * 60, "x.a")) == []


def test_cut_off_archive() -> None:
    data = (DATA / "armhf.a").read_bytes()
    for length in (20, len(data) - 100):
        with pytest.raises(ElfError, match=r"x\.a: broken archive"):
            list(archive_members(data[:length], "x.a"))


@given(st.lists(st.tuples(st.from_regex(rb"[a-z]{1,12}\.o", fullmatch=True), st.binary(max_size=50))))
def test_archive_round_trip(members: list[tuple[bytes, bytes]]) -> None:
    named = [(name + b"/", data) for name, data in members]
    assert list(archive_members(archive(*named), "x.a")) == [(name.decode(), data) for name, data in members]
