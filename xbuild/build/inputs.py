"""What one build is made from: its models, its roots, its twins, and what the store knows of it. Makes no build."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from xbuild.base import paths, process
from xbuild.base.digest import damage, damaged, file_sha256, key_of
from xbuild.build import phases
from xbuild.build.environment import WorkPlace, assignments, phase_variables, variables
from xbuild.build.modes.table import DEFAULT, mode_of
from xbuild.build.plan import UNPACK, Action, Facts, Step, artifact_value, plan, steps, work_name
from xbuild.build.result import Options
from xbuild.dispatcher.table import Entry
from xbuild.model.load import (
    load_policy,
    load_presets,
    load_recipe,
    load_toolchain,
    patches_directory,
    recipe_path,
    toolchain_names,
)
from xbuild.model.phases import Phase, resolve_phases
from xbuild.model.recipe import Recipe
from xbuild.model.toolchain import Toolchain
from xbuild.roots import imported as imported_roots
from xbuild.roots.distribution import Roots
from xbuild.sandbox.run import remove_tree
from xbuild.sources import downloaded, require_unchanged
from xbuild.store.differences import diff_values
from xbuild.store.local import Store
from xbuild.twins import pairing


def open_store() -> Store:
    """The user's store, which removes trees of subordinate users too; closed to all others.

    Raises MachineError if another user could have a hand in it.
    """
    store = Store(paths.cache(), remove_tree)
    store.secure(paths.named_cache())
    return store


class Inputs:
    """One recipe for one target in one mode."""

    def __init__(self, recipe_name: str, target: str, options: Options, store: Store | None = None) -> None:
        self.project = paths.project()
        self.recipe_name = recipe_name
        self.options = options
        toolchain = load_toolchain(target, self.project)
        self.default_suite = toolchain.distribution.suite
        self.recipe: Recipe = load_recipe(recipe_name, toolchain, self.project)
        self.patches = patches_directory(recipe_path(recipe_name, self.project), self.project)
        self.mode = mode_of(options.mode)
        self.phases: tuple[Phase, ...] = resolve_phases(self.recipe, load_presets())
        self.store = store or open_store()
        self.imported = self._imported(toolchain)
        # The native roots are those of the suite, whatever the target root is.
        suite = options.suite or (imported_roots.release(self.imported, toolchain) if self.imported else None)
        toolchain = toolchain.with_suite(suite) if suite else toolchain
        policy, substituted = load_policy(toolchain), self.mode.bootstrap
        self.roots = Roots(self.store, toolchain, policy, substituted=substituted, imported=self.imported)
        self.toolchain = self.imported.adapted(toolchain) if self.imported else toolchain
        name = work_name(self.recipe, self.toolchain, self.mode.name, self.root_name)
        self.place = WorkPlace(self.store.root / "work" / name)
        self.parts: list[tuple[str, float]] = []
        self.lacking: list[str] = []

    def _imported(self, toolchain: Toolchain) -> imported_roots.Imported | None:
        word = self.options.root or self.recipe.root
        if word is None:
            return None
        known = [load_toolchain(name, self.project) for name in toolchain_names(self.project)]
        return imported_roots.find(self.store, word, known, toolchain)

    @property
    def root_name(self) -> str:
        """The imported root in names of files; empty if there is none."""
        return self.imported.name.replace(":", "-") if self.imported else ""

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
        words += [self.mode.name] if self.mode != DEFAULT else []
        return "-".join(words)

    @property
    def packages(self) -> list[str]:
        """The distribution packages of the build: the recipe's, its preset's, its mode's."""
        wanted = {*self.recipe.depends.packages, *load_presets()[self.recipe.build.preset].packages}
        wanted |= self.mode.packages
        # Where there is a checkout there is git, which many projects ask for their version.
        wanted |= {"git"} if any(source.git for source in self.recipe.sources) else set()
        return sorted(wanted) if self.imported is None else self._missing(wanted, self.imported)

    def _missing(self, wanted: set[str], imported: imported_roots.Imported) -> list[str]:
        """Of `wanted`, what apt has to install in the imported root, and compilers if it has none; [] without apt."""
        if imported.facts.family != "debian":
            self.lacking = sorted(wanted)
            return []
        tree = self.roots.tree(())
        if not all(tree.real_path(f"/usr/bin/{name}") for name in ("cc", "make")):
            wanted = wanted | set(self.toolchain.distribution.packages)
        return sorted(wanted - tree.packages.keys())

    @cached_property
    def pairs(self) -> pairing.Pairs:
        """Which twins this build has."""
        policy = self.roots.policy
        if policy is None or not self.mode.twins:
            return pairing.Pairs((), (), ())
        return pairing.pair(
            self.roots.natives().twins,
            self.roots.tree(self.packages),
            policy,
            self.roots.toolchain,
            removed=frozenset(self.recipe.twins.remove),
            added=frozenset(self.recipe.twins.add),
            without=self.options.without,
            grouped=self.options.grouped,
            libc=self.roots.libc,
        )

    @cached_property
    def value(self) -> dict[str, Any]:
        """All inputs of the build, as JSON; makes the roots, whose contents are among them."""
        tree = self.roots.tree(self.packages)
        contents: dict[str, Any] = {name: package.version for name, package in tree.packages.items()}
        natives: dict[str, Any] = {}
        if not self.toolchain.native:
            known = self.roots.natives()
            natives = {"qemu": file_sha256(known.private / "qemu")}
            natives |= {
                f"{twin.tool}:{twin.target_path}": f"{twin.package} {twin.version} {twin.architecture}"
                for twin in self.pairs.twins
            }
            if self.pairs.entries:
                natives["rules"] = rules_digest(self.pairs.entries)
            natives |= self.mode.inputs(self.roots, self.toolchain, self.options.servers)
        return artifact_value(
            self.recipe,
            self.phases,
            self.toolchain,
            mode=self.mode.name,
            patches={name: file_sha256(self.patches / name) for name in self.recipe.patches},
            contents={"root": contents, "native": natives, **self._root_value()},
        )

    def _root_value(self) -> dict[str, Any]:
        return {"imported": self.imported.value()} if self.imported else {}

    def things(self) -> dict[str, bool]:
        """Roots, layers and twins that the build needs, and whether each is in the store."""
        wanted: list[tuple[str, str, Any]] = []
        if not self.toolchain.native:
            names = self.roots.native_architectures()
            wanted += [(f"native root {name}", "roots", self.roots.native_value(name)) for name in names]
            wanted += [("twins", "twins", self.roots.private_value())]
        if self.imported is None:
            wanted += [(f"target root {self.toolchain.name}", "roots", self.roots.base_value())]
        if not self.toolchain.native:
            wanted += self.mode.things(self.roots)
        if self.packages:
            wanted += [("build dependencies", "layers", self.roots.layer_value(self.packages))]
        found = {name: self.store.get(kind, key_of(value)) is not None for name, kind, value in wanted}
        return found | ({f"imported root {self.imported.name}": True} if self.imported else {})

    def facts(self) -> Facts:
        """What the store holds for this build; makes nothing. Raises SourceError as `require_sources`."""
        self.require_sources()
        things = self.things()
        done = phases.Progress(self.place).done()
        # What is of the project is at hand.
        sources = {
            f"source {source.sha256[:12]}": source.path is not None or bool(downloaded(source, self.store))
            for source in self.recipe.sources
        }
        if not all(things.values()):
            return Facts(things, sources, done)
        value = self.value
        return Facts(things, sources, done, self.artifact() is not None, tuple(self.changes(value)))

    def artifact(self) -> Path | None:
        """The finished artifact of the present inputs; None if there is none, or a damaged one. Makes the roots."""
        found = self.store.get("artifacts", key_of(self.value))
        return found if found and damage(found) is None else None

    def changes(self, value: Mapping[str, Any]) -> list[str]:
        """How the inputs differ from those of the newest artifact of this recipe, target and mode; [] if none."""
        for _, _, known in self.store.finished("artifacts"):
            same = known["recipe"]["name"] == self.recipe.name and known["mode"] == self.mode.name
            if same and known["target"]["name"] == self.toolchain.name:
                return diff_values(known, value)
        return []

    def kept(self, name: str) -> tuple[Path, bool] | None:
        """The directory `name` (records, logs) that the artifact of the present inputs has, and True.

        Else that of the newest one of the same recipe, target, suite and mode, and False; None if there is none.
        """
        if all(self.things().values()):
            found = self.artifact()
            if found and (found / name).is_dir():
                return found / name, True
        wanted = (self.recipe.name, self.mode.name, self.toolchain.name, self.toolchain.distribution.suite)
        for path, _, known in self.store.finished("artifacts"):
            target = known["target"]
            own = (known["recipe"]["name"], known["mode"], target["name"], target["distribution"]["suite"])
            same_root = known.get("contents", {}).get("imported") == self._root_value().get("imported")
            if own == wanted and same_root and (path / name).is_dir() and damaged(path) is None:
                return path / name, False
        return None

    def actions(self) -> list[Action]:
        """The plan, from what the store holds now."""
        facts = self.facts()
        if not all(facts.things.values()):
            # What the roots will hold is not known yet, so no key is: all steps are to be run.
            wanted = [Step(name, "") for name in (UNPACK, *(phase.name for phase in self.phases))]
            return plan(wanted, replace(facts, done=()), start=self.options.start)
        return plan(self.steps(), facts, start=self.options.start)

    def steps(self) -> list[Step]:
        """The unpacking and the phases, with their keys; makes the roots."""
        return steps(self.recipe, self.phases, self.value)

    @property
    def jobs(self) -> int:
        """How many compilers may run at once."""
        return self.options.jobs or len(os.sched_getaffinity(0))

    def variables(self, epoch: int) -> dict[str, str]:
        """The environment of the phases; epoch: SOURCE_DATE_EPOCH, seconds since 1970."""
        known = variables(self.recipe, epoch)
        return self.mode.variables(known, self.options.servers, self.jobs)

    @property
    def assignments(self) -> str:
        """Shell text that sets what the shell of a phase knows beside its environment."""
        return assignments(phase_variables(self.recipe, self.toolchain, self.jobs))

    def command_line(self) -> str:
        """Recipe and target as on the command line, with what is not the default."""
        words = [self.recipe.name, "--target", self.toolchain.name]
        words += ["--mode", self.mode.name] if self.mode != DEFAULT else []
        words += ["--suite", self.options.suite] if self.options.suite else []
        words += ["--root", self.options.root] if self.options.root else []
        words += ["--without", ",".join(sorted(self.options.without))] if self.options.without else []
        words += ["--distcc-hosts", " ".join(self.options.servers)] if self.options.servers else []
        return process.show(words)

    @property
    def mode_name(self) -> str:
        """The mode as reports call it: a native target has none of ours."""
        return "native" if self.toolchain.native else self.mode.name

    def require_sources(self) -> None:
        """Raise SourceError if a file or directory of the project is no longer the one that the recipe names."""
        for source in self.recipe.sources:
            require_unchanged(source, self.project, self.store)


def rules_digest(entries: Iterable[Entry]) -> str:
    """When the target's own programs run in the place of their twins, by the policy, as a sha256 in hex."""
    return key_of(sorted((entry.path, asdict(entry.rules)) for entry in entries))
