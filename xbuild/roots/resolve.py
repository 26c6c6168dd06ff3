"""Which packages a root or layer will have: resolved from the signed index before anything is unpacked.

The answer is kept in the store under what was asked, so it is the same until the user asks for newer packages, and the
key of a root is known without it.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.digest import json_contents, key_of
from xbuild.base.errors import MachineError, UsageError
from xbuild.formats.debian import Tree
from xbuild.roots import index, unmet
from xbuild.roots.apt import asked
from xbuild.roots.contents import Packages
from xbuild.roots.index import LISTS, SOURCES, STATUS, Apt, Archive, Stanza, Unresolved
from xbuild.roots.repository import Repository, joined
from xbuild.store.local import Store

KIND = "resolved"
"""The store's kind of entry: `packages.json`, and for apt the index of just these packages."""

_ANSWER = "packages.json"


_FETCHING = re.compile(r"Failed to fetch|Unable to fetch|Hash Sum mismatch|File has unexpected size")
"""What apt says if the mirror has no such file any more, or another one."""


class MirrorChanged(MachineError):
    """What was resolved is no longer what the mirror gives."""


def mirror_changed(error: MachineError) -> bool:
    """Whether what could not be made may be had if packages are resolved anew."""
    return isinstance(error, MirrorChanged) or any(_FETCHING.search(line) for line in error.details)


@dataclass(frozen=True)
class Locked:
    """What a lock file fixes for one root. wanted: what was asked for, under `profiles`. packages: what came of it."""

    wanted: tuple[str, ...]
    packages: Packages
    profiles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """What is to be installed. what: for people, and in lock files. variant: mmdebstrap's; None: a layer over `base`.

    packages: names, and for a layer relations (`xbuild.model.relation.Relation`) under the build profiles `profiles`.
    needed: see `Roots.unpack`. versions: of `packages`, as `plain` of `Resolver` gives them: what the archive has in
    these versions and can be installed, the others are left out.
    """

    what: str
    architecture: str
    variant: str | None
    packages: tuple[str, ...]
    base: Question | None = None
    needed: str | None = None
    versions: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()


