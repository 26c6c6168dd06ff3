"""Why a program of the target runs natively or emulated: the dispatcher's verdict, refined by what it was made from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import PurePosixPath

from xbuild.base.errors import called
from xbuild.build.modes.mode import Mode
from xbuild.dispatcher.table import Entry
from xbuild.formats.debian import Tree
from xbuild.formats.record import Choice
from xbuild.model.policy import Policy, Tool, filled
from xbuild.model.toolchain import Toolchain
from xbuild.proof.trace.account import is_made
from xbuild.twins.pairing import Pairs, Refusal, Refused, Twin


class Why(StrEnum):
    """Reasons, as tables and JSON name them."""

    TWIN = "twin"
    ARGUMENT = "argument"
    VARIABLE = "variable"
    PRELOADED = "preloaded"
    CHANGED = "changed"
    FAILED = "failed"
    BEGUN_AGAIN = "begun-again"
    TOO_LATE = "too-late"
    MADE = "made"
    MODE = "mode"
    NEVER = "never"
    REMOVED = "removed"
    REFUSED = "refused"
    LATE = "late"
    OPTIONAL = "optional"
    NO_NATIVE = "no-native"
    NO_ENTRY = "no-entry"
    NO_PACKAGE = "no-package"
    NOT_THERE = "not-there"
    SCRIPT = "script"
    NO_PROGRAM = "no-program"
    OUTDATED = "outdated"
    NOT_KNOWN = "not-known"


@dataclass(frozen=True)
class Explanation:
    """why: the reason, and in words. remedy: what would give the program a twin, if anything does."""

    why: Why
    reason: str
    remedy: str | None = None


@dataclass(frozen=True)
class Surroundings:
    """What a build's decisions are made from.

    twins: all programs that native roots offer. removed: names that the recipe takes away. without: target paths whose
    twins are switched off. below: of `tree` what is the distribution's, where other recipes lie over it.
    """

    mode: Mode
    policy: Policy
    toolchain: Toolchain
    tree: Tree
    pairs: Pairs
    twins: tuple[Twin, ...]
    removed: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    below: Tree | None = None

    @cached_property
    def entries(self) -> dict[str, tuple[Twin, Entry]]:
        """The twins of this build, and their entries of the dispatcher's table, by target path."""
        return {entry.path: (twin, entry) for twin, entry in zip(self.pairs.twins, self.pairs.entries, strict=True)}

    @cached_property
    def refused(self) -> dict[str, Refused]:
        """Programs that could have had a twin, and why they have none, by target path."""
        return {refused.path: refused for refused in self.pairs.refused}

    @cached_property
    def offered(self) -> dict[str, Twin]:
        """One of the programs that native roots offer, by target path."""
        return {twin.target_path: twin for twin in self.twins if not self.policy.tools[twin.tool].library}

    @cached_property
    def never(self) -> dict[str, str]:
        """The real paths of programs that never have a twin, with the name that the policy has for them."""
        places = ((name, f"/usr/{folder}/{name}") for name in self.policy.never for folder in ("bin", "sbin"))
        return {real: name for name, path in places if (real := self.tree.real_path(path))}

    @cached_property
    def loader(self) -> str | None:
        """The real path of the target's dynamic loader."""
        return self.tree.real_path(self.toolchain.elf.interpreter)

    def package_of(self, path: str) -> str | None:
        """The package that owns the file at this real path."""
        if self.below is not None and self.below.find(path) != self.tree.find(path):
            return None
        return (self.below or self.tree).owners.get(path)


_BY_VERDICT = {
    Choice.TWIN: Explanation(Why.TWIN, "its twin ran"),
    Choice.WIDTH_TWIN: Explanation(Why.TWIN, "its twin ran"),
    Choice.ARGUMENT: Explanation(Why.ARGUMENT, "an argument asked for the target's own program"),
    Choice.VARIABLE: Explanation(Why.VARIABLE, "a variable asked for the target's own program"),
    Choice.PRELOADED: Explanation(Why.PRELOADED, "/etc/ld.so.preload names a library of the target for all programs"),
    Choice.CHANGED: Explanation(Why.CHANGED, "it was no longer the distribution's own file"),
    Choice.FAILED: Explanation(Why.FAILED, "its twin could not be started: a chroot, or too long a command line"),
    Choice.BEGUN_AGAIN: Explanation(Why.BEGUN_AGAIN, "its twin asked for a library that is only there for the target"),
    Choice.TOO_LATE: Explanation(Why.TOO_LATE, "it asked for such a library, and had done something already"),
}


