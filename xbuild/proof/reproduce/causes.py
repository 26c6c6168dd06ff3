"""Why a .deb is not the archive's: causes that can be shown, member by member. Pure: contents come through functions.

The archive's is always the first of the two, ours the second.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Final

import yaml

from xbuild.formats.deb822 import paragraph, without_epoch
from xbuild.formats.elf import ARCHIVE_MAGIC, ELF_MAGIC
from xbuild.proof.compare.contents import is_text, readable
from xbuild.proof.compare.debs import CONTROL, SUMS
from xbuild.proof.compare.verdict import Found, printable
from xbuild.proof.reproduce.documents import left_out
from xbuild.proof.reproduce.layout import differences, layout, only_debug_symbols, same_contents
from xbuild.proof.reproduce.symbols import libraries_of
from xbuild.proof.reproduce.verdict import Cause, Explained

Reader = Callable[[str], bytes]
"""Gives the contents of a member, named as `compare_open_debs` does. Raises KeyError for what is no file."""

Dated = tuple[str, int]
"""A version of a package, and when it was made, in seconds since 1970."""

_ATTRIBUTES: Final = frozenset({"kind", "mode", "owner", "target"})
_FOLLOWS: Final = frozenset({"Installed-Size", "Build-Ids"})
"""Fields of a control file that say again what other members hold."""
_BUILT_IN: Final = frozenset({"Built-Using", "Static-Built-Using"})
_DEPENDS: Final = frozenset({"Depends", "Pre-Depends", "Recommends", "Suggests"})
_GRACE: Final = 3 * 86400
"""Seconds: so long after its upload build machines may still have to do with a source."""
_LINES: Final = 6
_LINKED, _COMPILED, _DOCUMENTS = "linked", "compiled", "documents"
_MOST_LINES: Final = 20_000

_ADDED: Final = re.compile(r"\b(dh_[a-z0-9_]+)/([0-9][\w.~+:-]*)")
_BLOCK: Final = re.compile(r"^# Automatically added by .*\n(?:.*\n)*?# End automatically added section\n", re.MULTILINE)
_BUILT_AT: Final = re.compile(rb"/build/[\w.+~-]+(?:/[\w.+~-]+)?")
_VERSION: Final = re.compile(r"\b[vV]?\d+(?:\.\d+)+[\w~+-]*(?:\.[\w~+-]+)*")
_MAKER: Final = re.compile(
    r"(?i)generat|produc|creat|made|written|convert|format|automatic|compil|version|\bby\b|\busing\b|\bwith\b|stylesheets"
)
_DATE: Final = re.compile(
    r"\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/. ](?:[A-Z][a-z]{2,8})[-/., ]+\d{2,4}|[A-Z][a-z]{2,8} \d\d?,? \d{4}"
    r"|\d\d:\d\d(?::\d\d)?|\b(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?\b"
    r"|\b[12]\d{9}\b|[A-Z][a-z]{2,8} \d{4}"
)
_RELATION: Final = re.compile(r" \([<>=]+ [^)]*\)")
_COMPILER: Final = re.compile(rb"GCC: \([^)\0]*\) [\d.]+|(?:Debian )?clang version [^\0\n]+|rustc version [^\0\n]+")


@dataclass(frozen=True)
class Known:
    """What is known of two builds besides the packages that they gave.

    since: when the archive's source was uploaded, or rebuilt; seconds since 1970. tools: the packages that ours was
    built with, each with its versions so far, the newest first. ours, theirs: versions of packages by .buildinfo files;
    theirs is empty without one. control: the files that differ in what the native build gave of the same source; None
    if that was not held against the archive's. native: nothing stands in for any tool of ours.
    """

    since: int = 0
    tools: Mapping[str, Sequence[Dated]] = field(default_factory=dict)
    ours: Mapping[str, str] = field(default_factory=dict)
    theirs: Mapping[str, str] = field(default_factory=dict)
    control: frozenset[str] | None = None
    native: bool = False


@dataclass(frozen=True)
class Pair:
    """A member of both."""

    path: str
    found: Found
    theirs: bytes
    ours: bytes
    known: Known
    plain: str
    """The path without what differs by architecture, as in `Known.control`."""
    libraries: Callable[[], Mapping[str, str]]
    """Versions of libraries that only ours was linked with, each with the symbol that tells it."""


Piece = tuple[str, str, tuple[str, ...]]
"""Kind, text and evidence of a cause for one member."""


def explain(
    found: Found, theirs: Reader, ours: Reader, known: Known, plain: Callable[[str], str] = str
) -> Explained:
    """The causes for all that differs, and what has none. plain: a path without the name of the architecture."""
    causes: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    left: list[str] = []
    follows: list[str] = []
    libraries = cache(lambda: libraries_of((path for path, _ in found.members), theirs, ours))
    for path, item in found.members:
        if _follows(path, item):
            follows.append(path)
            continue
        pieces = list(_pieces(path, item, theirs, ours, known, plain(path), libraries))
        for kind, text, evidence in pieces:
            lines, members = causes.setdefault((kind, text), ([], []))
            lines += [f"{printable(path)}: {line}" for line in evidence]
            members.append(path)
        if not pieces:
            left.append(path)
    if not causes and not found.members:
        left.append("the packing")
    if follows and not causes and not left:
        # They follow from nothing.
        left = follows
    told = [
        Cause(kind, text, tuple(dict.fromkeys(lines))[:_LINES], tuple(members))
        for (kind, text), (lines, members) in causes.items()
    ]
    return Explained(tuple(told), tuple(left))


def _follows(path: str, item: Found) -> bool:
    if path == CONTROL + SUMS:
        return item.sections == ("sums",) or set(item.sections) <= {"contents", "sums"}
    return path == f"{CONTROL}control" and set(item.sections) <= _FOLLOWS


def _pieces(
    path: str,
    item: Found,
    theirs: Reader,
    ours: Reader,
    known: Known,
    plain: str,
    libraries: Callable[[], Mapping[str, str]],
) -> Iterator[Piece]:
    sections = set(item.sections)
    if sections == {"time"}:
        yield "time", "other times of files", (item.detail,)
        return
    if (said := left_out(path, theirs, ours)) and (tools := list(newer(known, _DOCUMENTS))):
        yield "debhelper", f"another debhelper: {'; '.join(tools)}", (said,)
        return
    try:
        pair = Pair(path, item, theirs(path), ours(path), known, plain, libraries)
    except KeyError:
        pair = None
    found: list[Piece] = []
    if pair and path == f"{CONTROL}control":
        found = _control(pair)
    elif pair and not sections & _ATTRIBUTES:
        texts = readable(pair.theirs), readable(pair.ours)
        if all(map(is_text, texts)):
            found = _text(texts[0].decode(), texts[1].decode(), known)
        found = found or list(_packed(pair)) or list(_binary(pair))
    yield from found or list(_by_buildinfo(known, pair))


def _control(pair: Pair) -> list[Piece]:
    """Causes for all fields that differ; [] if one has none."""
    theirs, ours = (paragraph(text.decode(errors="surrogateescape")) for text in (pair.theirs, pair.ours))
    pieces: list[Piece] = []
    for name in pair.found.sections:
        if name in _FOLLOWS:
            continue
        old, new = theirs.get(name, ""), ours.get(name, "")
        versions = _masked(_VERSION, old, new)
        if versions and name in _BUILT_IN:
            pieces.append(("built in", f"another {versions[0]} is built in, here {versions[1]}", (_both(old, new),)))
        elif name in _DEPENDS and (later := _later(old, new, pair)):
            pieces.append(("library", f"another library: {later}", (f"{name}: {_both(old, new)}",)))
        else:
            return []
    return pieces


def _later(theirs: str, ours: str, pair: Pair) -> str:
    """The libraries that all the difference of two fields of relations is due to.

    Ours wants what there was not yet, or a symbol tells that it was linked with another one.
    """
    known = pair.known
    if not known.since or _plain_relations(theirs) != _plain_relations(ours):
        return ""
    told = []
    for part in sorted({*_parts(ours)} - {*_parts(theirs)}):
        name, _, wanted = part.partition(" ")
        if not wanted:
            # A name that has the version in it, such as perlapi-5.40.1, which the package perl stands for.
            name, _, wanted = name.rpartition("-")
            name = next((known_name for known_name in known.tools if name.startswith(known_name)), name)
        wanted = wanted.strip("()<>= ")
        made = min((when for version, when in known.tools.get(name, ()) if _is_of(version, wanted)), default=0)
        if text := pair.libraries().get(wanted):
            told.append(f"{name} of this version was not linked with there ({text})")
        elif made > known.since + _GRACE:
            told.append(f"{name} has this version since {_day(made)}, after {_day(known.since)}")
        else:
            return ""
    return "; ".join(told)


def _plain_relations(field: str) -> str:
    return _VERSION.sub("@", _RELATION.sub("", field))


def _parts(field: str) -> list[str]:
    return [" ".join(part.split()) for part in field.split(",")]


def _is_of(version: str, wanted: str) -> bool:
    """Whether a version is the wanted one, which may be without the distribution's part."""
    return version == wanted or re.sub(r"-[^-]*$", "", without_epoch(version)) == without_epoch(wanted)


