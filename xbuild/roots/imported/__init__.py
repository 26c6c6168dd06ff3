"""Roots that the user brings: imported once into the store, kept under names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base import log, paths, process
from xbuild.base.digest import json_contents, key_of, read_json
from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.model.load import load_policy
from xbuild.model.policy import upstream
from xbuild.model.toolchain import Toolchain
from xbuild.roots.imported.contents import Filler, Request
from xbuild.roots.imported.facts import Facts, examine
from xbuild.roots.imported.tree import ForeignTree
from xbuild.roots.imported.view import TREE, Workshop
from xbuild.sandbox.run import move_tree
from xbuild.store.local import LAYOUT, Store, writing_below

KIND = "imported"
"""The store's kind of entry."""

NAMES = "names"
"""The store's directory of names: one JSON file a name."""

_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]*")
_FORMAT = 3
"""Part of the key. Raise it when roots are to be imported otherwise."""


@dataclass(frozen=True)
class Imported:
    """A root in the store. name: under which it is kept, or the first digits of its digest. key: of its entry.

    tree: the root, outside. source: where it came from, for people.
    """

    name: str
    key: str
    tree: Path
    facts: Facts
    sha256: str
    source: str

    def value(self) -> dict[str, Any]:
        """What determines it, for keys of what is made from it."""
        return {"what": "imported root", "key": self.key, "sha256": self.sha256, "layout": LAYOUT}

    def fits(self, toolchain: Toolchain) -> bool:
        """Whether its programs are the target's: the same machine, word size, byte order and float ABI."""
        elf, facts = toolchain.elf, self.facts
        same = (elf.machine, elf.elf_class, elf.data) == (facts.machine, facts.elf_class, facts.data)
        return same and facts.float_abi in (None, elf.float_abi)

    def require_fit(self, toolchain: Toolchain) -> None:
        """Raise UsageError if it is not a root of the target."""
        if not self.fits(toolchain):
            wanted = f"{toolchain.name} is {kind(toolchain)}"
            raise UsageError(f"imported root {self.name} is {self.facts.kind}, and {wanted}", hint="name its --target")


    def adapted(self, toolchain: Toolchain) -> Toolchain:
        """The target as it is in this root: another loader, another place of libraries, another triplet."""
        update: dict[str, Any] = {"multiarch": self.facts.family == "debian"}
        if self.facts.interpreter:
            update["elf"] = toolchain.elf.model_copy(update={"interpreter": self.facts.interpreter})
        if self.facts.libc == "musl":
            # Native tools answer about the machine as a glibc system's would; here the root's own answer.
            update |= {"triplet": toolchain.triplet.replace("-gnu", "-musl"), "identity": {}}
        return toolchain.model_copy(update=update)


def kind(toolchain: Toolchain) -> str:
    """The target's machine in the words of `Facts.kind`."""
    elf = toolchain.elf
    return f"{elf.machine}, {elf.elf_class} bit" + (f", {elf.float_abi} float" if elf.float_abi else "")


