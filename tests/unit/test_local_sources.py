"""Sources that are files and directories of this machine: what belongs to them, their digests, edits meanwhile."""

import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_trees import context, downloads, git, needs_git, save
from xbuild import sources
from xbuild.base.errors import ProjectSourceError, SourceError
from xbuild.model.source import Source
from xbuild.sources import ChangingError, FetchContext, examine, fetch, lay_out, tree_digest, trees
from xbuild.sources.local import listed, look, state_in_git

__all__ = ["context"]


def test_path_to_a_directory(context: FetchContext, tmp_path: Path) -> None:
    tree = context.base / "own"
    (tree / "sub").mkdir(parents=True)
    (tree / "configure").write_text("#!/bin/sh\n")
    (tree / "configure").chmod(0o755)
    (tree / "sub" / "link").symlink_to("../configure")
    source = Source(path="own", into="deeper", sha256=tree_digest(tree))
    archive = fetch(source, context)
    first = archive.read_bytes()
    os.utime(tree / "configure", (5, 5))
    assert fetch(source, context).read_bytes() == first
    lay_out(source, archive, tmp_path / "src")
    assert tree_digest(tmp_path / "src" / "deeper") == source.sha256
    (tree / "configure").write_text("#!/bin/sh\nfalse\n")
    with pytest.raises(SourceError, match="not the one that the recipe names"):
        fetch(source, context)


