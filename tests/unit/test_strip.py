"""Debug information: which files have some, how it is taken out, and what is done again after a kill."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from xbuild.base.digest import sealed
from xbuild.build.environment import DEBUG, WorkPlace
from xbuild.build.phases import INSTALL, Progress
from xbuild.build.plan import Step
from xbuild.build.strip import _ALL, _ONE, FOLDER, Stripped, _how, _items, is_other, strip
from xbuild.formats.elf import read_elf, section_names
from xbuild.model.load import load_recipe, load_toolchain

DATA = Path(__file__).parent / "data"
PROJECT = Path(__file__).parents[2]
ARMHF = load_toolchain("armhf", PROJECT)
LUA = load_recipe("lua", ARMHF, PROJECT)

needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, ("cc", "strip", "objcopy", "ar"))), reason="needs a C compiler and binutils"
)


@pytest.fixture
def place(tmp_path: Path) -> WorkPlace:
    found = WorkPlace(tmp_path / "work")
    found.dest.mkdir(parents=True)
    return found


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("armhf-pie", "--strip-all"),
        ("armhf-static", "--strip-all"),
        ("armhf-static-pie", "--strip-all"),
        ("libhalf.so.1", "--strip-unneeded"),
        ("armhf.o", "--strip-debug"),
    ],
)
def test_how_each_kind_of_file_is_stripped(name: str, how: str) -> None:
    assert _how(read_elf(DATA / name)) == how


def test_what_has_nothing_to_strip_is_left_alone(place: WorkPlace) -> None:
    for name in ("armhf-pie", "armhf.a", "mixed.a", "libhalf.so.1", "amd64.o"):
        shutil.copy(DATA / name, place.dest)
    (place.dest / "broken").write_bytes(b"\x7fELF")
    (place.dest / "script").write_text("#!/bin/sh\n")
    assert list(_items(LUA, ARMHF, place)) == []


@needs_tools
def test_each_file_once_and_no_data(place: WorkPlace, tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text("int main(void) { return 0; }\n")
    program, firmware = place.dest / "program", place.dest / "firmware/blob"
    firmware.parent.mkdir()
    for file, flag in ((program, "--build-id"), (firmware, "--build-id"), (place.dest / "none", "--build-id=none")):
        subprocess.run(["cc", "-g", f"-Wl,{flag}", "-o", file, tmp_path / "x.c"], check=True)
    os.link(program, place.dest / "zz-other-name")
    recipe, amd64 = LUA.model_copy(update={"data": ("firmware",)}), load_toolchain("amd64", PROJECT)
    found = {item.path: (item.how, item.build_id) for item in _items(recipe, amd64, place)}
    assert found == {b"program": ("--strip-all", read_elf(program).build_id), b"none": ("--strip-all", None)}
    assert list(_items(recipe, ARMHF, place)) == []


@needs_tools
def test_what_is_taken_out_is_found_by_build_id(tmp_path: Path) -> None:
    """The script itself, with this machine's tools: names that are hostile, hard links, times and modes."""
    build = tmp_path / "build"
    for name in ("dest", "run", DEBUG):
        (build / name).mkdir(parents=True)
    (tmp_path / "x.c").write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    program = build / "dest" / "-a\nprogram 'x'"
    subprocess.run(["cc", "-g", "-Wl,--build-id", "-o", program, tmp_path / "x.c"], check=True)
    library = build / "dest" / "libx.a"
    subprocess.run(["cc", "-g", "-c", "-o", tmp_path / "x.o", tmp_path / "x.c"], check=True)
    subprocess.run(["ar", "rcs", library, tmp_path / "x.o"], check=True)
    os.link(program, build / "dest" / "other")
    program.chmod(0o551)
    os.utime(program, (1_000_000_000, 1_000_000_000))
    build_id = read_elf(program).build_id
    assert build_id is not None
    debug = f"{build_id[:2]}/{build_id[2:]}.debug"
    words = ["--strip-all", debug, program.name, "--strip-debug -D", "-", library.name]
    (build / "run/strip").write_bytes(b"".join(word.encode() + b"\0" for word in words))

    def stripped() -> None:
        whole, one = (text.replace("/build", str(build)) for text in (_ALL, _ONE))
        subprocess.run(["sh", "-euc", whole, "sh", one], check=True)

    stripped()
    assert subprocess.run([program], capture_output=True, check=True).stdout == b"hello\n"
    names = sections(program)
    assert ".symtab" not in names
    assert ".debug_info" not in names
    split = build / DEBUG / FOLDER / debug
    assert {".debug_info", ".symtab"} <= sections(split)
    assert read_elf(split).build_id == build_id
    assert split.stat().st_mode & 0o777 == 0o644
    status = program.stat()
    assert (status.st_mode & 0o777, status.st_nlink, int(status.st_mtime)) == (0o551, 2, 1_000_000_000)
    assert b".debug_info" not in library.read_bytes()
    assert sorted(path.name for path in (build / DEBUG).iterdir()) == ["usr"]


@needs_tools
@pytest.mark.parametrize("flags", ["-flto", "-flto -ffat-lto-objects"])
def test_what_a_link_compiles_is_left_alone(tmp_path: Path, flags: str) -> None:
    (tmp_path / "x.c").write_text("int x;\n")
    done = subprocess.run(
        ["cc", "-g", *flags.split(), "-c", "-o", tmp_path / "x.o", tmp_path / "x.c"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("this compiler has no LTO")
    assert any(name.startswith(".gnu.lto_") for name in sections(tmp_path / "x.o"))
    place = WorkPlace(tmp_path / "work")
    place.dest.mkdir(parents=True)
    shutil.copy(tmp_path / "x.o", place.dest)
    amd64 = load_toolchain("amd64", PROJECT)
    assert list(_items(LUA, amd64, place)) == []


def sections(file: Path) -> frozenset[str]:
    with file.open("rb") as stream:
        return section_names(stream)


def test_what_was_stripped_otherwise_is_installed_anew(place: WorkPlace) -> None:
    assert not is_other(place, True)
    place.stripped.write_text(sealed({"strip": True, "files": 1, "kept": []}))
    assert not is_other(place, True)
    assert is_other(place, False)
    assert is_other(place, "debug-package")
    place.stripped.write_text("{")
    assert is_other(place, True)


def test_who_is_stopped_meanwhile_installs_anew(tmp_path: Path) -> None:
    place = WorkPlace(tmp_path)
    progress = Progress(place)
    for name in ("unpack", "compile", INSTALL, "check"):
        progress.add(Step(name, name), "done", 1.0)
    with progress.going_back_to(INSTALL):
        assert [record.name for record in Progress(place).records] == ["unpack", "compile"]
    assert [record.name for record in Progress(place).records] == ["unpack", "compile", INSTALL, "check"]
    with pytest.raises(KeyError), progress.going_back_to(INSTALL):
        raise KeyError
    assert [record.name for record in Progress(place).records] == ["unpack", "compile"]


def test_nothing_is_done_where_nothing_is_wanted(place: WorkPlace) -> None:
    assert strip(LUA, ARMHF, place, None, {}, Progress(place)) == Stripped()  # type: ignore[arg-type]
