"""Source packages that are directories: one's own, as it is now, or a checkout of a git repository."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from xbuild.base import log
from xbuild.base.digest import key_of
from xbuild.base.errors import UsageError
from xbuild.base.walk import open_file
from xbuild.formats.deb822 import Fields, paragraphs
from xbuild.packages.source import SourceFile, SourcePackage
from xbuild.sources.download import shown
from xbuild.sources.git import Checkout, named_commit
from xbuild.store.local import Store, writing_below

_TOP = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]+) \((?P<version>[^()\s]+)\) [^;]*;")
"""The first line of an entry (deb-changelog(5))."""
_GIT = re.compile(r"(?:(?:https?|git|ssh|file)://.+|.+@[^/:]+:.+|.+\.git)(?:#.*)?", re.DOTALL)
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_WAY = re.compile(r"<([^>]*)>")
_COMMIT = re.compile(r"[0-9a-f]{40}")
CHECKOUTS = "debs"
"""The directory of the store that repositories are cloned below."""


def of_directory(word: str) -> SourcePackage | None:
    """The package whose source is the directory `word`, as it is now. Raises UsageError if it is the source of none.

    A word that could be a package of the archive is none of a directory: `./less` is.
    """
    top = Path(word)
    return None if _NAME.fullmatch(word) or not top.is_dir() else _package(word, top.resolve(), "as it is now")


def of_git(word: str, store: Store) -> SourcePackage | None:
    """The package of a git repository: URL, of its own branch, or URL#BRANCH, URL#TAG, URL#COMMIT.

    Raises SourceError if it cannot be had, and as `of_directory`.
    """
    if not _GIT.fullmatch(word):
        return None
    address, _, name = word.partition("#")
    top, commit = _checkout(address, name or "HEAD", store)
    return _package(word, top, f"commit {commit[:12]}")


def _package(word: str, top: Path, checked: str) -> SourcePackage:
    """Raises UsageError if `top` is the source of no package."""
    texts = {name: _text(top / "debian" / name, word) for name in ("changelog", "control", "rules")}
    found = _TOP.match(texts["changelog"].lstrip())
    if found is None:
        hint = "its first line is: NAME (VERSION) DISTRIBUTION; urgency=medium"
        raise UsageError(f"{word}: debian/changelog does not begin with an entry", hint=hint)
    try:
        source, *binaries = paragraphs(texts["control"])
    except ValueError as error:
        raise UsageError(f"{word}: debian/control: {error}") from error
    fields = {**source, "Source": found["name"], "Version": found["version"], "Package-List": _listed(binaries)}
    tree = SourceFile(top.name, 0, "", {"path": str(top)})
    return SourcePackage(word, fields, (tree,), checked, texts["control"], texts["changelog"])


def _text(file: Path, word: str) -> str:
    try:
        with open_file(file, follow=True) as stream:
            return stream.read().decode(errors="replace")
    except FileNotFoundError:
        hint = "a source package has debian/changelog, debian/control and debian/rules (Debian Policy, 4)"
        raise UsageError(f"{word}: no source package: it has no debian/{file.name}", hint=hint) from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error


def _listed(binaries: list[Fields]) -> str:
    """As the Package-List of a .dsc has them (deb-src-control(5))."""
    lines = []
    for fields in binaries:
        if "Package" not in fields:
            continue
        kind = fields.get("Package-Type") or fields.get("XC-Package-Type", "deb")
        words = ",".join(fields.get("Architecture", "any").split())
        profiles = "+".join(",".join(part.split()) for part in _WAY.findall(fields.get("Build-Profiles", "")))
        more = [f"profile={profiles}"] if profiles else []
        lines.append(" ".join(["", fields["Package"], kind, "misc", "optional", f"arch={words}", *more]))
    return "\n" + "\n".join(lines)


def _checkout(address: str, name: str, store: Store) -> tuple[Path, str]:
    """The files, in the store, of what `name` is in the repository now; and the commit."""
    commit = name if _COMMIT.fullmatch(name) else named_commit(address, name)
    key = key_of({"git": address})[:16]
    top = store.directory(CHECKOUTS) / f"git-{key}" / (re.sub(r"[^A-Za-z0-9+-]", "-", Path(address).stem) or "tree")
    known = top.with_name("commit")
    with store.lock(f"checkout-{key}", describe=f"fetches {shown(address)}"), writing_below(store.root):
        if known.exists() and known.read_text() == commit and top.is_dir():
            return top, commit
        fresh = top.with_name("fresh")
        store.discard(fresh)
        fresh.parent.mkdir(exist_ok=True)
        with log.step(f"git fetch {shown(address)}"):
            Checkout(address, commit, fresh).make()
        # Only files count: the source is what is there now.
        shutil.rmtree(fresh / ".git")
        known.unlink(missing_ok=True)
        store.discard(top)
        fresh.rename(top)
        known.write_text(commit)
    return top, commit
