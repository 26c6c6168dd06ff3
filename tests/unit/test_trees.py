"""Sources that are git repositories: fetched, laid out, and their digests."""

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from xbuild.base.errors import SourceError
from xbuild.model.source import Source
from xbuild.sources import FetchContext, fetch, lay_out
from xbuild.sources.archive import place_file
from xbuild.sources.git import _resolved
from xbuild.store.local import Store


@pytest.fixture
def context(tmp_path: Path) -> FetchContext:
    (tmp_path / "project").mkdir()
    return FetchContext(Store(tmp_path / "store"), list, tmp_path / "project")


def downloads(context: FetchContext) -> list[str]:
    """All files that fetching left behind."""
    kept = [path.name for path in context.store.directory("downloads").iterdir()]
    return kept + [path.name for path in context.store.directory("tmp").iterdir()]


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str, str]:
    """A git repository, its older commit, and the sha256 of that commit's archive."""
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "--quiet")
    (path / "configure").write_text("#!/bin/sh\n")
    (path / "configure").chmod(0o755)
    commit = save(path, "one")
    (path / "later").touch()
    save(path, "two")
    return path, commit, hashlib.sha256(git(path, "archive", "--format=tar", commit)).hexdigest()


def git(path: Path, *words: str) -> bytes:
    """What git says in the repository `path`, without the user's settings."""
    names = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    dates = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
    environment = {**os.environ, **names, **dates, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-C", str(path), "-c", "protocol.file.allow=always", *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True).stdout


def save(path: Path, message: str) -> str:
    """Commit all that is in the tree `path`; give the commit."""
    git(path, "add", "--all", ".")
    git(path, "commit", "--quiet", "--message", message)
    return git(path, "rev-parse", "HEAD").decode().strip()


def found(context: FetchContext, path: Path, commit: str) -> str:
    """The digest that a recipe with zeros is told to take over."""
    with pytest.raises(SourceError, match="not the one that the recipe names") as caught:
        fetch(Source(git=f"file://{path}", commit=commit, sha256="0" * 64), context)
    return caught.value.details[1].removeprefix("found:  ")


def laid_out(context: FetchContext, path: Path, commit: str, destination: Path) -> Path:
    """The tree that a build sees of the commit."""
    source = Source(git=f"file://{path}", commit=commit, sha256=found(context, path, commit))
    destination.mkdir()
    lay_out(source, fetch(source, context), destination)
    return destination


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
    path, commit, _ = repository
    one = hashlib.sha256(b"#!/bin/sh\n").hexdigest().encode()
    wanted = hashlib.sha256(b"configure\0x\0" + one + b"\0.git\0" + commit.encode() + b"\0").hexdigest()
    assert found(context, path, commit) == wanted
    assert downloads(context) == []


@needs_git
def test_git_is_a_checkout(context: FetchContext, tmp_path: Path) -> None:
    library, path = tmp_path / "library", tmp_path / "repository"
    for place in (library, path):
        place.mkdir()
        git(place, "init", "--quiet")
    (library / "part.c").write_text("part")
    (library / ".gitattributes").write_text("*.c export-ignore\n")
    save(library, "one")
    git(path, "submodule", "--quiet", "add", "../library", "lib")
    (path / ".gitattributes").write_text("tests export-ignore\n*.txt text eol=crlf\nid export-subst\n")
    (path / "tests").mkdir()
    files = {"tests/extra.c": "extra", "note.txt": "line\n", "id": "$Format:%H$", ".gitconfig": "[core]\n"}
    for name, text in files.items():
        (path / name).write_text(text)
    (path / "guess").symlink_to("/usr/share/misc/config.guess")
    tree = laid_out(context, path, save(path, "one"), tmp_path / "src")
    assert (tree / "lib" / "part.c").read_text() == "part"
    assert not (tree / "lib" / ".git").exists()
    assert (tree / "tests" / "extra.c").read_text() == "extra"
    assert (tree / "note.txt").read_bytes() == b"line\r\n"
    assert (tree / "id").read_text() == "$Format:%H$"
    assert os.fspath((tree / "guess").readlink()) == "/usr/share/misc/config.guess"
    assert (tree / "guess").lstat().st_mtime == (tree / "lib" / "part.c").stat().st_mtime == 1700000000
    assert git(tree, "status", "--porcelain") == b""


@needs_git
@pytest.mark.parametrize("served", ["true", "false"], ids=["any commit", "only names"])
def test_git_describe(context: FetchContext, tmp_path: Path, served: str) -> None:
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "--quiet")
    git(path, "config", "uploadpack.allowAnySHA1InWant", served)
    git(path, "config", "uploadpack.allowFilter", served)
    for number, words in enumerate([("-a", "-m", "one", "v1"), ("light",), ("--list",), ("--list",)]):
        (path / "file").write_text(f"{number}")
        save(path, f"{number}")
        git(path, "tag", *words)
    commit = git(path, "rev-parse", "HEAD").decode().strip()
    tree = laid_out(context, path, commit, tmp_path / "src")
    for asked in ("describe", "describe --tags", "describe --dirty --long", "rev-list --count HEAD"):
        assert git(tree, *asked.split()) == git(path, *asked.split())
    assert git(tree, "show", "-s", "--format=%ct %s") == b"1700000000 3\n"
    assert git(tree, "tag").split() == [b"light", b"v1"]
    (tree / "file").write_text("other")
    assert git(tree, "describe", "--dirty").strip().endswith(b"-dirty")


