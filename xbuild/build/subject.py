"""What a request names, read from the project's files: recipe, target, mode. Reading it makes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base import paths, process
from xbuild.build.environment import WorkPlace, assignments, phase_variables, variables
from xbuild.build.modes.mode import Mode
from xbuild.build.modes.table import DEFAULT, mode_of
from xbuild.build.plan import work_name
from xbuild.build.request import Request
from xbuild.model.load import (
    load_policy,
    load_presets,
    load_recipe,
    load_toolchain,
    patches_directory,
    recipe_path,
    toolchain_names,
)
from xbuild.model.lock import load_lock
from xbuild.model.phases import Phase, resolve_phases
from xbuild.model.recipe import Recipe
from xbuild.model.toolchain import Toolchain
from xbuild.roots import imported as imported_roots
from xbuild.roots import mirror
from xbuild.roots.distribution import Roots
from xbuild.roots.imported import Imported
from xbuild.roots.resolve import Locked
from xbuild.sandbox.run import remove_tree
from xbuild.sources import require_unchanged
from xbuild.store.carry import record
from xbuild.store.local import Store


def open_store() -> Store:
    """The user's store, which removes trees of subordinate users too; closed to all others.

    Raises MachineError if another user could have a hand in it.
    """
    store = Store(paths.cache(), remove_tree, record)
    store.secure(paths.named_cache())
    return store


@dataclass(frozen=True)
class Subject:
    """A recipe for a target in a mode, and where it is built.

    patches: the directory that patches are named from. toolchain: the target as it is in its root, which may be an
    imported one. default_suite: of the target's own file. packages: of the distribution, what the build needs
    installed; lacking: what it needs of a root that has no apt, by Debian's names. place: where it works in the store.
    """

    request: Request
    store: Store
    project: Path
    recipe: Recipe
    patches: Path
    phases: tuple[Phase, ...]
    mode: Mode
    toolchain: Toolchain
    default_suite: str
    roots: Roots
    imported: Imported | None
    packages: tuple[str, ...]
    lacking: tuple[str, ...]
    place: WorkPlace

    @property
    def root_name(self) -> str:
        """The imported root in names of files; empty if there is none."""
        return _root_name(self.imported)

    @property
    def title(self) -> str:
        """`python 3.13.5 for armhf`, with what is not the default."""
        mode = "" if self.mode == DEFAULT else f" ({self.mode.name})"
        root = f" in {self.imported.name}" if self.imported else ""
        return f"{self.recipe.name} {self.recipe.version} for {self.toolchain.name}{root}{mode}"

    @property
    def file_name(self) -> str:
        """The artifact's name without its ending: NAME-VERSION-TARGET, with what is not the default."""
        words = [self.recipe.name, self.recipe.version, self.toolchain.name]
        if self.imported:
            # Not by its name: the same root has the same artifact by every name.
            words += [f"root-{self.imported.sha256[:10]}"]
        elif self.toolchain.distribution.suite != self.default_suite:
            words += [self.toolchain.distribution.suite]
        # The dots and letters of a name, whatever way the day was written.
        words += [self.request.snapshot.replace("-", "")] if self.request.snapshot else []
        words += [self.mode.name] if self.mode != DEFAULT else []
        return "-".join(words)

    @property
    def mode_name(self) -> str:
        """The mode as reports call it: a native target has none of ours."""
        return "native" if self.toolchain.native else self.mode.name

    @property
    def jobs(self) -> int:
        """How many compilers may run at once."""
        return self.request.here.jobs or len(os.sched_getaffinity(0))

    @property
    def assignments(self) -> str:
        """Shell text that sets what the shell of a phase knows beside its environment."""
        return assignments(phase_variables(self.recipe, self.toolchain, self.jobs))

    def variables(self, epoch: int) -> dict[str, str]:
        """The environment of the phases; epoch: SOURCE_DATE_EPOCH, seconds since 1970."""
        return self.mode.variables(variables(self.recipe, epoch), self.request.servers, self.jobs)

    def command_line(self) -> str:
        """Recipe and target as on the command line, with what is not the default."""
        words = process.show([self.recipe.name, "--target", self.toolchain.name])
        return f"{words} {self.request.options()}".rstrip()

    def root_value(self) -> dict[str, Any]:
        """The imported root among the inputs, whatever its name."""
        return {"imported": self.imported.value()} if self.imported else {}

    def is_of(self, value: Mapping[str, Any]) -> bool:
        """Whether an artifact of this value is one of the same recipe and mode for the same target."""
        named = (value["recipe"]["name"], value["mode"], value["target"]["name"])
        return named == (self.recipe.name, self.mode.name, self.toolchain.name)

    def require_sources(self) -> None:
        """Raise SourceError if a file or directory of the project is no longer the one that the recipe names."""
        for source in self.recipe.sources:
            require_unchanged(source, self.project, self.store)


