"""What a request names, read from the project's files: recipe, target, mode. Reading it makes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xbuild.base import paths, process
from xbuild.base.digest import key_of
from xbuild.base.errors import UsageError
from xbuild.build.environment import WorkPlace, assignments, phase_variables, variables
from xbuild.build.modes.mode import Mode
from xbuild.build.modes.table import DEFAULT, mode_of
from xbuild.build.needed import needed_by
from xbuild.build.plan import work_name
from xbuild.build.request import Request
from xbuild.model.load import (
    load_policy,
    load_presets,
    load_toolchain,
    patches_directory,
    recipe_path,
    sources_directory,
    toolchain_names,
)
from xbuild.model.lock import load_lock
from xbuild.model.needs import Needed, closure, needed
from xbuild.model.phases import Phase, resolve_phases
from xbuild.model.recipe import Recipe
from xbuild.model.toolchain import Toolchain
from xbuild.roots import imported as imported_roots
from xbuild.roots import mirror
from xbuild.roots.distribution import Roots
from xbuild.roots.imported import Imported
from xbuild.roots.repository import Repository, repositories
from xbuild.roots.resolve import Locked
from xbuild.sources import examine
from xbuild.sources.local import Local
from xbuild.store.local import Store
from xbuild.store.own import open_store


@dataclass(frozen=True)
class Subject:
    """A recipe for a target in a mode, and where it is built.

    file: the recipe's. needs: the recipes that it needs, and these need, each once, in the order in which they are
    built. toolchain: the target as it is in its root, which may be an imported one. default_suite: of the target's own
    file. packages: of the distribution, what the build needs installed; lacking: what it needs of a root that has no
    apt, by Debian's names. place: where it works in the store. snapshot: the day that packages are of, if the request
    or a lock file names one. local: what each source that is a path was when `settled` has looked, and None for the
    others.
    """

    request: Request
    store: Store
    project: Path
    recipe: Recipe
    file: Path
    needs: tuple[Subject, ...]
    phases: tuple[Phase, ...]
    mode: Mode
    toolchain: Toolchain
    default_suite: str
    roots: Roots
    imported: Imported | None
    packages: tuple[str, ...]
    lacking: tuple[str, ...]
    place: WorkPlace
    snapshot: str | None = None
    local: tuple[Local | None, ...] | None = None

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
        # As it was given: the name of a file somewhere says nothing.
        words = process.show([self.request.recipe, "--target", self.toolchain.name])
        return f"{words} {self.request.options()}".rstrip()

    def root_value(self) -> dict[str, Any]:
        """The imported root among the inputs, whatever its name."""
        return {"imported": self.imported.value()} if self.imported else {}

    def is_of(self, value: Mapping[str, Any]) -> bool:
        """Whether an artifact of this value is one of the same recipe and mode for the same target."""
        named = (value["recipe"]["name"], value["mode"], value["target"]["name"])
        return named == (self.recipe.name, self.mode.name, self.toolchain.name)

    @property
    def base(self) -> Path:
        """What relative paths of sources are relative to."""
        return sources_directory(self.file)

    @property
    def patches(self) -> Path:
        """The directory that patches are named from."""
        return patches_directory(self.file)

    def settled(self) -> Subject:
        """This with the digests that its paths have now; itself if it has them.

        Raises ProjectSourceError if a file or directory is not there, or no longer the one that the recipe names.
        """
        if self.local is not None:
            return self
        sources = self.recipe.sources
        local = tuple(examine(source, self.base, self.store) if source.path else None for source in sources)
        known = tuple(
            source.model_copy(update={"sha256": found.digest}) if found else source
            for source, found in zip(sources, local, strict=True)
        )
        return replace(self, recipe=self.recipe.model_copy(update={"sources": known}), local=local)


def read(request: Request, store: Store | None = None, project: Path | None = None) -> Subject:
    """What `request` names. store: None for the user's. project: None for the one that is set.

    Raises RecipeError and UsageError if a file is wrong or not there, or if there is no such mode or root.
    """
    reading = _Reading(request, store or open_store(), project or paths.project())
    file = recipe_path(request.recipe, reading.project)
    own = needed(file, reading.plain, reading.project)
    found: dict[Path, Subject] = {}
    for one in reading.needs(own):
        wanted = needed_by(request, own.recipe, one.file, reading.project)
        found[one.file] = reading.subject(wanted, one.recipe, one.file, _all_needs(one, found))
    subject = reading.subject(request, own.recipe, file, tuple(found.values()))
    for other in found.values():
        if (other.imported and other.imported.sha256) != (subject.imported and subject.imported.sha256):
            where = f"in the root {other.root_name}" if other.imported else "in the distribution's root"
            message = f"{subject.title} needs {other.recipe.name}, which is built {where}: both need the same root"
            raise UsageError(message, hint="name it by --root, or in both recipes by `root`")
    return subject


def _all_needs(one: Needed, found: Mapping[Path, Subject]) -> tuple[Subject, ...]:
    """What a recipe needs, and what that needs, of `found`, in its order."""
    direct = [found[need.file] for need in one.needs]
    files = {known.file for subject in direct for known in (subject, *subject.needs)}
    return tuple(subject for file, subject in found.items() if file in files)


class _Reading:
    """Reads what one request names; what is the same for the recipes that its own needs, once."""

    def __init__(self, request: Request, store: Store, project: Path) -> None:
        self._store = store
        self.project = project
        self.plain = load_toolchain(request.target, project)
        self._policy = load_policy(self.plain)

    def needs(self, own: Needed) -> list[Needed]:
        """The recipes that `own` needs, and these need, in the order in which they are built."""
        if not own.needs:
            return []
        return closure(own.file, lambda file: own if file == own.file else needed(file, self.plain, self.project))[0]

    def subject(self, request: Request, recipe: Recipe, file: Path, needs: tuple[Subject, ...]) -> Subject:
        """What a request for `recipe` names."""
        plain, store, project = self.plain, self._store, self.project
        recipe = _as_asked(_with_presets_twins(recipe), request)
        mode = mode_of(request.mode)
        imported = _imported(request.root or recipe.root, plain, store, project)
        # The native roots are those of the suite, whatever the target root is.
        suite = request.suite or (imported_roots.release(imported, plain) if imported else None)
        default_suite = plain.distribution.suite
        plain = plain.with_suite(suite) if suite else plain
        snapshot, locked = _locked(request, plain, project) if imported is None else (request.snapshot, {})
        address = mirror.snapshot(plain, snapshot)
        profiles = dict.fromkeys(name for one in (recipe, *_recipes(needs)) for name in one.depends.profiles)
        known: dict[str, Any] = {"locked": locked, "repositories": _repositories(request, imported)}
        known |= {"profiles": tuple(profiles), "imported": imported, "snapshot": address}
        roots = Roots(store, plain, self._policy, substituted=mode.bootstrap, **known)
        toolchain = imported.adapted(plain) if imported else plain
        packages, lacking = _packages(recipe, needs, mode, roots, toolchain)
        return Subject(
            request=request,
            store=store,
            project=project,
            recipe=recipe,
            file=file,
            needs=needs,
            phases=resolve_phases(recipe, load_presets()),
            mode=mode,
            toolchain=toolchain,
            default_suite=default_suite,
            roots=roots,
            imported=imported,
            packages=packages,
            lacking=lacking,
            place=_place(store, recipe, work_name(recipe, toolchain, mode.name, _root_name(imported)), file),
            snapshot=snapshot,
        )


def _recipes(needs: Sequence[Subject]) -> list[Recipe]:
    return [subject.recipe for subject in needs]


def _place(store: Store, recipe: Recipe, name: str, file: Path) -> WorkPlace:
    preset = load_presets()[recipe.build.preset]
    if recipe.build.incremental:
        # Projects that have one name have a tree each.
        origin = sources_directory(file) / str(recipe.sources[0].path)
        name = f"{name}-{key_of(str(origin.absolute()))[:8]}"
    return WorkPlace(store.root / "work" / name, preset.directories(recipe.build.options))


def _with_presets_twins(recipe: Recipe) -> Recipe:
    """The recipe with the tools that its preset runs natively, but for those that it takes away itself."""
    own = recipe.twins
    further = [name for name in load_presets()[recipe.build.preset].twins if name not in (*own.remove, *own.add)]
    if not further:
        return recipe
    return recipe.model_copy(update={"twins": own.model_copy(update={"add": (*own.add, *further)})})


def _as_asked(recipe: Recipe, request: Request) -> Recipe:
    """The recipe with what the request says in the place of it, or besides."""
    own, names = recipe.twins, request.emulate
    if request.strip is not None:
        handing = recipe.artifact.model_copy(update={"strip": request.strip})
        recipe = recipe.model_copy(update={"artifact": handing})
    if not names:
        return recipe
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
    roots = {what: Locked(root.wanted, root.packages, root.profiles) for what, root in target.roots.items()}
    return request.snapshot or target.snapshot, roots


def _repositories(request: Request, imported: Imported | None) -> tuple[Repository, ...]:
    if request.repositories and imported is not None:
        raise UsageError("--repo is not for imported roots", hint="add it to the root's own package sources")
    return repositories(request.repositories)


def _imported(word: str | None, toolchain: Toolchain, store: Store, project: Path) -> Imported | None:
    if word is None:
        return None
    toolchains = [load_toolchain(name, project) for name in toolchain_names(project)]
    return imported_roots.find(store, word, toolchains, toolchain)


def _packages(
    recipe: Recipe, needs: Sequence[Subject], mode: Mode, roots: Roots, toolchain: Toolchain
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The recipe's, its preset's and its mode's packages: those to install, and those that cannot be."""
    wanted = {*recipe.depends.packages, *load_presets()[recipe.build.preset].packages, *mode.packages}
    # What the libraries, headers and programs of these are made from, they may want too.
    wanted |= {name for one in _recipes(needs) for name in one.depends.packages}
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