def _packed(pair: Pair) -> Iterator[Piece]:
    """A gzip file with another time in its header (RFC 1952, MTIME), and the same in it."""
    gzip = pair.theirs[:2] == pair.ours[:2] == b"\x1f\x8b"
    if gzip and pair.theirs[:4] + pair.theirs[8:] == pair.ours[:4] + pair.ours[8:]:
        times = [int.from_bytes(data[4:8], "little") for data in (pair.theirs, pair.ours)]
        yield "time", "a time in the header of gzip", (f"{_day(times[0])} in the archive's, {_day(times[1])} here",)


def _text(theirs: str, ours: str, known: Known) -> list[Piece]:
    """Causes for all lines that differ; [] if one of them has none."""
    if max(theirs.count("\n"), ours.count("\n")) > _MOST_LINES:
        return []
    if told := _added(theirs, ours, known) or _other_sections(theirs, ours, known):
        return [told]
    pieces: list[Piece] = []
    for old, new in _changed(theirs.splitlines(), ours.splitlines()):
        found = next((piece for way in _WAYS if (piece := way(old, new, known))), None)
        if found is None:
            return []
        pieces.append(found)
    return pieces


def _changed(one: Sequence[str], other: Sequence[str]) -> Iterator[tuple[str, str]]:
    for tag, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if tag != "equal":
            yield "\n".join(one[a:b]), "\n".join(other[c:d])


