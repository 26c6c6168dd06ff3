"""What a build says is missing, and which package of the distribution has it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pydantic import Field

from xbuild.base import log
from xbuild.base.errors import MachineError, called
from xbuild.base.yamlfile import load_model
from xbuild.build.subject import Subject
from xbuild.model.base import Model, SchemaVersion
from xbuild.roots import files, index

_DATA = Path(__file__).with_name("missing.yml")
_PROGRAMS = "usr/bin/"
_LONGEST = 2000
"""Characters of a line that are searched."""


class Kind(Model):
    """One way in which something is said to be missing."""

    what: str = Field(description="In words")
    pattern: str = Field(description="Regular expression, whose first group is the name")
    files: tuple[str, ...] = Field(description="Patterns of files that would be it, the likeliest first")


class Kinds(Model):
    """The file `missing.yml`."""

    schema_version: SchemaVersion = Field(alias="schema")
    needs: tuple[Kind, ...]


@dataclass(frozen=True)
class Need:
    """Something that is missing. files: patterns of files that would be it."""

    what: str
    name: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Offer:
    """A package that has what is missing."""

    package: str
    need: Need

    def __str__(self) -> str:
        return f"{self.need.what} {self.need.name} is in {self.package}"


class _Name(str):
    """A name as the patterns of files may have it."""

    __slots__ = ()

    @property
    def lower(self) -> str:  # type: ignore[override]
        """In small letters."""
        return str.lower(self)


@cache
def _kinds() -> tuple[Kind, ...]:
    return load_model(_DATA, Kinds).needs


def needs(said: Iterable[str], triplet: str) -> list[Need]:
    """What the lines of a log say is missing, each once. triplet: the target's."""
    found: dict[tuple[str, str], Need] = {}
    for line in said:
        for kind in _kinds():
            match = re.search(kind.pattern, line[:_LONGEST])
            if match and match[1]:
                # A name is no pattern.
                name = re.sub(r"([*?[])", r"[\1]", match[1])
                files_of = tuple(text.format(_Name(name), triplet=triplet) for text in kind.files)
                found.setdefault((kind.what, match[1]), Need(kind.what, match[1], files_of))
    return list(found.values())


def offers(subject: Subject, said: Path) -> list[Offer]:
    """The packages that have what the log of a failed phase says is missing, beyond those that the recipe has.

    Fetches the archive's index of files if it is not there. Where it cannot be had, a word says so, and for programs
    packages of their names are offered. Of another release's index, which the user may name (`files.SETTING`), only
    packages count that the suite has too.
    """
    wanted = needs(said.read_text(errors="replace").splitlines(), subject.toolchain.triplet)
    known = _packages(subject, [pattern for need in wanted for pattern in need.files]) if wanted else {}
    found: dict[str, Offer] = {}
    for need in wanted:
        names = next((known[pattern] for pattern in need.files if known[pattern]), [])
        if names and names[0] not in subject.packages:
            found.setdefault(names[0], Offer(names[0], need))
    return list(found.values())


def _packages(subject: Subject, patterns: Sequence[str]) -> dict[str, list[str]]:
    """The packages that have files that match, by pattern."""
    archive = subject.roots.resolver.archive
    other = os.environ.get(files.SETTING) or archive.suite
    try:
        entry = files.newest(subject.store, replace(archive, suite=other), subject.toolchain.architecture)
    except MachineError as error:
        log.warn(f"which package has it is not known: {error.message}")
        # What apt was told stands first; what it comes to for others, behind it.
        for line in (*[line for line in error.details if line.startswith("E: ")][:1], f"hint: {error.hint}"):
            log.info(called(line))
        named = {pattern: [Path(pattern).name] if pattern.startswith(_PROGRAMS) else [] for pattern in patterns}
        return _of_the_suite(subject, named)
    known = files.packages_with(entry, patterns)
    if other == archive.suite:
        return known
    log.info(f"by the index of {other}, as {files.SETTING} says:")
    return _of_the_suite(subject, known)


def _of_the_suite(subject: Subject, known: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Only those packages that the suite has; none if its lists cannot be had either."""
    wanted = {name for names in known.values() for name in names}
    there = set[str]()
    with contextlib.suppress(MachineError):
        lists = index.newest(subject.store, subject.roots.resolver.archive, subject.toolchain.architecture)
        there = {stanza.name for stanza in index.named(lists / index.LISTS, wanted)}
    return {pattern: [name for name in names if name in there] for pattern, names in known.items()}
