"""Roots and layers: Debian trees that `making` makes inside our namespaces, kept in the store."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base import log, paths
from xbuild.base.digest import file_sha256, key_of
from xbuild.binfmt import magic_mask, registration, serving
from xbuild.dispatcher import table
from xbuild.formats import elf
from xbuild.formats.debian import Tree
from xbuild.model.native import here
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain
from xbuild.roots import apt, mirror
from xbuild.roots.contents import contents, installed
from xbuild.roots.imported import Imported
from xbuild.roots.imported.tree import ForeignTree
from xbuild.roots.making import Foreign, Hook, Making
from xbuild.sandbox import idmap
from xbuild.sandbox import run as sandboxes
from xbuild.store.local import LAYOUT, Store
from xbuild.twins import gcctable, limits, pairing, privatetree, strings

_MAKERS = tuple(Path(str(module.__file__)) for module in (elf, gcctable, limits, pairing, privatetree, strings))
"""Part of the private tree's key: how it is made decides as much about it as what it is made from."""


@dataclass(frozen=True)
class Natives:
    """What stands behind a target: the native roots by architecture, and the private tree made from them.

    dispatcher: without a table. enter: what starts a container's commands. key: of the private tree, in the store.
    All paths outside.
    """

    trees: Mapping[str, Path]
    private: Path
    dispatcher: Path
    enter: Path
    key: str
    twins: tuple[pairing.Twin, ...]

    @property
    def tree(self) -> Path:
        """The root of the machine's own width."""
        return self.trees[here().name]


