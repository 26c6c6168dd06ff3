"""What was built as its user wants it: stripped, in other forms, with papers, and on a board."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild, unpacked, wait_for
from xbuild.base.digest import file_sha256
from xbuild.formats.elf import read_elf, section_names

pytestmark = pytest.mark.e2e

_FILES = {
    "hello.c": '#include <stdio.h>\nint answer(void);\nint main(void) { printf("%d\\n", answer()); return 0; }\n',
    "l.c": "int answer(void) { return 42; }\n",
    "f.c": "int firmware;\n",
}
_COMPILE = """
cc -g -O2 -fPIC -shared -Wl,-soname,libanswer.so.1 -o libanswer.so.1 l.c
cc -g -O2 -c l.c f.c
ar rcs libanswer.a l.o
cc -g -O2 -o hello hello.c libanswer.so.1
cc -g -O2 -Wl,--build-id=none -o plain hello.c l.c
"""
_INSTALL = """
install -D -m 2755 hello "$DESTDIR/usr/bin/hello"
install -m 555 plain "$DESTDIR/usr/bin/plain"
ln "$DESTDIR/usr/bin/hello" "$DESTDIR/usr/bin/hi"
install -D -m 644 libanswer.so.1 "$DESTDIR$LIBDIR/libanswer.so.1"
install -m 644 libanswer.a f.o "$DESTDIR$LIBDIR"
"""
_OUTPUTS = [{"path": "usr/bin/hello", "kind": "executable", "run": [], "prints": "42"}]
_LIB = "usr/lib/arm-linux-gnueabihf"


def project(xbuild: Xbuild, **fields: Any) -> None:
    build = {"compile": _COMPILE, "install": _INSTALL}
    xbuild.recipe(files=_FILES, build=build, outputs=_OUTPUTS, data=[f"{_LIB}/f.o"], **fields)


def extracted(archive: str, place: Path) -> Path:
    place.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", place], check=True)
    return place


def sections(file: Path) -> frozenset[str]:
    with file.open("rb") as stream:
        return section_names(stream)


@pytest.mark.long
def test_debug_information_is_split_off(xbuild: Xbuild, tmp_path: Path) -> None:
    """The same in each mode: the target's own strip, run by qemu, writes what its native twin does."""
    project(xbuild)
    plain = xbuild.build("tiny")
    whole = extracted(plain["artifact"], tmp_path / "whole")
    built = xbuild.build("tiny", "--strip", "debug-package")
    assert any("usr/bin/plain has no build id" in warning for warning in built["warnings"])
    emulated = xbuild.build("tiny", "--strip", "debug-package", "--mode", "emulated")
    for name in ("artifact", "debug"):
        assert file_sha256(Path(built[name])) == file_sha256(Path(emulated[name]))
    main, debug = (extracted(built[name], tmp_path / name) for name in ("artifact", "debug"))
    assert unpacked(built["artifact"]).keys() == unpacked(plain["artifact"]).keys()
    for path in ("usr/bin/hello", f"{_LIB}/libanswer.so.1"):
        build_id = read_elf(whole / path).build_id
        assert build_id is not None
        assert read_elf(main / path).build_id == build_id
        assert not sections(main / path) & {".symtab", ".debug_info"}
        split = debug / f"usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
        assert {".symtab", ".debug_info"} <= sections(split)
        assert (main / path).stat().st_mode == (whole / path).stat().st_mode
    assert len([path for path in debug.rglob("*") if path.is_file()]) == 2
    assert (main / "usr/bin/hi").samefile(main / "usr/bin/hello")
    for same in ("usr/bin/plain", f"{_LIB}/f.o"):
        assert file_sha256(main / same) == file_sha256(whole / same)
    assert (main / f"{_LIB}/libanswer.a").read_bytes().count(b".debug_info") == 0
    told = json.loads(Path(built["manifest"]).read_text())
    assert (told["strip"], told["not-stripped"]) == ("debug-package", ["usr/bin/plain"])
    assert told["libraries"] == {"libc.so.6": "libc6"}
    assert xbuild.build("tiny", "--strip", "true")["status"] == "built"
    assert xbuild.build("tiny")["sha256"] == plain["sha256"]