def read(request: Request, store: Store | None = None) -> Subject:
    """What `request` names, in the project that is set. store: None for the user's.

    Raises RecipeError and UsageError if a file is wrong or not there, or if there is no such mode or root.
    """
    project = paths.project()
    store = store or open_store()
    plain = load_toolchain(request.target, project)
    recipe = _emulating(load_recipe(request.recipe, plain, project), request.emulate)
    mode = mode_of(request.mode)
    imported = _imported(request.root or recipe.root, plain, store, project)
    # The native roots are those of the suite, whatever the target root is.
    suite = request.suite or (imported_roots.release(imported, plain) if imported else None)
    default_suite = plain.distribution.suite
    plain = plain.with_suite(suite) if suite else plain
    snapshot, locked = _locked(request, plain, project) if imported is None else (request.snapshot, {})
    address = mirror.snapshot(plain, snapshot)
    words = (store, plain, load_policy(plain))
    roots = Roots(*words, substituted=mode.bootstrap, imported=imported, snapshot=address, locked=locked)
    toolchain = imported.adapted(plain) if imported else plain
    packages, lacking = _packages(recipe, mode, roots, toolchain)
    return Subject(
        request=request,
        store=store,
        project=project,
        recipe=recipe,
        patches=patches_directory(recipe_path(request.recipe, project), project),
        phases=resolve_phases(recipe, load_presets()),
        mode=mode,
        toolchain=toolchain,
        default_suite=default_suite,
        roots=roots,
        imported=imported,
        packages=packages,
        lacking=lacking,
        place=WorkPlace(store.root / "work" / work_name(recipe, toolchain, mode.name, _root_name(imported))),
    )


def _emulating(recipe: Recipe, names: frozenset[str]) -> Recipe:
    """The recipe with these names among those whose twins it takes away."""
    if not names:
        return recipe
    own = recipe.twins
    twins = own.model_copy(
        update={"remove": tuple(sorted({*own.remove, *names})), "add": tuple(n for n in own.add if n not in names)}
    )
    return recipe.model_copy(update={"twins": twins})


def _root_name(imported: Imported | None) -> str:
    return imported.name.replace(":", "-") if imported else ""


def _locked(request: Request, toolchain: Toolchain, project: Path) -> tuple[str | None, dict[str, Locked]]:
    """The snapshot, and what the lock file fixes, if there is one for this target and release."""
    lock = load_lock(recipe_path(request.recipe, project)) if request.locked else None
    target = lock.targets.get(toolchain.name) if lock else None
    if target is None or target.suite != toolchain.distribution.suite:
        return request.snapshot, {}
    roots = {what: Locked(root.wanted, root.packages) for what, root in target.roots.items()}
    return request.snapshot or target.snapshot, roots


def _imported(word: str | None, toolchain: Toolchain, store: Store, project: Path) -> Imported | None:
    if word is None:
        return None
    toolchains = [load_toolchain(name, project) for name in toolchain_names(project)]
    return imported_roots.find(store, word, toolchains, toolchain)


def _packages(
    recipe: Recipe, mode: Mode, roots: Roots, toolchain: Toolchain
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The recipe's, its preset's and its mode's packages: those to install, and those that cannot be."""
    wanted = {*recipe.depends.packages, *load_presets()[recipe.build.preset].packages, *mode.packages}
    # Where there is a checkout there is git, which many projects ask for their version.
    wanted |= {"git"} if any(source.git for source in recipe.sources) else set()
    if roots.imported is None:
        return tuple(sorted(wanted)), ()
    if roots.imported.facts.family != "debian":
        return (), tuple(sorted(wanted))
    tree = roots.tree(())
    if not all(tree.real_path(f"/usr/bin/{name}") for name in ("cc", "make")):
        wanted |= set(toolchain.distribution.packages)
    return tuple(sorted(wanted - tree.packages.keys())), ()
