"""A recipe: how one project is built, as its own documentation says, with nothing about cross-compilation."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from xbuild.model.base import (
    Duration,
    Model,
    Name,
    NonEmpty,
    OptionName,
    OptionValue,
    RelativePath,
    SchemaVersion,
    VariableName,
    Version,
    fault,
)
from xbuild.model.handing import Handing
from xbuild.model.output import Output
from xbuild.model.relation import Profile, Relation
from xbuild.model.source import Source

SET_BY_XBUILD = frozenset(
    {
        "NAME",
        "VERSION",
        "TARGET",
        "TARGET_TRIPLET",
        "PREFIX",
        "DESTDIR",
        "SRCDIR",
        "BUILDDIR",
        "LIBDIR",
        "JOBS",
        "SOURCE_DATE_EPOCH",
        "HOME",
        "PATH",
        "PWD",
        "SHELL",
        "USER",
        "LOGNAME",
        "TMPDIR",
        "TZ",
        "LANG",
        "LANGUAGE",
        "LC_ALL",
    }
)
"""Variables of a phase whose values are xbuild's business: a recipe's `env` cannot set them."""

PRIVATE_PREFIXES = ("OPT_", "XBUILD_")
"""Beginnings of variable names that belong to presets' options and to xbuild itself."""


def _settable(name: str) -> str:
    if name in SET_BY_XBUILD or name.startswith(PRIVATE_PREFIXES):
        raise fault("reserved_variable", f"{name} is set by xbuild itself")
    return name


Environment = dict[Annotated[VariableName, AfterValidator(_settable)], str]


