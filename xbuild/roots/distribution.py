"""Roots and layers: Debian trees that `making` makes inside our namespaces, kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xbuild.base import log, paths
from xbuild.base.digest import key_of
from xbuild.base.errors import MachineError
from xbuild.binfmt import magic_mask, registration, serving
from xbuild.binfmt.refusal import refusal
from xbuild.dispatcher import table
from xbuild.dispatcher.own import REFUSAL_FILE
from xbuild.formats.debian import Tree
from xbuild.model.native import here
from xbuild.model.nativeroot import native_packages
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain
from xbuild.roots import apt, mirror, twinned
from xbuild.roots.contents import Packages, contents, installed, makers
from xbuild.roots.imported import Imported
from xbuild.roots.imported.tree import ForeignTree
from xbuild.roots.index import Archive
from xbuild.roots.making import Foreign, Hook, Making
from xbuild.roots.repository import Repository
from xbuild.roots.resolve import Locked, Question, Resolver, mirror_changed, require_same
from xbuild.sandbox import idmap
from xbuild.sandbox import run as sandboxes
from xbuild.store.local import LAYOUT, Store
from xbuild.twins import pairing, privatetree

MACHINE = "emulator of machines"
"""What a native root of its own is made for, unless something else is said."""


@dataclass(frozen=True)
class Natives:
    """What stands behind a target: the native roots by architecture, and the private tree made from them.

    dispatcher: without a table. enter: what starts a container's commands. key: of the private tree, in the store, and
    of a native layer. layer: that, if there is one (`xbuild.roots.partners`). All paths outside.
    """

    trees: Mapping[str, Path]
    private: Path
    dispatcher: Path
    enter: Path
    key: str
    twins: tuple[pairing.Twin, ...]
    layer: Path | None = None

    @property
    def tree(self) -> Path:
        """The root of the machine's own width."""
        return self.trees[here().name]