def explain(path: str, around: Surroundings, verdict: Choice | None = None) -> Explanation:
    """Why the program at the real path `path` runs as it does.

    verdict: what the dispatcher decided in a build; None: what it would decide now, for no special arguments.
    """
    if verdict in _BY_VERDICT:
        return _BY_VERDICT[verdict]
    if is_made(path):
        return Explanation(Why.MADE, "the build has made it, so only the emulator can run it")
    if not around.mode.twins:
        return Explanation(Why.MODE, f"nothing is substituted in the mode {around.mode.name!r}")
    if path in around.entries and verdict is not None:
        text = "it has a twin now: roots, policy or recipe are no longer those of that build"
        return Explanation(Why.OUTDATED, text, "build again")
    if path in around.entries:
        return Explanation(Why.TWIN, "it has a twin")
    if path in around.refused:
        return _refused(path, around)
    return _without_twin(path, around)


def _refused(path: str, around: Surroundings) -> Explanation:
    refused = around.refused[path]
    twin = around.offered[path]
    names = {twin.tool, around.policy.group_of(twin.tool), PurePosixPath(path).name}
    if refused.kind is Refusal.LATE:
        return Explanation(Why.LATE, refused.reason, called("`invoke forget RECIPE` lets it be tried again"))
    if path in around.without:
        return Explanation(Why.REMOVED, refused.reason)
    if names & around.removed:
        return Explanation(Why.REMOVED, refused.reason, "take it out of the recipe's `twins: {remove: [...]}`")
    remedy = called("`invoke clean --roots` makes both roots anew") if refused.kind.by_roots else None
    return Explanation(Why.REFUSED, refused.reason, remedy)


def _without_twin(path: str, around: Surroundings) -> Explanation:
    policy = around.policy
    if around.tree.find(path) is None:
        return Explanation(Why.NOT_THERE, "the root has no such file; it was in a root of the build's own")
    if name := around.never.get(path):
        also = "" if PurePosixPath(path).name == name else f" as {name}"
        text = "it answers questions about the machine, or loads modules of the target"
        return Explanation(Why.NEVER, f"the policy {policy.name!r} never gives it a twin{also}: {text}")
    if path == around.loader:
        return Explanation(Why.NEVER, "it is the target's loader, which can only start programs of the target")
    package = around.package_of(path)
    if package is None:
        return Explanation(Why.NO_PACKAGE, "it belongs to no package, so nothing tells which native program equals it")
    if path in around.offered:
        tool = around.offered[path].tool
        text = f"the tool {tool} of the policy runs natively only where a recipe asks for it"
        return Explanation(Why.OPTIONAL, text, f"`twins: {{add: [{tool}]}}` in the recipe")
    for tool, known in policy.tools.items():
        if knows(known, path, package, around.toolchain.triplet):
            text = f"the policy has the tool {tool}, but the native root has no such program that can be used"
            remedy = f"add the native package of {package} to native-packages of the tool, or of native-root"
            return Explanation(Why.NO_NATIVE, text, remedy)
    text = f"no tool of the policy {policy.name!r} has this program of the package {package}"
    return Explanation(Why.NO_ENTRY, text, f"add a tool for the package {package} to the policy, if it is transparent")


def knows(tool: Tool, path: str, package: str, triplet: str) -> bool:
    """Does `tool` speak of the program `path` of the target root, which `package` owns, whatever native roots have?"""
    if tool.target_path(path, package, triplet) == path:
        return True
    return any(re.fullmatch(pattern, path) for pattern in _target_patterns(tool, triplet))


def _target_patterns(tool: Tool, triplet: str) -> Iterator[str]:
    """Patterns of what `native_files` stand in for: `target_file` with each \\N replaced by that group's pattern."""
    for pattern in tool.native_files:
        groups = _groups(filled(pattern, triplet))
        words = re.split(r"\\([0-9]+)", tool.target_file or "")
        yield "".join(groups[int(word)] if number % 2 else re.escape(word) for number, word in enumerate(words))


def _groups(pattern: str) -> list[str]:
    """`pattern` and its groups by their numbers, each as a pattern that captures nothing."""
    found, opened = [pattern], []
    # Characters with a backslash, sets of characters, and parentheses, of which those with a ? count for nothing.
    for token in re.finditer(r"\\.|\[\^?\]?[^]]*\]|\(\??|\)", pattern):
        if token[0].startswith("("):
            opened.append((len(found) if token[0] == "(" else None, token.end()))
            found += [""] if token[0] == "(" else []
        elif token[0] == ")":
            number, start = opened.pop()
            if number is not None:
                found[number] = pattern[start : token.start()]
    return [re.sub(r"(?<!\\)\((?!\?)", "(?:", f"({text})") for text in found]
