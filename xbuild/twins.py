"""Twins: which native programs stand in for which programs of a target root, and where all that lies.

Two steps, because the first is slow and shared. `make` copies every program that the policy knows from the native
root, with its libraries, into one private directory. `pair` decides, for one target root, which of them are used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from xbuild.debian import Tree
from xbuild.dispatcher.table import Entry, Rules
from xbuild.elf import ElfError, is_elf, read_elf
from xbuild.model.policy import Policy, Tool
from xbuild.model.toolchain import Toolchain
from xbuild.paths import PRIVATE

WIDTHS = {"amd64": 64, "i386": 32}
"""The native architectures that twins come in, and their word sizes in bits."""

SHIM = "libxbuild.so"

SWITCHED_OFF = "switched off"
"""Why a program has no twin if the user wanted it so."""


@dataclass(frozen=True)
class Twin:
    """A native program of the private directory.

    target_path: real path of the file in the target root that it stands in for. architecture: amd64 or i386.
    version: of its native package, without the suffixes that the policy ignores. source: the native file's path.
    """

    tool: str
    target_path: str
    architecture: str
    package: str
    version: str
    source: str

    @property
    def program(self) -> str:
        """Its path, as seen inside."""
        return f"{PRIVATE}/{self.architecture}{self.target_path}"


@dataclass(frozen=True)
class Refused:
    """A program of the target root that could have had a twin, and why it has none."""

    path: str
    reason: str


@dataclass(frozen=True)
class Pairs:
    """What `pair` decided."""

    entries: tuple[Entry, ...]
    twins: tuple[Twin, ...]
    refused: tuple[Refused, ...]


def candidates(tree: Tree, architecture: str, policy: Policy, toolchain: Toolchain) -> list[Twin]:
    """The programs of a native tree that the policy knows as tools, in a fixed order; of its tools the first counts."""
    found = []
    for path, package in sorted(tree.owners.items()):
        if not policy.may_have_twin(path):
            continue
        for name, tool in policy.tools.items():
            target_path = tool.target_path(path, package, toolchain.triplet)
            place = tree.find(path) if target_path else None
            if target_path and place and place.is_file() and not place.is_symlink() and is_elf(place):
                version = policy.plain_version(tree.packages[package].version)
                found.append(Twin(name, target_path, architecture, package, version, path))
                break
    return found


def closure(tree: Tree, path: str, triplet: str) -> dict[str, str]:
    """The libraries that the ELF file `path` of `tree` needs, directly or not: file name -> real path in the tree.

    triplet: of the tree's architecture. Raises ElfError if one is not there.
    """
    found: dict[str, str] = {}
    pending = [(path, path)]
    while pending:
        shown, current = pending.pop()
        place = tree.find(current)
        assert place is not None
        info = read_elf(place)
        origin = str(PurePosixPath(current).parent)
        own = [part.replace("$ORIGIN", origin) for part in (*info.rpath, *info.runpath)]
        for name in (*info.needed, *([info.interpreter] if info.interpreter else [])):
            file = PurePosixPath(name).name
            if file in found:
                continue
            places = [name] if name.startswith("/") else []
            places += [f"{folder}/{file}" for folder in (*own, f"/usr/lib/{triplet}", "/usr/lib")]
            real = next((real for item in places if (real := tree.real_path(item))), None)
            if real is None:
                raise ElfError(f"{shown} needs {name}, which the native root does not have")
            found[file] = real
            pending.append((real, real))
    return found


def fill(text: str, toolchain: Toolchain, path: str) -> str:
    """`text` of the policy with `{triplet}`, `{version}` and the identity's names filled in for the tool at `path`.

    path: its native path.
    """
    numbers = [part for word in path.split("/") for part in word.split("-") if part.isdigit()]
    known = {"triplet": toolchain.triplet, "version": numbers[-1] if numbers else "", **toolchain.identity}
    for name, value in known.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def save(twins: Iterable[Twin], path: Path) -> None:
    """Write `twins` to the JSON file `path`."""
    path.write_text(json.dumps([asdict(twin) for twin in twins], indent=1) + "\n")


def load(path: Path) -> list[Twin]:
    """The inverse of `save`."""
    return [Twin(**value) for value in json.loads(path.read_text())]


def _rules(policy: Policy, tool: Tool, twin: Twin, other: Twin | None, toolchain: Toolchain) -> Rules:
    identity = {name: toolchain.identity[name] for name in tool.default_env if name in toolchain.identity}
    return Rules(
        emulate_args=tool.emulate_args,
        emulate_env=(*policy.emulate_env, *tool.emulate_env),
        other_args=tool.target_width_args if other else (),
        other=other.program if other else None,
        set_env={name: fill(value, toolchain, twin.source) for name, value in tool.set_env.items()},
        default_env=identity,
    )


def entries(twins: Sequence[Twin], policy: Policy, toolchain: Toolchain) -> dict[str, tuple[Twin, Entry]]:
    """The dispatcher's entries by target path, for any file at that path: the choice among widths is made here."""
    by_path: dict[str, dict[str, Twin]] = {}
    for known in twins:
        by_path.setdefault(known.target_path, {})[known.architecture] = known
    chosen: dict[str, tuple[Twin, Entry]] = {}
    for path, choices in by_path.items():
        matched = next((twin for name, twin in choices.items() if WIDTHS[name] == toolchain.elf.elf_class), None)
        tool = policy.tools[next(iter(choices.values())).tool]
        twin = matched if tool.width == "target" else choices.get("amd64")
        if twin is None or tool.library:
            continue
        other = matched if matched is not twin else None
        chosen[path] = (twin, Entry(path, twin.program, _rules(policy, tool, twin, other, toolchain)))
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
) -> Pairs:
    """Which of `twins` stand in for which files of the tree `target`.

    removed: names of tools, groups or programs that the recipe takes away. added: optional tools that it wants.
    without: target paths that are to have none. A group of tools of which one member cannot have a twin, or is not
    there natively, has none at all, unless `grouped` is False.
    """
    refused: dict[str, Refused] = {}
    kept: list[tuple[Twin, Entry]] = []
    broken = _absent(twins, policy)
    for path, (twin, entry) in entries(twins, policy, toolchain).items():
        place = target.find(path)
        if place is None or target.owners.get(path) is None:
            continue
        if policy.tools[twin.tool].optional and twin.tool not in added:
            continue
        reason = SWITCHED_OFF if path in without else _why_not(twin, place, path, target, policy, toolchain, removed)
        if reason is None:
            kept.append((twin, _of_this_file(entry, place)))
        else:
            refused[path] = Refused(path, reason)
            broken.setdefault(policy.group_of(twin.tool), f"{path}: {reason}")
    good = []
    for twin, entry in kept:
        group = policy.group_of(twin.tool)
        if grouped and group in broken and policy.tools[twin.tool].group:
            refused[entry.path] = Refused(entry.path, f"its group {group} is not substituted ({broken[group]})")
        else:
            good.append((twin, entry))
    return Pairs(tuple(entry for _, entry in good), tuple(twin for twin, _ in good), tuple(refused.values()))