class Resolver:
    """Answers questions by the index of `archive`. locked: packages that a lock file fixes, by `what`.

    plain: a version without what says nothing about the sources. repositories: where the packages of layers may come
    from as well.
    """

    def __init__(
        self,
        store: Store,
        archive: Archive,
        locked: Mapping[str, Locked] | None = None,
        plain: Callable[[str], str] = str,
        repositories: tuple[Repository, ...] = (),
    ) -> None:
        self.store = store
        self.plain = plain
        self.repositories = repositories
        self.archive = archive
        self.locked = locked or {}
        self._answers: dict[Question, Packages] = {}

    def packages(self, question: Question) -> Packages:
        """All that will be installed then, what is below a layer included: `VERSION ARCHITECTURE SHA256` by name.

        Raises UsageError if it cannot be resolved, MachineError if no index can be had.
        """
        if question not in self._answers:
            base = dict(self.packages(question.base)) if question.base else {}
            locked = self._lock(question)
            known = {"packages": locked} if locked else json_contents(self.place(question) / _ANSWER)
            kept = {name: text for name, text in base.items() if name not in known.get("removed", ())}
            self._answers[question] = {**kept, **known["packages"]}
        return self._answers[question]

    def place(self, question: Question) -> Path:
        """The answer in the store: lists that have just these packages, the file of their source, and a status file."""
        value = self._value(question)

        def make(staging: Path) -> None:
            index.newest(self.store, self.archive, question.architecture)
            with log.step(f"resolve: {question.what}"):
                self._answer(staging, question)

        return self.store.ensure(KIND, value, f"the list of packages of the {question.what}", make)

    def status(self, question: Question) -> str:
        """What will be installed then, as in dpkg's status file."""
        return (self.place(question) / STATUS).read_text(errors="surrogateescape")

    def renew(self, question: Question) -> None:
        """Fetch the index anew and forget the answer, which the mirror no longer gives."""
        index.newest(self.store, self.archive, question.architecture, renew=True)
        self.store.remove(KIND, key_of(self._value(question)))
        self._answers.clear()

    def _lock(self, question: Question) -> Packages | None:
        """What the lock file has for it. Raises UsageError if that was for other packages."""
        if (locked := self.locked.get(question.what)) is None:
            return None
        then, now = {*locked.wanted, *locked.profiles}, {*question.packages, *question.profiles}
        if then != now:
            odd = ", ".join(sorted(then ^ now))
            message = f"the lock file is for other packages in the {question.what}: {odd}"
            raise UsageError(message, hint="`invoke lock RECIPE --update` makes it anew, or remove it")
        return locked.packages

    def _value(self, question: Question) -> dict[str, Any]:
        locked, repositories = self._lock(question), self._repositories(question)
        return {
            "what": question.what,
            **self.archive.value(question.architecture),
            "variant": question.variant,
            "packages": list(question.packages),
            **({"base": dict(self.packages(question.base))} if question.base else {}),
            **({"needed": question.needed} if question.needed else {}),
            **({"versions": list(question.versions)} if question.versions else {}),
            **({"profiles": list(question.profiles)} if question.profiles else {}),
            **({"repositories": [one.key(question.architecture) for one in repositories]} if repositories else {}),
            **({"locked": dict(locked)} if locked is not None else {}),
        }

    def _repositories(self, question: Question) -> tuple[Repository, ...]:
        return self.repositories if question.base else ()

    def _index(self, staging: Path, question: Question, *, renew: bool = False) -> Path:
        place = index.newest(self.store, self.archive, question.architecture, renew=renew)
        known = self._repositories(question)
        if not known:
            return place
        return joined(staging / ("renewed" if renew else "joined"), place, known, question.architecture)

    def _answer(self, staging: Path, question: Question) -> None:
        place = self._index(staging, question)
        below = self.status(question.base) if question.base else ""
        installed = {stanza.name: stanza for stanza in index.read_stanzas(below)}
        removed: list[str] = []
        if (locked := self._lock(question)) is not None:
            place, added = self._locked(staging, question, place, locked)
        else:
            scratch = staging / "apt"
            scratch.mkdir()
            apt = Apt(scratch, place, question.architecture)
            if question.versions:
                added = self._alike(apt, question, installed)
            else:
                added, removed = self._resolved(apt, question, installed)
            self.store.discard(scratch)
        for name in removed:
            installed.pop(name, None)
        whole = {**installed, **{stanza.name: stanza for stanza in added}}
        _write(staging, place, added, whole)
        for name in ("joined", "renewed"):
            self.store.discard(staging / name)
        answer = {"packages": listed(added), "removed": sorted(removed)}
        (staging / _ANSWER).write_text(json.dumps(answer, indent=1, sort_keys=True) + "\n")

    def _alike(self, apt: Apt, question: Question, installed: Mapping[str, Stanza]) -> list[Stanza]:
        """As `Question.versions` says, with what they depend on, as far as it is of the architecture."""
        wanted = dict(zip(question.packages, question.versions, strict=True))
        words = [
            f"{stanza.name}={stanza.version}"
            for stanza in index.named(apt.lists, wanted)
            if self.plain(stanza.version) == wanted[stanza.name]
        ]
        apt.install(stanza.text for stanza in installed.values())
        found = _installable(apt, sorted(set(words)))
        return [stanza for stanza in found if stanza.architecture == question.architecture]

    def _resolved(
        self, apt: Apt, question: Question, installed: Mapping[str, Stanza]
    ) -> tuple[list[Stanza], list[str]]:
        try:
            return _resolved(apt, question, self.archive, installed)
        except Unresolved as error:
            wanted = unmet.Wanted(question.what, question.packages, question.architecture, self.archive.suite)
            raise unmet.explained(error, apt, wanted) from error

    def _locked(
        self, staging: Path, question: Question, place: Path, locked: Packages
    ) -> tuple[Path, list[Stanza]]:
        """What the lock file names, and the index that has it. Raises MachineError if the mirror has it no more."""
        sums = {text.split()[-1] for text in locked.values()}
        found = index.with_sums(place / LISTS, sums)
        if len(found) < len(sums):
            place = self._index(staging, question, renew=True)
            found = index.with_sums(place / LISTS, sums)
        there = {stanza.sha256 for stanza in found}
        gone = [f"{name} {text.split()[0]}" for name, text in sorted(locked.items()) if text.split()[-1] not in there]
        if gone:
            raise MachineError(
                f"the mirror no longer has {len(gone)} of the packages that the lock file names for the "
                f"{question.what}",
                details=gone,
                hint="`invoke lock RECIPE` takes today's; --snapshot DATE, at the lock too, has those of a day",
            )
        return place, found