@pytest.mark.long
def test_a_kept_tree_is_stripped_otherwise(xbuild: Xbuild) -> None:
    """What was stripped has no debug information to split off: it is installed anew."""
    project(xbuild)
    dropped = xbuild.build("tiny", "--strip", "true", "--keep")
    assert [phase["name"] for phase in dropped["parts"] if phase["name"] == "strip"] == ["strip"]
    split = xbuild.build("tiny", "--strip", "debug-package", "--keep")
    names = [part["name"] for part in split["parts"]]
    assert "install" in names
    assert "compile" not in names
    again = xbuild.build("tiny", "--strip", "debug-package", "--keep", "--from", "install")
    assert (again["sha256"], Path(again["debug"]).exists()) == (split["sha256"], True)


@pytest.mark.long
def test_a_kill_while_it_strips(xbuild: Xbuild) -> None:
    """Half of the files may be stripped: nobody goes on from there."""
    project(xbuild)
    wanted = xbuild.build("tiny", "--strip", "debug-package")
    shutil.rmtree(xbuild.cache / "artifacts")
    running = xbuild.start("build", "tiny", "--strip", "debug-package")
    # As soon as something is split off.
    wait_for("split off", lambda: list((xbuild.place() / "build").glob("debug/usr/lib/debug/.build-id/*/*")))
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    again = xbuild.build("tiny", "--strip", "debug-package")
    assert again["sha256"] == wanted["sha256"]
    names = [part["name"] for part in again["parts"]]
    assert "compile" not in names or "unpack" not in names


@pytest.mark.long
def test_other_forms_and_papers(xbuild: Xbuild) -> None:
    project(xbuild, artifact={"strip": "debug-package", "format": "tar.gz", "sbom": True, "provenance": True})
    built = xbuild.build("tiny")
    assert built["artifact"].endswith("/dist/tiny-1-armhf.tar.gz")
    assert built["debug"].endswith("/dist/tiny-1-armhf-debug.tar.gz")
    with tarfile.open(fileobj=gzip.open(built["artifact"])) as tar:
        names = tar.getnames()
        assert {member.uname for member in tar} == {"root"}
    papers = {name: file_sha256(Path(built[name])) for name in ("sbom", "provenance")}
    document = json.loads(Path(built["sbom"]).read_text())
    named = {one["SPDXID"]: one.get("name", one.get("fileName")) for one in (*document["packages"], *document["files"])}
    said = {(named.get(one["spdxElementId"]), one["relationshipType"], named.get(one["relatedSpdxElement"]))
            for one in document["relationships"]}  # fmt: skip
    assert {
        ("./usr/bin/hello", "DYNAMIC_LINK", "libc6"),
        ("./usr/bin/hello", "DYNAMIC_LINK", f"./{_LIB}/libanswer.so.1"),
        ("libc6", "RUNTIME_DEPENDENCY_OF", "tiny"),
        ("tiny", "GENERATED_FROM", "tiny"),
    } <= said
    statement = json.loads(Path(built["provenance"]).read_text())
    assert [one["name"] for one in statement["subject"]] == ["tiny-1-armhf.tar.zst", "tiny-1-armhf-debug.tar.zst"]
    # All the same when it is made anew, and in another form.
    shutil.rmtree(xbuild.cache / "artifacts")
    shutil.rmtree(xbuild.project / "dist")
    again = xbuild.build("tiny", "--format", "dir")
    assert {name: file_sha256(Path(again[name])) for name in papers} == papers
    top = Path(again["artifact"])
    assert sorted(str(path.relative_to(top)) for path in top.rglob("*")) == sorted(names)
    assert xbuild("check", "tiny").code == 0
    assert xbuild("shell", "tiny", "--artifact", "--", "/usr/bin/plain").out.split() == ["42"]


def test_a_board_is_named_in_the_end(xbuild: Xbuild) -> None:
    project(xbuild)
    out = xbuild("build", "tiny", "--strip", "true").out
    assert " deploy USER@BOARD tiny --target armhf --strip true" in out
    said = xbuild("deploy", "board.invalid", "tiny", "--strip", "true", code=4).err
    assert "board.invalid cannot be reached by ssh" in said
    assert "there is no artifact of tiny 1 for armhf" in xbuild("deploy", "board.invalid", "tiny", code=2).err