@needs_git
def test_a_tag_that_comes_later_changes_nothing(context: FetchContext, tmp_path: Path) -> None:
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "--quiet")
    (path / "file").touch()
    first = save(path, "one")
    git(path, "tag", "-a", "-m", "one", "v1")
    (path / "file").write_text("2")
    commit = save(path, "two")
    sha256 = found(context, path, commit)
    git(path, "tag", "-a", "-m", "two", "v2")
    git(path, "tag", "nightly", first)
    assert found(context, path, commit) != sha256
    source = Source(git=f"file://{path}", commit=commit, sha256=sha256)
    (tmp_path / "src").mkdir()
    lay_out(source, fetch(source, context), tmp_path / "src")
    assert git(tmp_path / "src", "describe", "--tags").startswith(b"v1-1-g")
    (kept,) = context.store.directory("downloads").iterdir()
    assert fetch(source, context) == kept
    shutil.rmtree(path)
    assert fetch(source, context) == kept
    kept.write_bytes(b"damaged")
    with pytest.raises(SourceError, match="cannot get commit"):
        fetch(source, context)


@needs_git
def test_a_submodule_that_cannot_be_had_is_told(context: FetchContext, tmp_path: Path) -> None:
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "--quiet")
    (path / ".gitmodules").write_text('[submodule "x"]\n\tpath = lib\n\turl = ../none\n')
    git(path, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},lib")
    git(path, "add", ".gitmodules")
    git(path, "commit", "--quiet", "--message", "one")
    commit = git(path, "rev-parse", "HEAD").decode().strip()
    with pytest.raises(SourceError, match=f"/none: cannot get commit {'1' * 40}"):
        fetch(Source(git=f"file://{path}", commit=commit, sha256="0" * 64), context)


@pytest.mark.parametrize(
    ("repository", "address", "resolved"),
    [
        ("https://x.test/a/b.git", "../lib", "https://x.test/a/lib"),
        ("https://x.test/a/b/", "./lib", "https://x.test/a/b/lib"),
        ("https://x.test/a/b", "../../c/lib.git", "https://x.test/c/lib.git"),
        ("git@x.test:a/b", "../lib", "git@x.test:a/lib"),
        ("git@x.test:b", "../lib", "git@x.test:lib"),
        ("/srv/b", "../lib", "/srv/lib"),
        ("https://x.test/a", "https://y.test/b", "https://y.test/b"),
    ],
)
def test_address_of_a_submodule(repository: str, address: str, resolved: str) -> None:
    assert _resolved(repository, address) == resolved


@needs_git
def test_git_without_the_commit(repository: tuple[Path, str, str], context: FetchContext) -> None:
    with pytest.raises(SourceError, match="cannot get commit") as caught:
        fetch(Source(git=f"file://{repository[0]}", commit="0" * 40, sha256="0" * 64), context)
    assert caught.value.details
    assert downloads(context) == []


def test_a_file_that_is_not_to_be_unpacked(context: FetchContext, tmp_path: Path) -> None:
    file = context.base / "a_1.tar"
    with tarfile.open(file, "w") as tar:
        tar.add(context.base, "a-1.0", recursive=False)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    laid = tmp_path / "src"
    source = Source(path="a_1.tar", sha256=sha256, unpack=False, into="deeper")
    for _ in range(2):
        lay_out(source, fetch(source, context), laid)
    found = laid / "deeper" / "a_1.tar"
    assert [path.name for path in laid.rglob("*")] == ["deeper", "a_1.tar"]
    assert hashlib.sha256(found.read_bytes()).hexdigest() == sha256
    # Its time is the same wherever and whenever it was fetched.
    assert (found.stat().st_mtime, found.stat().st_mode & 0o777) == (0, 0o644)


def test_nothing_is_laid_outside_of_the_source_directory(context: FetchContext, tmp_path: Path) -> None:
    (context.base / "f").write_text("new")
    sha256 = hashlib.sha256(b"new").hexdigest()
    laid, outside = tmp_path / "src", tmp_path / "outside"
    laid.mkdir()
    outside.mkdir()
    (outside / "f").write_text("mine")
    (laid / "f").symlink_to(outside / "f")
    (laid / "led").symlink_to(outside)
    source = Source(path="f", sha256=sha256, unpack=False)
    lay_out(source, fetch(source, context), laid)
    assert (laid / "f").read_text() == "new"
    with pytest.raises(SourceError, match="outside the source directory"):
        lay_out(source.model_copy(update={"into": "led"}), fetch(source, context), laid)
    for name in ("", "..", "a/b"):
        with pytest.raises(SourceError, match="no name that a file can have"):
            place_file(context.base / "f", laid, name)
    assert (outside / "f").read_text() == "mine"
