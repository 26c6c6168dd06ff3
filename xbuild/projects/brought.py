"""Projects that lie elsewhere: a git repository or an archive becomes a directory in the store."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from xbuild.base import log, process
from xbuild.base.digest import file_sha256, key_of
from xbuild.base.errors import PhaseError, SourceError
from xbuild.sources import unpack
from xbuild.sources.download import basename, shown
from xbuild.store.local import Store, writing_below

PLACE = "projects"
"""The directory of the store that all of a project lies in: its recipe, and its files if they were brought."""
_DIGITS = 8
_ARCHIVE = re.compile(r".+?(\.tar(\.[a-z0-9]+)?|\.t[a-z]z2?|\.zip)")
_REPOSITORY = re.compile(r"(git|ssh|https?|file)://\S+|[\w.-]+@[\w.-]+:\S+")
# As for sources: git must not stop to ask for a password.
_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_HTTP_LOW_SPEED_LIMIT": "1000", "GIT_HTTP_LOW_SPEED_TIME": "20"}


def is_repository(word: str) -> bool:
    """Whether `word` is the address of a git repository: a URL, or USER@MACHINE:PATH."""
    return _REPOSITORY.fullmatch(word) is not None


def is_archive(word: str) -> bool:
    """Whether `word` is the path of an archive."""
    return named_as_archive(word) and Path(word).is_file()


def named_as_archive(word: str) -> bool:
    """Whether `word` is called as archives are."""
    return _ARCHIVE.fullmatch(word) is not None


def brought(word: str, store: Store) -> Path:
    """A directory with what `word`, the address of a repository or the path of an archive, holds now.

    It is called as that is. Raises SourceError if it cannot be had.
    """
    return _checkout(word, store) if is_repository(word) else _unpacked(Path(word), store)


def _checkout(address: str, store: Store) -> Path:
    """The newest commit of the repository's own branch, with submodules; brought up to date if it is there."""
    name = basename(address.replace(":", "/")).removesuffix(".git") or "repository"
    with _place(f"{_plain(name)}-{key_of(address)[:_DIGITS]}", store, f"fetches {shown(address)}") as folder:
        tree = folder / _plain(name)
        try:
            with log.step(f"git fetch {shown(address)}"):
                if not (tree / ".git").is_dir():
                    store.discard(tree)
                    _git("clone", "--quiet", "--depth=1", "--", address, str(tree))
                else:
                    _git("-C", str(tree), "fetch", "--quiet", "--depth=1", "origin", "HEAD")
                    _git("-C", str(tree), "reset", "--quiet", "--hard", "FETCH_HEAD")
                _git("-C", str(tree), "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
        except PhaseError as error:
            hint = "check the address and the network"
            raise SourceError(f"{shown(address)}: cannot be fetched", details=error.details, hint=hint) from error
        return tree


def _git(*words: str) -> None:
    users = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    process.run(["git", *words], env=users | _ENVIRONMENT, capture=True)


def _unpacked(archive: Path, store: Store) -> Path:
    """The archive's only directory, or all of it."""
    name = _plain(archive.name.partition(".tar")[0].removesuffix(".zip"))
    title = f"{name}-{file_sha256(archive)[:_DIGITS]}"
    with _place(title, store, f"unpacks {shown(archive.name)}") as folder:
        tree = folder / name
        if not tree.is_dir():
            scratch = store.scratch(_lock(title))
            try:
                unpack(archive, scratch, 0, archive.name)
                inside = list(scratch.iterdir())
                top = inside[0] if len(inside) == 1 and inside[0].is_dir() else scratch
                top.rename(tree)
            finally:
                store.discard(scratch)
        return tree


@contextlib.contextmanager
def _place(name: str, store: Store, describe: str) -> Iterator[Path]:
    folder = store.directory(PLACE) / name
    with store.lock(_lock(name), describe=describe), writing_below(store.root):
        folder.mkdir(exist_ok=True)
        yield folder


def _lock(name: str) -> str:
    return f"project-{name}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9+._-]+", "-", name).strip("-.") or "project"
