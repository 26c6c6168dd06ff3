"""Builds that travel: packed here, the same there, and nothing of a stranger's parcel leaves its place."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.sender import TINY, Sender, sender
from tests.unit.test_trees import needs_git
from xbuild.base.errors import ProjectSourceError, UsageError
from xbuild.build.locking import lock
from xbuild.build.parcel import Parcel, received, require_same, sent, unpacked
from xbuild.build.prepared import NotBuiltError, prepared
from xbuild.build.request import Here, Request
from xbuild.build.subject import Subject, read
from xbuild.model.lock import load_lock
from xbuild.sources import tree_digest
from xbuild.sources.local import Local, state_in_git
from xbuild.store.local import Store
from xbuild.store.shared.shared import Shared

__all__ = ["sender"]

PROJECT = Path(__file__).resolve().parents[2]
ODD = [b"caf\xe9", "naïve".encode(), b"two\nlines", b"-rf", b" ", b"a\\b"]
"""Names of files that are not UTF-8, or look like something else."""


@pytest.fixture
def arrived(tmp_path: Path, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> Callable[[Parcel], str | None]:
    """The key that a parcel has on a machine where nothing of the sender's is; None if needed recipes are not built."""

    def arrive(parcel: Parcel) -> str | None:
        blob = sent(parcel, sender.blobs)
        away, there = tmp_path / "gone", tmp_path / "receiver" / parcel.request.target
        (tmp_path / "sender").rename(away)
        place, store = there / "place", Store(there / "cache")
        try:
            with monkeypatch.context() as patch:
                patch.setenv("HOME", str(there))
                patch.setenv("XBUILD_PROJECT", str(tmp_path))
                again = received(blob, sender.blobs)
                assert again == parcel
                request = unpacked(again, place, sender.blobs)
                require_same(again, request, place, sender.blobs, store)
                return prepared(read(request, store, place)).key
        except NotBuiltError:
            return None
        finally:
            away.rename(tmp_path / "sender")

    return arrive


def all_bytes(blobs: Shared) -> bytes:
    """What lies in all blobs, compressed ones as what they hold."""
    folder = Path(blobs.places[0].shown.removeprefix("file://"))
    texts = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    return b"".join(gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text for text in texts)


def test_a_build_has_the_same_key_elsewhere(sender: Sender, arrived: Callable[[Parcel], str | None]) -> None:
    sender.recipe(patches=["patches/./a.patch"], sources=[{"path": "src"}, {"path": "data/one.bin", "unpack": False}])
    sender.write("recipes/patches/a.patch", "--- a/x\n")
    sender.write("data/one.bin", "one")
    sender.write("data/other.bin", "secret: not asked for")
    sender.write("src/run", "#!/bin/sh\n", 0o755)
    (sender.project / "src" / "link").symlink_to("../nowhere")
    for name in ODD:
        sender.write(b"src/" + name, "odd")
    parcel = sender.pack(here=Here(jobs=7, keep=True), emulate=frozenset({"cc1"}))
    assert parcel.key == sender.key(emulate=frozenset({"cc1"}))
    assert parcel.request.here == Here(publish=False)
    assert arrived(parcel) == parcel.key
    text = all_bytes(sender.blobs) + json.dumps(parcel.as_json()).encode()
    assert str(sender.project.parent).encode() not in text
    assert b"secret" not in text


def test_modes_links_and_names_arrive(sender: Sender, tmp_path: Path) -> None:
    sender.write("src/run", "#!/bin/sh\n", 0o750)
    sender.write("src/deep/er/file", "x", 0o600)
    (sender.project / "src" / "deep" / "link").symlink_to("/etc/passwd")
    for name in ODD:
        sender.write(b"src/" + name, "odd")
    parcel = sender.pack()
    unpacked(parcel, tmp_path / "place", sender.blobs)
    (tree,) = (tmp_path / "place").glob("trees/*/src")
    assert tree_digest(tree) == tree_digest(sender.project / "src")
    assert (tree / "run").stat().st_mode & 0o777 == 0o755
    assert (tree / "deep" / "link").readlink() == Path("/etc/passwd")
    assert set(ODD) <= {os.fsencode(path.name) for path in tree.iterdir()}


