"""A source package: what its .dsc says, and where its files are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base.errors import UsageError
from xbuild.formats.deb822 import Fields, without_epoch

_TUPLES: Mapping[str, tuple[str, str]] = {"armhf": ("eabihf", "arm"), "armel": ("eabi", "arm"), "x32": ("x32", "amd64")}
"""ABI and processor of Linux's architectures where they are not `base` and its name (dpkg's tupletable)."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a source package. source: how a recipe's `sources` names where it is, without `sha256`."""

    name: str
    size: int
    sha256: str
    source: Mapping[str, Any]


@dataclass(frozen=True)
class Binary:
    """A binary package that a source package makes, by its Package-List (dsc(5)).

    profiles: under which it is made: words that `,` joins must all hold, one of those that `+` joins; "": under any.
    """

    name: str
    kind: str
    architectures: tuple[str, ...]
    profiles: str = ""

    def is_for(self, architecture: str) -> bool:
        """Whether it is made on that architecture; `all` asks for what is for every one."""
        if architecture == "all" or "all" in self.architectures:
            return architecture == "all" and "all" in self.architectures
        return any(matches(architecture, word) for word in self.architectures)

    def is_under(self, profiles: Collection[str]) -> bool:
        """Whether it is made where these profiles are set."""

        def holds(word: str) -> bool:
            return word[1:] not in profiles if word.startswith("!") else word in profiles

        return any(all(map(holds, way.split(","))) for way in self.profiles.split("+")) if self.profiles else True


@dataclass(frozen=True)
class SourcePackage:
    """A source package, verified as far as `checked` says.

    fields: of the .dsc, or of a paragraph of an index of sources. files: the .dsc first. control,
    changelog: the texts of these files of debian/, which say more than the .dsc. origin: the word it was found by.
    """

    origin: str
    fields: Fields
    files: tuple[SourceFile, ...]
    checked: str
    control: str = ""
    changelog: str = ""

    @property
    def directory(self) -> Path | None:
        """The directory that is the source, as it is now, if it is one."""
        place = self.files[0].source.get("path")
        return Path(place) if place else None

    @property
    def name(self) -> str:
        """Of the source package."""
        return self.fields.get("Source") or self.fields["Package"]

    @property
    def version(self) -> str:
        """With its epoch, as dpkg has it."""
        return self.fields["Version"]

    @property
    def file_version(self) -> str:
        """Without the epoch, as names of files have it."""
        return without_epoch(self.version)

    @property
    def binaries(self) -> tuple[Binary, ...]:
        """What it can make, as far as it says so."""
        lines = [line.split() for line in self.fields.get("Package-List", "").splitlines() if line.split()]
        found = []
        for name, kind, _section, _priority, *rest in lines:
            more = dict(word.partition("=")[::2] for word in rest)
            words = tuple(more.get("arch", self.fields.get("Architecture", "any")).split(","))
            found.append(Binary(name, kind, words, more.get("profile", "")))
        return tuple(found)


def matches(architecture: str, word: str) -> bool:
    """Whether a word of an Architecture field means `architecture`: its name, or a wildcard such as linux-any."""
    if word in ("any", architecture):
        return True
    abi, cpu = _TUPLES.get(architecture, ("base", architecture))
    parts = word.split("-")
    asked = ["any"] * (4 - len(parts)) + parts
    own = (abi, "gnu", "linux", cpu)
    return 1 < len(parts) <= len(own) and all(part in ("any", known) for part, known in zip(asked, own, strict=True))


def require_for(
    package: SourcePackage, architecture: str, *, independent: bool, profiles: Collection[str] = ()
) -> None:
    """Raise UsageError if `package` makes nothing for `architecture`, or, if wanted, nothing that is independent."""
    wanted = "all" if independent else architecture
    made = package.binaries
    fit = [binary for binary in made if binary.is_for(wanted)]
    if not made or any(binary.is_under(profiles) for binary in fit):
        return
    if fit:
        names, set_ = ", ".join(binary.name for binary in fit), ", ".join(sorted(profiles)) or "none"
        message = f"{package.name} {package.version} makes nothing for {wanted} under these profiles: {set_}"
        raise UsageError(message, details=[f"not made: {names}"], hint="--profiles names others")
    title = f"{package.name} {package.version}"
    words = " ".join(dict.fromkeys(word for binary in made for word in binary.architectures))
    if independent:
        raise UsageError(f"{title} makes no package of Architecture: all", hint="leave out --all")
    if all(binary.architectures == ("all",) for binary in made):
        hint = "`--all` makes them; they are the same for every architecture, so the target amd64 makes them fastest"
        raise UsageError(f"{title} makes only packages of Architecture: all, none for {architecture}", hint=hint)
    raise UsageError(f"{title} is not for {architecture}: its packages are for {words}", hint="another --target?")
