"""All that a requirements file needs, as wheels: pure ones from the index, the others built."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement

from xbuild.base import log
from xbuild.base.errors import SourceError, UsageError
from xbuild.build.phases import keep_copy
from xbuild.formats.wheel import normalised
from xbuild.model.source import Source
from xbuild.sources import FetchContext, fetch
from xbuild.store.local import writing_below
from xbuild.wheels.build import Made, Maker
from xbuild.wheels.find import files, has_pure, newest, requirement_of, version_of
from xbuild.wheels.require import Found, UnmetError, holds

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_OTHERS = re.compile(r"-r|--requirement|-c|--constraint|-e|--editable|-i|--index-url|--extra-index-url|-f|--find-links")


@dataclass(frozen=True)
class Line:
    """A requirement of a file. hashes: the sha256 that its files may have; (): any."""

    text: str
    hashes: tuple[str, ...] = ()

    @property
    def requirement(self) -> Requirement:
        """As packaging reads it."""
        return requirement_of(self.text)


def lines_of(file: Path) -> list[Line]:
    """The requirements of a requirements file (pip's format). Raises UsageError for what is none."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: cannot be read: it is not UTF-8: {error.reason}") from error
    found = []
    joined = re.sub(r"\\\n", " ", text)
    for number, written in enumerate(joined.splitlines(), 1):
        words = re.sub(r"(?:^|\s)#.*", "", written).strip()
        if not words:
            continue
        if words.startswith("-"):
            option = shlex.split(words)[0].partition("=")[0]
            hint = "indexes are pip's own settings (`pip config`)" if _OTHERS.fullmatch(option) else None
            raise UsageError(f"{file}:{number}:1: {option} is not read from requirements files", hint=hint)
        line = Line(_HASH.sub("", words).strip(), tuple(_HASH.findall(words)))
        try:
            requirement_of(line.text)
        except UsageError as error:
            raise UsageError(f"{file}:{number}:1: {error.message}", hint=error.hint) from error
        found.append(line)
    return found


Build = Callable[[str, Sequence[str]], Made]
"""Builds what a requirement means; its sdist must have one of the sha256, if there are any."""
Ahead = Callable[[Mapping[str, Sequence[str]]], None]
"""May build several at once before they are built one by one: requirements, each with its sha256."""


def close(maker: Maker, lines: Sequence[Line], build: Build, ahead: Ahead) -> tuple[list[Made], list[Path]]:
    """Wheels of all that the lines require: those that were built, and the files of the others, which are pure.

    Raises what build and ahead raise.
    """
    wanted = [line for line in lines if holds(line.requirement, maker.python)]
    closing = _Closing(maker, {_name(line.text): line.hashes for line in wanted}, build, ahead)
    settled = [_settled(line, maker) for line in wanted]
    closing.add(list({_name(text): text for text, compiled in settled if compiled}.values()))
    while True:
        try:
            found = maker.finder.resolved([*(text for text, _ in settled), *closing.pinned])
        except UnmetError as error:
            closing.add([error.requirement])
            continue
        compiled = [one for one in found if not one.pure and one.name not in closing.made]
        if not compiled:
            break
        for one in compiled:
            log.info(f"{one.name} {one.version} is compiled; it is built")
        closing.add([f"{one.name}=={one.version}" for one in compiled])
    pure = [_kept(one, maker, closing.hashes.get(one.name, ())) for one in found if one.name not in closing.made]
    return list(closing.made.values()), pure


@dataclass
class _Closing:
    """What was built so far, by name, and as requirements. hashes: of files, by the names of projects."""

    maker: Maker
    hashes: Mapping[str, Sequence[str]]
    build: Build
    ahead: Ahead
    made: dict[str, Made] = field(default_factory=dict)
    pinned: list[str] = field(default_factory=list)

    def add(self, requirements: Sequence[str]) -> None:
        """Build these, and leave them where the next search finds them."""
        wanted = {requirement: self.hashes.get(_name(requirement), ()) for requirement in requirements}
        for requirement in wanted:
            if before := self.made.get(_name(requirement)):
                raise UsageError(f"{requirement} was built as {before.project.version}, and that does not fit")
        self.ahead(wanted)
        for requirement, hashes in wanted.items():
            one = self.made[_name(requirement)] = self.build(requirement, hashes)
            self.pinned.append(f"{one.project.name}=={one.name.version}")
            with writing_below(self.maker.store.root):
                self.maker.links.mkdir(exist_ok=True)
            keep_copy(one.file, self.maker.links / one.file.name)


def _name(requirement: str) -> str:
    return normalised(requirement_of(requirement).name)


def _settled(line: Line, maker: Maker) -> tuple[str, bool]:
    """The requirement for the newest version that there is a sdist of: older ones may have wheels, as pip prefers.

    Also, whether it has to be built: no index has a wheel of it for any machine.
    """
    requirement = line.requirement
    try:
        known = files(requirement.name)
        version = version_of(newest(requirement, known, maker.python).name)
    except SourceError:
        return line.text, False
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}=={version}", not has_pure(known, requirement.name, version)


def _kept(found: Found, maker: Maker, hashes: Sequence[str]) -> Path:
    if hashes and found.sha256 not in hashes:
        raise UsageError(f"{found.file}: its sha256 is not one that the requirements name")
    source = Source.model_validate({name: value for name, value in found.source.items() if name != "unpack"})
    file = fetch(source, FetchContext(maker.store, lambda: (), Path("/")))
    return keep_copy(file, maker.output / found.file)
