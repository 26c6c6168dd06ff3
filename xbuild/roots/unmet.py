"""Why apt finds no way to install what was asked for: which part of it, what the archive has instead, nearest names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xbuild.base.errors import UsageError, XbuildError
from xbuild.roots import index
from xbuild.roots.index import Apt, Unresolved

_MISSING = re.compile(r"^E: (?:Unable to locate package (\S+)|Package '(\S+)' has no installation candidate)")
_HEAD = re.compile(r"^ (\S+) : ")
_PART = re.compile(
    r"(?:^ +|(?:Depends|Conflicts|Breaks): )([a-z0-9][a-z0-9+.-]*)(?::\S+)?(?: \((.*?)\))?(?= but | or$|$)"
)
_CLOSE = 0.75
"""How near a name must be to be offered, see difflib."""
_OF_ASKED = "satisfy:command-line"
"""What apt calls the package that it makes of what `apt-get satisfy` is asked for."""
_DEEP = 4
"""How many packages are asked why they cannot be installed: what is at the bottom of it is seldom deeper."""
_LINES = 40


class UnmetError(UsageError):
    """What is to be installed cannot be had: a relation that is not met, or a name that is none."""


@dataclass(frozen=True)
class Wanted:
    """What could not be resolved, in a question's words."""

    what: str
    packages: tuple[str, ...]
    architecture: str
    suite: str


def explained(error: Unresolved, apt: Apt, wanted: Wanted) -> XbuildError:
    """What to tell instead of `error`: of each relation that is not met, what is asked for and what there is."""
    guilty = _guilty(error.details)
    relations = [
        relation for relation in wanted.packages if guilty & {*_parts(relation), *((n, "") for n in _names(relation))}
    ]
    if not guilty and not _unmet(error.details):
        return error
    there, known = _there(apt.lists, {name for relation in relations for name in _names(relation)})
    lines = [line for relation in relations for line in _told(relation, there, known, wanted)]
    lines += _because(error.details, apt, wanted, sorted({name for name, _ in guilty} & there.keys()))
    missing = [relation for relation in relations if not there.keys() & set(_names(relation))]
    message = f"the {wanted.what} cannot be had for {wanted.architecture} from {wanted.suite}"
    if relations:
        message += f": {', '.join(relations)}"
    hint = "the index of packages may be old: `invoke clean --roots` asks for today's; other releases: --suite"
    if missing:
        hint = f"is the name wrong? {hint}"
    return UnmetError(message, details=lines[:_LINES], hint=hint)


def _parts(relation: str) -> set[tuple[str, str]]:
    """Its alternatives, each a name and `>= VERSION`, or nothing."""
    parts = relation.removeprefix("Conflicts:").split("|")
    found = [re.match(r" *([a-z0-9+.-]+)[^(|]*(?:\( *([<=>]+) *([^ )]+))?", part) for part in parts]
    return {(match[1], f"{match[2]} {match[3]}" if match[2] else "") for match in found if match}


def _names(relation: str) -> list[str]:
    return sorted({name for name, _ in _parts(relation)})


def _unmet(said: Iterable[str]) -> list[str]:
    """The lines in which apt names what is not met."""
    lines = list(said)
    starts = [number for number, line in enumerate(lines) if line.endswith("have unmet dependencies:")]
    if not starts:
        return []
    return [line for line in lines[starts[-1] + 1 :] if line.startswith(" ")]


def _blocks(said: Iterable[str]) -> list[tuple[str, list[str]]]:
    """The same by package, each with its lines."""
    blocks: list[tuple[str, list[str]]] = []
    for line in _unmet(said):
        if head := _HEAD.match(line):
            blocks.append((head[1].removesuffix(":any"), []))
        if blocks:
            blocks[-1][1].append(line)
    return blocks


def _guilty(said: Sequence[str]) -> set[tuple[str, str]]:
    """What was asked for and is not met, as `_parts` has it."""
    found = {(match[1] or match[2], "") for match in filter(None, map(_MISSING.match, said))}
    for name, lines in _blocks(said):
        if name == _OF_ASKED:
            found |= {(part[1], part[2] or "") for line in lines for part in _PART.finditer(line)}
        else:
            found.add((name.partition(":")[0], ""))
    return found


def _there(lists: Path, names: set[str]) -> tuple[dict[str, list[str]], set[str]]:
    """What the archive has under these names, each with its version or who provides it; and all names that it has."""
    there: dict[str, list[str]] = {}
    known: set[str] = set()
    for file in index.packages_files(lists):
        for text in file.read_text(errors="surrogateescape").split("\n\n"):
            provided = re.search(r"^Provides: *(.*)$", text, re.MULTILINE)
            parts = [part.strip() for part in provided[1].split(",")] if provided else []
            mine = text[: text.find("\n")].removeprefix("Package: ")
            virtual = {part.split()[0].partition(":")[0]: part for part in parts if part}
            known |= {mine, *virtual}
            if mine in names:
                there.setdefault(mine, []).append(index.Stanza.read(text).version)
            for name in names & virtual.keys():
                there.setdefault(name, []).append(f"{virtual[name]} by {mine}")
    return there, known - {""}


def _told(relation: str, there: Mapping[str, list[str]], known: set[str], wanted: Wanted) -> list[str]:
    """A line for each name of the relation: what is wanted, what there is."""
    lines = []
    for name in _names(relation):
        if name in there:
            what = f"{wanted.suite} has {', '.join(there[name][:5])}"
        else:
            close = difflib.get_close_matches(name, known, n=3, cutoff=_CLOSE)
            what = f"{wanted.suite} has no such package for {wanted.architecture}"
            what += f"; did you mean {' or '.join(close)}?" if close else ""
        lines.append(f"{relation}: {what}" if name == relation else f"{relation}: {name}: {what}")
    return lines


def _because(said: Iterable[str], apt: Apt, wanted: Wanted, names: list[str]) -> list[str]:
    """What apt says about it, and about what it names there, until it is at something that is not to be had."""
    lines = [line for name, block in _blocks(said) if name != _OF_ASKED for line in block]
    # Of one alone, then of all by name: of what `satisfy` is asked for it does not tell what conflicts with what.
    waiting: list[tuple[str, ...]] = [(name,) for name in names]
    all_names = [_names(relation)[0] for relation in wanted.packages if not relation.startswith("Conflicts")]
    asked = set[tuple[str, ...]]()
    while waiting and len(asked) < _DEEP:
        words = waiting.pop(0)
        asked.add(words)
        try:
            apt.would("install", *words)
        except Unresolved as error:
            more = _unmet(error.details)
            lines += [line for line in more if line not in lines]
            named = {part[1] for line in more if "not going" in line for part in _PART.finditer(line)}
            waiting += sorted({(name,) for name in named} - asked)
        if not waiting and not lines:
            waiting = [words for words in [tuple(all_names)] if words not in asked]
    return lines
