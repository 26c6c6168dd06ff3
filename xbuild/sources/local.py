"""Sources that lie on this machine: a file, or a directory as it is now. What belongs to a work tree, git says."""

from __future__ import annotations

import configparser
import contextlib
import glob
import os
import re
import shutil
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from xbuild.base import log, paths, process
from xbuild.base.digest import file_sha256, json_contents
from xbuild.base.errors import ProjectSourceError, SourceError
from xbuild.base.walk import shown
from xbuild.sources.git import REPOSITORY
from xbuild.sources.leftovers import leftovers
from xbuild.sources.seen import Seen
from xbuild.sources.trees import (
    File,
    Record,
    content_of,
    digest_of,
    files_below,
    in_order,
    tree_records,
)
from xbuild.store.local import Store

# Whose the work tree is does not matter for what is only listed; and nothing that its owner set is to be started.
_LISTING = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false")


_PUBLISHED = (
    "dist/*.tar.zst", "dist/*.manifest.json", "dist/compare-*.html", "dist/bench-*", "dist/.*.new", "dist/.*.new/*",
    "dist/.*.dir", "dist/*.whl", "dist/reproduce/*",
)  # fmt: skip
_MANIFEST = ".manifest.json"
_BESIDE = ("{}/*", "{}-debug/*", "{}.tar.gz", "{}-debug.tar.gz", "{}.spdx.json", "{}.intoto.json")
"""What can lie beside a manifest and may be somebody else's elsewhere, by the name before `_MANIFEST`."""

_READABLE = "make it readable; what .gitignore names in a git work tree is no source"

_PACKAGES = re.compile(r"dist/([^/]+)/\1\.build")
"""The log of a build of Debian packages, which lies beside them in a directory of its own."""

WHOLE = ".whole"
"""The file beside a directory that came from another machine: it was sorted out there. It has git's word, as JSON."""


@dataclass(frozen=True)
class Local:
    """What a path is now. digest: sha256 of the file, or as `digest_of` of the directory, whose records are there.

    left: what lies there and does not count, for builds on this machine have left it; directories end with a slash.
    """

    origin: Path
    digest: str
    records: Mapping[bytes, Record] = field(default_factory=dict, repr=False)
    left: tuple[str, ...] = ()


def look(origin: Path, hint: str | None = None, store: Store | None = None) -> Local:
    """What `origin` is now. Raises ProjectSourceError, with the hint, if it is not there or cannot be read.

    store: what was read before, and has not changed, is known there.
    """
    if not origin.exists():
        raise ProjectSourceError(f"{origin}: not found", hint=hint)
    if origin.is_file():
        return Local(origin, file_sha256(origin))
    if not origin.is_dir():
        raise ProjectSourceError(f"{origin}: neither a file nor a directory", hint=hint)
    files, left = _sorted_out(origin)
    seen = Seen(store, origin) if store else None
    try:
        records = {record.name: record for record in tree_records(files, seen.sha256 if seen else content_of)}
    except SourceError as error:
        raise ProjectSourceError(error.message, hint=error.hint) from error
    if seen:
        seen.keep()
    return Local(origin, digest_of(records.values()), records, left)


def tree_digest(path: Path) -> str:
    """The digest of the directory `path`, as a recipe may name it."""
    return look(path).digest


def listed(top: Path) -> list[File]:
    """The files and links that belong to the directory `top`, sorted by the bytes of their names.

    In a git work tree what git has or would add: nothing that it is told to ignore, and of submodules the same. Else
    all but what version control keeps. A directory that git ignores itself was named on purpose: all of it counts. Of
    what git does not have, neither counts what xbuild itself has put into `dist/`, nor what builds on this machine have
    left (`leftovers` of presets). The store, where it lies in there, is never a part of it.
    """
    return _sorted_out(top)[0]


def _sorted_out(top: Path) -> tuple[list[File], tuple[str, ...]]:
    """What belongs to `top`, and what is left out, see `Local.left`."""
    if is_whole(top):
        return files_below(top, ()), ()
    known: list[File] = []
    others: list[File] = []
    _list(top, "", known, others)
    left = leftovers(file.name for file in others)
    published = _published([file.name for file in others]) | _own_wheels(top, [file.name for file in others])
    counting = [file for file in others if file.name not in left and file.name not in published]
    return in_order([*known, *counting]), tuple(sorted(set(left.values())))


def is_whole(top: Path) -> bool:
    """Whether all below `top` counts, and git is not asked: its files were chosen where they came from."""
    return os.path.isfile(top.parent / WHOLE)  # noqa: PTH113


