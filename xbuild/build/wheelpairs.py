"""Twins from wheels: native programs for those that a build's Python requirements bring.

Where a target's wheel has /.../bin/ninja, the native wheel of that name and version has one too: what the policy knows
as a tool may run natively, as if a package had brought it. Modules: wheelmodules.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from xbuild.dispatcher.table import Entry, content_digest
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ELF_MAGIC, ElfError, ElfInfo, read_elf
from xbuild.formats.wheel import Wheel, WheelError, name_of, opened
from xbuild.model.native import here
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain
from xbuild.twins.arithmetic import fuses
from xbuild.twins.closure import closure, contents
from xbuild.twins.pairing import Cause, Pairs, Refusal, Refused, Twin, rules_of
from xbuild.twins.privatetree import computes, program, write

_SCHEMES = {"scripts": "bin/", "purelib": "", "platlib": "", "data": ""}
"""Directories of NAME-VERSION.data, and where below the directory they go to (pip install --target)."""


@dataclass(frozen=True)
class Stand:
    """A twin, its entry, and what of it lies in the layer, by name below that. It is a program, or a module."""

    twin: Twin
    entry: Entry
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Wheels:
    """Twins of all wheels of a build, and what could have had one."""

    stands: tuple[Stand, ...] = ()
    refused: tuple[Refused, ...] = ()

    def together(self, pairs: Pairs) -> Pairs:
        """`pairs`, and these."""
        programs = [one for one in self.stands if not one.entry.module]
        return replace(
            pairs,
            twins=(*pairs.twins, *(one.twin for one in programs)),
            entries=(*pairs.entries, *(one.entry for one in programs)),
            modules=(*pairs.modules, *(one.entry for one in self.stands if one.entry.module)),
            refused=(*pairs.refused, *self.refused),
        )

    def lay(self, layer: Path) -> None:
        """Write them to `layer`, where a native layer may lie already."""
        for one in self.stands:
            for name, data in one.files.items():
                write(layer / name, data)


@dataclass(frozen=True)
class Sides:
    """What decides beside the wheels. tree: the native root. private: its private tree. twins: what is in it. scratch:
    a directory. removed: names of tools and programs, and paths, that are to have no twin.
    """

    policy: Policy
    toolchain: Toolchain
    tree: Tree
    private: Path
    twins: Collection[Twin]
    scratch: Path
    removed: Collection[str] = ()


def same_version(target: str, native: str) -> bool:
    """Whether these names are of one version of one project, and the second one is for this machine."""
    try:
        one, other = name_of(target), name_of(native)
    except WheelError:
        return False
    wanted = here().uname_machine
    return (one.project, one.version, one.build) == (other.project, other.version, other.build) and all(
        platform.endswith(f"_{wanted}") for platform in other.platforms
    )


def pair(target: Path, native: Path, folder: str, sides: Sides) -> Wheels:
    """The twins of the wheel `target`, once it is installed in the directory `folder` (inside), out of `native`.

    Raises WheelError if one of them is broken.
    """
    stands, refused = list[Stand](), list[Refused]()
    with opened(target, label=target.name) as one, opened(native, label=native.name) as other:
        theirs = dict(placed(other))
        for path, member in placed(one):
            tool = _tool_of(path, sides)
            if tool is None or not (data := one.read(member)).startswith(ELF_MAGIC):
                continue
            twin = twin_of(tool, f"{folder}/{path}", one)
            try:
                if path not in theirs:
                    raise RefusedError(Refusal.UNFIT, f"the wheel for this machine has no {path}")
                stands.append(stand(twin, data, other.read(theirs[path]), sides))
            except RefusedError as error:
                refused.append(Refused(twin.target_path, error.cause.kind, error.cause.text))
    return Wheels(tuple(stands), tuple(refused))


class RefusedError(Exception):
    """A program or a module has no twin."""

    def __init__(self, kind: Refusal, text: str) -> None:
        super().__init__(text)
        self.cause = Cause(kind, text)


def twin_of(tool: str, inside: str, wheel: Wheel) -> Twin:
    """The twin that the file `inside`, which the target's `wheel` brings, may have."""
    name, version = ((wheel.field(field) or [""])[0] for field in ("Name", "Version"))
    return Twin(tool, inside, here().name, name, version, inside, layer=True)