def test_path_to_an_archive(context: FetchContext, tmp_path: Path) -> None:
    file = context.base / "a.tar"
    (tmp_path / "f").write_bytes(b"1")
    with tarfile.open(file, "w") as tar:
        tar.add(tmp_path / "f", "a-1.0/f")
    source = Source(path="a.tar", sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    lay_out(source, fetch(source, context), tmp_path / "src")
    assert (tmp_path / "src" / "f").read_bytes() == b"1"
    with pytest.raises(SourceError, match="not found"):
        fetch(Source(path="none", sha256="0" * 64), context)


def test_a_changed_path_is_told_by_the_names_of_files(context: FetchContext) -> None:
    tree = context.base / "own"
    tree.mkdir()
    for name in ("kept", "gone", "edited", *(f"many{number}" for number in range(20))):
        (tree / name).write_text(name)
    source = Source(path="own", sha256=tree_digest(tree))
    examine(source, context.base, context.store)
    fetch(source, context)
    (tree / "edited").write_text("other")
    (tree / "gone").unlink()
    (tree / "new").touch()

    def told() -> tuple[str, ...]:
        with pytest.raises(SourceError, match="own: sha256 is not the one that the recipe names") as caught:
            examine(source, context.base, context.store)
        assert caught.value.exit_code == 2
        return caught.value.details

    lines = (f"recipe: {source.sha256}", f"found:  {tree_digest(tree)}")
    assert told() == (*lines, "changed: edited", "removed: gone", "new: new")
    for number in range(20):
        (tree / f"many{number}").chmod(0o755)
    assert told()[2:4] == ("changed: edited", "removed: gone")
    assert told()[-1] == "and 13 more"
    (packed,) = context.store.directory("downloads").iterdir()
    packed.write_bytes(b"damaged")
    assert told() == (lines[0], f"found:  {tree_digest(tree)}")
    shutil.rmtree(tree)
    os.mkfifo(tree)
    with pytest.raises(SourceError, match="neither a file nor a directory"):
        examine(source, context.base, context.store)


def test_a_path_without_a_digest_is_what_is_there(context: FetchContext) -> None:
    tree = context.base / "own"
    tree.mkdir()
    (tree / "a").write_text("1")
    source = Source(path="own")
    for text in ("1", "2"):
        (tree / "a").write_text(text)
        digest = examine(source, context.base, context.store).digest
        assert digest == tree_digest(tree)
        archive = fetch(source.model_copy(update={"sha256": digest}), context)
        with tarfile.open(archive) as tar:
            assert [tar.extractfile(member).read() for member in tar] == [text.encode()]  # type: ignore[union-attr]
    assert examine(Source(path=str(tree)), Path("/nowhere"), context.store).digest == tree_digest(tree)
    assert examine(Source(path="."), tree, context.store).digest == tree_digest(tree)


@pytest.mark.parametrize("change", ["edited", "cut", "removed"])
def test_a_tree_that_changes_while_it_is_copied(
    context: FetchContext, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    tree = context.base / "own"
    tree.mkdir()
    (tree / "a").write_text("before")
    source = Source(path="own", sha256=tree_digest(tree))

    def listed(top: Path) -> list[trees.File]:
        files = trees.files_below(top)
        (tree / "a").unlink()
        if change == "edited":
            (tree / "a").write_text("after!")
            # So that the second look finds what the first one found.
            monkeypatch.setattr(sources, "examine", lambda *_: None)
        return files

    def cut(self: trees._Hashed, size: int = -1) -> bytes:
        return b""

    if change == "cut":
        monkeypatch.setattr(trees._Hashed, "read", cut)
    else:
        monkeypatch.setattr(sources, "listed", listed)
    with pytest.raises(ChangingError, match="while it was copied"):
        fetch(source, context)
    assert downloads(context) == []


@needs_git
def test_what_git_ignores_does_not_belong_to_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top, module = tmp_path / "top", tmp_path / "module"
    for place in (top, module):
        place.mkdir()
        git(place, "init", "--quiet")
        (place / ".gitignore").write_text("*.o\n/build/\n")
        (place / "a.c").touch()
        (place / "a.o").touch()
        save(place, "one")
    git(top, "submodule", "add", "--quiet", str(module), "module")
    save(top, "two")
    odd = "with space, 'quotes' and \n newline"
    for name in ("build/x", "sub/new", f"sub/{odd}", "module/new", "module/build/x", "gone", "nested/in"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).touch()
    save(top, "three")
    (top / "gone").unlink()
    git(top / "nested", "init", "--quiet")
    (top / "dangling").symlink_to("nowhere")
    monkeypatch.setenv("GIT_DIR", str(module / ".git"))

    def names(place: Path) -> list[str]:
        return [file.name for file in listed(place)]

    below = ["sub/new", f"sub/{odd}"]
    inner = ["module/.gitignore", "module/a.c", "module/new", "nested/in"]
    assert names(top) == [".gitignore", ".gitmodules", "a.c", "dangling", *inner, *below]
    assert names(top / "sub") == ["new", odd]
    # Named on purpose.
    assert names(top / "build") == ["x"]
    monkeypatch.delenv("GIT_DIR")
    git(top, "worktree", "add", "--quiet", str(tmp_path / "worktree"))
    (tmp_path / "worktree" / "b.o").touch()
    assert names(tmp_path / "worktree") == [".gitignore", ".gitmodules", "a.c", "gone", "nested/in", *below]
    state = state_in_git(top)
    commit = git(top, "rev-parse", "HEAD").decode().strip()
    assert state == {"commit": commit, "dirty": True}
    assert state_in_git(tmp_path / "worktree" / "sub") == {"commit": commit, "dirty": False}
    assert state_in_git(tmp_path) is None


@needs_git
def test_a_work_tree_that_git_cannot_read_is_taken_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    (tmp_path / ".gitignore").write_text("a\n")
    (tmp_path / "a").touch()
    assert [file.name for file in listed(tmp_path)] == [".gitignore", "a"]
    assert "git does not tell which files it ignores" in capsys.readouterr().err


@needs_git
@pytest.mark.parametrize("place", ["store", "ci/a [b]*/store"])
@pytest.mark.parametrize("versioned", [False, True])
def test_a_store_inside_a_project_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, versioned: bool
) -> None:
    top, link = tmp_path / "top", tmp_path / "link"
    store = top / place
    monkeypatch.setenv("XBUILD_CACHE", str(link / place))
    link.symlink_to(top)
    (top / "sub").mkdir(parents=True)
    for name in ("a.c", "sub/store"):
        (top / name).touch()
    if versioned:
        git(top, "init", "--quiet")
        save(top, "one")
    for folder in ("roots/x", "work"):
        (store / folder).mkdir(parents=True)
    (store / "roots" / "x" / "file").touch()
    (store.parent / "beside").touch()
    # As what belongs to users of a root.
    (store / "roots" / "closed").mkdir(mode=0)
    try:
        beside = str((store.parent / "beside").relative_to(top))
        assert {file.name for file in listed(top)} == {"a.c", "sub/store", beside}
        assert [file.name for file in listed(top / "sub")] == ["store"]
        assert set(look(link).records) == {b"a.c", b"sub/store", os.fsencode(beside)}
        (store.parent / "beside").unlink()
        assert not versioned or (state_in_git(top) or {})["dirty"] is False
    finally:
        (store / "roots" / "closed").chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_what_cannot_be_taken_is_the_user_s_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    try:
        for store in (tmp_path / "elsewhere", tmp_path / "top" / "store", tmp_path / "closed" / "store"):
            monkeypatch.setenv("XBUILD_CACHE", str(store))
            with pytest.raises(ProjectSourceError, match="closed: Permission denied") as caught:
                look(tmp_path)
            assert caught.value.hint is not None
            assert "make it readable" in caught.value.hint
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_tree_digest_sees_what_counts(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    (tmp_path / "l").symlink_to("a")
    seen = {tree_digest(tmp_path)}

    def pointed(link: Path, to: str) -> None:
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(to)

    def changed(change: Callable[[], Any]) -> bool:
        change()
        count = len(seen)
        seen.add(tree_digest(tmp_path))
        return len(seen) > count

    assert changed(lambda: file.write_text("2"))
    assert changed(lambda: file.chmod(0o755))
    assert changed(lambda: file.rename(tmp_path / "b"))
    assert changed(lambda: pointed(tmp_path / "l", "b"))
    assert changed(lambda: pointed(tmp_path / "d" / "e", "."))
    assert not changed(lambda: os.utime(tmp_path / "b", (1, 1)))
    assert not changed(lambda: (tmp_path / "empty").mkdir())
    assert not changed(lambda: (tmp_path / ".git").mkdir())
    assert not changed(lambda: (tmp_path / ".git" / "HEAD").touch())


def test_tree_digest_is_stable(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    one = hashlib.sha256(b"1").hexdigest().encode()
    assert tree_digest(tmp_path) == hashlib.sha256(b"a\0f\0" + one + b"\0").hexdigest()


def test_special_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ProjectSourceError, match="pipe"):
        tree_digest(tmp_path)


def test_what_builds_on_this_machine_have_left(tmp_path: Path) -> None:
    names = [
        "CMakeLists.txt", "main.c", "main.o", "CMakeCache.txt", "CMakeFiles/3/x.cmake", "cmake_install.cmake",
        "build/CMakeCache.txt", "build/sub/config.h", "sub/CMakeLists.txt", "sub/CMakeCache.txt", "sub/x.c",
        "deep/b m/meson-private/coredata.dat", "deep/b m/x", "deep/x", "dist/a-1-armhf.tar.zst", "dist/mine.js",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subproject = ["sub/CMakeCache.txt", "sub/CMakeLists.txt", "sub/x.c"]
    belongs = ["CMakeLists.txt", "deep/x", "dist/mine.js", "main.c", *subproject]
    assert [file.name for file in listed(tmp_path)] == belongs
    left = ("CMakeCache.txt", "CMakeFiles/", "build/", "cmake_install.cmake", "deep/b m/", "main.o")
    assert look(tmp_path).left == left


def test_wheels_and_packages_of_a_build_are_no_sources_of_the_next(tmp_path: Path) -> None:
    ours = [
        "dist/x-1.0-cp313-cp313-linux_armv7l.whl", "dist/arm64/x-1.0-cp313-cp313-linux_aarch64.whl",
        "dist/x_1.0_armhf/x_1.0_armhf.build", "dist/x_1.0_armhf/x_1.0_armhf.deb", "dist/x_1.0_armhf/Packages",
        "dist/reproduce/less/armhf/less_668-1_armhf.deb",
    ]  # fmt: skip
    others = ["dist/x_1.0_amd64/mine", "dist/x_1.0_amd64/x_1.0_armhf.build", "sub/dist/x.whl", "x.whl"]
    for name in (*ours, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in listed(tmp_path)] == others


@pytest.mark.parametrize(
    ("file", "text"),
    [("pyproject.toml", '[project]\nname = "My.Own-thing"\n'), ("setup.cfg", "[metadata]\nname = my-own_thing\n")],
)
def test_wheels_of_the_project_itself_are_no_sources(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    wheel, other = "my_own_thing-1.0-cp313-cp313-manylinux_2_17_armv7l.whl", "my_own-1.0-py3-none-any.whl"
    for name in (f"wheelhouse/arm64/{wheel}", wheel, f"vendor/{other}", "vendor/x.whl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [found.name for found in listed(tmp_path)] == sorted([file, f"vendor/{other}", "vendor/x.whl"])
    (tmp_path / file).write_text("what is not right ]")
    assert len(listed(tmp_path)) == 5


@needs_git
def test_what_git_has_is_nothing_that_was_left(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    for name in ("blob.o", "old/CMakeCache.txt", "dist/x.tar.zst"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    save(tmp_path, "all")
    (tmp_path / "old" / "new").touch()
    (tmp_path / "other.o").touch()
    assert [file.name for file in listed(tmp_path)] == ["blob.o", "dist/x.tar.zst", "old/CMakeCache.txt", "old/new"]
