"""Twins: which native programs stand in for which programs of a target root, and where all that lies.

Two steps, because the first is slow and shared. `make` copies every program that the policy knows from the native
root, with its libraries, into one private directory. `pair` decides, for one target root, which of them are used.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, auto
from pathlib import Path, PurePosixPath
from typing import Literal

from xbuild.base.digest import json_contents
from xbuild.base.errors import UsageError
from xbuild.base.paths import LAYER, PRIVATE
from xbuild.base.yamlfile import did_you_mean
from xbuild.dispatcher.table import Entry
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ElfError, is_elf, read_elf
from xbuild.model.native import here
from xbuild.model.policy import Equivalent, Policy, Tool, upstream
from xbuild.model.rules import Rules, together
from xbuild.model.toolchain import Toolchain
from xbuild.twins import scripts
from xbuild.twins.arithmetic import fuses

SHIM, LATE_SHIM = "libxbuild.so", "libxbuildl.so"
_SHOWN = 6


class Refusal(Enum):
    """Why a program has no twin: the user or the recipe has switched it off; or the target's file is none that could
    have one, is not as its package brought it, or has another version than the native one; or it would have one if the
    recipe asked for it; or native programs are lacking that it works with; or it could not go on in a build of this
    recipe; or it would compute otherwise; or another recipe put its own there.
    """

    SWITCHED_OFF = auto()
    REMOVED = auto()
    UNFIT = auto()
    CHANGED = auto()
    VERSION = auto()
    OFFERED = auto()
    LACKING = auto()
    ABSENT = auto()
    LATE = auto()
    ARITHMETIC = auto()
    COVERED = auto()

    @property
    def by_roots(self) -> bool:
        """Whether other roots could give it one: target and native root do not go together."""
        return self in (Refusal.VERSION, Refusal.OFFERED, Refusal.LACKING)


@dataclass(frozen=True)
class Cause:
    """Why there is no twin, for programs and for people."""

    kind: Refusal
    text: str


_LATE = "in the middle of its work it asked, in this recipe's build, for a library that is only there for the target"
_SWITCHED_OFF = Cause(Refusal.SWITCHED_OFF, "switched off")


@dataclass(frozen=True)
class Twin:
    """A native program of the private directory.

    target_path: real path of the file in the target root that it stands in for. architecture: one of the machine's two.
    version: of its native package, without the suffixes that the policy ignores. source: the native file's path.
    layer: it lies in a native layer. computes: it needs functions whose last digits depend on the processor.
    """

    tool: str
    target_path: str
    architecture: str
    package: str
    version: str
    source: str
    layer: bool = False
    computes: bool = False

    @property
    def program(self) -> str:
        """Its path, as seen inside."""
        return f"{LAYER if self.layer else f'{PRIVATE}/{self.architecture}'}{self.target_path}"


@dataclass(frozen=True)
class Refused:
    """A program of the target root that could have had a twin, and why it has none. kind: of what broke its group."""

    path: str
    kind: Refusal
    reason: str


@dataclass(frozen=True)
class Pairs:
    """What `pair` decided. equivalents: of pairs of unequal versions, by the target's path, what lets them be."""

    entries: tuple[Entry, ...]
    twins: tuple[Twin, ...]
    refused: tuple[Refused, ...]
    equivalents: Mapping[str, Equivalent] = field(default_factory=dict)
    modules: tuple[Entry, ...] = ()
    scripts: tuple[Entry, ...] = ()

    @property
    def table(self) -> tuple[Entry, ...]:
        """What the dispatcher and the shim decide by."""
        return self.entries + self.modules + self.scripts

    def without(self, paths: AbstractSet[str]) -> Pairs:
        """The same, but that the programs at these target paths have none, for their twins could not go on.

        Those of their groups stay: what the twins gave as far as they came is not used.
        """
        kept = [(twin, entry) for twin, entry in zip(self.twins, self.entries, strict=True) if entry.path not in paths]
        twins, entries = tuple(twin for twin, _ in kept), tuple(entry for _, entry in kept)
        gone = tuple(Refused(entry.path, Refusal.LATE, _LATE) for entry in self.entries if entry.path in paths)
        return replace(self, twins=twins, entries=entries, refused=self.refused + gone)

    @property
    def pairing(self) -> Literal["exact", "equivalent", "none"]:
        """Whether all twins have the version of what they stand in for, or there are none."""
        return "none" if not self.twins else "equivalent" if self.equivalents else "exact"

    @property
    def risks(self) -> list[str]:
        """What may differ because versions are not the same, one line a reason."""
        by_reason: dict[Equivalent, list[str]] = {}
        for path, known in self.equivalents.items():
            by_reason.setdefault(known, []).append(PurePosixPath(path).name)
        return [
            f"{len(names)} native tools are not of the root's own package version ({_some(names)}): {known.why}; "
            f"the risk: {known.risk}"
            for known, names in by_reason.items()
        ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")


def candidates(
    tree: Tree,
    architecture: str,
    policy: Policy,
    toolchain: Toolchain,
    *,
    packages: Container[str] | None = None,
    layer: bool = False,
) -> list[Twin]:
    """The programs of a native tree that the policy knows as tools, in a fixed order; of its tools the first counts.

    packages: only of these. layer: they come into a native layer.
    """
    found = []
    for path, package in sorted(tree.owners.items()):
        if (packages is not None and package not in packages) or not policy.may_have_twin(path):
            continue
        for name, tool in policy.tools.items():
            target_path = tool.target_path(path, package, toolchain.triplet)
            place = tree.find(path) if target_path else None
            if target_path and place and place.is_file() and not place.is_symlink() and is_elf(place):
                version = policy.plain_version(tree.packages[package].version)
                found.append(Twin(name, target_path, architecture, package, version, path, layer))
                break
    return found


def fill(text: str, toolchain: Toolchain, path: str, version: str = "") -> str:
    """`text` of the policy with `{triplet}`, `{version}`, the identity's names and the native machine's filled in.

    path: of the tool, its native one. version: of its package, for `{upstream}` (5.40.1), `{series}` (5.40), `{part1}`.
    """
    numbers = [part for word in path.split("/") for part in word.split("-") if part.isdigit()]
    known = {"triplet": toolchain.triplet, "version": numbers[-1] if numbers else "", **toolchain.identity}
    known["upstream"] = upstream(version)
    numbers = known["upstream"].split(".")
    known["series"] = ".".join(numbers[:2])
    known |= {f"part{place}": number for place, number in enumerate(numbers, 1)}
    for name, value in known.items():
        text = text.replace(f"{{{name}}}", value)
    return here().filled(text)


def save(twins: Iterable[Twin], path: Path) -> None:
    """Write `twins` to the JSON file `path`."""
    path.write_text(json.dumps([asdict(twin) for twin in twins], indent=1) + "\n")


def load(path: Path) -> list[Twin]:
    """The inverse of `save`."""
    return [Twin(**value) for value in json_contents(path)]


def rules_of(policy: Policy, tool: Tool, twin: Twin, toolchain: Toolchain, *, added: bool = False) -> Rules:
    """By which the dispatcher chooses between twin, of `tool`, and target's program. added: a recipe asks for it."""
    further = tool.further_for(twin.target_path, toolchain.triplet, toolchain.traits, added=added)
    return together((policy, tool, *further), lambda text: fill(text, toolchain, twin.source))


def entries(
    twins: Sequence[Twin], policy: Policy, toolchain: Toolchain, added: AbstractSet[str] = frozenset()
) -> dict[str, tuple[Twin, Entry]]:
    """The dispatcher's entries by target path, for any file at that path: the choice among widths is made here."""
    machine, width = here(), toolchain.elf.elf_class
    by_path: dict[str, dict[str, Twin]] = {}
    for known in twins:
        by_path.setdefault(known.target_path, {})[known.architecture] = known
    chosen: dict[str, tuple[Twin, Entry]] = {}
    for path, choices in by_path.items():
        matched = next((twin for name, twin in choices.items() if machine.widths[name] == width), None)
        tool = policy.tools[next(iter(choices.values())).tool]
        twin = matched if tool.width == "target" else choices.get(machine.name)
        if twin is None or (tool.library and not tool.module):
            continue
        rules = rules_of(policy, tool, twin, toolchain, added=twin.tool in added)
        other = matched.program if matched and matched is not twin and rules.target_width_args else None
        chosen[path] = (twin, Entry(path, twin.program, rules, other=other, module=tool.module))
    return chosen


def pair(
    twins: Sequence[Twin],
    target: Tree,
    policy: Policy,
    toolchain: Toolchain,
    *,
    removed: frozenset[str] = frozenset(),
    added: frozenset[str] = frozenset(),
    without: frozenset[str] = frozenset(),
    grouped: bool = True,
    libc: str | None = None,
    seen: Tree | None = None,
) -> Pairs:
    """Which of `twins` stand in for which files of the tree `target`.

    removed: names of tools, groups or programs that the recipe takes away. added: optional tools that it wants.
    without: target paths that are to have none. A group of tools of which one member cannot have a twin, or is not
    there natively, has none at all, if `grouped`. libc: of an imported root, where versions may differ as far as
    the policy lets them. seen: `target` with layers over it that are no distribution's: what they have gets no twin.
    """
    refused, broken = dict[str, Refused](), _absent(twins, policy)
    kept: list[tuple[Twin, Entry]] = []
    judge = _Judge(target, seen or target, policy, toolchain, removed, added, libc, {twin.tool for twin in twins})
    for native_path, (twin, entry) in entries(twins, policy, toolchain, added).items():
        path, place = _owned(target, native_path)
        if path is None or place is None or (policy.tools[twin.tool].optional and twin.tool not in added):
            continue
        cause = _SWITCHED_OFF if path in without else judge.why_not(twin, place, path)
        if cause is None:
            kept.append((twin, replace(scripts.of_this_file(entry, place), path=path)))
        else:
            refused[path] = Refused(path, cause.kind, cause.text)
            broken.setdefault(policy.group_of(twin.tool), Cause(cause.kind, f"{path}: {cause.text}"))
    broken |= judge.incomplete(kept)
    kept, others = _whole_groups(kept, policy, broken if grouped else {})
    refused |= others
    equivalents = {entry.path: judge.equivalents[entry.path] for _, entry in kept if entry.path in judge.equivalents}
    asking = {twin.tool for twin, entry in kept if entry.rules.script_options}
    own = scripts.slots(target, policy, asking, as_packaged=libc is not None, seen=seen)
    return _sorted(kept, Pairs((), (), tuple(refused.values()), equivalents, scripts=own))


def require_names(names: AbstractSet[str], twins: Sequence[Twin], policy: Policy) -> None:
    """Raise UsageError if a name is none of a tool, a group or a program of `twins`: so it would take nothing away."""
    tools = {word for twin in twins for word in (twin.tool, policy.group_of(twin.tool))}
    known = tools | {PurePosixPath(twin.target_path).name for twin in twins}
    for name in sorted(names - known):
        raise UsageError(f"no native tool is called {name!r}{did_you_mean(name, known)}", hint="name a program: perl")


def _sorted(kept: Sequence[tuple[Twin, Entry]], pairs: Pairs) -> Pairs:
    """`pairs` with the twins and the entries of programs, and the entries of modules."""
    programs = [(twin, entry) for twin, entry in kept if not entry.module]
    twins, entered = tuple(twin for twin, _ in programs), tuple(entry for _, entry in programs)
    return replace(pairs, twins=twins, entries=entered, modules=tuple(entry for _, entry in kept if entry.module))


def _whole_groups(
    kept: Sequence[tuple[Twin, Entry]], policy: Policy, broken: Mapping[str, Cause]
) -> tuple[list[tuple[Twin, Entry]], dict[str, Refused]]:
    """Of `kept`, what is in none of the groups `broken`, which are given with the reason; and the others."""
    good, refused = [], {}
    for twin, entry in kept:
        group = policy.group_of(twin.tool)
        if group in broken and policy.tools[twin.tool].group:
            text = f"its group {group} is not substituted ({broken[group].text})"
            refused[entry.path] = Refused(entry.path, broken[group].kind, text)
        else:
            good.append((twin, entry))
    return good, refused


def _owned(target: Tree, path: str) -> tuple[str | None, Path | None]:
    """The path by which a package of the target owns `path`, and its file: where /bin is no link it may be /bin/sed."""
    plain = path.removeprefix("/usr") if path.startswith(("/usr/bin/", "/usr/sbin/")) else path
    owned = next((known for known in (path, plain) if known in target.owners), None)
    return owned, target.find(owned) if owned else None


def _absent(twins: Sequence[Twin], policy: Policy) -> dict[str, Cause]:
    """The groups of which a tool is not there natively at all, and which tool."""
    there = {twin.tool for twin in twins}
    tools = [(name, tool.group) for name, tool in policy.tools.items() if tool.group and not tool.module]
    return {group: Cause(Refusal.ABSENT, f"there is no native {name}") for name, group in tools if name not in there}


class _Judge:
    """Says of single files whether a twin may stand in."""

    def __init__(
        self,
        target: Tree,
        seen: Tree,
        policy: Policy,
        toolchain: Toolchain,
        removed: frozenset[str],
        added: frozenset[str],
        libc: str | None,
        tools: AbstractSet[str],
    ) -> None:
        self._tools = tools
        self._target, self._seen = target, seen
        self._policy = policy
        self._toolchain = toolchain
        self._removed = removed
        self._added = added
        self._libc = libc
        self.equivalents: dict[str, Equivalent] = {}

    def why_not(self, twin: Twin, place: Path, path: str) -> Cause | None:
        """Why the twin may not stand in for the file at `place`, which is `path` inside; None if it may."""
        if self._removed & {twin.tool, self._policy.group_of(twin.tool), PurePosixPath(path).name}:
            return Cause(Refusal.REMOVED, "taken away by the recipe")
        if self._seen.find(path) != place:
            return Cause(Refusal.COVERED, "a recipe that is built before has its own file there")
        if twin.computes and not here().computes_as(self._toolchain.traits):
            return Cause(Refusal.ARITHMETIC, "this machine's processor rounds otherwise than the target's")
        # Those of the root were tried (tests/e2e/probes/arithmetic.yml).
        if twin.layer and "fused" in self._toolchain.traits and is_elf(place) and fuses(place.read_bytes()):
            return Cause(Refusal.ARITHMETIC, "its own code rounds as no code of this machine does")
        if place.is_symlink() or not is_elf(place):
            return Cause(Refusal.UNFIT, "it is no ELF file in the target root")
        try:
            info = read_elf(place)
        except ElfError as error:
            return Cause(Refusal.UNFIT, str(error))
        elf = self._toolchain.elf
        if (info.machine, info.elf_class) != (elf.machine, elf.elf_class):
            return Cause(Refusal.UNFIT, f"it is {info.machine}, {info.elf_class} bits")
        if self._libc is not None and not self._target.as_packaged(path):
            # Who made the root may have put his own in its place.
            return Cause(Refusal.CHANGED, "it is not as its package brought it, by the package's checksum")
        return self._why_not_by_version(twin, path)

    def _why_not_by_version(self, twin: Twin, path: str) -> Cause | None:
        package = self._target.packages[self._target.owners[path]]
        version = self._policy.plain_version(package.version)
        musl = self._libc == "musl"
        if version == twin.version and not musl:
            return None
        text = f"{package.name} is {version} in the target root, {twin.package} {twin.version} in the native root"
        known = self._policy.equivalent(twin.tool, version, twin.version, musl=musl) if self._libc else None
        if known is None:
            return Cause(Refusal.VERSION, text)
        names = {twin.tool, self._policy.group_of(twin.tool)}
        if known.offered and not names & self._added:
            word = self._policy.group_of(twin.tool)
            if self._lacking(word, self._tools):
                return Cause(Refusal.VERSION, text)
            how = f"offered: twins: {{add: [{word}]}} in the recipe; the risk: {known.risk}"
            return Cause(Refusal.OFFERED, f"{text}; {how}")
        self.equivalents[path] = known
        return None

    def incomplete(self, kept: Sequence[tuple[Twin, Entry]]) -> dict[str, Cause]:
        """Groups that stand in by way of `offered`, but lack a program: the others would work with another's."""
        paths = {entry.path: twin.tool for twin, entry in kept}
        found = {}
        for group in {self._policy.group_of(paths[path]) for path, known in self.equivalents.items() if known.offered}:
            if missing := self._lacking(group, {*paths.values()}):
                found[group] = Cause(Refusal.LACKING, f"the native root lacks {', '.join(missing)}")
        return found

    def _lacking(self, group: str, tools: AbstractSet[str]) -> list[str]:
        """The programs of `group` that are not among `tools`, by the names of their tools."""
        members = {name for name, tool in self._policy.tools.items() if tool.group == group and not tool.library}
        return sorted(members - tools)
