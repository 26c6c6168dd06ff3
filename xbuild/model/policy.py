"""A policy: which programs of a target root may have a twin, and under which conditions the twin runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from xbuild.formats.deb822 import without_epoch
from xbuild.model.base import Model, Name, Package, text_like
from xbuild.model.native import here
from xbuild.model.rules import Rules


class Further(Rules):
    """Rules that count on some targets only."""

    trait: Name = Field(description="Which targets: those whose toolchain names it in `traits`")
    files: str = Field(".*", description="Which of the tool's files in the target root (pattern)")
    unless_added: bool = Field(False, description="Not where the recipe's `twins: {add: [...]}` names the tool")


class ReplacedBytes(Model):
    """Bytes in which a program tells of the machine, for some targets only; hex digits, with blanks or without."""

    trait: Name = Field(description="Which targets: those whose toolchain names it in `traits`")
    old: str = Field(pattern=r"^([0-9a-f]{2} ?)+$", description="What it has exactly once")
    new: str = Field(pattern=r"^([0-9a-f]{2} ?)+$", description="What takes its place; as many bytes")

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if len(bytes.fromhex(self.old)) != len(bytes.fromhex(self.new)):
            raise ValueError("old and new want equally many bytes")
        return self


class Tool(Rules):
    """One tool, or a family of programs that are treated alike.

    Patterns are regular expressions for whole real paths. `{triplet}` in patterns, templates, rules and strings stands
    for the target's triplet, `{version}` in rules and strings for the last whole number in the tool's path (gcc-14:
    14), `{native-triplet}` for the native machine's, `{native-NAME}` for what its tools say of it.
    """

    packages: tuple[str, ...] = Field((), description="All programs of these packages")
    files: tuple[str, ...] = Field((), description="Programs that have the same path in both roots (patterns)")
    native_files: tuple[str, ...] = Field((), description="Files of the native root that stand elsewhere (patterns)")
    target_file: str | None = Field(None, description="Where a native file stands in the target root (template)")
    native_packages: tuple[str, ...] | None = Field(
        None, description="What brings it to the native root (`{triplet}`: as in names of packages), if not `packages`"
    )
    group: str | None = Field(None, description="Tools of one group are substituted together or not at all")
    width: Literal["any", "target"] = Field("any", description="`target`: a 32-bit target gets the 32-bit twin")
    optional: bool = Field(False, description="Substituted only if the recipe's `twins: {add: [...]}` names it")
    library: bool = Field(
        False, description="A library, not a program: one that a twin opens by path (`module`), or that twins need"
    )
    module: bool = Field(
        False, description="A compiled module or plugin of a tool: paired file by file, and opened only where paired"
    )
    layer_packages: tuple[str, ...] = Field(
        (),
        description="Which build dependencies bring it: patterns of `NAME: DEPENDENCY`, one of the parts of the "
        "package's Depends. Their native counterparts are unpacked beside them",
    )
    loads_modules: bool = Field(
        False,
        description="Loads compiled modules or plugins, or computes: may begin again emulated, and what is no number "
        "has the target's sign; while a root is made only of the very version that there will be",
    )
    shim: bool = Field(False, description="Asks uname(2), /proc/self/exe or dlopens by path: answered by the shim")
    replace_strings: dict[str, str] = Field(
        default_factory=dict, description="Strings compiled into it, and the shorter ones that take their place"
    )
    moved_strings: dict[str, str] = Field(
        default_factory=dict,
        description="Strings compiled into it, and any others that it refers to instead; `{NAME}`: of `identity`",
    )
    counted_strings: dict[str, str] = Field(
        default_factory=dict,
        description="As `moved-strings`, where the program also has the length of each, near each reference",
    )
    optional_strings: tuple[str, ...] = Field(
        (), description="Those of `moved-strings` that not every version has"
    )
    replace_bytes: tuple[ReplacedBytes, ...] = Field(
        (), description="Bytes of it that tell of the machine; where it does not have them it gets no twin"
    )
    include_table: str | None = Field(
        None, description="A gcc compiler proper, made to search as a native one; its C++ directory of the target"
    )
    cache: Name | None = Field(
        None, description="The tool, a compiler cache, that may answer its calls where the user wants one"
    )
    client: Name | None = Field(
        None, description="The tool that has other machines answer its calls, where the user names some"
    )
    columns: tuple[Annotated[str, *text_like(r"[^\s\0]+", "text without blanks")], ...] = Field(
        (),
        description="With such an argument (`*`: any text) columns of the source show in what it makes: the `cache` "
        "looks at them too, and the `client`, which sends a text without them, does not answer",
    )
    client_keeps: tuple[str, ...] = Field(
        (), description="As `cache-unless`: with what, besides, the `client` does not"
    )
    scripts: tuple[str, ...] = Field(
        (), description="Scripts that a package brings (patterns for paths, of links too), for `script-options`"
    )
    further: tuple[Further, ...] = Field((), description="Rules that count on some targets only")

    @model_validator(mode="after")
    def _places(self) -> Self:
        if bool(self.native_files) != bool(self.target_file):
            raise ValueError("native-files and target-file go together")
        if not (self.packages or self.files or self.native_files):
            raise ValueError("one of packages, files, native-files is needed")
        return self

    @property
    def brought_by(self) -> tuple[str, ...]:
        """The packages that bring it to the native root."""
        return self.packages if self.native_packages is None else self.native_packages

    @property
    def needed(self) -> bool:
        """Whether it is a library that twins need; without it none of its group would answer as the target's."""
        return self.library and not self.module

    def further_for(
        self, target_path: str, triplet: str, traits: Collection[str], *, added: bool = False
    ) -> list[Further]:
        """Those of `further` that count for the file `target_path` of the root of a target with these traits.

        added: a recipe asks for the tool.
        """
        return [
            known
            for known in self.further
            if known.trait in traits
            and not (added and known.unless_added)
            and re.fullmatch(filled(known.files, triplet), target_path)
        ]

    def target_path(self, native_path: str, package: str, triplet: str) -> str | None:
        """Where the twin `native_path`, of the native package `package`, stands in the target root; None: no twin."""
        if package in self.packages and re.fullmatch(r"/usr/s?bin/[^/]+", native_path):
            return native_path
        for pattern in self.files:
            if re.fullmatch(filled(pattern, triplet), native_path):
                return native_path
        for pattern in self.native_files:
            match = re.fullmatch(filled(pattern, triplet), native_path)
            if match and self.target_file:
                return match.expand(self.target_file.replace("{triplet}", triplet))
        return None


