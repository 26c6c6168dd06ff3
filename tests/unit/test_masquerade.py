"""What stands in for compilers in mode distcc, run by this machine's shell, with scripts as compiler and as client."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from xbuild.build.modes import masquerade

GIVEN = (
    *("-c a.c", "-c a.c -o b.o", "-S a.c", "-O2 -g -gdwarf-3 -Wall -c a.c", "-MD -MF d -c a.c", "-Wp,-MD,d -c a.c"),
    *("-DX -D X=1 -I . -include a.h -c a.c", "-march=armv7-a -mfloat-abi=hard -c a.c", "-std=c11 --std=c++20 -c a.c"),
    *("-fPIC -fno-common -fstack-protector-strong -fopt-info -fdebug-prefix-map=/a=/b -frandom-seed=1 -c a.c",),
    *("-Wa,--noexecstack -Wa,-march=armv8-a -Wa,-mimplicit-it=thumb -c a.c", "--param max-inline=1 --param=a=1 -c a.c"),
    *("-fdiagnostics-color=always -fdirectives-only -fdevirtualize -flto -pipe -p -c a.c", "", "a.o -o a"),
)
KEPT = (
    *("-save-temps", "-save-temps=obj", "--save-temps", "-fstack-usage", "-fcallgraph-info=su", "-da", "-dr"),
    *("-dumpbase x", "-dumpdir x", "--dump=a", "-fdump-tree-all", "-fdump-rtl-expand=x", "-fdump-final-insns"),
    *("-aux-info x", "-gsplit-dwarf", "-time=x", "-fopt-info=x", "-fopt-info-vec=x", "-fsave-optimization-record"),
    *("-fdiagnostics-format=sarif-file", "-fdiagnostics-add-output=sarif:file=x", "--coverage", "-coverage"),
    *("-ftest-coverage", "-fprofile-arcs", "-fprofile-generate=x", "-fprofile-use", "-fauto-profile=x", "-fmodules-ts"),
    *("-fno-profile-values", "-fcondition-coverage", "-fbranch-probabilities", "-fplugin=x", "-fplugin-arg-x-y=1"),
    *("-wrapper x", "-Bx", "-B x", "-specs=x", "--specs=x", "@x", "-Wa,-a=x", "-Wa,-adhln", "-Wa,-g,-al=x"),
    *("-Wa,--MD=x", "-Wa,--listing-cont-lines=9", "-Wa,@x", "-Xassembler -a=x", "--for-assembler=-a=x"),
    *("-Xpreprocessor -MD", "-frecord-gcc-switches", "-fverbose-asm", "-fcompare-debug", "--output=x"),
    *("-v", "--verbose", "-###", "-Q", "-ftime-report", "-fmem-report", "-fstats"),
    *("-g3", "-ggdb3", "-fsyntax-only", "-fdbg-cnt-list"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What stands in for gcc; the compiler itself is in `tmp_path`/bin. Both say who they are, and their arguments."""
    folder, inside = tmp_path / "run", str(tmp_path / "run")
    masquerade.lay(folder, inside, ["gcc"])
    masquerade.lay(folder, inside, ["gcc"])
    assert str((folder / ".client/gcc").readlink()) == "/usr/bin/distcc"
    (folder / ".client/gcc").unlink()
    (tmp_path / "bin").mkdir()
    for path, who in ((folder / ".client/gcc", "given"), (tmp_path / "bin/gcc", "kept")):
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" {who} "$0" "$PATH" "$@"\n')
        path.chmod(0o755)
    return folder


def call(folder: Path, *words: str, path: str | None = None, env: Mapping[str, str] | None = None) -> list[str]:
    """Who was called, as what, with which PATH, and its arguments."""
    path = path or f"/before:{folder}:{folder.parent}/bin:/usr/bin:/bin"
    log = str(folder.parent / "log")
    done = subprocess.run(
        [folder / "gcc", *words], env={"DISTCC_LOG": log, **(env or {}), "PATH": path}, capture_output=True, text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("words", GIVEN)
def test_a_plain_compile_goes_to_distcc(folder: Path, words: str) -> None:
    who, name, path, *arguments = call(folder, *words.split())
    assert (who, name, arguments) == ("given", f"{folder}/.client/gcc", words.split())
    # The client starts the real compiler by it.
    assert path.split(":")[0] == f"{folder.parent}/bin"
    assert not (folder.parent / "log").exists()


@pytest.mark.parametrize("words", KEPT)
def test_what_has_more_than_an_object_stays_here(folder: Path, words: str) -> None:
    who, name, _, *arguments = call(folder, "-c", *words.split(), "a b.c")
    assert (who, name, arguments) == ("kept", f"{folder.parent}/bin/gcc", ["-c", *words.split(), "a b.c"])
    log = (folder.parent / "log").read_text()
    assert f" (kept here) {words.split()[0]}: gcc -c" in log


@pytest.mark.parametrize("name", ["COMPILER_PATH", "GCC_EXEC_PREFIX", "_DISTCC_SAFEGUARD"])
def test_tools_of_the_builds_own_are_here(folder: Path, name: str) -> None:
    assert call(folder, "-c", "a.c", env={name: "1"})[0] == "kept"


def test_the_log_need_not_be_there(folder: Path) -> None:
    for log in ("", "/nothere/log"):
        assert call(folder, "-da", env={"DISTCC_LOG": log})[0] == "kept"


@pytest.mark.parametrize("path", ["{0}:{1}/bin:/bin", "{1}/bin:/bin:{0}", "{0}:/x:{0}:{1}/bin:/bin", "{1}/bin:/bin"])
def test_it_does_not_call_itself(folder: Path, path: str) -> None:
    told = call(folder, "-da", path=path.format(folder, folder.parent))
    assert told[0] == "kept"
    assert str(folder) not in told[2].split(":")


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "out")
    masquerade.lay(tmp_path / "run", str(tmp_path / "run"), ["gcc"])
    assert list((tmp_path / "out").iterdir()) == []
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "run/gcc").exists()


def test_a_link_of_an_older_xbuild_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("real")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/gcc").symlink_to(tmp_path / "real")
    masquerade.lay(tmp_path / "run", "/run", ["gcc"])
    assert not (tmp_path / "run/gcc").is_symlink()
    assert (tmp_path / "real").read_text() == "real"
