"""Debian packages by the preset: as buildds make them, root's part, and a directory that is built again and again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.command_line import Xbuild, processes, unpacked, wait_for

pytestmark = pytest.mark.e2e

PACKAGE = Path(__file__).parent / "data" / "debian-package"
DEBS = {"hail_1.0_armhf.deb", "libhail0_1.0_armhf.deb"}
DEBUG = {"hail-dbgsym_1.0_armhf.deb", "libhail0-dbgsym_1.0_armhf.deb"}
TREE = "build/reproducible-path/hail-1.0"


@pytest.fixture
def source(xbuild: Xbuild) -> Path:
    """A package of the user's own, and a recipe of it that can be built again."""
    shutil.copytree(PACKAGE, xbuild.project / "hail")
    describe(xbuild)
    return xbuild.project / "hail"


def describe(xbuild: Xbuild, **build: Any) -> None:
    value = {
        "schema": 1,
        "name": "hail",
        "version": "1.0",
        "summary": "A test",
        "license": "MIT-0",
        "sources": [{"path": str(xbuild.project / "hail")}],
        "depends": {"packages": ["debhelper"]},
        "build": {"preset": "debian", "incremental": True, **build},
        "outputs": [{"path": "*.deb"}],
    }
    (xbuild.project / "recipes" / "hail.yml").write_text(yaml.safe_dump(value))


def place(xbuild: Xbuild) -> Path:
    """Where it is built: a directory's own place, as long as it stays."""
    (found,) = (xbuild.cache / "work").glob("hail-*")
    return found


def logged(xbuild: Xbuild, phase: str) -> str:
    (found,) = (place(xbuild) / "logs").glob(f"*-{phase}.log")
    return found.read_text()


def again(xbuild: Xbuild) -> tuple[dict[str, tuple[str, int, str]], str, str]:
    """The files of a build whose tree is kept, the log of its compile phase, and what was told."""
    said = xbuild("build", "hail", "--target", "armhf", "--keep", "--json")
    return unpacked(said.json["artifact"]), logged(xbuild, "compile"), said.err


def clean(xbuild: Xbuild) -> dict[str, tuple[str, int, str]]:
    return unpacked(xbuild.build("hail", "--from", "unpack")["artifact"])


def compiled(log: str) -> set[str]:
    """The C files that were compiled."""
    return {word for line in log.splitlines() if " -c " in line for word in line.split() if word.endswith(".c")}


def edit(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.long
def test_an_edited_file_is_compiled_and_nothing_else(xbuild: Xbuild, source: Path) -> None:
    files, log, _ = again(xbuild)
    assert set(files) >= DEBS | DEBUG | {"hail_1.0_armhf.buildinfo", "hail_1.0_armhf.changes"}
    assert compiled(log) == {"word.c", "times.c", "main.c"}
    assert "-ffile-prefix-map=/build/reproducible-path/hail-1.0=." in log
    assert "Build-Path: /build/reproducible-path/hail-1.0" in xbuild(
        "shell", "hail", "--target", "armhf", "--", "cat /build/dest/*.buildinfo"
    ).out
    edit(source / "word.c", '"hail"', '"snow"')
    changed, log, told = again(xbuild)
    assert "1 changed: 'word.c'" in told
    assert compiled(log) == {"word.c"}
    assert "dh_auto_configure" not in log
    assert {name for name in DEBS if changed[name] != files[name]} == {"libhail0_1.0_armhf.deb"}
    (source / "debian" / "hail.docs").write_text("Makefile\n")
    documented, log, _ = again(xbuild)
    assert compiled(log) == set()
    assert {name for name in DEBS if documented[name] != changed[name]} == {"hail_1.0_armhf.deb"}
    assert documented == clean(xbuild), "not what a build from the beginning gives"
    assert xbuild.build("hail", "--keep")["status"] == "up-to-date"


@pytest.mark.long
def test_what_decides_how_it_is_built_begins_anew(xbuild: Xbuild, source: Path) -> None:
    again(xbuild)
    edit(source / "debian" / "rules", "hardening=+all", "hardening=+all,-pie")
    assert len(compiled(again(xbuild)[1])) == 3
    (source / "more.c").write_text("int more;\n")
    assert compiled(again(xbuild)[1]) == set()
    (source / "more.c").unlink()
    edit(source / "word.c", '"hail"', '"snow"')
    assert len(compiled(again(xbuild)[1])) == 3, "what was made of a file that is gone may still be there"
    edit(source / "hail.h", "int hail_times", "extern int hail_times")
    assert len(compiled(again(xbuild)[1])) == 3, "a Makefile that was written by hand may not know"
    # The build's own copy is not what the user's file was.
    (source / "debian" / "patches").mkdir()
    patch = '--- a/times.c\n+++ b/times.c\n@@ -1,3 +1,3 @@\n #include "hail.h"\n \n'
    patch += "-int hail_times(void) { return 2; }\n+int hail_times(void) { return 1 + 1; }\n"
    (source / "debian/patches/sum.patch").write_text(patch)
    (source / "debian/patches/series").write_text("sum.patch\n")
    (source / "debian/source/format").write_text("3.0 (quilt)\n")
    edit(source / "debian/changelog", "(1.0)", "(1.0-1)")
    assert len(compiled(again(xbuild)[1])) == 3
    edit(source / "word.c", "hail.h", "./hail.h")
    assert compiled(again(xbuild)[1]) == {"word.c"}
    edit(source / "times.c", "#include", "/* The patch is not lost. */\n#include")
    assert len(compiled(again(xbuild)[1])) == 3
    assert "the build itself changes ./times.c" in logged(xbuild, "configure")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "control-c"])