class Equivalent(Model):
    """Tools that may stand in, in an imported root, for programs of another package version, and why."""

    tools: tuple[str, ...] = Field(description="Names of tools")
    upstream: tuple[str, ...] = Field(
        (), description="Versions of the sources that behave alike; none: both have the same, whatever it is"
    )
    musl: bool = Field(False, description="Also where the root's C library is musl: nothing of it shows")
    offered: bool = Field(False, description="Only where the recipe's `twins: {add: [...]}` names it or its group")
    why: str = Field(description="Why they behave alike")
    risk: str = Field(description="What may differ all the same")

    def covers(self, target: str, native: str) -> bool:
        """Whether these two versions of the sources behave alike."""
        return target == native if not self.upstream else {target, native} <= {*self.upstream}


class Policy(Rules):
    """Tools by name, the programs that never get a twin, and the rules that count for every tool."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    summary: str
    ignored_version_suffixes: tuple[str, ...] = ()
    never: tuple[str, ...]
    tools: dict[str, Tool]
    native_packages: tuple[Package, ...] = Field((), description="What the machine's own native root has besides")
    essential: tuple[Package, ...] = Field((), description="Packages that each root has without being asked for them")
    equivalents: tuple[Equivalent, ...] = Field((), description="What may stand in where versions are not the same")
    compilers: dict[str, str] = Field({}, description="By release, the version of the gcc whose cross compilers it has")

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = {*self.tools, *(tool.group for tool in self.tools.values())}
        for equivalent in self.equivalents:
            if odd := sorted({*equivalent.tools} - known):
                raise ValueError(f"equivalents name {', '.join(odd)}, which is no tool")
        for name, tool in self.tools.items():
            for kind, front in (("cache", tool.cache), ("client", tool.client)):
                if front and front not in self.tools:
                    raise ValueError(f"the {kind} of {name} is {front}, which is no tool")
        return self

    def equivalent(self, tool: str, target: str, native: str, *, musl: bool = False) -> Equivalent | None:
        """What lets the tool of a native package stand in for that of a target package of another version, if anything.

        target, native: versions of the packages. musl: the target's C library.
        """
        names = {tool, self.group_of(tool)}
        both = upstream(target), upstream(native)
        for known in self.equivalents:
            if names & {*known.tools} and (known.musl or not musl) and known.covers(*both):
                return known
        return None

    def plain_version(self, version: str) -> str:
        """`version` without the suffixes that say nothing about the sources."""
        for suffix in self.ignored_version_suffixes:
            version = re.sub(f"(?:{suffix})$", "", version)
        return version

    def brings_modules(self, package: str, dependencies: Iterable[str]) -> bool:
        """Whether a package with these dependencies, each as `NAME (>= VERSION)`, may bring modules of a tool."""
        patterns = [pattern for tool in self.tools.values() for pattern in tool.layer_packages]
        words = [f"{package}: {dependency}" for dependency in dependencies]
        return any(re.fullmatch(pattern, word) for pattern in patterns for word in words)

    def may_have_twin(self, path: str) -> bool:
        """Is the program `path` none of those that always run as the target's own?"""
        return PurePosixPath(path).name not in self.never

    def comes_by_width(self, tool: Tool) -> bool:
        """Whether the tool has twins of the target's word size."""
        return tool.width == "target" or any(rules.target_width_args for rules in (self, tool, *tool.further))

    def group_of(self, tool: str) -> str:
        """The group that the tool of this name switches with; a tool without one is a group of its own."""
        return self.tools[tool].group or tool


def upstream(version: str) -> str:
    """The version of the sources in that of a package of Debian's or Alpine's: `1:1.35+dfsg-3.1` gives `1.35`.

    Debian Policy 5.6.12: [epoch:]upstream[-revision]; +dfsg, ~ds ...: what was taken out of the sources.
    """
    plain = without_epoch(version)
    return re.sub(r"[+~](dfsg|ds|repack)[0-9.]*$", "", plain.rpartition("-")[0] or plain)


def filled(pattern: str, triplet: str) -> str:
    """The pattern with the target's triplet and the native machine's filled in."""
    return pattern.replace("{triplet}", re.escape(triplet)).replace("{native-triplet}", re.escape(here().triplet))
