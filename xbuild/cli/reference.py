"""The reference pages of docs/reference: commands from the tasks, files from the models."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from invoke.collection import Collection

from xbuild.cli import screens, table
from xbuild.cli.table import Command, Option
from xbuild.model.base import Model
from xbuild.model.policy import Policy
from xbuild.model.schema import FILES

_GENERATED = "<!-- Written by `invoke reference`; change the tasks or the models instead. -->"
_KINDS = {
    "recipe": "A file in recipes/: what to build, from which sources, and how. Examples: [recipes](../../recipes).",
    "toolchain": "A file in toolchains/: a target. Examples: [toolchains](../../toolchains).",
    "preset": "A file in xbuild/presets/: how a build system is called. Examples: [presets](../../xbuild/presets).",
    "architectures": "What binfmt_misc needs to know of each architecture: "
    "[architectures.yml](../../xbuild/binfmt/architectures.yml).",
    "native": "A file in xbuild/natives/: a kind of machine that xbuild runs on. Examples: "
    "[natives](../../xbuild/natives).",
    "policy": "A file in xbuild/policies/: which tools have twins. Example: "
    "[default.yml](../../xbuild/policies/default.yml).",
}


def pages(namespace: Collection) -> dict[str, str]:
    """The text of each page by its file's name. namespace: the tasks."""
    return {"commands.md": _commands(namespace), "files.md": _files()}


def write_reference(namespace: Collection, directory: Path) -> None:
    """Write the pages into `directory`, made when missing."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages(namespace).items():
        (directory / name).write_text(text)


def _commands(namespace: Collection) -> str:
    lines = [_GENERATED, "", "# Commands", "", "`invoke NAME ...` in a checkout, `xbuild NAME ...` installed."]
    for name, command in table.of(namespace).commands.items():
        lines += ["", *_command(command, inspect.getdoc(namespace[name]) or "")]
    return "\n".join(lines) + "\n"


def _command(command: Command, about: str) -> Iterator[str]:
    yield f"## {command.name}"
    yield ""
    yield about
    yield ""
    yield f"    {' '.join([f'invoke {command.name}', *map(screens.placeholder, command.words)])}"
    if command.options:
        yield ""
        yield "| option | meaning | default |"
        yield "| --- | --- | --- |"
    for option in command.options:
        flag = option.name if option.positional else option.shown
        more = "; for `xbuild`, each word after the first is one" if option.further else ""
        yield f"| `{flag}` | {_cell(option.help)}{more} | {_default(option)} |"


def _default(option: Option) -> str:
    if option.positional and option.default is None:
        return "required"
    return f"`{option.default}`" if option.default and option.kind != "flag" else ""


def _files() -> str:
    lines = [_GENERATED, "", "# Files", "", "All are YAML. Editors take the schemas of [docs/schema](../schema)."]
    models: dict[str, type[Model]] = {**FILES, "policy": Policy}
    for name, model in models.items():
        schema = model.model_json_schema(by_alias=True, mode="validation")
        lines += ["", f"## {name}", "", _KINDS[name], "", *_table(schema)]
        for title, part in schema.get("$defs", {}).items():
            if "properties" in part:
                lines += ["", f"### {name}: {title}", "", _first_paragraph(part), "", *_table(part)]
    return "\n".join(lines) + "\n"


def _first_paragraph(schema: Mapping[str, Any]) -> str:
    return " ".join(str(schema.get("description", "")).split("\n\n")[0].split())


def _table(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "| key | kind | meaning |"
    yield "| --- | --- | --- |"
    required = schema.get("required", ())
    for key, value in schema["properties"].items():
        mark = " (required)" if key in required else ""
        yield f"| `{key}`{mark} | {_cell(_kind(value))} | {_cell(value.get('description', ''))} |"


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_kind(choice) for choice in schema["anyOf"] if choice != {"type": "null"})
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {})) or 'any'}"
    if schema.get("type") == "object":
        patterns: dict[str, Any] = schema.get("patternProperties", {})
        values: dict[str, Any] = schema.get("additionalProperties") or next(iter(patterns.values()), {})
        return f"mapping to {_kind(values) or 'any'}"
    kind = schema.get("type", "")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