def test_a_mistake_is_mended_and_a_killed_build_begins_anew(
    xbuild: Xbuild, source: Path, number: signal.Signals
) -> None:
    rules = (source / "debian/rules").read_text()
    (source / "debian/rules").write_text(f"{rules}\noverride_dh_auto_test:\n\tsh ./tried\n")
    (source / "tried").write_text("true\n")
    again(xbuild)
    edit(source / "word.c", '"hail"', '"snow')
    assert "word.c" in xbuild("build", "hail", "--target", "armhf", code=3).err
    edit(source / "word.c", '"snow', '"hail" ""')
    assert compiled(again(xbuild)[1]) == {"word.c"}
    marker = f"sleep 7{os.getpid()}"
    edit(source / "tried", "true", marker)
    edit(source / "times.c", "return 2", "return 1 + 1")
    process = xbuild.start("build", "hail", "--target", "armhf")
    wait_for("its tests", lambda: processes(marker), 120)
    process.send_signal(number)
    process.communicate()
    wait_for("the end of it", lambda: not processes(marker))
    edit(source / "tried", marker, "true")
    files, log, told = again(xbuild)
    # What ended in order is as if it had failed.
    assert ("update: " in told) == (number == signal.SIGINT)
    assert len(compiled(log)) == (3 if number == signal.SIGKILL else 0)
    assert files == clean(xbuild)


@pytest.mark.long
def test_root_makes_only_the_packages(xbuild: Xbuild, source: Path) -> None:
    """As fakeroot would have it, with real owners; and the next build goes on in that tree."""
    edit(source / "debian/control", "Rules-Requires-Root: no", "Rules-Requires-Root: binary-targets")
    edit(source / "Makefile", "all: libhail", "all: who libhail")
    with (source / "Makefile").open("a") as file:
        file.write("who:\n\tid -u > $@\n")
    (source / "debian/hail.install").write_text("usr/bin\nwho usr/share/hail\n")
    with (source / "debian/rules").open("a") as file:
        file.write("\nexecute_after_dh_fixperms:\n\tchown 5:6 debian/hail/usr/share/hail/who\n")
    assert "fakeroot" in xbuild("build", "hail", "--target", "armhf", code=3).err
    describe(xbuild, **{"as-root": ["configure", "install"]})
    files, log, _ = again(xbuild)
    assert len(compiled(log)) == 3
    listed = subprocess.run(
        ["dpkg-deb", "-c", place(xbuild) / "build/dest/hail_1.0_armhf.deb"], capture_output=True, check=True
    ).stdout.decode()
    assert [line for line in listed.splitlines() if " games/disk " in line and line.endswith("hail/who")], listed
    edit(source / "word.c", '"hail"', '"hail" ""')
    changed, log, _ = again(xbuild)
    assert compiled(log) == {"word.c"}
    assert changed["hail_1.0_armhf.deb"] == files["hail_1.0_armhf.deb"]
    assert changed == clean(xbuild)