def import_root(
    store: Store,
    name: str | None,
    source: Path,
    toolchains: Sequence[Toolchain],
    *,
    target: Toolchain | None = None,
    partition: int | None = None,
    replace: bool = False,
) -> tuple[Imported, list[str]]:
    """Bring `source` into the store, unless it is there, and keep it under `name`; also give what is to be told.

    toolchains: the targets there are. target: which root is meant, where the source holds several. replace: the name
    may have another root. Raises UsageError if the source is not to be had as a root of a target.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a root", hint="lower-case letters, digits and + . _ -")
    request = Request(source.absolute(), target.architecture if target else None, partition)
    in_use = store.in_use()
    with in_use, store.lock("import", describe="imports a root"), writing_below(store.root):
        store.directory("tmp")
        scratch = store.scratch("import")
        workshop = Workshop(scratch, str(source))
        try:
            workshop.make()
            found = _brought(store, workshop, request, name, [target] if target else toolchains)
            if target is not None:
                found.require_fit(target)
            if name is not None:
                _keep(store, name, found, replace=replace)
        finally:
            store.discard(scratch)
    return found, request.remarks


def _brought(
    store: Store, workshop: Workshop, request: Request, name: str | None, toolchains: Sequence[Toolchain]
) -> Imported:
    filler = Filler(workshop, request)
    with log.step(f"read {workshop.title}"):
        taken = filler.take()
    value = _value(request)
    # What holds one root only was perhaps imported without naming the target.
    for known in ({**value, "architecture": None}, value):
        if found := _load(store, key_of(known), name, workshop.title):
            return found
    with log.step(f"import {workshop.title}"):
        filler.fill(taken)
        _enter(store, workshop, value, toolchains)
    found = _load(store, key_of(value), name, workshop.title)
    assert found is not None
    return found


def _value(request: Request) -> dict[str, Any]:
    return {
        "what": "imported root",
        "format": _FORMAT,
        "layout": LAYOUT,
        "sha256": request.sha256,
        "architecture": request.architecture,
        "partition": request.partition,
    }


def _enter(store: Store, workshop: Workshop, value: dict[str, Any], toolchains: Sequence[Toolchain]) -> None:
    places = [paths.PRIVATE, paths.BUILD]
    services = (workshop.tree / "var/lib/dpkg").is_dir()
    workshop.job("prepare", root=TREE, places=places, user=paths.BUILDER, home=paths.BUILD, services=services)
    facts = examine(workshop.tree, workshop.title)
    candidate = Imported(workshop.title, "", workshop.tree, facts, "", "")
    if not any(candidate.fits(toolchain) for toolchain in toolchains):
        known = [f"{toolchain.name}: {kind(toolchain)}" for toolchain in toolchains]
        raise UsageError(f"{workshop.title} is a root for {facts.kind}: no target here", details=known)

    def make(staging: Path) -> None:
        (staging / "root.json").write_text(json.dumps(facts.as_json(), indent=1) + "\n")
        move_tree(workshop.tree, staging / "root")

    store.ensure(KIND, value, "the imported root", make)


def _load(store: Store, key: str, name: str | None, source: str) -> Imported | None:
    entry = store.get(KIND, key)
    if entry is None or key in store.older(KIND):
        return None
    facts = Facts(**json_contents(entry / "root.json"))
    sha256 = store.value(KIND, key)["sha256"]
    return Imported(name or f"sha256:{sha256[:12]}", key, entry / "root", facts, sha256, source)


def _keep(store: Store, name: str, found: Imported, *, replace: bool) -> None:
    folder = store.directory(NAMES)
    file = folder / f"{name}.json"
    known = _record(file)
    if known is not None and known["key"] != found.key and not replace:
        hint = f"`invoke root.remove {name}`, or --replace, or another name"
        raise UsageError(f"there is another root {name}, from {known['source']}", hint=hint)
    beside = folder / f".{name}.new"
    beside.write_text(json.dumps({"entry": found.key, "source": found.source}, indent=1) + "\n")
    beside.replace(file)


def _record(file: Path) -> dict[str, str] | None:
    try:
        value = read_json(file)
        # By a name that an older xbuild, which could not use the root, does not know.
        return {"key": str(value.get("entry") or value["key"]), "source": str(value["source"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def named(store: Store) -> list[Imported]:
    """All roots that are kept under names, sorted; a name whose root is gone is left out."""
    found = []
    for file in sorted((store.root / NAMES).glob("*.json")):
        record = _record(file)
        known = _load(store, record["key"], file.stem, record["source"]) if record else None
        found += [known] if known else []
    return found


def find(store: Store, word: str, toolchains: Sequence[Toolchain], target: Toolchain) -> Imported:
    """The root that `word` means: a name, or (with a slash) the path of what is imported now, without a name.

    Raises UsageError if there is none, or if it is not the target's.
    """
    if "/" in word:
        found, remarks = import_root(store, None, Path(word), toolchains, target=target)
        for remark in remarks:
            log.detail(remark)
        return found
    known = {root.name: root for root in named(store)}
    if word not in known:
        if _NAME.fullmatch(word) and (record := _record(store.root / NAMES / f"{word}.json")):
            hint = f"invoke root.import {word} {process.show([record['source']])} --replace"
            raise UsageError(f"the imported root {word} is gone, or was made by an older xbuild", hint=hint)
        hint = f"known: {', '.join(known)}" if known else "`invoke root.import NAME SOURCE`; a path has a slash: ./NAME"
        raise UsageError(f"there is no root {word!r}{did_you_mean(word, list(known))}", hint=hint)
    known[word].require_fit(target)
    return known[word]


def release(imported: Imported, toolchain: Toolchain) -> str | None:
    """The release whose native roots fit: the root's own if it is Debian; else the one with its gcc; None: any."""
    if imported.facts.suite or imported.facts.family != "debian" or (policy := load_policy(toolchain)) is None:
        return imported.facts.suite
    packages = ForeignTree([imported.tree], imported.facts.family).packages
    versions = {upstream(package.version) for name, package in packages.items() if re.fullmatch(r"gcc-[0-9]+", name)}
    return next((known for known, version in policy.compilers.items() if version in versions), None)


def used(store: Store, imported: Imported | None) -> AbstractContextManager[None]:
    """While the block runs, the root is not removed; nothing is done for None."""
    return store.lock(_use(imported.key), shared=True) if imported else nullcontext()


def _use(key: str) -> str:
    return f"use-{key[:20]}"


def remove(store: Store, name: str) -> None:
    """Forget the name, and remove the root if no other name has it. Raises UsageError if there is no such name."""
    file = store.root / NAMES / f"{name}.json"
    record = _record(file) if _NAME.fullmatch(name) else None
    if record is None:
        known = [root.name for root in named(store)]
        raise UsageError(f"there is no root {name!r}{did_you_mean(name, known)}", hint="invoke root.list")
    with store.lock(_use(record["key"]), wait=False, describe=f"works in imported root {name}"):
        file.unlink()
        if all(root.key != record["key"] for root in named(store)):
            store.remove(KIND, record["key"])


def forget_all(store: Store) -> None:
    """Forget the names of roots that are not there."""
    kept = {root.name for root in named(store)}
    for file in (store.root / NAMES).glob("*.json"):
        if file.stem not in kept:
            file.unlink()
