"""Which source packages need which other ones first: by their build dependencies, and what these packages depend on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from xbuild.base.errors import UsageError
from xbuild.formats.deb822 import Fields, paragraphs
from xbuild.packages.recipe import Options, relations
from xbuild.packages.source import Binary, SourcePackage, matches

_ONE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]+)(?::[a-z0-9-]+)?\s*(?:\([^)]*\))?\s*(?:\[(?P<on>[^]]*)\])?\s*(?P<under>(?:<[^>]*>\s*)*)"
)
_WAY = re.compile(r"<([^>]*)>")
_RUN = ("Pre-Depends", "Depends")


@dataclass(frozen=True)
class Source:
    """A source package of a list. own: the user's, so that others take its packages; else it only takes."""

    package: SourcePackage
    options: Options
    own: bool


@dataclass
class _Made:
    """What own sources make for one architecture. by: the number of the source, by the name of a package, also of one
    that is only provided. needs: what a package depends on, by its name.
    """

    by: dict[str, int] = field(default_factory=dict)
    needs: dict[str, list[str]] = field(default_factory=dict)


def needs_of(sources: Sequence[Source], architecture: str) -> list[dict[int, str]]:
    """For each of `sources` the numbers of those that are built before it, and whose packages it may take: what it
    needs itself, and what these need, in an order in which all can be built. With each number the build dependency by
    which it needs that one itself, or nothing.

    What a source makes and needs itself it takes from the distribution, as when it was built first. Raises UsageError
    for sources that need each other, and for two that make the same package.
    """
    made = _made(sources, architecture)
    direct = [_direct(number, source, made, architecture) for number, source in enumerate(sources)]
    try:
        order = list(TopologicalSorter({number: list(found) for number, found in enumerate(direct)}).static_order())
    except CycleError as error:
        # It has what is needed before what needs it.
        raise _circle(list(reversed(error.args[1])), sources, direct) from None
    found: dict[int, set[int]] = {}
    for number in order:
        found[number] = {one for need in direct[number] for one in (need, *found[need])}
    return [
        {one: own.get(one, "") for one in order if one in found[number]} for number, own in enumerate(direct)
    ]


def _made(sources: Sequence[Source], architecture: str) -> _Made:
    made = _Made()
    for number, source in enumerate(sources):
        if not source.own:
            continue
        control = {part["Package"]: part for part in _paragraphs(source.package) if "Package" in part}
        for binary in source.package.binaries:
            if not _is_built(binary, source.options, architecture):
                continue
            other = made.by.setdefault(binary.name, number)
            if other != number and binary.name in made.needs:
                names = " and ".join(sources[one].package.origin for one in (other, number))
                raise UsageError(f"{names} both make the package {binary.name}", hint="build one after the other")
            made.by[binary.name] = number
            fields = control.get(binary.name, {})
            made.needs[binary.name] = [name for relation in _RUN for name in _names(fields.get(relation, ""))]
            for name in _names(fields.get("Provides", "")):
                made.by.setdefault(name, number)
    return made


def _is_built(binary: Binary, options: Options, architecture: str) -> bool:
    wanted = {"any": [architecture], "all": ["all"], "both": [architecture, "all"]}[options.build]
    return binary.kind == "deb" and any(map(binary.is_for, wanted)) and binary.is_under(options.profiles)


def _paragraphs(package: SourcePackage) -> list[Fields]:
    try:
        return list(paragraphs(package.control))
    except ValueError:
        # That is for dpkg to say.
        return []


def _names(field: str) -> list[str]:
    """Of all packages that a field names, whatever of it holds."""
    return [found["name"] for part in re.split("[,|]", field) if (found := _ONE.match(part.strip()))]


def _direct(number: int, source: Source, made: _Made, architecture: str) -> Mapping[int, str]:
    """The sources that it needs itself; for each the build dependency by which it does."""
    found: dict[int, str] = {}
    for relation in relations(source.package.fields, source.options):
        if relation.startswith("Conflicts:"):
            continue
        there = (name for name in _holding(relation, architecture, source.options) if name in made.by)
        if (first := next(there, None)) is None:
            continue
        seen, waiting = set[str](), [first]
        while waiting:
            if (name := waiting.pop()) in made.by and name not in seen:
                seen.add(name)
                waiting += made.needs.get(name, [])
                if made.by[name] != number:
                    found.setdefault(made.by[name], first if name == first else f"{first}, and so {name}")
    return found


def _holding(relation: str, architecture: str, options: Options) -> Iterator[str]:
    """The names of the alternatives that hold on this architecture and under these profiles (deb-src-control(5))."""
    for text in relation.split("|"):
        found = _ONE.match(text.strip())
        if found and _holds_on(found["on"], architecture) and _holds_under(found["under"], options.profiles):
            yield found["name"]


def _holds_on(words: str | None, architecture: str) -> bool:
    if not words or not words.split():
        return True
    refused = [word[1:] for word in words.split() if word.startswith("!")]
    if refused:
        return not any(matches(architecture, word) for word in refused)
    return any(matches(architecture, word) for word in words.split())


def _holds_under(text: str, profiles: Sequence[str]) -> bool:
    ways = [way.split() for way in _WAY.findall(text)]

    def holds(word: str) -> bool:
        return word[1:] not in profiles if word.startswith("!") else word in profiles

    return not ways or any(all(map(holds, way)) for way in ways)


def _circle(
    numbers: Sequence[int], sources: Sequence[Source], direct: Sequence[Mapping[int, str]]
) -> UsageError:
    names = [sources[number].package.name for number in numbers]
    lines = [
        f"{sources[one].package.name} needs {direct[one][other]}, which {sources[other].package.name} makes"
        for one, other in pairwise(numbers)
    ]
    hint = "--profiles may remove a need; or build one against the distribution's first, and name it by --repo"
    return UsageError(f"source packages need each other: {' -> '.join(names)}", details=lines, hint=hint)
