"""What a build has taught: which twins could not go on in a recipe's build, so that the next begins without them.

A twin that asks for a library of the target in the middle of its work costs the time up to there (`Work.run_through`).
It is kept by recipe, target and version of the program's package, outside all keys: the bytes are the same. Losing it
costs time and nothing else, so nothing fails by it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.digest import damaged, json_contents
from xbuild.base.errors import LateError, MachineError, XbuildError, called
from xbuild.build.subject import Subject
from xbuild.formats.debian import Tree
from xbuild.store.local import Store

KIND = "taught"
_FILE = "about.json"


@dataclass(frozen=True)
class Taught:
    """A program that begins emulated. program: its real path in the root. package: its name and version.

    phase: in which its twin could not go on. target, suite: of the build; root: digest of an imported one.
    """

    key: str
    recipe: str
    target: str
    suite: str
    root: str | None
    program: str
    package: str
    phase: str

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {name: value for name, value in asdict(self).items() if name not in ("key", "root")}

    def line(self) -> str:
        """For people."""
        what = f"{self.program} ({self.package})" if self.package else self.program
        where = f"phase {self.phase!r} of an earlier build" if self.phase else "an earlier build"
        again = called(f"`invoke forget {self.recipe}` lets it be tried again")
        return f"{what} runs emulated: in {where} its twin could not go on; {again}"


def remember(subject: Subject, tree: Tree, error: LateError) -> None:
    """Keep for the next build what this one has met; a store that does not take it is told.

    tree: what the build has as `/`.
    """

    def make(staging: Path) -> None:
        (staging / _FILE).write_text(json.dumps({"phase": error.phase}) + "\n")

    for program in sorted(error.programs):
        value = _value(subject) | {"program": program, "package": _package(tree, program)}
        try:
            subject.store.ensure(KIND, value, f"what is known of {subject.recipe.name}", make)
        except (XbuildError, OSError) as fault:
            log.warn(f"cannot remember that {program} must run emulated ({fault}): the next build loses the time again")


def heeded(subject: Subject, tree: Tree) -> frozenset[str]:
    """The programs of the root `tree` that begin emulated; those whose package has another version by now do not."""
    known = of(subject)
    # Asked for once more: so it counts as used.
    return frozenset(
        one.program
        for one in known
        if one.package == _package(tree, one.program) and subject.store.get(KIND, one.key) is not None
    )


def of(subject: Subject) -> list[Taught]:
    """What is kept for a subject, by program."""
    recipe, target, root = subject.recipe.name, subject.toolchain, _root(subject)
    suite = target.distribution.suite
    return [one for one in all_of(subject.store, recipe, target.name) if (one.suite, one.root) == (suite, root)]


def all_of(store: Store, recipe: str, target: str | None = None) -> list[Taught]:
    """What is kept for a recipe, by target and program. target: only of this one.

    What cannot be read is removed, with a word.
    """
    _remove_damaged(store)
    found = []
    for path, key, value in store.finished(KIND):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            one = _read(path, key, value)
            if one.recipe == recipe and target in (None, one.target):
                found.append(one)
    return sorted(found, key=lambda one: (one.target, one.suite, one.program, one.package))


def forget(store: Store, recipe: str, target: str | None = None) -> list[Taught]:
    """Forget what is kept for a recipe, so that its twins are tried again; gives what that was."""
    gone = all_of(store, recipe, target)
    for one in gone:
        store.remove(KIND, one.key)
    return gone


def _value(subject: Subject) -> dict[str, Any]:
    target = {"name": subject.toolchain.name, "distribution": {"suite": subject.toolchain.distribution.suite}}
    return {"what": KIND, "recipe": {"name": subject.recipe.name}, "target": target, "root": _root(subject)}


def _root(subject: Subject) -> str | None:
    return subject.imported.sha256 if subject.imported else None


def _read(path: Path, key: str, value: Any) -> Taught:
    target, about = value["target"], json_contents(path / _FILE)
    names: Iterable[Any] = (
        value["recipe"]["name"], target["name"], target["distribution"]["suite"], value["root"], value["program"],
        value["package"], about["phase"],
    )  # fmt: skip
    return Taught(key, *names)


def _package(tree: Tree, program: str) -> str:
    owner = tree.packages.get(tree.owners.get(program, ""))
    return f"{owner.name} {owner.version}" if owner else ""


def _remove_damaged(store: Store) -> None:
    folder = store.entry(KIND, "")
    there = sorted(folder.iterdir()) if folder.is_dir() else ()
    whole = {path for path, _, _ in store.finished(KIND) if damaged(path) is None}
    for path in there:
        if path not in whole and path.exists():
            log.warn(f"{path} is damaged and was ignored: the next build may lose time again")
            with contextlib.suppress(MachineError, OSError):
                store.clear_one(KIND, path.name)