def placed(wheel: Wheel) -> Iterator[tuple[str, str]]:
    """Where each member goes to below the directory that it is installed to, and its name."""
    data = f"{wheel.information.removesuffix('.dist-info')}.data/"
    for member in wheel.paths():
        scheme, _, rest = member.removeprefix(data).partition("/")
        if not member.startswith(data):
            yield member, member
        elif scheme in _SCHEMES:
            yield _SCHEMES[scheme] + rest, member


def _tool_of(path: str, sides: Sides) -> str | None:
    """The tool that the program at `path` is, by its name: the one that has the distribution's program of that name."""
    place = PurePosixPath(path)
    usual = next((twin for twin in sides.twins if twin.target_path == f"/usr/bin/{place.name}"), None)
    if place.parent.name != "bin" or usual is None:
        return None
    tool = sides.policy.tools[usual.tool]
    return None if tool.group or tool.library or tool.optional or tool.width == "target" else usual.tool


def stand(twin: Twin, target: bytes, native: bytes, sides: Sides) -> Stand:
    """The twin that the file `native` makes, for the file `target`. Raises RefusedError if it may not be."""
    try:
        return _stand(twin, target, native, sides)
    except (ElfError, ValueError) as error:
        raise RefusedError(Refusal.UNFIT, str(error)) from error


def _stand(twin: Twin, target: bytes, native: bytes, sides: Sides) -> Stand:
    """Raises ElfError, ValueError or RefusedError if it may not be."""
    policy, toolchain = sides.policy, sides.toolchain
    tool = policy.tools[twin.tool]
    if {twin.tool, PurePosixPath(twin.target_path).name, twin.target_path} & {*sides.removed}:
        raise RefusedError(Refusal.REMOVED, "taken away by the recipe, or switched off")
    _require(read_elf(target), (toolchain.elf.machine, toolchain.elf.elf_class), "the target's wheel")
    info = read_elf(native)
    _require(info, (here().elf_machine, here().elf_class), "the wheel for this machine")
    if tool.shim and not info.interpreter:
        raise ElfError("it is linked statically, and would answer for this machine where it is asked for the target's")
    write(sides.scratch / twin.source.lstrip("/"), native)
    tree = Tree([sides.scratch, *sides.tree.layers])
    data = program(tree, twin, policy, toolchain)
    twin = replace(twin, computes=computes(data))
    odd = twin.computes and not here().computes_as(toolchain.traits)
    # Those of the native root are tools that were tried (tests/e2e/probes/arithmetic.yml).
    if odd or (tool.layer_packages and "fused" in toolchain.traits and fuses(target)):
        raise RefusedError(Refusal.ARITHMETIC, "its own code rounds as no code of this machine does")
    entry = Entry(
        twin.target_path,
        twin.program,
        rules_of(policy, tool, twin, toolchain),
        size=len(target),
        digest=content_digest(target),
        module=tool.module,
    )
    found = closure(tree, twin.source, here().triplet)
    # The others are in the private tree, which is made from the same root.
    shared = sides.private / here().name / "lib"
    lacking = {f"lib/{name}": contents(tree, real) for name, real in found.items() if not (shared / name).exists()}
    return Stand(twin, entry, {twin.target_path.lstrip("/"): data, **lacking})


def _require(info: ElfInfo, wanted: tuple[str, int], what: str) -> None:
    if (info.machine, info.elf_class) != wanted:
        raise ElfError(f"{what} has one for {info.machine}, {info.elf_class} bits")
