"""What a build says is missing, and which package has it."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xbuild.base.errors import MachineError
from xbuild.projects.missing import needs, offers
from xbuild.roots import files, index
from xbuild.roots.index import Archive

TRIPLET = "arm-linux-gnueabihf"
SAID = [
    ("x.c:1:10: fatal error: curses.h: No such file or directory", "header", "curses.h", "usr/include/curses.h"),
    ("x.cc:2:10: fatal error: GL/gl.h: No such file or directory", "header", "GL/gl.h", "usr/include/GL/gl.h"),
    ("/usr/bin/ld: cannot find -lz: No such file", "library", "z", f"usr/lib/{TRIPLET}/libz.so"),
    ("configure: error: Package requirements (glib-2.0 >= 2.50) were not met:", None, "", ""),
    ("No package 'glib-2.0' found", "pkg-config module", "glib-2.0", f"usr/lib/{TRIPLET}/pkgconfig/glib-2.0.pc"),
    ("Package libcurl was not found in the pkg-config search path.", "pkg-config module", "libcurl",
     f"usr/lib/{TRIPLET}/pkgconfig/libcurl.pc"),
    ("Package 'inih', required by 'virtual:world', not found", "pkg-config module", "inih",
     f"usr/lib/{TRIPLET}/pkgconfig/inih.pc"),
    ('meson.build:3:6: ERROR: Dependency "sdl2" not found, tried pkgconfig and cmake', "pkg-config module", "sdl2",
     f"usr/lib/{TRIPLET}/pkgconfig/sdl2.pc"),
    ("../meson.build:35:9: ERROR: Dependency 'girepository-2.0' is required but not found.", "pkg-config module",
     "girepository-2.0", f"usr/lib/{TRIPLET}/pkgconfig/girepository-2.0.pc"),
    ("Can't locate XML/Parser.pm in @INC (you may need to install the XML::Parser module)", "perl module",
     "XML/Parser.pm", f"usr/lib/{TRIPLET}/perl5/*/XML/Parser.pm"),
    ('  Could not find a package configuration file provided by "fmt" with any of', "CMake package", "fmt",
     "usr/lib/*/fmt-config.cmake"),
    ("Could NOT find ZLIB (missing: ZLIB_LIBRARY ZLIB_INCLUDE_DIR)", "CMake package", "ZLIB", "usr/include/zlib.h"),
    ("meson.build:2:10: ERROR: C shared or static library 'uv' not found", "library", "uv",
     f"usr/lib/{TRIPLET}/libuv.so"),
    ("meson.build:5:0: ERROR: Program 'flex' not found or not executable", "program", "flex", "usr/bin/flex"),
    ("sh: 1: bison: not found", "program", "bison", "usr/bin/bison"),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'nasm'", "program", "nasm", "usr/bin/nasm"),
    ("error: command 'swig' failed: No such file or directory", "program", "swig", "usr/bin/swig"),
    ("make[2]: rsync: No such file or directory", "program", "rsync", "usr/bin/rsync"),
    ("/usr/bin/env: ‘ruby’: No such file or directory", "program", "ruby", "usr/bin/ruby"),
    ("cc1: x.h: No such file or directory", None, "", ""),
    ("m.build:1:2: ERROR: Pkg-config for machine host machine not found. Giving up.", "program", "Pkg-config",
     "usr/bin/pkg-config"),
    ("error: Unable to invoke pkg-config.", "program", "pkg-config", "usr/bin/pkg-config"),
    ("configure: error: The pkg-config script could not be found or is too old.", "program", "pkg-config",
     "usr/bin/pkg-config"),
    ("meson.build:7:1: ERROR: Dependency lookup for dbus-1 with method 'pkg-config' failed: not there",
     "pkg-config module", "dbus-1", f"usr/lib/{TRIPLET}/pkgconfig/dbus-1.pc"),
    ("main.c:3: warning: nothing is wrong here, 3 files found", None, "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("line", "what", "name", "file"), SAID, ids=[line[:40] for line, *_ in SAID])
def test_what_is_said_to_be_missing(line: str, what: str | None, name: str, file: str) -> None:
    found = needs([line], TRIPLET)
    assert [(need.what, need.name) for need in found] == ([(what, name)] if what else [])
    assert all(file in need.files for need in found)


def test_names_are_no_patterns() -> None:
    (need,) = needs(["x.c:1:1: fatal error: a*[b.h: No such file or directory"], TRIPLET)
    assert need.name == "a*[b.h"
    assert "usr/include/a[*][[]b.h" in need.files


@pytest.mark.skipif(not Path(files._HELPER).exists(), reason="there is no apt")
def test_the_compact_index(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    text = (
        "bin/true                 admin/coreutils\n"
        "usr/include/a b/x.h\t\tlibdevel/libx-dev\n"
        "usr/include/x/deep/x.h   libdevel/libdeep-dev\n"
        "usr/lib/arm/libx.so      libdevel/libx-dev,universe/libdevel/liby-dev\n"
        "usr/lib/arm/libx.so.1    libs/libx1\n"
        "usr/share/doc/x/x.h      doc/x-doc\n"
        "usr/lib/arm/cmake/fmt/fmt-config.cmake libdevel/libfmt-dev\n"
    )
    with gzip.open(lists / "mirror_dists_x_main_Contents-armhf.gz", "wt") as stream:
        stream.write(text)
    (lists / "mirror_dists_x_main_binary-armhf_Packages").touch()
    lines = sorted(files._lines(lists))
    assert [line.split("\t")[0] for line in lines] == [
        "usr/include/a b/x.h",
        "usr/include/x/deep/x.h",
        "usr/lib/arm/cmake/fmt/fmt-config.cmake",
        "usr/lib/arm/libx.so",
    ]
    with gzip.open(tmp_path / files._FILE, "wt") as stream:
        stream.writelines(lines)
    shutil.rmtree(lists)
    wanted = ["usr/include/*/x.h", "usr/lib/arm/libx.so", "usr/lib/*/fmt-config.cmake", "usr/bin/none"]
    assert files.packages_with(tmp_path, wanted) == {
        "usr/include/*/x.h": ["libx-dev", "libdeep-dev"],
        "usr/lib/arm/libx.so": ["libx-dev", "liby-dev"],
        "usr/lib/*/fmt-config.cmake": ["libfmt-dev"],
        "usr/bin/none": [],
    }


def test_an_index_that_is_not_the_signed_one() -> None:
    archive = Archive("trixie", ("main",), None, lambda: None)
    said = ["Get:1 x", "E: Failed to fetch http://m/Contents-armhf.gz  File has unexpected size (1 != 2)."]
    told = files._unequal(archive, MachineError("it could not be had", details=said))
    assert told is not None
    assert "files of trixie is not the one that its signed release names" in told.message
    assert list(told.details) == said[1:]
    assert files._unequal(archive, MachineError("no network", details=["E: Could not resolve"])) is None


def offered(tmp_path: Path, said: str) -> list[str]:
    """The packages that are offered for a build of trixie that failed and said `said`."""
    toolchain = SimpleNamespace(triplet=TRIPLET, architecture="armhf")
    roots = SimpleNamespace(resolver=SimpleNamespace(archive=Archive("trixie", ("main",), None, lambda: None)))
    subject: Any = SimpleNamespace(toolchain=toolchain, roots=roots, store=None, packages=())
    log = tmp_path / "log"
    log.write_text(said)
    return [offer.package for offer in offers(subject, log)]


@pytest.mark.parametrize(("setting", "package"), [(None, "libold-dev"), ("forky", "libx-dev")])
def test_the_index_of_another_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str | None, package: str
) -> None:
    """Of that, only packages count that the suite has too."""
    for suite, names in (("trixie", "libold-dev"), ("forky", "libnew-dev,libx-dev")):
        (tmp_path / suite).mkdir()
        with gzip.open(tmp_path / suite / files._FILE, "wt") as stream:
            stream.write(f"usr/include/x.h\t{names}\n")
    (tmp_path / index.LISTS).mkdir()
    (tmp_path / index.LISTS / "main_Packages").write_text("Package: libx-dev\nVersion: 1\nArchitecture: armhf\n")
    monkeypatch.setattr(files, "newest", lambda _store, archive, _architecture: tmp_path / archive.suite)
    monkeypatch.setattr(index, "newest", lambda *_: tmp_path)
    monkeypatch.delenv(files.SETTING, raising=False)
    if setting:
        monkeypatch.setenv(files.SETTING, setting)
    assert offered(tmp_path, "a.c:1:10: fatal error: x.h: No such file or directory\n") == [package]


@pytest.mark.parametrize("lists", [True, False])
def test_without_an_index_of_files_a_program_may_have_a_package_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: bool
) -> None:
    def none(*_: object) -> Path:
        raise MachineError("it could not be had")

    (tmp_path / index.LISTS).mkdir()
    (tmp_path / index.LISTS / "main_Packages").write_text(
        "Package: swig\nVersion: 1\nArchitecture: armhf\n\nPackage: x.h\nVersion: 1\nArchitecture: armhf\n"
    )
    monkeypatch.setattr(files, "newest", none)
    monkeypatch.setattr(index, "newest", (lambda *_: tmp_path) if lists else none)
    said = ("error: command 'swig' failed: No such file or directory\nsh: 1: mine: not found\n"
            "a.c:1:10: fatal error: x.h: No such file or directory\n")  # fmt: skip
    assert offered(tmp_path, said) == (["swig"] if lists else [])
