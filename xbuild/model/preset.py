"""A preset: how projects of one build system are built, as data, with the options that a recipe can set."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, StrictInt, model_validator

from xbuild.base.paths import BUILD
from xbuild.model.base import Model, Name, NonEmpty, OptionName, OptionValue, Package, SchemaVersion, fault

_TYPES: dict[str, type] = {"list": tuple, "string": str, "bool": bool, "directory": str}

_WANTED = {
    "list": "a list of text",
    "string": "text",
    "bool": "true or false",
    "directory": f"a path such as {BUILD}/place/name, without '..', and not in {BUILD}/run or {BUILD}/dest",
}

_DIRECTORY = re.compile(rf"{BUILD}/(?!(?:run|dest)/)(?P<top>[A-Za-z0-9][A-Za-z0-9+._~-]*)(?!.*/\.\.?(?:/|$))/\S*")
"""Two levels below /build: what a build writes beside its directory has a place to lie in, and nobody else's."""

Value = str | bool | tuple[str, ...]


class Option(Model):
    """One option of a preset."""

    type: Literal["list", "string", "bool", "directory"] = Field(description="What values it takes")
    default: OptionValue = Field(description="Its value where a recipe says nothing")
    description: str = Field(description="What it does")

    @model_validator(mode="after")
    def _default_fits(self) -> Self:
        if wrong := self.refusal(self.default):
            raise fault("option_default", f"default {wrong}")
        return self

    def refusal(self, value: object) -> str | None:
        """Why `value` (text, bool, or tuple of text) is not one for this option; None when it is."""
        fits = isinstance(value, _TYPES[self.type])
        if self.type == "directory":
            fits = fits and _DIRECTORY.fullmatch(str(value)) is not None
        return None if fits else f"must be {_WANTED[self.type]}"


class Phases(Model):
    """Shell text of the phases, run with `sh -eu`; a phase that is left out does nothing."""

    prepare: str = Field("", description="Run in the source directory")
    configure: str = Field("", description="Run in the build directory")
    compile: str = Field("", description="Run in the build directory")
    install: str = Field("", description="Run in the build directory; installs below $DESTDIR")


class Incremental(Model):
    """What a build tree that stays needs when files of the project changed; the build system sees to all else.

    Patterns (* ? []) are of paths or of names of files.
    """

    configure: tuple[str, ...] = Field((), description="Files whose change has the configure phase run again")
    anew: tuple[str, ...] = Field((), description="Files whose change has the build begin anew, in an empty tree")
    new_files: Literal["go-on", "configure", "anew"] = Field(
        "go-on", description="What happens when files came or went, whatever these are"
    )


class Leftovers(Model):
    """What a build on this machine leaves in a project, and a build for the target must not find there.

    It counts only for files that git does not know.
    """

    directories: tuple[str, ...] = Field(
        (),
        description="Files, by path from a build directory: one that has such a file is left out, with all in it, "
        "unless the preset is recognised by a file there too",
    )
    in_tree: tuple[str, ...] = Field(
        (), description="What is left out beside the first of these files, at the top: paths, with all below them"
    )
    files: tuple[str, ...] = Field((), description="Patterns (* ? []) of names of files that are left out anywhere")


class Recognition(Model):
    """By which files, at the top of a project, a build system is recognised."""

    files: NonEmpty[str] = Field(description="Patterns (* ? []): a file or directory that matches one is there")
    without: tuple[str, ...] = Field((), description="And none that matches one of these")
    rank: StrictInt = Field(description="Of several that are recognised, the one with the least is taken")
    version: dict[str, str] = Field(
        {}, description="File, and the regular expression whose first group is the project's version in it"
    )


class Jobserver(Model):
    """What takes its jobs from a named pipe, if MAKEFLAGS names one, where many builds share one budget of jobs.

    Phases of anything else, and those that a recipe has in the place of the preset's, get a number before they begin.
    """

    phases: NonEmpty[Literal["configure", "compile", "install"]] = Field(
        description='The phases in which nothing but this program uses $JOBS, as the one word -j"$JOBS"'
    )
    program: str = Field(pattern="[a-z]+", description="Its name in the phases")
    package: Package = Field(description="The package that has it")
    since: str = Field(pattern=r"[0-9]+(\.[0-9]+)*", description="The first version that knows named pipes")


class Preset(Model):
    """One build system."""

    schema_version: SchemaVersion = Field(alias="schema", description="Version of this format")
    name: Name = Field(description="Name of the preset, and of the file")
    summary: str = Field(description="One line about it")
    packages: tuple[Package, ...] = Field(
        (), description="Distribution packages that its builds need in the root"
    )
    twins: tuple[Name, ...] = Field(
        (), description="Tools to run natively, as a recipe's `twins: {add: [...]}`; its phases see to what they would "
        "answer otherwise than the target's own"
    )
    build_directory: Literal["in-tree", "out-of-tree"] = Field(
        description="Whether it builds in the source directory or in one of its own"
    )
    recognised: Recognition | None = Field(None, description="How it is recognised; without it, it must be named")
    leftovers: Leftovers = Field(Leftovers(), description="What builds on this machine leave in a project")
    incremental: Incremental = Field(Incremental(), description="What it needs in a build tree that stays")
    jobserver: Jobserver | None = Field(None, description="What takes its jobs from a named pipe")
    options: dict[OptionName, Option] = Field({}, description="What a recipe can set")
    phases: Phases = Field(description="What it does")

    def environment(self, options: Mapping[str, Value]) -> dict[str, str]:
        """The variables with which phases see the options: `options` of a recipe, else the defaults.

        `configure-args` is OPT_CONFIGURE_ARGS. Text stands as it is; true is "1", false is "". A list is
        quoted for the shell: `eval "set -- $OPT_CONFIGURE_ARGS"` gives its items as "$@", whatever they hold.
        """
        return {
            f"OPT_{name.upper().replace('-', '_')}": _quoted(options.get(name, option.default))
            for name, option in self.options.items()
        }

    def directories(self, options: Mapping[str, Value]) -> tuple[str, ...]:
        """Names of the directories directly below /build that options of type directory lie in."""
        paths = [
            _DIRECTORY.fullmatch(str(options.get(name, option.default)))
            for name, option in self.options.items()
            if option.type == "directory"
        ]
        return tuple(dict.fromkeys(path["top"] for path in paths if path))


def _quoted(value: Value) -> str:
    if isinstance(value, bool):
        return "1" if value else ""
    return value if isinstance(value, str) else shlex.join(value)
