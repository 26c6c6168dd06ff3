"""Sources that are git repositories or local: fetched, laid out, and their digests."""

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xbuild.errors import SourceError
from xbuild.model.source import Source
from xbuild.sources import FetchContext, fetch, lay_out, tree_digest
from xbuild.store import Store


@pytest.fixture
def context(tmp_path: Path) -> FetchContext:
    (tmp_path / "project").mkdir()
    return FetchContext(Store(tmp_path / "store"), [], tmp_path / "project")


def downloads(context: FetchContext) -> list[str]:
    """All files that fetching left behind."""
    kept = [path.name for path in context.store.directory("downloads").iterdir()]
    return kept + [path.name for path in context.store.directory("tmp").iterdir()]


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str, str]:
    """A git repository, its older commit, and the sha256 of that commit's archive."""
    path = tmp_path / "repository"
    names = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*words: str) -> bytes:
        command = ["git", "-C", str(path), *words]
        return subprocess.run(command, env=environment, check=True, capture_output=True).stdout

    path.mkdir()
    git("init", "--quiet")
    (path / "configure").write_text("#!/bin/sh\n")
    (path / "configure").chmod(0o755)
    git("add", "."), git("commit", "--quiet", "-m", "one")
    commit = git("rev-parse", "HEAD").decode().strip()
    (path / "later").touch()
    git("add", "."), git("commit", "--quiet", "-m", "two")
    return path, commit, hashlib.sha256(git("archive", "--format=tar", commit)).hexdigest()


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
@pytest.mark.parametrize(
    ("any_commit", "setting", "config"),
    [
        ("true", "GIT_CONFIG_GLOBAL", ""),
        ("false", "HOME", ".gitconfig"),
        ("true", "XDG_CONFIG_HOME", "git/config"),
    ],
)
def test_git(
    repository: tuple[Path, str, str],
    context: FetchContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    any_commit: str,
    setting: str,
    config: str,
) -> None:
    path, commit, sha256 = repository
    with (path / ".git" / "config").open("a") as stream:
        stream.write(f"[uploadpack]\n\tallowAnySHA1InWant = {any_commit}\n")
    # What the user has set must not reach the archive.
    file = tmp_path / "settings" / config
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[tar]\n\tumask = 0077\n[core]\n\tautocrlf = true\n")
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    monkeypatch.setenv(setting, str(tmp_path / "settings"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "nowhere"))
    source = Source(git=f"file://{path}", commit=commit, sha256=sha256)
    archive = fetch(source, context)
    assert downloads(context) == [f"sha256-{sha256}"]
    lay_out(source, archive, tmp_path / "src")
    assert [file.name for file in (tmp_path / "src").iterdir()] == ["configure"]
    assert (tmp_path / "src" / "configure").read_bytes() == b"#!/bin/sh\n"
    assert os.access(tmp_path / "src" / "configure", os.X_OK)


@needs_git
def test_git_with_another_digest(repository: tuple[Path, str, str], context: FetchContext) -> None:
    path, commit, sha256 = repository
    with pytest.raises(SourceError, match="not the one that the recipe names") as caught:
        fetch(Source(git=f"file://{path}", commit=commit, sha256="0" * 64), context)
    assert caught.value.details == (f"recipe: {'0' * 64}", f"found:  {sha256}")
    assert downloads(context) == []


@needs_git
def test_git_without_the_commit(repository: tuple[Path, str, str], context: FetchContext) -> None:
    with pytest.raises(SourceError, match="cannot get commit") as caught:
        fetch(Source(git=f"file://{repository[0]}", commit="0" * 40, sha256="0" * 64), context)
    assert caught.value.details
    assert downloads(context) == []


def test_path_to_a_directory(context: FetchContext, tmp_path: Path) -> None:
    tree = context.project / "own"
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
    file = context.project / "a.tar"
    (tmp_path / "f").write_bytes(b"1")
    with tarfile.open(file, "w") as tar:
        tar.add(tmp_path / "f", "a-1.0/f")
    source = Source(path="a.tar", sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    lay_out(source, fetch(source, context), tmp_path / "src")
    assert (tmp_path / "src" / "f").read_bytes() == b"1"
    with pytest.raises(SourceError, match="not found"):
        fetch(Source(path="none", sha256="0" * 64), context)


def test_tree_digest_sees_what_counts(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    (tmp_path / "l").symlink_to("a")
    seen = {tree_digest(tmp_path)}

    def changed(change: Callable[[], Any]) -> bool:
        change()
        count = len(seen)
        seen.add(tree_digest(tmp_path))
        return len(seen) > count

    assert changed(lambda: file.write_text("2"))
    assert changed(lambda: file.chmod(0o755))
    assert changed(lambda: file.rename(tmp_path / "b"))
    assert changed(lambda: ((tmp_path / "l").unlink(), (tmp_path / "l").symlink_to("b")))
    assert changed(lambda: ((tmp_path / "d").mkdir(), (tmp_path / "d" / "e").symlink_to(".")))
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
    with pytest.raises(SourceError, match="pipe"):
        tree_digest(tmp_path)
