"""Which build system a project has, by its files, and what is easily known of it: a name, a version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from xbuild.base.errors import UsageError
from xbuild.base.walk import open_file, shown
from xbuild.base.yamlfile import did_you_mean
from xbuild.model.base import Version
from xbuild.model.load import load_presets
from xbuild.model.preset import Preset, Recognition
from xbuild.sources.local import listed

_MOST = 1 << 20
"""Bytes of a file in which a version is looked for."""
_UNKNOWN = "0"
_LONGEST_NAME = 60
"""Characters: of the 80 of a name."""


@dataclass(frozen=True)
class Recognised:
    """What was found out. others: presets that would do too, the likeliest first."""

    name: str
    version: str
    preset: str
    others: tuple[str, ...]


def recognise(top: Path, chosen: str | None = None) -> Recognised:
    """What the project in the directory `top` is. chosen: the preset that is to be taken.

    Raises UsageError if it has no build system that is known, or none like that.
    """
    presets = load_presets()
    if chosen is not None and chosen not in presets:
        text = f"unknown preset {chosen!r}{did_you_mean(chosen, presets)}"
        raise UsageError(text, hint=f"known: {', '.join(presets)}")
    if chosen is None and not _possible(presets, (path.name for path in top.iterdir())):
        # All that lies there is not even listed: it may be a home directory.
        raise _unknown(top, presets)
    found = _found(presets, [file.name for file in listed(top)])
    preset = chosen or next(iter(found), None)
    if preset is None:
        raise _unknown(top, presets)
    others = tuple(name for name in found if name != preset)
    return Recognised(_name(top), _version(top, presets[preset].recognised), preset, others)


def _possible(presets: Mapping[str, Preset], names: Iterable[str]) -> bool:
    patterns = [pattern for preset in presets.values() if (how := preset.recognised) for pattern in how.files]
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _found(presets: Mapping[str, Preset], names: Iterable[str]) -> list[str]:
    """Names of presets, the likeliest first."""
    top = {name.partition("/")[0] for name in names}

    def there(patterns: Iterable[str]) -> bool:
        return any(fnmatchcase(name, pattern) for name in top for pattern in patterns)

    known = [(how.rank, name, how) for name, preset in presets.items() if (how := preset.recognised)]
    ranked = sorted(known, key=lambda one: one[:2])
    return [name for _, name, how in ranked if there(how.files) and not there(how.without)]


def _unknown(top: Path, presets: Mapping[str, Preset]) -> UsageError:
    files = [f"{name}: {' or '.join(how.files)}" for name, preset in presets.items() if (how := preset.recognised)]
    message = f"{shown(str(top))}: no build system is recognised there"
    if (top / "debian" / "control").is_file():
        return UsageError(message, details=files, hint="it is a Debian source package: invoke deb DIRECTORY")
    return UsageError(message, details=files, hint="name one by --preset, or write a recipe: docs/recipes.md")


def _name(top: Path) -> str:
    text = re.sub(r"[^a-z0-9+._-]+", "-", top.resolve().name.lower()).strip("-._+")
    return text[:_LONGEST_NAME] or "project"


def _version(top: Path, how: Recognition | None) -> str:
    for name, pattern in how.version.items() if how else ():
        try:
            with open_file(top / name, follow=True) as stream:
                text = stream.read(_MOST).decode(errors="replace")
        except OSError:
            continue
        if (match := re.search(pattern, text)) and _is_version(match[1]):
            return match[1]
    return _UNKNOWN


def _is_version(text: Any) -> bool:
    try:
        TypeAdapter(Version).validate_python(text)
    except ValidationError:
        return False
    return True