def _absent(twins: Sequence[Twin], policy: Policy) -> dict[str, str]:
    """The groups of which a tool is not there natively at all, and which tool."""
    there = {twin.tool for twin in twins}
    tools = [(name, tool.group) for name, tool in policy.tools.items() if tool.group and not tool.library]
    return {group: f"there is no native {name}" for name, group in tools if name not in there}


def _of_this_file(entry: Entry, place: Path) -> Entry:
    state = place.stat()
    seconds, nanoseconds = divmod(state.st_ctime_ns, 1_000_000_000)
    return replace(entry, size=state.st_size, ctime=(seconds, nanoseconds))


def _why_not(
    twin: Twin,
    place: Path,
    path: str,
    target: Tree,
    policy: Policy,
    toolchain: Toolchain,
    removed: frozenset[str],
) -> str | None:
    if removed & {twin.tool, policy.group_of(twin.tool), PurePosixPath(path).name}:
        return "taken away by the recipe"
    if place.is_symlink() or not is_elf(place):
        return "it is no ELF file in the target root"
    try:
        info = read_elf(place)
    except ElfError as error:
        return str(error)
    if (info.machine, info.elf_class) != (toolchain.elf.machine, toolchain.elf.elf_class):
        return f"it is {info.machine}, {info.elf_class} bits"
    package = target.packages[target.owners[path]]
    version = policy.plain_version(package.version)
    if version != twin.version:
        return f"{package.name} is {version} in the target root, {twin.package} {twin.version} in the native root"
    return None
