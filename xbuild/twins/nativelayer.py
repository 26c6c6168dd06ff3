"""Makes a native layer: programs and compiled modules for those of a recipe's build dependencies, with libraries."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from pathlib import Path

from xbuild.base import log
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ElfError
from xbuild.model.native import here
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain
from xbuild.sandbox.run import give_tree
from xbuild.twins import pairing
from xbuild.twins.closure import closure, contents
from xbuild.twins.privatetree import computes, program, write


class Clash(Exception):
    """Two libraries that differ would have to have one name."""


def make(
    staging: Path, tree: Tree, private: Path, packages: Container[str], policy: Policy, toolchain: Toolchain
) -> None:
    """Fill `staging`: `layer/` (becomes /.xbuild/layer), `twins.json`.

    tree: the native root with the layer's packages over it, unpacked. private: the private tree, whose libraries are
    there for the layer too. packages: those whose files are wanted. What lacks a library, or needs one that differs
    from one of the same name, is left out: the target's own then runs, or is loaded by the target's own interpreter.
    """
    layer, machine = staging / "layer", here()
    (layer / "lib").mkdir(parents=True)
    folders = (private / machine.name / "lib", layer / "lib")
    kept = []
    for twin in pairing.candidates(tree, machine.name, policy, toolchain, packages=packages, layer=True):
        tool = policy.tools[twin.tool]
        if not (tool.module or tool.layer_packages):
            continue
        try:
            added = _libraries(tree, twin, machine.triplet, folders)
            data = program(tree, twin, policy, toolchain)
        except (ElfError, Clash, ValueError) as error:
            log.warn(f"no twin for {twin.target_path}: {error}")
            continue
        for name, library in added.items():
            write(layer / "lib" / name, library)
        write(layer / twin.target_path.lstrip("/"), data)
        kept.append(replace(twin, computes=computes(data)))
    give_tree(0, [layer])
    pairing.save(kept, staging / "twins.json")


def _libraries(tree: Tree, twin: pairing.Twin, triplet: str, folders: tuple[Path, Path]) -> dict[str, bytes]:
    """What the module needs beside what is in `folders`, the private tree's and the layer's own, by file name."""
    shared, own = folders
    lower = Tree(tree.layers[-1:])
    added = {}
    for name, real in closure(tree, twin.source, triplet).items():
        data = contents(tree, real)
        if (shared / name).exists():
            # What lies there may be changed, so the roots are compared.
            there = lower.located(f"/usr/lib/{triplet}/{name}") or lower.located(real)
            same = there is not None and there[1].read_bytes() == data
        else:
            same = not (own / name).exists() or (own / name).read_bytes() == data
            added[name] = data
        if not same:
            raise Clash(f"it needs another {name} than what is there by that name")
    return added