class Roots:
    """Makes and finds what the target of `toolchain` needs.

    substituted: let roots profit from twins. imported: the target root that the user brought, if he did. snapshot: the
    address of a past state of the archive. locked: the packages that a lock file fixes, by what `Question` calls them.
    profiles: the build profiles for relations among a layer's packages. repositories: where these may come from too.
    plain: the target root has what is essential, and apt: no compiler, as a board has none.
    """

    def __init__(
        self,
        store: Store,
        toolchain: Toolchain,
        policy: Policy | None,
        *,
        substituted: bool = True,
        imported: Imported | None = None,
        snapshot: str | None = None,
        locked: Mapping[str, Locked] | None = None,
        profiles: tuple[str, ...] = (),
        repositories: tuple[Repository, ...] = (),
        plain: bool = False,
    ) -> None:
        self.store, self.toolchain, self.policy, self.plain = store, toolchain, policy, plain
        self.substituted = substituted
        self.imported = imported
        self.profiles = tuple(sorted(set(profiles)))
        self._natives: Natives | None = None
        self._mirror: str | bool | None = False
        distribution = toolchain.distribution
        archive = Archive(distribution.suite, distribution.components, snapshot, self.mirror)
        version = policy.plain_version if policy else str
        self.resolver = Resolver(store, archive, locked, version, repositories)

    def mirror(self) -> str | None:
        """The package mirror for roots; asked for once."""
        if self._mirror is False:
            self._mirror = mirror.find(self.toolchain.distribution.suite, self.toolchain.architecture)
        assert self._mirror is not True
        return self._mirror or None

    def native_question(self, architecture: str) -> Question:
        """What the native root of `architecture` is to have."""
        assert self.policy is not None
        names = native_packages(self.policy, self.toolchain, architecture)
        return Question(f"native root {architecture}", architecture, "apt", tuple(names))

    def base_question(self) -> Question:
        """What the target root is to have."""
        own = self.toolchain.distribution
        packages = ("apt", ()) if self.plain else (own.variant, own.packages)
        return Question("target root", self.toolchain.architecture, *packages)

    def layer_question(self, packages: Sequence[str]) -> Question:
        """What the target root with `packages`, which may be relations, is to have."""
        words = (self.toolchain.architecture, None, tuple(sorted(set(packages))), self.base_question())
        return Question("build dependencies", *words, profiles=self.profiles)

    def native_value(self, architecture: str) -> dict[str, Any]:
        """What determines the native root of `architecture`: what it holds."""
        return self._root_value("native root", self.native_question(architecture))

    def base_value(self) -> dict[str, Any]:
        """What determines the target root: what it holds."""
        return self.imported.value() if self.imported else self._root_value("target root", self.base_question())

    def _root_value(self, what: str, question: Question) -> dict[str, Any]:
        return {
            "what": what,
            "architecture": question.architecture,
            "packages": dict(self.resolver.packages(question)),
            "variant": question.variant,
            "customize": apt.CUSTOMIZE,
            "layout": LAYOUT,
        }

    def private_value(self) -> dict[str, Any]:
        """What determines the private tree."""
        assert self.policy is not None
        return {
            "what": "private tree",
            "roots": [self.native_value(name) for name in self.native_architectures()],
            # What only decides about pairs does not show in what is copied.
            "policy": self.policy.model_dump(mode="json", by_alias=True, exclude={"equivalents", "compilers"}),
            "target": {name: value for name, value in self.toolchain.deciding().items() if name != "distribution"},
            "machine": here().facts(),
            "makers": makers(),
        }

    def layer_value(self, packages: Sequence[str]) -> dict[str, Any]:
        """What determines the layer with `packages` over the target root: what both hold."""
        # What an imported root's own apt will find is its own matter.
        question = self.layer_question(packages)
        asked = [*question.packages, *(f"<{profile}>" for profile in question.profiles)]
        held = asked if self.imported else dict(self.resolver.packages(question))
        return {"what": "layer", "base": self.base_value(), "packages": held}

    def inputs(self, packages: Sequence[str]) -> dict[str, Any]:
        """What roots and twins can put into an artifact that is built with `packages`, as JSON; see `contents`."""
        imported = self.imported.value() if self.imported else None
        names = self.native_architectures() if self.policy else []
        natives = {name: self.resolver.packages(self.native_question(name)) for name in names}
        return contents(self._held(packages), natives, self.policy, imported)

    def _held(self, packages: Sequence[str]) -> Packages:
        if self.imported is not None:
            return installed(self.tree(packages))
        return self.resolver.packages(self.layer_question(packages) if packages else self.base_question())

    def natives(self) -> Natives:
        """The native roots and the private tree, made if they are not there."""
        if self._natives is None:
            trees = self._native_roots(self.native_architectures())
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
        name, question = self.toolchain.name, self.base_question()

        def make(staging: Path) -> None:
            with log.step(f"target root: {self.toolchain.distribution.suite} for {name}"):
                self._make(staging, partial(self._bootstrap, question), self.resolver.packages(question))

        return self.ensured("roots", question, self.base_value, f"the root of {name}", make) / "root"

    def layers(self, packages: Sequence[str]) -> tuple[Path, ...]:
        """The target root with `packages` installed: directories outside, topmost first; made if not there."""
        base = self.base()
        if not packages:
            return (base,)
        question = self.layer_question(packages)

        def make(staging: Path) -> None:
            with log.step(f"build dependencies: {' '.join(question.packages)}"):
                if self.imported is not None:
                    self._make(staging, lambda making: making.install_inside(base, question), self.tree(()))
                    return
                answer, held = self.resolver.place(question), self.resolver.packages(question)
                self._make(staging, lambda making: making.install(base, question, answer), held)
                require_same(held, Tree([staging / "upper", base]), "root with the build dependencies")

        value = partial(self.layer_value, packages)
        return (self.ensured("layers", question, value, "the build dependencies", make) / "upper", base)

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

    def _for_copies(self) -> tuple[str, ...]:
        """The line by which a dispatcher that finds no path to the emulator reaches it; see dispatcher/copied.h."""
        if self.toolchain.qemu is None:
            return ()
        magic, mask = (bytearray(part) for part in magic_mask(self.toolchain.elf))
        place = slice(table.COPY_MARK_AT, table.COPY_MARK_AT + len(table.COPY_MARK))
        magic[place], mask[place] = table.COPY_MARK, b"\xff" * len(table.COPY_MARK)
        name = f"{Path(self.toolchain.qemu.binary).name.removesuffix('-static')}-copies"
        return (registration(name, bytes(magic), bytes(mask), str(self.natives().private / "qemu"), "FPO"),)

    def refusals(self) -> tuple[str, ...]:
        """The lines that keep this machine's own programs from running, but for xbuild's: on the target they do not.

        They are for where nothing else of this machine's has to run; none where the machine's own entry serves builds.
        """
        if self.toolchain.qemu is None or serving.way() != "private":
            return ()
        file = self.natives().private / REFUSAL_FILE
        others = here().widths.keys() - {self.toolchain.architecture}
        return tuple(refusal(name, str(file)) for name in sorted(others))

    def hook(self, dispatcher: Path, *, credentials: bool = False) -> tuple[tuple[str, ...], Path | None]:
        """How the kernel comes to start `dispatcher`: registrations for a private binfmt_misc, or, where that cannot be
        had, the file that is to be shown to the machine's own entry as `dispatch` in the private directory.

        Raises MachineError if the machine has no such entry.
        """
        if self.toolchain.qemu is None or serving.way() == "private":
            # The shim reads the table too.
            return (*self.registrations(dispatcher, credentials=credentials), *self._for_copies()), dispatcher
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
        caching: table.Caching | None = None,
    ) -> Path:
        """Write the dispatcher that decides by `entries` to `destination`.

        view: where pid 1 of the sandbox sees the private tree. record: write down each exec. caching: None: no caches.
        """
        data = table.encode(entries, near=paths.PRIVATE, far=f"/proc/1/root{view}", record=record, caching=caching)
        table.install(self.natives().dispatcher, destination, data)
        return destination

    def native_architectures(self) -> list[str]:
        """The architectures of the native roots: the machine's, and its partner's where the target's word size asks."""
        return here().architectures(self.toolchain.elf.elf_class)

    def machine_question(self, packages: Sequence[str], what: str = MACHINE) -> Question:
        """What a native root for `what` is to have: `packages`, and what they depend on."""
        return Question(what, here().name, "extract", tuple(sorted(packages)))

    def machine_value(self, packages: Sequence[str], what: str = MACHINE) -> dict[str, Any]:
        """What determines that root."""
        return self._root_value(what, self.machine_question(packages, what))

    def machine_root(self, packages: Sequence[str], what: str = MACHINE) -> Path:
        """That root, unpacked only; made if it is not there."""
        question = self.machine_question(packages, what)

        def make(staging: Path) -> None:
            with log.step(f"{what}: {self.toolchain.distribution.suite}"):
                self._bootstrap(question, self.making(staging, None))

        value = partial(self.machine_value, packages, what)
        return self.ensured("roots", question, value, f"the {what}", make) / "root"

    def package_question(self, package: str, needed: str) -> Question:
        """One package of the target's distribution, for `unpack`.

        needed: a pattern; of what `package` depends on, the first package that matches is taken instead.
        """
        return Question(f"package {package}", self.toolchain.architecture, None, (package,), needed=needed)

    def unpack(self, staging: Path, question: Question) -> Path:
        """Unpack the package of `package_question` into a directory of `staging`, with no script of its own run."""
        folder = staging / "package"
        folder.mkdir()
        (name,) = self.resolver.packages(question)
        complaint, hint = f"the package {name} could not be fetched", "is the network there?"
        self.making(staging, None).unpack(apt.UNPACK, folder, self.resolver.place(question), complaint, hint)
        return folder

    def _native_roots(self, names: Sequence[str]) -> dict[str, Path]:
        missing = [name for name in names if self.store.get("roots", key_of(self.native_value(name))) is None]
        if len(missing) > 1:
            # Only here: it takes long to load.
            from concurrent.futures import ThreadPoolExecutor

            # They do not depend on each other, and each leaves a core idle while it downloads.
            with ThreadPoolExecutor(len(missing)) as pool:
                list(pool.map(self._native_root, missing))
        return {name: self._native_root(name) for name in names}

    def _native_root(self, architecture: str) -> Path:
        question = self.native_question(architecture)

        def make(staging: Path) -> None:
            with log.step(f"native root: {self.toolchain.distribution.suite} for {architecture}"):
                self._bootstrap(question, self.making(staging, None))

        value = partial(self.native_value, architecture)
        return self.ensured("roots", question, value, f"the native root {architecture}", make) / "root"

    def ensured(
        self, kind: str, question: Question, value: Callable[[], Any], what: str, make: Callable[[Path], None]
    ) -> Path:
        """As Store.ensure; where the mirror no longer gives what was resolved, that is resolved again, once."""
        try:
            return self.store.ensure(kind, value(), what, make)
        except MachineError as error:
            if self.imported is not None or not mirror_changed(error):
                raise
            log.info(f"{what}: the mirror has changed since its packages were resolved; once more, with today's")
            self.resolver.renew(question)
            return self.store.ensure(kind, value(), what, make)

    def _make(self, staging: Path, work: Callable[[Making], None], held: Packages | Tree) -> None:
        """Let `work` fill `staging` with the twins there are for `held`, see `twinned`."""
        twinned.make(staging, self.store, lambda without: work(self.making(staging, self._foreign(held, without))))

    def _foreign(self, held: Packages | Tree, without: frozenset[str]) -> Foreign | None:
        """What lets programs of the target run in a root while it is made; None if the machine does."""
        if self.toolchain.native:
            return None
        natives, policy = self.natives(), self.policy
        assert policy is not None

        def hook(destination: Path, view: str) -> Hook:
            entries: Sequence[table.Entry] = ()
            if self.substituted:
                entries = twinned.entries(natives.twins, held, policy, self.toolchain, libc=self.libc, without=without)
            return self.hook(self.dispatcher(entries, destination, view=view))

        return Foreign(natives.private, hook)

    def making(self, staging: Path, foreign: Foreign | None) -> Making:
        """What makes a root or layer in `staging`."""
        return Making(self.store, staging, self.toolchain, foreign, self.resolver.repositories)

    def _bootstrap(self, question: Question, making: Making) -> None:
        making.bootstrap(question, self.resolver.place(question))
        # What is only unpacked has no list of what it has.
        if question.variant != "extract":
            require_same(self.resolver.packages(question), Tree([making.staging / "root"]), question.what)
