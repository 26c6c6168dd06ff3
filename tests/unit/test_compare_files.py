"""Listings of files: how they are made, and what is said where they differ."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from xbuild.build.artifact import pack
from xbuild.proof.compare import inspect, scan
from xbuild.proof.compare.files import Counts, Difference, Entry, compare_listings, contents_differ, differing
from xbuild.proof.compare.outcome import Pair
from xbuild.proof.compare.trees import Artifact
from xbuild.proof.compare.verdict import Found, Verdict

MODES = ("substituted", "emulated")
FILE = Entry("file", 0o644, "root/root", 1000, "", "a" * 64, 5)


def unasked(path: str) -> Found:
    raise AssertionError(f"{path} was opened")


def compared(one: Entry | None, other: Entry | None, found: Found | None = None) -> tuple[Counts, list[Difference]]:
    first, second = ({} if entry is None else {"usr/x": entry} for entry in (one, other))
    return compare_listings("artifact", MODES, first, second, unasked if found is None else lambda _: found)


def test_equal_entries_are_not_opened() -> None:
    assert compared(FILE, replace(FILE)) == (Counts(1, 0, 0, 0), [])


@pytest.mark.parametrize(
    ("change", "section", "detail"),
    [
        ({"mode": 0o4755}, "mode", "mode: 0644, 4755"),
        ({"owner": "builder/root"}, "owner", "owner: root/root, builder/root"),
        ({"mtime": 1001}, "time", "time: 1970-01-01 00:16:40, 1970-01-01 00:16:41"),
        ({"kind": "link", "target": "y", "sha256": ""}, "kind", "kind: file, link; target: , y"),
    ],
)
def test_what_is_not_contents(change: dict[str, object], section: str, detail: str) -> None:
    counts, (found,) = compared(FILE, replace(FILE, **change))  # type: ignore[arg-type]
    assert counts == Counts(0, 0, 1, 0)
    assert (found.verdict, found.sections[0], found.detail) == (Verdict.DIFFERENT, section, detail)
    assert not found.contents


def test_the_target_of_a_link() -> None:
    link = Entry("link", 0o777, "root/root", 1000, "libz.so.1")
    _, (found,) = compared(link, replace(link, target="libz.so.2"))
    assert (found.sections, found.detail) == (("target",), "target: libz.so.1, libz.so.2")


def test_contents_are_examined() -> None:
    other = replace(FILE, sha256="b" * 64)
    same = Found(Verdict.SAME, (".debug_line",))
    counts, (found,) = compared(FILE, other, same)
    assert (counts, found.words, found.sections) == (Counts(0, 1, 0, 0), "same code and data", (".debug_line",))
    # The same code with another mode is not the same file.
    counts, (found,) = compared(FILE, replace(other, mode=0o755), same)
    assert (counts, found.words, found.sections) == (Counts(0, 0, 1, 0), "different", (".debug_line", "mode"))


def test_a_file_of_one_mode_only() -> None:
    counts, (found,) = compared(None, FILE)
    assert (counts, found.words) == (Counts(0, 0, 0, 1), "only in emulated")
    _, (found,) = compared(FILE, None)
    assert found.as_json() == {
        "where": "artifact", "path": "usr/x", "verdict": "only in substituted", "sections": [], "own": False
    }  # fmt: skip


def test_which_paths_differ() -> None:
    one = {"a": FILE, "b": FILE, "c": FILE}
    other = {"a": FILE, "b": replace(FILE, sha256="b" * 64), "d": FILE}
    assert differing(one, other) == ["b", "c", "d"]
    assert contents_differ(one, other) == ["b"]


def tree(path: Path) -> Path:
    """A build tree: an object, an archive, text, a log, what is skipped, a link, and a name that is no text."""
    files = {
        "src/a.o": b"\x7fELFobject",
        "src/sub/lib.xyz": b"!<arch>\n",
        "src/config.h": b"#define X\n",
        "src/config.log": b"took 3 s\n",
        "src/test.log.old": b"took 3 s\n",
        os.fsdecode(b"src/\xff"): b"",
        "dest/usr/bin/x": b"\x7fELFx",
        "run/01-x.sh": b"x\n",
        "obj/dest/y.o": b"\x7fELFy",
    }
    for name, data in files.items():
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (path / "src" / "link.o").symlink_to("a.o")
    os.mkfifo(path / "src" / "fifo")
    return path


def test_a_scan_goes_by_what_files_begin_with(tmp_path: Path) -> None:
    found = scan.rows(str(tree(tmp_path / "build")), ("dest", "run"))
    kinds = {path: kind for path, kind, _, _ in found}
    assert kinds == {
        "obj/dest/y.o": "elf",
        "src/a.o": "elf",
        "src/config.h": "other",
        "src/config.log": "other",
        "src/sub/lib.xyz": "archive",
        "src/test.log.old": "other",
        os.fsdecode(b"src/\xff"): "other",
    }
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert found[-1] == (os.fsdecode(b"src/\xff"), "other", 0, empty)


def test_a_scan_as_a_sandbox_starts_it(tmp_path: Path) -> None:
    build, output = tree(tmp_path / "build"), tmp_path / "out"
    subprocess.run([sys.executable, "-I", "-S", scan.__file__, output, build, "dest", "run"], check=True)
    assert [tuple(row) for row in json.loads(output.read_text())] == scan.rows(str(build), ("dest", "run"))


def test_a_scan_leaves_nothing_out_in_silence(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        scan.rows(str(tmp_path / "missing"))


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd")
def test_an_artifact(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/x").write_bytes(b"program")
    (root / "usr/bin/x").chmod(0o755)
    (root / "usr/bin/y").hardlink_to(root / "usr/bin/x")
    (root / "usr/z").symlink_to("bin/x")
    pack(root, tmp_path / "a.tar.zst", 1000)
    known = Artifact([tmp_path / "a.tar.zst"], tmp_path / "scratch" / "one")
    kinds = {path: (entry.kind, entry.target) for path, entry in known.listing.items()}
    assert kinds == {
        "usr": ("directory", ""),
        "usr/bin": ("directory", ""),
        "usr/bin/x": ("file", ""),
        "usr/bin/y": ("hard link", "usr/bin/x"),
        "usr/z": ("link", "bin/x"),
    }
    entry = known.listing["usr/bin/x"]
    assert (entry.mode, entry.owner, entry.mtime, entry.size) == (0o755, "root/root", 1000, 7)
    known.take(["usr/bin/x"])
    known.take(["usr/bin/x"])
    assert known.file("usr/bin/x").read_bytes() == b"program"


def pair(*differences: Difference) -> Pair:
    return Pair(MODES, Counts(0, 0, len(differences), 0), None, differences)


def test_diffoscope_gets_one_of_each_kind_first() -> None:
    line = Difference("objects", "a.o", Verdict.SAME, (".debug_line",), contents=True)
    lines = [replace(line, path=f"{number}.o") for number in range(26)]
    text = Difference("artifact", "x", Verdict.DIFFERENT, ("contents",), contents=True)
    mode = Difference("artifact", "y", Verdict.DIFFERENT, ("mode",))
    only = Difference("artifact", "z", Verdict.ONLY, only="emulated")
    found = [item for _, item in inspect.chosen([pair(*lines, only, mode, text)])]
    assert found == [text, *lines[:19]]


def fake_diffoscope(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "bin" / "diffoscope"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def inspected(folder: Path) -> str:
    for name in ("one", "two"):
        (folder / name).write_text(name)
    return inspect.inspect(folder, folder / "one", folder / "two")


def test_diffoscope_is_asked_from_above_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_diffoscope(tmp_path, 'eval "last=\\${$#}"; echo "$PWD $last"; cat one two; exit 1', monkeypatch)
    assert inspect.available()
    assert inspected(tmp_path) == f"{tmp_path} two\nonetwo"


def test_diffoscope_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_diffoscope(tmp_path, "echo half; exit 2", monkeypatch)
    assert inspected(tmp_path) == "half\n\ndiffoscope: exit code 2"


def test_diffoscope_says_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_diffoscope(tmp_path, "yes | head -c 100000; exit 1", monkeypatch)
    assert len(inspected(tmp_path)) == 20_000
