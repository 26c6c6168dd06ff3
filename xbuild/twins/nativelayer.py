"""Makes a native layer: partners of the compiled modules that a recipe's build dependencies bring, with libraries."""

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
from xbuild.twins.arithmetic import imported
from xbuild.twins.closure import closure, contents


class Clash(Exception):
    """Two libraries that differ would have to have one name."""


def make(
    staging: Path, tree: Tree, private: Path, packages: Container[str], policy: Policy, toolchain: Toolchain
) -> None:
    """Fill `staging`: `layer/` (becomes /.xbuild/layer), `twins.json`.

    tree: the native root with the layer's packages over it, unpacked. private: the private tree, whose libraries are
    there for modules too. packages: those whose modules are wanted. A module that lacks a library, or has one that
    differs from one of the same name, is left out: the target's own is then loaded by the target's own interpreter.
    """
    layer, machine = staging / "layer", here()
    (layer / "lib").mkdir(parents=True)
    folders = (private / machine.name / "lib", layer / "lib")
    kept = []
    for twin in pairing.candidates(tree, machine.name, policy, toolchain, packages=packages, layer=True):
        if not policy.tools[twin.tool].module:
            continue
        try:
            added = _libraries(tree, twin, machine.triplet, folders)
        except (ElfError, Clash) as error:
            log.warn(f"no native module for {twin.target_path}: {error}")
            continue
        for name, data in added.items():
            _write(layer / "lib" / name, data)
        module = contents(tree, twin.source)
        _write(layer / twin.target_path.lstrip("/"), module)
        kept.append(replace(twin, computes=not imported(module).isdisjoint(machine.fused.functions)))
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


def _write(destination: Path, data: bytes) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_bytes(data)
    destination.chmod(0o755)
