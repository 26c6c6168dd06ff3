"""Builds a recipe for a target: makes what is missing, runs the phases, checks and packs what came out."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from xbuild.base import log, paths
from xbuild.base.digest import damage, key_of, read_json
from xbuild.base.errors import CheckError, PhaseError, SourceError, UsageError, called
from xbuild.base.yamlfile import did_you_mean
from xbuild.build import canary, outputs, phases
from xbuild.build.canary.compilers import require_same
from xbuild.build.check import Checked
from xbuild.build.environment import VARIABLES, Job, Root, sandbox
from xbuild.build.inputs import Inputs
from xbuild.build.modes.mode import Mode, Site
from xbuild.build.plan import UNPACK, Step, first_step
from xbuild.build.result import Result
from xbuild.roots import imported as imported_roots
from xbuild.roots import mirror
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.attached import run_apart
from xbuild.sources import FetchContext, fetch, lay_out
from xbuild.store.local import IN_USE, writing_below
from xbuild.twins import pairing


class Builder(Inputs):
    """Builds one recipe for one target in one mode.

    on_step: told the number and the step after each one that is done; nothing of the build runs then.
    """

    on_step: Callable[[int, Step], None] | None = None

    @property
    def root(self) -> Root:
        """What the build sees as `/`, made if it is not there, with the dispatcher that lies in the work place."""
        layers = self.roots.layers(self.packages)
        if self.toolchain.native:
            return Root(layers, None, ())
        dispatcher = self.roots.dispatcher(self.pairs.entries, self.place.dispatcher)
        natives = self.roots.natives()
        registrations, shown = self.roots.hook(dispatcher)
        site = self.site(layers)
        root = Root(layers, natives.private, registrations, dispatcher=shown, machine=self.mode.machine(site))
        root = self.mode.equip(root, self.place, site)
        if self.pairs.entries and not self.place.cpuinfo.exists():
            self._ask_cpuinfo(root)
        return root

    def site(self, layers: tuple[Path, ...]) -> Site:
        """What the mode adds to; layers: those of this build."""
        return Site(self.roots, self.toolchain, tuple(self.packages), layers, self.jobs, self.options.servers)

    def _ask_cpuinfo(self, root: Root) -> None:
        # The emulator shows its own to the programs that it runs; twins would read the machine's.
        command = [f"{paths.PRIVATE}/qemu", "/usr/bin/cat", "/proc/cpuinfo"]
        code, said = sandboxes.capture(sandbox(root, self.place, {}), command)
        if code == 0:
            self.place.cpuinfo.write_bytes(said)
            self.place.cpuinfo.chmod(0o444)

    def prepare(self) -> None:
        """Make what the build needs: roots, build dependencies, twins, sources."""
        with self._in_use(), writing_below(self.store.root):
            with self._part("roots"):
                self.value  # noqa: B018
                if not self.toolchain.native:
                    self.mode.machine(self.site(self.roots.layers(self.packages)))
            with self._part("sources"):
                self._fetch()

    def build(self) -> Result:
        """Do it. Raises PhaseError, CheckError, SourceError or MachineError; the work place then stays."""
        if not self.toolchain.builds:
            name = self.toolchain.name
            message, hint = f"target {name} only runs programs: its root has no compiler", f"see toolchains/{name}.yml"
            raise UsageError(message, hint=hint)
        if self.options.start and self.options.start not in [UNPACK, *(phase.name for phase in self.phases)]:
            names = [phase.name for phase in self.phases]
            suggestion = did_you_mean(self.options.start, names)
            raise UsageError(f"no phase {self.options.start!r} in this recipe{suggestion}", hint=", ".join(names))
        lock = self.store.lock(self.place.path.name, describe=f"builds {self.title}")
        with self._in_use(), lock, writing_below(self.store.root):
            # Before anything is called up to date: the recipe's digest may be that of other files.
            self.require_sources()
            with self._part("roots"):
                value = self.value
            key = key_of(value)
            if self.options.start is None and (found := self._sound(key)):
                log.info(f"{self.title}: up to date")
                return self._result(found, "up-to-date")
            return self._build(key, value)

    def _sound(self, key: str) -> Path | None:
        """The artifact in the store; a damaged one is removed, with a word."""
        found = self.store.get("artifacts", key)
        fault = damage(found) if found else None
        if fault is None:
            return found
        log.warn(f"{self.title}: the artifact in the store is not as it was made ({fault}), and is built anew")
        self.store.remove("artifacts", key)
        return None

    def _build(self, key: str, value: dict[str, Any]) -> Result:
        wanted = self.steps()
        progress = phases.Progress(self.place)
        first, reason = first_step(wanted, progress.done(), self.options.start)
        begin = wanted[first].name if first < len(wanted) else "the check of outputs"
        log.info(f"{self.title}: from {begin}, {reason}")
        if self.mode.canaries:
            self._run_canaries()
        progress = self.run_steps(wanted, first, len(wanted))
        env = self.variables(progress.epoch)
        with self._part("check outputs"), log.step("check outputs"):
            modes = outputs.take_over(self.place)
            checked = outputs.verify(self.recipe, self.toolchain, self.place, self.root, env)
        entry = self._store(key, value, progress, checked, modes)
        if not self.options.keep:
            self.store.discard(self.place.path)
        return self._result(entry, "built")

    def run_steps(self, wanted: Sequence[Step], first: int, stop: int) -> phases.Progress:
        """Run the steps from number `first` to before number `stop`, in the work place that is there; 0 makes it anew.

        Whether what came before is done is the caller's matter. Raises PhaseError; SourceError for unpacking.
        """
        archives: list[Path] = []
        if first == 0:
            with self._part("sources"):
                archives = self._fetch()
            self.store.discard(self.place.path)
        self.place.make()
        self.place.set_variables(self.assignments)
        progress = phases.Progress(self.place)
        progress.start_at(first)
        self._tell_refused()
        for number in range(first, stop):
            self._step(number, wanted[number], progress, archives)
            if self.on_step is not None:
                self.on_step(number, wanted[number])
        return progress

    def _step(self, number: int, step: Step, progress: phases.Progress, archives: Sequence[Path]) -> None:
        started = time.monotonic()
        if step.phase is None:
            with log.step("unpack"):
                progress.epoch = phases.unpack(
                    self.place,
                    lambda place: self._unpack(archives, place),
                    [self.patches / name for name in self.recipe.patches],
                    self.root,
                    self.variables(0),
                )
            progress.add(step, "done", time.monotonic() - started)
            return
        try:
            env = self.variables(progress.epoch)
            name = phases.step_name(number, step)
            seconds = phases.run_phase(self.recipe, step, name, self.place, self.root, env, self.title)
        except PhaseError as error:
            progress.add(step, "failed", time.monotonic() - started)
            raise PhaseError(error.message, details=[*error.details, *self._ways_out()], hint=error.hint) from None
        self.parts.append((step.name, seconds))
        progress.add(step, "done", seconds)

    def shell(self, command: Sequence[str], *, artifact: bool = False) -> int:
        """Run `command` (interactively a shell if it is empty) as a phase would run; give its exit code.

        artifact: lay the finished artifact over the root. Raises UsageError if there is none.
        """
        lock = self.store.lock(self.place.path.name, wait=False, describe=f"builds {self.title}")
        with self._in_use(), lock:
            self.place.make()
            self.place.set_variables(self.assignments)
            self.place.give_to_builder("src", "obj", "dest")
            progress = phases.Progress(self.place)
            if progress.records:
                self._tell_changed()
            env = {**self.variables(progress.epoch), "TERM": os.environ.get("TERM", "dumb")}
            over = (self.unpacked_artifact(),) if artifact else ()
            code = self._in_shell(Job(tuple(command), env, over=over, changes=True))
            if not progress.records and command:
                self.store.discard(self.place.path)
            return code if code >= 0 else 128 - code

    def _tell_changed(self) -> None:
        try:
            self.require_sources()
        except SourceError as fault:
            # No reason not to look at the tree that is there.
            log.warn(f"{fault.message}; the tree here is of the older ones")

    def _run_canaries(self) -> None:
        with self._part("canaries"):
            canary.run(self.store, self.roots, self.pairs.entries, self.place.path.parent)
            if any(known.offered for known in self.pairs.equivalents.values()):
                layers, work = self.roots.layers(self.packages), self.place.path.parent
                require_same(self.store, self.roots, self.pairs.entries, work, layers)

    def _in_shell(self, job: Job) -> int:
        root = self.root
        if root.machine and job.command:
            code, said = root.machine.capture(self.place, job)
            log.output_text(said.decode(errors="replace").removesuffix("\n"))
            return code
        if root.machine:
            log.warn("this shell is in a sandbox, under qemu-user; a command after `--` runs in the emulated machine")
        where = sandbox(root, self.place, job.env, cwd=job.cwd, over=job.over)
        # An imported root may lack bash; other shells read what ENV names.
        bash = f"exec bash --rcfile {VARIABLES} -i"
        plain = ("sh", "-c", f"if command -v bash > /dev/null; then {bash}; else exec env ENV={VARIABLES} sh -i; fi")
        with log.paused():
            return run_apart(where, job.command or plain)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        in_use = self.store.lock(IN_USE, shared=True, describe="cleans the store")
        with in_use, imported_roots.used(self.store, self.imported):
            yield

    def unpacked_artifact(self) -> Path:
        """A directory with what the artifact holds, in the work place. Raises UsageError if there is no artifact."""
        found = self.artifact()
        if found is None:
            raise UsageError(f"there is no artifact of {self.title}", hint=f"invoke build {self.command_line()}")
        directory = self.place.path / "artifact"
        self.store.discard(directory)
        directory.mkdir()
        archive = found / f"{self.file_name}.tar.zst"
        sandboxes.run(sandboxes.machine_view(), ["tar", "--force-local", "--zstd", "-xf", archive, "-C", directory])
        outputs.make_readable(directory)
        return directory

    def _ways_out(self) -> list[str]:
        words = self.command_line()
        ways = [f"shell:  invoke shell {words}", f"retry:  invoke build {words}    (resumes at this phase)"]
        return [called(way) for way in ways]

    def _tell_refused(self) -> None:
        for refused in self.pairs.refused:
            if refused.reason != pairing.SWITCHED_OFF:
                log.detail(f"no twin for {refused.path}: {refused.reason}")
        for risk in self.pairs.risks:
            log.warn(risk)
        if self.lacking:
            log.warn(
                f"imported root {self.root_name} has no apt, so nothing is installed into it; the build wants "
                f"{' '.join(self.lacking)} of Debian, by whatever name the root has them"
            )
        if self.imported is not None:
            for refused in self.pairs.refused:
                if "gcc-" in refused.path and ("offered:" in refused.reason or "native root lacks" in refused.reason):
                    log.info(f"{refused.path} runs emulated: {refused.reason}")
            return
        odd = [refused for refused in self.pairs.refused if "native root" in refused.reason]
        if odd:
            remedy = called("(--verbose lists them; if one root is older, `invoke clean --roots` makes both anew)")
            log.warn(
                f"{len(odd)} tools run emulated because native and target root differ, e.g. {odd[0].path}: "
                f"{odd[0].reason} {remedy}"
            )

    def _fetch(self) -> list[Path]:
        context = FetchContext(self.store, cache(self._mirrors), self.project)
        return [fetch(source, context) for source in self.recipe.sources]

    def _mirrors(self) -> tuple[str, ...]:
        base = self.store.get("roots", key_of(self.roots.base_value()))
        found = [self.roots.mirror(), *(mirror.of_root(base / "root") if base else [])]
        return tuple(dict.fromkeys(address for address in found if address))

    def _unpack(self, archives: Sequence[Path], place: Path) -> None:
        for source, archive in zip(self.recipe.sources, archives, strict=True):
            lay_out(source, archive, place)

    def _facts(self, key: str, value: dict[str, Any], progress: phases.Progress) -> dict[str, Any]:
        """What the manifest tells of the build beside what it made."""
        facts = {
            "mode": self.mode_name,
            "key": key,
            "resumed": progress.resumed,
            "phases": {record.name: record.seconds for record in progress.records},
            "inputs": value["contents"],
        }
        if self.imported is not None:
            facts["root"] = {"name": self.imported.name, **self.imported.value(), **self.imported.facts.as_json()}
            facts["pairing"] = self.pairs.pairing
            facts["risks"] = self.pairs.risks
        return facts | self.mode.told(self.place)

    def _store(
        self, key: str, value: dict[str, Any], progress: phases.Progress, checked: Checked, modes: Mapping[bytes, int]
    ) -> Path:
        facts = self._facts(key, value, progress)

        def make(staging: Path) -> None:
            with self._part("pack"), log.step("pack"):
                shutil.copytree(self.place.logs, staging / "logs")
                outputs.keep_records(self.place, staging / "records")
                usage = outputs.usage_of(self.place)
                if usage.cut:
                    log.warn(f"the record of {', '.join(usage.cut)} was cut short: not all of its execs are counted")
                outputs.finish(
                    self.recipe,
                    self.toolchain,
                    self.place,
                    staging,
                    self.file_name,
                    checked=checked,
                    epoch=progress.epoch,
                    facts=facts,
                    twins=self.pairs.twins,
                    usage=usage,
                    modes=modes,
                )

        if self.options.start is not None:
            self.store.remove("artifacts", key)
        return self.store.ensure("artifacts", value, f"the artifact of {self.title}", make)

    def _result(self, entry: Path, status: str) -> Result:
        files = [entry / f"{self.file_name}{ending}" for ending in (".tar.zst", ".manifest.json")]
        if self.options.publish:
            files = [phases.keep_copy(file, self.project / "dist" / file.name) for file in files]
        artifact, manifest = files
        names = (self.recipe.name, self.recipe.version, self.toolchain.name, self.mode_name)
        told = read_json(manifest)
        ran = list(told["phases"].items())
        own = {self.mode.name: told[self.mode.name]} if self.mode.name in told else {}
        return Result(*names, status, artifact, manifest, entry / "records", self.parts, ran, told=own)

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.parts.append((name, time.monotonic() - started))


def build_or_else(builder: Builder, mode: Mode) -> Result:
    """Build; if a phase or the check fails, build the same in `mode`, and tell so in the result.

    The failed one's work place stays. Raises what the second build raises, with what the first one said.
    """
    try:
        return builder.build()
    except (PhaseError, CheckError) as fault:
        if builder.mode == mode or builder.toolchain.native:
            raise
        log.error(fault)
        first = fault
    instead = builder.mode.name
    log.warn(f"{builder.title} failed; now the same in mode {mode.name}")
    options = replace(builder.options, mode=mode.name, start=None, without=frozenset(), grouped=True)
    other = Builder(builder.recipe_name, builder.toolchain.name, options, builder.store)
    try:
        result = other.build()
    except (PhaseError, CheckError) as fault:
        details = [*fault.details, f"mode {instead} failed too: {first.message}"]
        raise type(fault)(fault.message, details=details, hint=fault.hint) from None
    log.warn(f"this is the result of mode {mode.name}, since mode {instead} failed; its logs: {builder.place.logs}")
    result.fallback = {
        "mode": mode.name,
        "instead-of": instead,
        "message": first.message,
        "logs": {instead: str(builder.place.logs), mode.name: str(result.records.with_name("logs"))},
    }
    return result