def test_what_is_known_of_a_recipe_elsewhere_is_the_same(
    sender: Sender, arrived: Callable[[Parcel], str | None]
) -> None:
    """Patches, recipes and targets that only other targets have are asked for when a recipe is read."""
    toolchain = (PROJECT / "toolchains" / "armhf.yml").read_text()
    sender.write("toolchains/board.yml", toolchain.replace("name: armhf", "name: board"))
    sender.write("recipes/other.patch", "--- a/x\n")
    needs = [{"name": "mine", "when": ["board"]}, "zlib"]
    sender.recipe("mine")
    override = {"targets": ["board"], "patches": ["other.patch"], "depends": {"recipes": ["xz"]}}
    sender.recipe(depends={"recipes": needs}, overrides=[override])
    parcel = sender.pack()
    names = {item.name for item in parcel.items if item.kind == "file"}
    assert {"mine.yml", "zlib.yml", "zlib.lock", "xz.yml", "other.patch", "toolchains/board.yml"} <= names
    assert "xz.lock" not in names
    assert parcel.key is None
    assert arrived(parcel) is None
    mine = sender.pack("mine", target="board")
    assert arrived(mine) == mine.key == sender.key("mine", target="board")


def test_a_recipe_by_its_path_and_a_project_without_one(
    sender: Sender, tmp_path: Path, arrived: Callable[[Parcel], str | None]
) -> None:
    odd = tmp_path / "sender" / "Odd Place"
    odd.mkdir()
    recipe = odd / "My Recipe.yml"
    tree = {"path": str(sender.project / "src")}
    value = {**TINY, "sources": [tree], "build": {**TINY["build"], "incremental": True}}
    recipe.write_text("# of mine\n" + yaml.safe_dump(value))
    parcel = sender.pack(str(recipe))
    assert parcel.request.recipe == "tiny.yml"
    assert arrived(parcel) == parcel.key == sender.key(str(recipe))


