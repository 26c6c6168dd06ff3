"""A preset: how projects of one build system are built, as data, with the options that a recipe can set."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from xbuild.model.base import Model, Name, OptionName, OptionValue, Package, SchemaVersion, fault

_TYPES: dict[str, type] = {"list": tuple, "string": str, "bool": bool}

_WANTED = {"list": "a list of text", "string": "text", "bool": "true or false"}

Value = str | bool | tuple[str, ...]


class Option(Model):
    """One option of a preset."""

    type: Literal["list", "string", "bool"] = Field(description="What values it takes")
    default: OptionValue = Field(description="Its value where a recipe says nothing")
    description: str = Field(description="What it does")

    @model_validator(mode="after")
    def _default_fits(self) -> Self:
        if wrong := self.refusal(self.default):
            raise fault("option_default", f"default {wrong}")
        return self

    def refusal(self, value: object) -> str | None:
        """Why `value` (text, bool, or tuple of text) is not one for this option; None when it is."""
        return None if isinstance(value, _TYPES[self.type]) else f"must be {_WANTED[self.type]}"


class Phases(Model):
    """Shell text of the phases, run with `sh -eu`; a phase that is left out does nothing."""

    prepare: str = Field("", description="Run in the source directory")
    configure: str = Field("", description="Run in the build directory")
    compile: str = Field("", description="Run in the build directory")
    install: str = Field("", description="Run in the build directory; installs below $DESTDIR")


class Preset(Model):
    """One build system."""

    schema_version: SchemaVersion = Field(alias="schema", description="Version of this format")
    name: Name = Field(description="Name of the preset, and of the file")
    summary: str = Field(description="One line about it")
    packages: tuple[Package, ...] = Field(
        (), description="Distribution packages that its builds need in the root"
    )
    build_directory: Literal["in-tree", "out-of-tree"] = Field(
        description="Whether it builds in the source directory or in one of its own"
    )
    options: dict[OptionName, Option] = Field({}, description="What a recipe can set")
    phases: Phases = Field(description="What it does")

    def environment(self, options: Mapping[str, Value]) -> dict[str, str]:
        """The variables with which phases see the options: `options` of a recipe, else the defaults.

        `configure-args` is OPT_CONFIGURE_ARGS. Text stands as it is; true is "1", false is "". A list is
        quoted for the shell: `eval "set -- $OPT_CONFIGURE_ARGS"` gives its items as "$@", whatever they hold.
        """
        values = {name: options.get(name, option.default) for name, option in self.options.items()}
        return {f"OPT_{name.upper().replace('-', '_')}": _quoted(value) for name, value in values.items()}


def _quoted(value: Value) -> str:
    if isinstance(value, bool):
        return "1" if value else ""
    return value if isinstance(value, str) else shlex.join(value)