def _masked(pattern: re.Pattern[str], one: str, other: str) -> tuple[str, str] | None:
    """What the pattern finds in both, if all else is the same, and this is not."""
    if pattern.sub("@", one) != pattern.sub("@", other) or "@" not in pattern.sub("@", one):
        return None
    pairs = zip(pattern.finditer(one), pattern.finditer(other), strict=True)
    return next(((old[0], new[0]) for old, new in pairs if old[0] != new[0]), None)


def _is_ours(version: str, known: Known) -> bool:
    """Whether a package of our build has this version: else it is not the target's own tool that said so."""
    plain = map(without_epoch, known.ours.values())
    return not known.ours or any(installed.startswith(version.lstrip("vV")) for installed in plain)


def _added(one: str, other: str, known: Known) -> Piece | None:
    found = _masked(_ADDED, one, other)
    if found is None or found[0].partition("/")[0] != found[1].partition("/")[0]:
        return None
    if not _is_ours(found[1].partition("/")[2], known):
        return None
    versions = [text.partition("/")[2] for text in found]
    text = f"another debhelper: {versions[0]} in the archive's, {versions[1]} here"
    return "debhelper", text, (f"added by {found[0]} in the archive's, by {found[1]} here",)


def _other_sections(one: str, other: str, known: Known) -> Piece | None:
    """Scripts that differ only in what debhelper adds, and of which it names other versions."""
    if _BLOCK.sub("", one) != _BLOCK.sub("", other):
        return None
    versions = [sorted({version for _, version in _ADDED.findall(text)}) for text in (one, other)]
    if not all(versions) or versions[0] == versions[1] or not all(_is_ours(text, known) for text in versions[1]):
        return None
    said = f"{', '.join(versions[0])} in the archive's, {', '.join(versions[1])} here"
    return "debhelper", f"another debhelper: {said}", (f"what it adds to the script: {said}",)


def _path(one: str, other: str, _known: Known) -> Piece | None:
    pattern = re.compile(_BUILT_AT.pattern.decode())
    found = _masked(pattern, one, other)
    return found and ("path", f"another path: {found[0]} in the archive's, {found[1]} here", (_both(one, other),))


def _maker(one: str, other: str, known: Known) -> Piece | None:
    found = _masked(_VERSION, one, other)
    if found is None or not _is_ours(found[1], known):
        return None
    place = one.index(found[0])
    words = one[:place].split()[-3:]
    # Man pages that pod2man made have just `perl v5.40.1`.
    named = known.ours.get(words[-1].strip("\"'(")) if words else None
    if not _MAKER.search(one) and not (named and _is_of(named, found[1].lstrip("vV"))):
        return None
    name = " ".join(words)
    return "tool", f"another tool: {name} {found[0]} in the archive's, {found[1]} here", (_both(one, other),)