class Dependency(Model):
    """Another recipe, whose files are in the root while this one is built."""

    name: Name = Field(description="The recipe: a file beside this one, else one that xbuild brings along")
    when: tuple[str, ...] | None = Field(
        None, description="Patterns (* ? []) of target names, for which it is needed (default: all)"
    )

    @field_validator("when")
    @classmethod
    def _some_target(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value == ():
            raise fault("empty", "must have at least one entry")
        return value

    def holds(self, target: str) -> bool:
        """Whether it is needed for the target of this name."""
        return self.when is None or any(fnmatchcase(target, pattern) for pattern in self.when)


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


DependencyEntry = Annotated[Dependency, BeforeValidator(_named, json_schema_input_type=Name | Dependency)]
"""In a file also the name alone."""


class Depends(Model):
    """What must be in the target root before the build."""

    packages: tuple[Relation, ...] = Field(
        (), description="Distribution packages of the target's architecture: names, or relations as in Build-Depends"
    )
    profiles: tuple[Profile, ...] = Field((), description="The build profiles for relations such as `foo <!nocheck>`")
    recipes: tuple[DependencyEntry, ...] = Field(
        (), description="Other recipes, by name, or as `{name: NAME, when: [TARGET, ...]}`"
    )

    def on(self, target: str) -> Depends:
        """What is needed for the target of this name: its recipes each once, and unconditional."""
        names = dict.fromkeys(known.name for known in self.recipes if known.holds(target))
        return self.model_copy(update={"recipes": tuple(Dependency(name=name) for name in names)})


RootPhase = Literal["prepare", "configure", "compile", "install", "check"]
"""A phase that can run as root: none that has the network."""


class PartialBuild(Model):
    """The build part of an override: as in a recipe, but the preset may be left out."""

    preset: str | None = Field(None, description="Name of the build system: a file in xbuild/presets")
    options: dict[OptionName, OptionValue] = Field({}, description="Values of the preset's options")
    fetch: str | None = Field(None, description="Shell text that runs first, the only one with network")
    prepare: str | None = Field(None, description="Shell text in place of the preset's prepare phase")
    configure: str | None = Field(None, description="Shell text in place of the preset's configure phase")
    compile: str | None = Field(None, description="Shell text in place of the preset's compile phase")
    install: str | None = Field(None, description="Shell text in place of the preset's install phase")
    before_prepare: str | None = Field(None, description="Shell text ahead of the prepare phase's own")
    after_prepare: str | None = Field(None, description="Shell text after the prepare phase's own")
    before_configure: str | None = Field(None, description="Shell text ahead of the configure phase's own")
    after_configure: str | None = Field(None, description="Shell text after the configure phase's own")
    before_compile: str | None = Field(None, description="Shell text ahead of the compile phase's own")
    after_compile: str | None = Field(None, description="Shell text after the compile phase's own")
    before_install: str | None = Field(None, description="Shell text ahead of the install phase's own")
    after_install: str | None = Field(None, description="Shell text after the install phase's own")
    as_root: tuple[RootPhase, ...] = Field((), description="Phases that run as root of the system that they see")
    keep_owners: bool = Field(False, description="The artifact has the owners that files were given (default: root's)")
    incremental: bool = Field(False, description="The build tree stays, and the next build makes what changed")


class Build(PartialBuild):
    """How the project is built: a preset, its options, and shell text (`sh -eu`) where that does not fit."""

    preset: str = Field(description="Name of the build system: a file in xbuild/presets")

    @model_validator(mode="after")
    def _owners_by_root(self) -> Self:
        if self.keep_owners and not self.as_root:
            raise fault("owners", "'keep-owners' wants a phase in 'as-root': else all files are one user's")
        return self


class PartialCheck(Model):
    """The check part of an override: as in a recipe, but the command may be left out."""

    command: str | None = Field(None, description="Shell text that fails when the build is wrong")
    timeout: Duration = Field(1800, description="When it is ended (default: 30m)")


class Check(PartialCheck):
    """The project's own tests, run in the build directory after install."""

    command: str = Field(description="Shell text that fails when the build is wrong")


class Twins(Model):
    """Changes to the set of tools that native twins stand in for, by the names of the tools."""

    add: tuple[str, ...] = Field((), description="Tools to run natively beside those of the policy")
    remove: tuple[str, ...] = Field((), description="Tools to emulate although the policy has them native")

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        both = sorted({*self.add} & {*self.remove})
        if both:
            raise fault("twins", f"in both 'add' and 'remove': {', '.join(both)}")
        return self


class Override(Model):
    """Changes for some targets. Lists extend the recipe's, mappings merge with it, all else replaces it."""

    targets: NonEmpty[str] = Field(description="Patterns (* ? []) of target names")
    patches: tuple[RelativePath, ...] = Field((), description="Further patches")
    depends: Depends = Field(Depends(), description="Further packages")
    build: PartialBuild = Field(PartialBuild(), description="Further options, other shell text")
    env: Environment = Field({}, description="Further environment variables")
    check: PartialCheck = Field(PartialCheck(), description="Another command or timeout")
    outputs: tuple[Output, ...] = Field((), description="Further outputs")
    data: tuple[RelativePath, ...] = Field((), description="Further files that are data")
    artifact: Handing = Field(Handing(), description="Another way to hand it over")
    twins: Twins = Field(Twins(), description="Further changes to the set of native tools")


class Recipe(Model):
    """A recipe for one target: overrides applied, templates rendered."""

    schema_version: SchemaVersion = Field(alias="schema", description="Version of this format")
    name: Name = Field(description="Name of the project, and of the file")
    version: Version = Field(description="Version of the project, in quotes")
    summary: str = Field("", description="One line about the project")
    license: str = Field("", description="SPDX expression of the project's licence")
    homepage: str | None = Field(None, description="The project's site")
    sources: NonEmpty[Source] = Field(description="What is unpacked into the source directory")
    patches: tuple[RelativePath, ...] = Field(
        (), description="Patches, as paths relative to the recipe's file, in order"
    )
    root: Name | None = Field(None, description="An imported root (root.import) in the place of the distribution's")
    depends: Depends = Field(Depends(), description="What the build needs in the target root")
    build: Build = Field(description="How it is built")
    env: Environment = Field({}, description="Environment variables of all phases")
    check: Check | None = Field(None, description="The project's own tests")
    idle_limit: Duration = Field(
        900, description="A phase that is silent and uses no CPU for so long is ended (default: 15m)"
    )
    outputs: tuple[Output, ...] = Field((), description="What must be there in the end; without any, at least one file")
    data: tuple[RelativePath, ...] = Field(
        (), description="Patterns of installed files that are data, also if they are ELF files for other machines"
    )
    artifact: Handing = Field(Handing(), description="How what was built is handed over")
    twins: Twins = Field(Twins(), description="Changes to the set of native tools")

    @model_validator(mode="after")
    def _incremental_by_path(self) -> Self:
        if self.build.incremental and (len(self.sources) != 1 or not self.sources[0].path or self.patches):
            raise fault("incremental", "'build.incremental' wants one source, a path, and no patches")
        return self

    def completed(self, target: str) -> Recipe:
        """This recipe for the target of this name, with what its sources take from it filled in."""
        sources = tuple(source.completed(self.version) for source in self.sources)
        return self.model_copy(update={"sources": sources, "depends": self.depends.on(target)})


class RecipeFile(Recipe):
    """A recipe as written: the fields of a recipe, and overrides for some targets."""

    overrides: tuple[Override, ...] = Field((), description="Changes for some targets, applied in order")