def listed(packages: list[Stanza]) -> dict[str, str]:
    """`VERSION ARCHITECTURE SHA256` by name."""
    return {stanza.name: f"{stanza.version} {stanza.architecture} {stanza.sha256}" for stanza in packages}


def _steps(question: Question, suite: str) -> list[tuple[str, ...]]:
    """What mmdebstrap, of this variant, has apt do, one after the other; for a layer, what we have it do."""
    release = f"?or(?archive(^{suite}$),?codename(^{suite}$))"
    here = f"?architecture({question.architecture})"
    install = asked(question.packages, question.profiles)
    if question.variant == "buildd":
        required = f"?narrow({release},{here},?and(?priority(required),?not(?essential)))"
        return [("install", f"?narrow({release},{here},?essential)"), (*install, "build-essential", required)]
    if question.variant == "apt":
        return [("dist-upgrade",), install]
    return [install]


def _resolved(
    apt: Apt, question: Question, archive: Archive, installed: Mapping[str, Stanza]
) -> tuple[list[Stanza], list[str]]:
    if question.needed is not None:
        return _downloaded(apt, question.packages[0], question.needed), []
    now, added, gone = dict(installed), dict[str, Stanza](), list[str]()
    for words in _steps(question, archive.suite):
        apt.install(stanza.text for stanza in now.values())
        found, removed = apt.would(*words)
        for stanza in found:
            now[stanza.name] = added[stanza.name] = stanza
        for name in removed:
            now.pop(name, None)
            added.pop(name, None)
        gone += removed
    return list(added.values()), [name for name in gone if name not in now]


def _installable(apt: Apt, words: list[str]) -> list[Stanza]:
    """What comes with as many of these packages as can be installed together, the first ones first."""
    kept: list[str] = []
    found: list[Stanza] = []
    # Usually it is all of them.
    for more in (words, *([word] for word in words)):
        with contextlib.suppress(Unresolved):
            if more and not set(more) <= set(kept):
                found, kept = apt.would("install", *kept, *more)[0], [*kept, *more]
    return found


def _downloaded(apt: Apt, package: str, needed: str) -> list[Stanza]:
    """The package itself, or the first that it depends on and whose name matches."""
    (found,), _ = apt.would("download", package)
    wanted = next((name for name in found.depends if re.fullmatch(needed, name)), None)
    return apt.would("download", wanted)[0] if wanted else [found]


def _write(staging: Path, place: Path, added: list[Stanza], whole: Mapping[str, Stanza]) -> None:
    """What apt needs to install `added`, and nothing else, without the whole index."""
    shutil.copyfile(place / SOURCES, staging / SOURCES)
    (staging / LISTS).mkdir()
    named = index.packages_files(place / LISTS)
    for file in (place / LISTS).iterdir():
        if file not in named:
            shutil.copyfile(file, staging / LISTS / file.name)
            continue
        own = [stanza for stanza in added if stanza.file == file.name]
        _write_stanzas(staging / LISTS / file.name, own)
    _write_stanzas(staging / STATUS, whole.values())


def _write_stanzas(file: Path, stanzas: Iterable[Stanza]) -> None:
    file.write_text("".join(f"{stanza.text}\n\n" for stanza in stanzas), errors="surrogateescape")


def require_same(wanted: Packages, made: Tree, what: str) -> None:
    """Raise MirrorChanged, with names and versions, if a made tree has other packages than those that were resolved."""
    there = {name: f"{package.version} {package.architecture}" for name, package in made.packages.items()}
    asked = {name: text.rpartition(" ")[0] for name, text in wanted.items()}
    lines = [
        f"{name}: resolved {asked.get(name, 'nothing')}, installed {there.get(name, 'nothing')}"
        for name in sorted({*there, *asked})
        if there.get(name) != asked.get(name)
    ]
    if lines:
        raise MirrorChanged(
            f"the {what} did not get the packages that were resolved for it: {lines[0]}",
            details=lines[:20],
            hint="the mirror may be changing just now: try again later, or take a --snapshot",
        )
