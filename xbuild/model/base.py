"""What all models share: frozen, no unknown fields, kebab-case in YAML; and the types of their fields."""

from __future__ import annotations

import os
import re
import sys
import urllib.parse
from types import ModuleType
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt
from pydantic import WithJsonSchema as JsonSchema
from pydantic_core import PydanticCustomError

SCHEMA = 1
"""The version of the file formats that this xbuild reads."""

DURATION = r"[1-9][0-9]{0,5}[smh]"
"""A whole number of seconds, minutes or hours: 90s, 30m, 2h. A century is more than any clock call takes."""

_LONGEST_PATH = 2048
"""Bytes: half of what Linux takes (PATH_MAX), for what comes before; and each part may have 255 (NAME_MAX)."""

_PLUGINS = ModuleType("pydantic.plugin._loader")
# Plugins of pydantic's, which other packages may bring, have no hand in our files; and to look for them, pydantic reads
# what every installed package says of itself, which is a tenth of a command's start.
vars(_PLUGINS)["get_plugins"] = tuple
sys.modules.setdefault(_PLUGINS.__name__, _PLUGINS)

_UNITS = {"s": 1, "m": 60, "h": 3600}


def kebab(name: str) -> str:
    """The name in YAML of the attribute `name`: after_install -> after-install."""
    return name.replace("_", "-")


class Model(BaseModel):
    """A part of a file. `model_dump(mode="json", by_alias=True)` gives what goes into keys of the store."""

    # defer_build: a command reads few of the formats, and most of its start would be to prepare for all.
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=kebab, populate_by_name=True, defer_build=True
    )


def fault(kind: str, message: str) -> PydanticCustomError:
    """An error of a validator: `kind` is a word for programs, `message` is shown as it is."""
    return PydanticCustomError(kind, "{message}", {"message": message})


def text_like(pattern: str, wanted: str) -> tuple[AfterValidator, JsonSchema]:
    """Metadata of a text field that must match all of `pattern`; `wanted` says in words what that is."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise fault("pattern", f"must be {wanted}, not {value!r}")
        return value

    return AfterValidator(check), JsonSchema({"type": "string", "pattern": f"^(?:{pattern})$"})


def _readable(value: int) -> int:
    if value > SCHEMA:
        raise fault("newer_schema", f"schema {value} needs a newer xbuild: this one reads schema {SCHEMA}")
    if value != SCHEMA:
        raise fault("schema", f"must be {SCHEMA}, not {value}")
    return value


def _seconds(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(DURATION, value):
        return int(value[:-1]) * _UNITS[value[-1]]
    raise fault("duration", f"must be a duration such as 90s, 30m or 2h, not {value!r}")


def _inside(value: str) -> str:
    if not value or value.startswith("/") or ".." in value.split("/"):
        raise fault("relative_path", f"must be a relative path without '..', not {value!r}")
    if len(os.fsencode(value)) > _LONGEST_PATH or any(len(os.fsencode(part)) > 255 for part in value.split("/")):
        raise fault("relative_path", "is longer than a path can be")
    return value


def _local(value: str) -> str:
    if not value or "\0" in value:
        raise fault("path", f"must be a path, not {value!r}")
    if len(os.fsencode(value)) > _LONGEST_PATH or any(len(os.fsencode(part)) > 255 for part in value.split("/")):
        raise fault("path", "is longer than a path can be")
    return value


def _address(value: str) -> str:
    try:
        parts = urllib.parse.urlsplit(value)
        name = parts.hostname or ""
        name.encode("idna")
        _ = parts.port
    except ValueError as error:
        raise fault("address", f"must be an address such as https://site/file: {error}") from error
    if not name and parts.scheme != "file":
        raise fault("address", "must be an address such as https://site/file: it names no machine")
    return value


def _some(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise fault("empty", "must have at least one entry")
    return value


def _option_value(value: Any) -> str | bool | tuple[str, ...]:
    if isinstance(value, str | bool):
        return value
    if isinstance(value, list | tuple):
        odd = [item for item in value if not isinstance(item, str)]
        if not odd:
            return tuple(value)
        raise fault("option_value", f"must be a list of text: quote {odd[0]!r}")
    raise fault("option_value", f"must be text, true, false or a list of text, not {value!r}")


_SCHEMA_JSON = JsonSchema({"type": "integer", "const": SCHEMA})

SchemaVersion = Annotated[StrictInt, AfterValidator(_readable), _SCHEMA_JSON]

# Names and versions become names of files, with target, mode and more behind them: 255 bytes in all (NAME_MAX).
NAME = r"[a-z0-9][a-z0-9+._-]{0,79}"
"""The name of a recipe or a root."""
Name = Annotated[str, *text_like(NAME, "lower-case letters, digits and + . _ -, 80 at most")]
OptionName = Annotated[str, *text_like(r"[a-z][a-z0-9-]*", "lower-case letters, digits and -")]
Package = Annotated[str, *text_like(r"[a-z0-9][a-z0-9+.-]+", "the name of a distribution package")]
Version = Annotated[str, *text_like(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,79}", 'a version such as "1.2.3"')]
Sha256 = Annotated[str, *text_like(r"[0-9a-f]{64}", "64 lower-case hex digits")]
Commit = Annotated[str, *text_like(r"[0-9a-f]{40}", "the 40 hex digits of a git commit")]
Url = Annotated[
    str,
    # Published for files as written, where a template may have blanks between its braces.
    # A part matches in one way only: with two, a long address that fails would be tried in 2^n ways.
    *text_like(r"(https?|ftp|file)://(\{\{[^{}]*\}\}|(?!\{\{)\S)+", "an address such as https://site/file"),
    AfterValidator(_address),
]
Project = Annotated[str, *text_like(r"[A-Za-z0-9][A-Za-z0-9._-]*", "the name of a Python project")]
VariableName = Annotated[str, *text_like(r"[A-Za-z_][A-Za-z0-9_]*", "letters, digits and _")]
# pydantic's own min_length also complains of an empty tuple when an entry is wrong.
T = TypeVar("T")
NonEmpty = Annotated[tuple[T, ...], AfterValidator(_some), Field(json_schema_extra={"minItems": 1})]

RelativePath = Annotated[str, AfterValidator(_inside)]
LocalPath = Annotated[str, AfterValidator(_local)]
"""A path on this machine, absolute or relative."""

Duration = Annotated[
    int,
    BeforeValidator(_seconds),
    JsonSchema({"type": "string", "pattern": f"^{DURATION}$"}, mode="validation"),
]
"""Seconds; written as 90s, 30m or 2h."""

OptionValue = Annotated[
    str | bool | tuple[str, ...],
    BeforeValidator(_option_value),
    JsonSchema({"type": ["string", "boolean", "array"], "items": {"type": "string"}}),
]
"""The value of a preset's option."""