def _published(names: Sequence[str]) -> set[str]:
    """Files that builds of ours put into the project: each would change the sources of the next one."""
    inside = [name for name in names if name.startswith("dist/")]
    titles = [glob.escape(name.removesuffix(_MANIFEST)) for name in inside if name.endswith(_MANIFEST)]
    patterns = [*_PUBLISHED, *(pattern.format(title) for title in titles for pattern in _BESIDE)]
    patterns += [f"dist/{glob.escape(found[1])}/*" for name in inside if (found := _PACKAGES.fullmatch(name))]
    return {name for name in inside if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _own_wheels(top: Path, names: Sequence[str]) -> set[str]:
    """Wheels of the project itself, wherever they lie (`xbuild wheel --output`): a build made them."""
    wheels = [name for name in names if name.endswith(".whl")]
    own = _own_name(top) if wheels else ""
    # What is no wheel's name has no part that is the project's.
    return {name for name in wheels if own and _normalised(name.rpartition("/")[2].partition("-")[0]) == own}


def _own_name(top: Path) -> str:
    """What pyproject.toml or setup.cfg calls the project; "" if neither does."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return _normalised(str(tomllib.loads((top / "pyproject.toml").read_text())["project"]["name"]))
    settings = configparser.RawConfigParser()
    with contextlib.suppress(OSError, ValueError, configparser.Error):
        settings.read_string((top / "setup.cfg").read_text())
    return _normalised(settings.get("metadata", "name", fallback="").strip())


def _normalised(name: str) -> str:
    """A project's name as in all spellings (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _list(top: Path, below: str, known: list[File], others: list[File]) -> None:
    """Add what git has of `top` to `known`, and what it would add, or all where it has no say, to `others`."""
    if not _is_work_tree(top):
        others += [File(f"{below}{file.name}", file.place) for file in _all(top)]
        return
    for found, kind in ((known, "--cached"), (others, "--others")):
        said = _git(top, "ls-files", "-z", kind, "--exclude-standard", "--", *_pathspec(top)) or b""
        for name in map(os.fsdecode, filter(None, dict.fromkeys(said.split(b"\0")))):
            place = os.path.join(top, name)  # noqa: PTH118
            try:
                mode = os.lstat(place).st_mode
            except OSError:
                continue
            if not stat.S_ISDIR(mode):
                found.append(File(f"{below}{name}", place))
            # A submodule, which is empty until it is fetched, or a repository that lies in another one.
            elif os.path.lexists(os.path.join(place, ".git")):  # noqa: PTH118
                _list(Path(place), f"{below}{name.rstrip('/')}/", known, others)


def _store_in(top: Path) -> str | None:
    """Where in `top` the store lies, relative to it; None if it lies elsewhere."""
    top, store = top.resolve(), paths.cache()
    return str(store.relative_to(top)) if top in store.parents else None


def _pathspec(top: Path) -> list[str]:
    """All of `top` but the store, as git has it (gitglossary(7))."""
    store = _store_in(top)
    return [".", *([f":(exclude,literal){store}"] if store else [])]


def _all(top: Path) -> list[File]:
    """As `files_below`, but nothing of the store: much of it even its owner may not read."""
    try:
        return files_below(top, but=_store_in(top))
    except SourceError as error:
        raise ProjectSourceError(error.message, hint=_READABLE) from error


def _is_work_tree(top: Path) -> bool:
    """Whether git has a say in what belongs to `top`."""
    top = top.absolute()
    if not any(os.path.lexists(place / ".git") for place in (top, *top.parents)):
        return False
    inside = _git(top, "rev-parse", "--is-inside-work-tree")
    if inside is None or inside.strip() != b"true":
        log.warn(f"{shown(str(top))}: git does not tell which files it ignores, so all are taken")
        return False
    # It ends with 0 for what is ignored.
    return _git(top, "check-ignore", "--quiet", ".") is None


def state_in_git(origin: Path) -> dict[str, Any] | None:
    """The commit that `origin` is of, and whether it differs from that; None where git does not say."""
    if is_whole(origin):
        state = json_contents(origin.parent / WHOLE)
        return state if isinstance(state, dict) else None
    top = (origin if origin.is_dir() else origin.parent).absolute()
    if not any(os.path.lexists(place / ".git") for place in (top, *top.parents)):
        return None
    commit = _git(top, "rev-parse", "--verify", "HEAD", words=())
    # It may start what the repository's owner has set, so git is to ask whose it is.
    changed = _git(top, "status", "--porcelain", "--", *_pathspec(top), words=())
    if commit is None or changed is None:
        return None
    return {"commit": commit.decode().strip(), "dirty": bool(changed.strip())}


def _git(top: Path, *question: str, words: tuple[str, ...] = _LISTING) -> bytes | None:
    """What git says; None if it says no."""
    if shutil.which("git") is None:
        return None
    env = {name: value for name, value in os.environ.items() if name not in REPOSITORY} | {"GIT_OPTIONAL_LOCKS": "0"}
    done = process.run(["git", "-C", top, *words, *question], env=env, capture=True, check=False)
    return done.stdout if done.returncode == 0 else None
