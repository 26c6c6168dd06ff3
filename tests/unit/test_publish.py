"""Copies of what was built: their forms, always the same bytes; and directories that are somebody else's."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.test_papers import TOLD
from xbuild.base.errors import UsageError
from xbuild.build.artifact import pack
from xbuild.build.publish import Handed, in_store, publish
from xbuild.build.request import Here, Request
from xbuild.build.subject import Subject, read
from xbuild.model.handing import Form, Handing
from xbuild.sources.local import listed
from xbuild.store.local import Store

PROJECT = Path(__file__).parents[2]
EPOCH = 1_700_000_000

pytestmark = pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd")


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Form], Subject]:
    """zlib for armhf, in a project of the test's own."""
    for name in ("recipes", "toolchains"):
        shutil.copytree(PROJECT / name, tmp_path / "project" / name)
    monkeypatch.setenv("XBUILD_PROJECT", str(tmp_path / "project"))

    def of(form: Form) -> Subject:
        return read(Request("zlib", "armhf", here=Here(format=form)), Store(tmp_path / "store"))

    return of


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """What the store has of it, with debug information."""
    tree, found = tmp_path / "tree", tmp_path / "entry"
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "usr/lib/libz.so.1").write_bytes(b"library" * 100)
    (tree / "usr/lib/libz.so").symlink_to("libz.so.1")
    (tree / "usr/odd\nname -x").write_text("odd")
    (tree / "usr/su").write_text("set-uid")
    (tree / "usr/su").chmod(0o4755)
    (tree / "usr/closed").mkdir()
    (tree / "usr/closed").chmod(0o500)
    os.link(tree / "usr/lib/libz.so.1", tree / "usr/lib/libz.so.1.3")
    (tree / "../debug/usr/lib/debug").mkdir(parents=True)
    (tree / "../debug/usr/lib/debug/x.debug").write_text("debug")
    found.mkdir()
    told = {"artifact": {"file": "zlib-1.3.1-armhf.tar.zst"}, "debug": {"file": "zlib-1.3.1-armhf-debug.tar.zst"}}
    pack(tree, found / told["artifact"]["file"], EPOCH)
    pack(tree / "../debug", found / told["debug"]["file"], EPOCH)
    parts: dict[str, dict[str, object]] = {}
    for name, part in told.items():
        data = (found / part["file"]).read_bytes()
        parts[name] = {**part, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (found / "zlib-1.3.1-armhf.manifest.json").write_text(json.dumps({**parts, "name": "zlib"}))
    return found


def handed(subject: Subject, entry: Path) -> Handed:
    return publish(subject, in_store(subject, entry))


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def test_the_plain_form_is_what_lies_in_the_store(subject: Callable[[Form], Subject], entry: Path) -> None:
    found = handed(subject("tar.zst"), entry)
    assert {path.name for path in found.artifact.parent.iterdir()} == {path.name for path in entry.iterdir()}
    for file in entry.iterdir():
        assert (found.artifact.parent / file.name).read_bytes() == file.read_bytes()


def test_gzip_is_the_same_each_time(subject: Callable[[Form], Subject], entry: Path) -> None:
    found = handed(subject("tar.gz"), entry)
    first = found.artifact.read_bytes()
    assert found.artifact.name == "zlib-1.3.1-armhf.tar.gz"
    assert found.debug is not None
    below = ["usr", "usr/lib", "usr/lib/debug", "usr/lib/debug/x.debug"]
    assert names(gzip.decompress(found.debug.read_bytes())) == below
    # No name, no time (RFC 1952).
    assert first[3] == 0
    assert first[4:8] == b"\0" * 4
    told = json.loads(found.manifest.read_text())
    assert told["artifact"]["sha256"] == hashlib.sha256(first).hexdigest() == found.described["sha256"]
    assert told["artifact"]["packed"]["file"] == "zlib-1.3.1-armhf.tar.zst"
    assert (told["name"], told["debug"]["form"]) == ("zlib", "tar.gz")
    os.utime(entry / "zlib-1.3.1-armhf.tar.zst")
    assert handed(subject("tar.gz"), entry).artifact.read_bytes() == first


def test_a_directory_has_what_the_archive_has(subject: Callable[[Form], Subject], entry: Path) -> None:
    for _ in range(2):
        found = handed(subject("dir"), entry)
        place = found.artifact
        assert (place / "usr/lib/libz.so").readlink() == Path("libz.so.1")
        assert (place / "usr/lib/libz.so.1").samefile(place / "usr/lib/libz.so.1.3")
        assert (place / "usr/odd\nname -x").read_text() == "odd"
        assert int((place / "usr/su").stat().st_mtime) == EPOCH
        assert (place / "usr/closed").stat().st_mode & 0o777 == 0o500
        assert found.debug is not None
        assert (found.debug / "usr/lib/debug/x.debug").read_text() == "debug"
        left = {path.name for path in place.parent.iterdir()}
        shown = {name for name in left if not name.startswith(".")}
        assert shown == {"zlib-1.3.1-armhf", "zlib-1.3.1-armhf-debug", "zlib-1.3.1-armhf.manifest.json"}
        assert not [name for name in left if name.endswith(".new")]
    mode = (place / "usr/su").stat().st_mode & 0o7777
    # Root's own set-uid file it is only where root unpacks it.
    assert mode == (0o4755 if os.geteuid() == 0 else 0o755)


def test_papers_lie_beside_it(subject: Callable[[Form], Subject], entry: Path) -> None:
    """Of the build, whatever form the copy has; each time the same, and no source of the next build."""
    manifest = entry / "zlib-1.3.1-armhf.manifest.json"
    manifest.write_text(json.dumps({**TOLD, **json.loads(manifest.read_text())}))
    known = subject("dir")
    before = {file.name for file in listed(known.project)}
    first: dict[str, bytes] = {}
    for form in ("dir", "tar.gz", "tar.zst"):
        here = Here(format=form, sbom=True, provenance=True)
        found = handed(replace(known, request=replace(known.request, here=here)), entry)
        assert {name: file.name for name, file in found.papers.items()} == {
            "sbom": "zlib-1.3.1-armhf.spdx.json", "provenance": "zlib-1.3.1-armhf.intoto.json",
        }  # fmt: skip
        made = {name: file.read_bytes() for name, file in found.papers.items()}
        first = first or made
        assert made == first
        assert b"usr/lib/libz.so.1.3" in made["sbom"]
    assert {file.name for file in listed(known.project)} == before
    recipe = known.recipe.model_copy(update={"artifact": Handing(sbom=True)})
    assert set(handed(replace(known, recipe=recipe), entry).papers) == {"sbom"}


def test_a_directory_of_somebody_else_stays(subject: Callable[[Form], Subject], entry: Path) -> None:
    known = subject("dir")
    place = known.project / "dist/zlib-1.3.1-armhf"
    place.mkdir(parents=True)
    (place / "mine").touch()
    with pytest.raises(UsageError, match="is in the way, and no build has put it there"):
        handed(known, entry)
    assert (place / "mine").exists()
    # An archive of that name says nothing of a directory.
    handed(subject("tar.zst"), entry)
    with pytest.raises(UsageError, match="is in the way"):
        handed(known, entry)


def test_whoever_was_stopped_goes_on(
    subject: Callable[[Form], Subject], entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is ours is known before it is there."""
    known = subject("dir")
    rename = Path.rename

    def stopped(path: Path, target: Path) -> Path:
        rename(path, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt):
        handed(known, entry)
    monkeypatch.setattr(Path, "rename", rename)
    assert (handed(known, entry).artifact / "usr/su").exists()


def test_no_form_of_it_is_a_source_of_the_next_build(subject: Callable[[Form], Subject], entry: Path) -> None:
    known = subject("dir")
    (known.project / "dist/own").mkdir(parents=True)
    (known.project / "dist/own/file").touch()
    (known.project / "dist/own-1.tar.gz").touch()
    before = {file.name for file in listed(known.project)}
    handed(known, entry)
    handed(replace(known, request=replace(known.request, here=Here(format="tar.gz"))), entry)
    handed(known, entry)
    assert {file.name for file in listed(known.project)} == before
    assert {"dist/own/file", "dist/own-1.tar.gz"} <= before