@needs_git
def test_what_git_has_counts_elsewhere_too(
    sender: Sender, tmp_path: Path, arrived: Callable[[Parcel], str | None]
) -> None:
    """What git has counts, whatever it is called; what git ignores stays here; and git is not asked there."""
    source = sender.project / "src"
    sender.write("src/.gitignore", "*.o\nsecret\n")
    for name in ("kept.o", "CMakeCache.txt", "CMakeLists.txt", "dist/a.tar.zst", ".svn/entries"):
        sender.write(f"src/{name}", "x")
    for words in (["init", "-q"], ["add", "-A", "-f"], ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm1"]):
        subprocess.run(["git", "-C", source, *words], check=True)
    sender.write("src/new.o", "ignored")
    sender.write("src/secret", "ignored")
    parcel = sender.pack()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("*\n")
    assert arrived(parcel) == parcel.key
    (tree,) = (tmp_path / "receiver" / "armhf" / "place").glob("trees/*/src")
    assert {path.name for path in tree.iterdir()} == {
        ".gitignore", "README", "kept.o", "CMakeCache.txt", "CMakeLists.txt", "dist", ".svn",
    }  # fmt: skip
    assert state_in_git(tree) == state_in_git(source) != None  # noqa: E711


def test_packages_travel_as_a_lock_file(
    sender: Sender, arrived: Callable[[Parcel], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What travels is what the build here is made with, whatever lock file lies beside the recipe, or counts."""
    monkeypatch.setenv("XBUILD_SNAPSHOTS", "http://snapshots.invalid/{date}")
    file = sender.project / "recipes" / "tiny.yml"
    lock(Request("tiny", "armhf", snapshot="2026-01-02"), [], update=False, store=sender.store)
    for locked, snapshot in ((True, "2026-01-02"), (False, None)):
        parcel = sender.pack(locked=locked)
        assert parcel.request.snapshot is None
        assert arrived(parcel) == parcel.key == sender.key(locked=locked)
        there = load_lock(file.parents[4] / "receiver" / "armhf" / "place" / "tiny.yml")
        assert there is not None
        assert there.targets["armhf"].snapshot == snapshot
        assert "target root" in there.targets["armhf"].roots
        shutil.rmtree(file.parents[4] / "receiver")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("..", "holds your home directory"),
        ("/", "holds your home directory"),
        ("../../home", "holds your home directory"),
        ("../other", "leads out of the project"),
        ("leads", "leads out of the project"),
        ("key.pem", "leads out of the project"),
    ],
)
def test_what_is_hardly_meant_is_not_sent(sender: Sender, path: str, said: str) -> None:
    other = sender.project.parent / "other"
    other.mkdir()
    (other / "id").write_text("secret")
    (sender.project / "leads").symlink_to("../other")
    (sender.project / "key.pem").symlink_to("../other/id")
    sender.recipe(sources=[{"path": path}])
    if path == "/":
        # Nobody waits until all of the machine was read.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Subject, "settled", lambda self: _looked_at(self, path))
            with pytest.raises(ProjectSourceError, match=said):
                sender.pack()
        return
    with pytest.raises(ProjectSourceError, match=said) as caught:
        sender.pack()
    assert caught.value.hint
    assert b"secret" not in all_bytes(sender.blobs)


def _looked_at(subject: Subject, path: str) -> Subject:
    return replace(subject, local=(Local(Path(path), "0" * 64),))


def test_a_directory_elsewhere_travels_if_it_is_named_by_its_whole_path(
    sender: Sender, arrived: Callable[[Parcel], str | None]
) -> None:
    other = sender.project.parent / "other"
    other.mkdir()
    (other / "file").write_text("x")
    sender.recipe(sources=[{"path": str(other)}])
    parcel = sender.pack()
    assert arrived(parcel) == parcel.key


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"here": Here(start="compile")}, "--from"),
        ({"root": "./board.img"}, "path of this machine"),
    ],
)
def test_what_cannot_travel_says_so(sender: Sender, words: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        sender.pack(**words)
    assert caught.value.hint


def test_packages_of_the_users_own_travel_if_they_are_installed(
    sender: Sender, tmp_path: Path, arrived: Callable[[Parcel], str | None]
) -> None:
    """Those of the directory that the build has in its roots, with an index of these."""
    text = "Package: {0}\nArchitecture: armhf\nFilename: ./pool/{0}.deb\nSHA256: {1}\n\n"
    # What the double of the resolver says of each package.
    index = text.format("mine", "0" * 64) + text.format("other", "1" * 64)
    sender.write("debs/Packages", index)
    for name in ("mine", "other"):
        sender.write(f"debs/pool/{name}.deb", f"{name}: secret")
    words: dict[str, Any] = {"repositories": (str(sender.project / "debs"),)}
    parcel = sender.pack(**words)
    assert arrived(parcel) == parcel.key == sender.key(**words)
    place = tmp_path / "receiver" / "armhf" / "place" / "repositories" / "0"
    assert (place / "Packages").read_text() == text.format("mine", "0" * 64)
    assert [file.read_text() for file in place.rglob("*.deb")] == ["mine: secret"]
    assert b"other: secret" not in all_bytes(sender.blobs)


def test_what_differs_elsewhere_is_told(
    sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parcel = sender.pack()
    place, store = tmp_path / "place", Store(tmp_path / "other")
    request = unpacked(parcel, place, sender.blobs)
    (tree,) = place.glob("trees/*/src")
    (tree / "README").write_text("something else\n")
    with pytest.raises(UsageError, match="has other inputs here") as caught:
        require_same(replace(parcel, xbuild="0.0.1"), request, place, sender.blobs, store)
    assert caught.value.details[0].startswith("xbuild: 0.0.1 -> ")
    assert any("recipe.sources[0].sha256" in line for line in caught.value.details)
    assert not (place / ".value").exists()
    for file in (tmp_path / "blobs" / "blobs").rglob(parcel.value.sha256):
        file.unlink()
    with pytest.raises(UsageError) as caught:
        require_same(parcel, request, place, sender.blobs, store)
    assert "what differs is not known" in caught.value.details[0]
