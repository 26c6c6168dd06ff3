"""Builds a recipe for a target: makes what is missing, runs the phases, checks and packs what came out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from xbuild import log, mirror, outputs, paths, phases, process, twins, usage
from xbuild.debian import Tree
from xbuild.digest import file_sha256, key_of
from xbuild.environment import Mode, Root, WorkPlace, sandbox, variables
from xbuild.errors import PhaseError, UsageError
from xbuild.model.load import load_presets, load_recipe, load_toolchain
from xbuild.model.phases import Phase, resolve_phases
from xbuild.model.policy import Policy
from xbuild.model.recipe import Recipe
from xbuild.model.source import Source
from xbuild.plan import UNPACK, Action, Facts, Step, artifact_value, first_step, plan, steps, work_name
from xbuild.result import Options, Result
from xbuild.roots import Roots
from xbuild.sandbox import idmap
from xbuild.sandbox import run as sandboxes
from xbuild.sources import FetchContext, fetch, lay_out
from xbuild.store import IN_USE, Store, diff_values, writing_below
from xbuild.yamlfile import did_you_mean, load_model


def open_store() -> Store:
    """The user's store, which removes trees of subordinate users too."""
    return Store(paths.cache(), sandboxes.remove_tree)


class Builder:
    """One recipe for one target in one mode."""

    def __init__(self, recipe_name: str, target: str, options: Options, store: Store | None = None) -> None:
        self.project = paths.project()
        self.options = options
        toolchain = load_toolchain(target, self.project)
        self.default_suite = toolchain.distribution.suite
        self.toolchain = toolchain.with_suite(options.suite) if options.suite else toolchain
        self.recipe: Recipe = load_recipe(recipe_name, self.toolchain, self.project)
        self.mode: Mode = options.mode
        self.phases: tuple[Phase, ...] = resolve_phases(self.recipe, load_presets())
        self.store = store or open_store()
        self.roots = Roots(self.store, self.toolchain, self._policy(), substituted=self.mode == "substituted")
        self.place = WorkPlace(self.store.root / "work" / work_name(self.recipe, self.toolchain, self.mode))
        self.parts: list[tuple[str, float]] = []

    @property
    def title(self) -> str:
        """`python 3.13.5 for armhf`, with what is not the default."""
        mode = "" if self.mode == "substituted" else f" ({self.mode})"
        return f"{self.recipe.name} {self.recipe.version} for {self.toolchain.name}{mode}"

    @property
    def file_name(self) -> str:
        """The artifact's name without its ending: NAME-VERSION-TARGET, with what is not the default."""
        words = [self.recipe.name, self.recipe.version, self.toolchain.name]
        words += [self.toolchain.distribution.suite] if self.toolchain.distribution.suite != self.default_suite else []
        words += [self.mode] if self.mode != "substituted" else []
        return "-".join(words)

    @property
    def packages(self) -> list[str]:
        """The distribution packages of the build: the recipe's and its preset's."""
        return sorted({*self.recipe.depends.packages, *load_presets()[self.recipe.build.preset].packages})

    @cached_property
    def root(self) -> Root:
        """What the build sees as `/`; made if it is not there. The work place must be there."""
        layers = self.roots.layers(self.packages)
        if self.toolchain.native:
            return Root(layers, None, ())
        dispatcher = self.roots.dispatcher(self.pairs.entries, self.place.dispatcher)
        return Root(layers, self.roots.natives().private, self.roots.registrations(dispatcher))

    @cached_property
    def pairs(self) -> twins.Pairs:
        """Which twins this build has."""
        policy = self.roots.policy
        if policy is None or self.mode == "emulated":
            return twins.Pairs((), (), ())
        layers = self.roots.layers(self.packages)
        unwanted = frozenset(self.recipe.twins.remove)
        wanted = frozenset(self.recipe.twins.add)
        return twins.pair(
            self.roots.natives().twins, Tree(layers), policy, self.toolchain, removed=unwanted, added=wanted
        )

    @cached_property
    def value(self) -> dict[str, Any]:
        """All inputs of the build, as JSON; makes the roots, whose contents are among them."""
        tree = Tree(self.roots.layers(self.packages))
        contents: dict[str, Any] = {name: package.version for name, package in tree.packages.items()}
        natives: dict[str, Any] = {}
        if not self.toolchain.native:
            known = self.roots.natives()
            natives = {"qemu": file_sha256(known.private / "qemu")}
            natives |= {
                f"{twin.tool}:{twin.target_path}": f"{twin.package} {twin.version} {twin.architecture}"
                for twin in self.pairs.twins
            }
        return artifact_value(
            self.recipe,
            self.phases,
            self.toolchain,
            mode=self.mode,
            patches={name: file_sha256(self.project / "recipes" / name) for name in self.recipe.patches},
            contents={"root": contents, "native": natives},
        )

    def things(self) -> dict[str, bool]:
        """Roots, layers and twins that the build needs, and whether each is in the store."""
        wanted: list[tuple[str, str, Any]] = []
        if not self.toolchain.native:
            names = self.roots.native_architectures()
            wanted += [(f"native root {name}", "roots", self.roots.native_value(name)) for name in names]
            wanted += [("twins", "twins", self.roots.private_value())]
        wanted += [(f"target root {self.toolchain.name}", "roots", self.roots.base_value())]
        if self.packages:
            wanted += [("build dependencies", "layers", self.roots.layer_value(self.packages))]
        return {name: self.store.get(kind, key_of(value)) is not None for name, kind, value in wanted}

    def facts(self) -> Facts:
        """What the store holds for this build; makes nothing."""
        things = self.things()
        done = phases.Progress(self.place).done()
        sources = {f"source {source.sha256[:12]}": self._downloaded(source) for source in self.recipe.sources}
        if not all(things.values()):
            return Facts(things, sources, done)
        value = self.value
        artifact = self.store.get("artifacts", key_of(value)) is not None
        return Facts(things, sources, done, artifact, tuple(self.changes(value)))

    def changes(self, value: Mapping[str, Any]) -> list[str]:
        """How the inputs differ from those of the newest artifact of this recipe, target and mode; [] if none."""
        for _, _, known in self.store.finished("artifacts"):
            same = known["recipe"]["name"] == self.recipe.name and known["mode"] == self.mode
            if same and known["target"]["name"] == self.toolchain.name:
                return diff_values(known, value)
        return []

    def actions(self) -> list[Action]:
        """The plan, from what the store holds now."""
        facts = self.facts()
        if not all(facts.things.values()):
            # What the roots will hold is not known yet, so no key is: all steps are to be run.
            wanted = [Step(name, "") for name in (UNPACK, *(phase.name for phase in self.phases))]
            return plan(wanted, replace(facts, done=()), start=self.options.start)
        return plan(steps(self.recipe, self.phases, self.value), facts, start=self.options.start)

    def build(self) -> Result:
        """Do it. Raises PhaseError, CheckError, SourceError or MachineError; the work place then stays."""
        if self.options.start and self.options.start not in [UNPACK, *(phase.name for phase in self.phases)]:
            names = [phase.name for phase in self.phases]
            suggestion = did_you_mean(self.options.start, names)
            raise UsageError(f"no phase {self.options.start!r} in this recipe{suggestion}", hint=", ".join(names))
        lock = self.store.lock(self.place.path.name, describe=f"builds {self.title}")
        with self._in_use(), lock, writing_below(self.store.root):
            with self._part("roots"):
                self.roots.layers(self.packages)
                value = self.value
            key = key_of(value)
            found = self.store.get("artifacts", key)
            if found and self.options.start is None:
                log.info(f"{self.title}: up to date")
                manifest = json.loads((found / f"{self.file_name}.manifest.json").read_text())
                return self._result(found, "up-to-date", list(manifest["phases"].items()))
            return self._build(key, value)

    def _build(self, key: str, value: dict[str, Any]) -> Result:
        with self._part("sources"):
            archives = self._fetch()
        wanted = steps(self.recipe, self.phases, value)
        progress = phases.Progress(self.place)
        first, reason = first_step(wanted, progress.done(), self.options.start)
        begin = wanted[first].name if first < len(wanted) else "the check of outputs"
        log.info(f"{self.title}: from {begin}, {reason}")
        if first == 0:
            self.store.discard(self.place.path)
        self.place.make()
        progress.start_at(first)
        root = self.root
        self._tell_refused()
        by_program = {
            root.private / twin.program.removeprefix(f"{paths.PRIVATE}/"): twin
            for twin in self.pairs.twins
            if root.private
        }
        with usage.watching(by_program) as watch:
            for number, step in enumerate(wanted[first:], first):
                self._step(number, step, progress, root, archives)
                progress.ran |= {by_program[path].target_path for path in watch.opened()}
                progress.save()
        env = self.variables(progress.epoch)
        with self._part("check outputs"), log.step("check outputs"):
            outputs.take_over(self.place)
            outputs.verify(self.recipe, self.toolchain, self.place, root, env)
        entry = self._store(key, value, progress)
        if not self.options.keep:
            self.store.discard(self.place.path)
        return self._result(entry, "built", [(record.name, record.seconds) for record in progress.records])

    def _step(
        self, number: int, step: Step, progress: phases.Progress, root: Root, archives: Sequence[Path]
    ) -> None:
        started = time.monotonic()
        if step.phase is None:
            with log.step("unpack"):
                progress.epoch = phases.unpack(
                    self.place,
                    lambda place: self._unpack(archives, place),
                    [self.project / "recipes" / name for name in self.recipe.patches],
                    root,
                    self.variables(0),
                )
            progress.add(step, "done", time.monotonic() - started)
            return
        try:
            seconds = phases.run_phase(
                self.recipe, step, number, self.place, root, self.variables(progress.epoch), self.title
            )
        except PhaseError as error:
            progress.add(step, "failed", time.monotonic() - started)
            raise PhaseError(error.message, details=[*error.details, *self._ways_out()], hint=error.hint) from None
        self.parts.append((step.name, seconds))
        progress.add(step, "done", seconds)

    def variables(self, epoch: int) -> dict[str, str]:
        """The environment of the phases; epoch: SOURCE_DATE_EPOCH, seconds since 1970."""
        jobs = self.options.jobs or len(os.sched_getaffinity(0))
        return variables(self.recipe, self.toolchain, epoch=epoch, jobs=jobs)

    def command_line(self) -> str:
        """Recipe and target as on the command line, with what is not the default."""
        words = [self.recipe.name, "--target", self.toolchain.name]
        words += ["--mode", self.mode] if self.mode != "substituted" else []
        words += ["--suite", self.options.suite] if self.options.suite else []
        return process.show(words)

    def shell(self, command: Sequence[str], *, artifact: bool = False) -> int:
        """Run `command` (interactively a shell if it is empty) as a phase would run; give its exit code.

        artifact: lay the finished artifact over the root. Raises UsageError if there is none.
        """
        lock = self.store.lock(self.place.path.name, wait=False, describe=f"builds {self.title}")
        with self._in_use(), lock:
            self.place.make()
            self.place.give_to_builder("src", "obj", "dest")
            progress = phases.Progress(self.place)
            env = {**self.variables(progress.epoch), "TERM": os.environ.get("TERM", "dumb")}
            over = [self._unpacked_artifact()] if artifact else []
            where = sandbox(self.root, self.place, env, cwd=paths.BUILD, over=over)
            words = list(command) if command else ["bash", "--norc", "-i"]
            with log.paused():
                code = sandboxes.run(where, words, interactive=True, check=False)
            if not progress.records and command:
                self.store.discard(self.place.path)
            return code if code >= 0 else 128 - code

    def _in_use(self) -> AbstractContextManager[None]:
        return self.store.lock(IN_USE, shared=True, describe="cleans the store")

    def _unpacked_artifact(self) -> Path:
        found = self.store.get("artifacts", key_of(self.value))
        if found is None:
            raise UsageError(f"there is no artifact of {self.title}", hint=f"invoke build {self.command_line()}")
        directory = self.place.path / "artifact"
        self.store.discard(directory)
        directory.mkdir()
        idmap.own(directory)
        archive = found / f"{self.file_name}.tar.zst"
        sandboxes.run(sandboxes.machine_view(), ["tar", "--zstd", "-xf", archive, "-C", directory])
        return directory

    def _ways_out(self) -> list[str]:
        words = self.command_line()
        return [f"shell:  invoke shell {words}", f"retry:  invoke build {words}    (resumes at this phase)"]

    def _tell_refused(self) -> None:
        for refused in self.pairs.refused:
            log.detail(f"no twin for {refused.path}: {refused.reason}")
        odd = [refused for refused in self.pairs.refused if "native root" in refused.reason]
        if odd:
            log.warn(
                f"{len(odd)} tools run emulated because native and target root differ, e.g. {odd[0].path}: "
                f"{odd[0].reason} (--verbose lists them; if one root is older, `invoke clean --roots` makes both anew)"
            )

    def _fetch(self) -> list[Path]:
        # Looking for mirrors takes its time where there is no network.
        missing = [source for source in self.recipe.sources if source.distribution and not self._downloaded(source)]
        context = FetchContext(self.store, self._mirrors() if missing else (), self.project)
        return [fetch(source, context) for source in self.recipe.sources]

    def _downloaded(self, source: Source) -> bool:
        return (self.store.root / "downloads" / f"sha256-{source.sha256}").exists()

    def _mirrors(self) -> tuple[str, ...]:
        base = self.store.get("roots", key_of(self.roots.base_value()))
        found = [self.roots.mirror(), *(mirror.of_root(base / "root") if base else [])]
        return tuple(dict.fromkeys(address for address in found if address))

    def _unpack(self, archives: Sequence[Path], place: Path) -> None:
        for source, archive in zip(self.recipe.sources, archives, strict=True):
            lay_out(source, archive, place / source.into)

    def _store(self, key: str, value: dict[str, Any], progress: phases.Progress) -> Path:
        facts = {
            "mode": self.mode_name,
            "key": key,
            "resumed": progress.resumed,
            "phases": {record.name: record.seconds for record in progress.records},
            "inputs": value["contents"],
        }
        used = outputs.usage_of(self.place, frozenset(progress.ran))

        def make(staging: Path) -> None:
            with self._part("pack"), log.step("pack"):
                outputs.finish(
                    self.recipe,
                    self.toolchain,
                    self.place,
                    staging,
                    self.file_name,
                    epoch=progress.epoch,
                    facts=facts,
                    twins=self.pairs.twins,
                    usage=used,
                )

        if self.options.start is not None:
            self.store.remove("artifacts", key)
        return self.store.ensure("artifacts", value, f"the artifact of {self.title}", make)

    @property
    def mode_name(self) -> str:
        """The mode as reports call it: a native target has none of ours."""
        return "native" if self.toolchain.native else self.mode

    def _result(self, entry: Path, status: str, ran: Sequence[tuple[str, float]]) -> Result:
        dist = self.project / "dist"
        artifact, manifest = (
            phases.keep_copy(entry / f"{self.file_name}{ending}", dist / f"{self.file_name}{ending}")
            for ending in (".tar.zst", ".manifest.json")
        )
        names = (self.recipe.name, self.recipe.version, self.toolchain.name, self.mode_name)
        return Result(*names, status, artifact, manifest, self.parts, list(ran))

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.parts.append((name, time.monotonic() - started))

    def _policy(self) -> Policy | None:
        name = self.toolchain.policy
        return load_model(paths.POLICIES / f"{name}.yml", Policy) if name else None