class Roots:
    """Makes and finds what the target of `toolchain` needs.

    substituted: let roots profit from twins. imported: the target root that the user brought, if he did.
    """

    def __init__(
        self,
        store: Store,
        toolchain: Toolchain,
        policy: Policy | None,
        *,
        substituted: bool = True,
        imported: Imported | None = None,
    ) -> None:
        self.store = store
        self.toolchain = toolchain
        self.policy = policy
        self.substituted = substituted
        self.imported = imported
        self._natives: Natives | None = None
        self._mirror: str | bool | None = False

    def mirror(self) -> str | None:
        """The package mirror for roots; asked for once."""
        if self._mirror is False:
            self._mirror = mirror.find(self.toolchain.distribution.suite, self.toolchain.architecture)
        assert self._mirror is not True
        return self._mirror or None

    def native_value(self, architecture: str) -> dict[str, Any]:
        """What determines the native root of `architecture`."""
        toolchain = self.toolchain
        root = toolchain.native_root if architecture == here().name else toolchain.word_size_root
        assert root is not None
        return {
            "what": "native root",
            "architecture": architecture,
            "suite": toolchain.distribution.suite,
            "components": list(toolchain.distribution.components),
            "packages": sorted(root.packages),
            "customize": apt.CUSTOMIZE,
            "layout": LAYOUT,
        }

    def base_value(self) -> dict[str, Any]:
        """What determines the target root."""
        if self.imported is not None:
            return self.imported.value()
        variant = self.toolchain.distribution.variant
        return {
            "what": "target root",
            "architecture": self.toolchain.architecture,
            "suite": self.toolchain.distribution.suite,
            "components": list(self.toolchain.distribution.components),
            "packages": sorted(self.toolchain.distribution.packages),
            "customize": apt.CUSTOMIZE,
            "layout": LAYOUT,
            **({} if variant == "buildd" else {"variant": variant}),
        }

    def private_value(self) -> dict[str, Any]:
        """What determines the private tree."""
        assert self.policy is not None
        return {
            "what": "private tree",
            "roots": [self.native_value(name) for name in self.native_architectures()],
            # What only decides about pairs does not show in what is copied.
            "policy": self.policy.model_dump(mode="json", by_alias=True, exclude={"equivalents", "compilers"}),
            "uname": self.toolchain.uname_machine,
            "machine": here().facts(),
            "sources": {file.name: file_sha256(file) for file in (*_MAKERS, *sorted(paths.DISPATCHER.glob("*.[ch]")))},
        }

    def layer_value(self, packages: Sequence[str]) -> dict[str, Any]:
        """What determines the layer with `packages` over the target root."""
        return {"what": "layer", "base": self.base_value(), "packages": sorted(set(packages))}

    def inputs(self, packages: Sequence[str]) -> dict[str, Any]:
        """What roots and twins can put into an artifact that is built with `packages`, as JSON; see `contents`."""
        imported = self.imported.value() if self.imported else None
        trees = self.natives().trees if self.policy else {}
        natives = {name: installed(Tree([tree])) for name, tree in trees.items()}
        return contents(installed(self.tree(packages)), natives, self.policy, imported)

    def natives(self) -> Natives:
        """The native roots and the private tree, made if they are not there."""
        if self._natives is None:
            names = self.native_architectures()
            # The two do not depend on each other, and each leaves a core idle while it downloads.
            with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
                trees = dict(zip(names, pool.map(self._native_root, names), strict=True))
            value = self.private_value()
            policy = self.policy
            assert policy is not None

            def make(staging: Path) -> None:
                with log.step("twins: copy native tools with their libraries"):
                    privatetree.make(staging, trees, policy, self.toolchain)

            place = self.store.ensure("twins", value, f"the twins for {self.toolchain.name}", make)
            found = tuple(pairing.load(place / "twins.json"))
            programs = (place / "private", place / "dispatcher", place / "enter")
            self._natives = Natives(trees, *programs, key_of(value), found)
        return self._natives

    def base(self) -> Path:
        """The target root, made if it is not there."""
        if self.imported is not None:
            return self.imported.tree
        name = self.toolchain.name

        def make(staging: Path) -> None:
            with log.step(f"target root: {self.toolchain.distribution.suite} for {name}"):
                distribution = self.toolchain.distribution
                words = (self.toolchain.architecture, distribution.packages, distribution.variant, self.mirror())
                self._making(staging, self._foreign()).bootstrap(*words)

        return self.store.ensure("roots", self.base_value(), f"the root of {name}", make) / "root"

    def layers(self, packages: Sequence[str]) -> tuple[Path, ...]:
        """The target root with `packages` installed: directories outside, topmost first; made if not there."""
        base = self.base()
        if not packages:
            return (base,)
        value = self.layer_value(packages)

        def make(staging: Path) -> None:
            with log.step(f"build dependencies: {' '.join(value['packages'])}"):
                if self.imported is not None:
                    self._making(staging, self._foreign(self.tree(()))).install_inside(base, value["packages"])
                else:
                    self._making(staging, self._foreign()).install(base, value["packages"])

        return (self.store.ensure("layers", value, "the build dependencies", make) / "upper", base)

    @property
    def libc(self) -> str | None:
        """Of an imported root."""
        return self.imported.facts.libc if self.imported else None

    def tree(self, packages: Sequence[str]) -> Tree:
        """The target root with `packages`, to be read; made if not there."""
        return self.tree_of(self.layers(packages))

    def tree_of(self, layers: Sequence[Path]) -> Tree:
        """The target root, with other layers over it, to be read."""
        return Tree(layers) if self.imported is None else ForeignTree(layers, self.imported.facts.family)

    def registrations(self, dispatcher: Path, *, credentials: bool = False) -> tuple[str, ...]:
        """The lines that tell the kernel to run `dispatcher` for the target's ELF files; none for a native target.

        credentials: a set-user-id bit of such a file counts.
        """
        if self.toolchain.qemu is None:
            return ()
        magic, mask = magic_mask(self.toolchain.elf)
        # F: opened now, so that it works in any chroot. P: argv[0] kept. O: the opened file itself is handed over.
        name = Path(self.toolchain.qemu.binary).name.removesuffix("-static")
        # C: credentials by the file that is run, not by the dispatcher.
        return (registration(name, magic, mask, str(dispatcher), "FPOC" if credentials else "FPO"),)

    def hook(self, dispatcher: Path, *, credentials: bool = False) -> tuple[tuple[str, ...], Path | None]:
        """How the kernel comes to start `dispatcher`: registrations for a private binfmt_misc, or, where that cannot be
        had, the file that is to be shown to the machine's own entry as `dispatch` in the private directory.

        Raises MachineError if the machine has no such entry.
        """
        if self.toolchain.qemu is None or serving.way() == "private":
            return self.registrations(dispatcher, credentials=credentials), None
        serving.require(self.toolchain.elf, self.toolchain.name)
        # The entry starts nothing but what is root's.
        if dispatcher.stat().st_uid != idmap.find().root[0]:
            sandboxes.give_tree(0, tops=[dispatcher])
        return (), dispatcher

    def dispatcher(
        self,
        entries: Sequence[table.Entry],
        destination: Path,
        *,
        view: str = paths.PRIVATE,
        record: bool = True,
    ) -> Path:
        """Write the dispatcher that decides by `entries` to `destination`.

        view: where pid 1 of the sandbox sees the private tree. record: write down each exec.
        """
        data = table.encode(entries, near=paths.PRIVATE, far=f"/proc/1/root{view}", record=record)
        table.install(self.natives().dispatcher, destination, data)
        return destination

    def native_architectures(self) -> list[str]:
        """The architectures of the native roots: the machine's, and its partner's where the target's word size asks."""
        machine = here()
        return [machine.name, *([machine.partner.name] if self.toolchain.word_size_root else [])]

    def machine_value(self, packages: Sequence[str]) -> dict[str, Any]:
        """What determines the native root of an emulator of machines, which has `packages`."""
        distribution = self.toolchain.distribution
        return {
            "what": "emulator of machines",
            "architecture": here().name,
            "suite": distribution.suite,
            "components": list(distribution.components),
            "packages": sorted(packages),
            "customize": apt.CUSTOMIZE,
            "layout": LAYOUT,
        }

    def machine_root(self, packages: Sequence[str]) -> Path:
        """A native root with nothing but `packages` and what they depend on, unpacked; made if it is not there."""
        value = self.machine_value(packages)

        def make(staging: Path) -> None:
            with log.step(f"emulator of machines: {value['suite']}"):
                self._bootstrap(staging, value["architecture"], value["packages"], "extract")

        return self.store.ensure("roots", value, "the emulator of machines", make) / "root"

    def unpack(self, staging: Path, package: str, needed: str) -> Path:
        """Unpack a package of the target's distribution into a directory of `staging`, with no script of its own run.

        needed: a pattern of sed; of what `package` depends on, the first package that matches is taken instead.
        """
        folder = staging / "package"
        folder.mkdir()
        idmap.own(folder)
        complaint, hint = f"the package {package} could not be had", "is its name wrong, or the network away?"
        words = [package, needed, str(folder)]
        self._making(staging, self._foreign()).with_apt(self.base(), apt.UNPACK, words, complaint, hint)
        return folder

    def _native_root(self, architecture: str) -> Path:
        value = self.native_value(architecture)

        def make(staging: Path) -> None:
            with log.step(f"native root: {value['suite']} for {architecture}"):
                self._bootstrap(staging, architecture, value["packages"], "apt")

        return self.store.ensure("roots", value, f"the native root {architecture}", make) / "root"

    def _foreign(self, base: Tree | None = None) -> Foreign | None:
        """What lets programs of the target run in a root while it is made; None if the machine does.

        base: a root whose files are as they were, so that twins are by files. While dpkg still writes the tree, no file
        has a known state: only paths are compared, and only dpkg writes.
        """
        if self.toolchain.native:
            return None
        natives, policy = self.natives(), self.policy
        assert policy is not None

        def hook(destination: Path, view: str) -> Hook:
            entries: Sequence[table.Entry] = ()
            if self.substituted and base is not None:
                entries = pairing.pair(natives.twins, base, policy, self.toolchain, libc=self.libc).entries
            elif self.substituted:
                entries = [entry for _, entry in pairing.entries(natives.twins, policy, self.toolchain).values()]
            return self.hook(self.dispatcher(entries, destination, view=view, record=False))

        return Foreign(natives.private, hook)

    def _making(self, staging: Path, foreign: Foreign | None) -> Making:
        return Making(self.store, staging, self.toolchain, foreign)

    def _bootstrap(self, staging: Path, architecture: str, packages: Sequence[str], variant: str) -> None:
        """A native root, whose programs the machine runs."""
        self._making(staging, None).bootstrap(architecture, packages, variant, self.mirror())