def _time(one: str, other: str, _known: Known) -> Piece | None:
    found = _masked(_DATE, one, other)
    return found and ("time", f"another time: {found[0]} in the archive's, {found[1]} here", (_both(one, other),))


_WAYS: Final = (_added, _path, _maker, _time)


def _both(one: str, other: str) -> str:
    return f"{one.strip()[:160]!r} in the archive's, {other.strip()[:160]!r} here"


def _binary(pair: Pair) -> Iterator[Piece]:
    """Causes for what is no text."""
    if _BUILT_AT.sub(b"@", pair.theirs) == _BUILT_AT.sub(b"@", pair.ours):
        found = [sorted({*_BUILT_AT.findall(data)}) for data in (pair.theirs, pair.ours)]
        both = " and ".join(path.decode() for path in {*found[0]} ^ {*found[1]})
        yield "path", f"another path: {both}", (both,)
        return
    if not all(data.startswith((ELF_MAGIC, ARCHIVE_MAGIC)) for data in (pair.theirs, pair.ours)):
        return
    compilers = [sorted({text.decode(errors="replace") for text in _COMPILER.findall(data)}) for data in _data(pair)]
    if all(compilers) and compilers[0] != compilers[1]:
        said = f"{', '.join(compilers[0])} in the archive's, {', '.join(compilers[1])} here"
        yield "compiler", f"another compiler: {said}", (f".comment: {said}",)
        return
    yield from _by_date(pair)


def _data(pair: Pair) -> tuple[bytes, bytes]:
    return pair.theirs, pair.ours


def _by_date(pair: Pair) -> Iterator[Piece]:
    """The toolchain is newer than the archive's build, and what differs is what such a one decides about."""
    one, other = layout(pair.theirs), layout(pair.ours)
    laid = list(differences(one, other)) if one and other else []
    if pair.known.control is not None and pair.plain not in pair.known.control:
        # The same toolchain gave the archive's own for another architecture: it is not that.
        return
    native = ("the native build differs from the archive's in the same file",) if pair.known.control else ()
    native = native or (("no tool had another in its place",) if pair.known.native else ())
    if native and only_debug_symbols(pair.found):
        text = "other debug symbols, which the build id is a sum of, too"
        yield "debug symbols", text, ("all other sections are the same", *native)
    elif one and other and laid and (tools := list(newer(pair.known, _LINKED))):
        same = same_contents(one, other)
        yield "linker", f"another linker: {'; '.join(tools)}", (*laid, *([same] if same else []), *native)
    elif native and (tools := list(newer(pair.known, _COMPILED))):
        yield "compiler", f"another toolchain: {'; '.join(tools)}", (f"differs in {_sections(pair.found)}", *native)


def _sections(found: Found) -> str:
    return ", ".join(found.sections[:6]) + (", ..." if len(found.sections) > 6 else "")


def newer(known: Known, kind: str) -> Iterator[str]:
    """The tools of our build that the archive's cannot have had, of those that tools.yml names for `kind`, in words."""
    told: set[str] = set()
    names = (name for pattern in _tools()[kind] for name in fnmatch.filter(sorted(known.tools), pattern))
    for name in names if known.since else ():
        versions = known.tools[name]
        version, made = versions[0] if versions else ("", 0)
        if made > known.since + _GRACE and version not in told:
            told.add(version)
            then = next((text for text, when in versions if when <= known.since + _GRACE), "an older one")
            yield f"{name} {then} on {_day(known.since)}, {version} of {_day(made)} here"


@cache
def _tools() -> Mapping[str, Sequence[str]]:
    found: Mapping[str, Sequence[str]] = yaml.safe_load(Path(__file__).with_name("tools.yml").read_text())
    return found


def _by_buildinfo(known: Known, pair: Pair | None) -> Iterator[Piece]:
    """The archive's .buildinfo names other versions of what decides about such a file."""
    both = known.theirs.keys() & known.ours
    changed = sorted(name for name in both if known.theirs[name] != known.ours[name])
    if pair and pair.ours.startswith((ELF_MAGIC, ARCHIVE_MAGIC)):
        patterns = _tools()[_COMPILED]
        changed = [name for name in changed if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if changed:
        lines = tuple(f"{name} {known.theirs[name]} by its .buildinfo, {known.ours[name]} here" for name in changed)
        yield "buildinfo", "other packages, as the .buildinfo says", lines[:_LINES]


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
