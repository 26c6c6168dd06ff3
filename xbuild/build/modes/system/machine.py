"""Runs commands of a build in an emulated machine: disks made, machine started and watched, results brought back."""

from __future__ import annotations

import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from xbuild.base.errors import MachineError
from xbuild.base.paths import BUILDER
from xbuild.build.environment import ROOT_VARIABLES, SCRATCH, Job, WorkPlace
from xbuild.build.modes.system import cpio, talk
from xbuild.build.modes.system.parts import MKFS, Kernel
from xbuild.model.toolchain import MachineSpec
from xbuild.sandbox.mounts import Bind, Overlay
from xbuild.sandbox.run import Sandbox, exchange_trees, give_tree, piped_to, remove_tree, started, take_back
from xbuild.sandbox.view import laid
from xbuild.twins.privatetree import run_script, tool_sandbox

IDLE_LIMIT = 900.0
"""Seconds for commands that no recipe sets a limit for: recipes' own default."""

TREES = ("build", *SCRATCH)
"""What a build can write to: it goes into the machine and comes back."""

_NOBODY = 65534
_CORES = 8
"""The most that QEMU's `virt` has with the interrupt controller that every kernel knows, GICv2."""

_DISKS = "/tmp/disks"
_TAIL = 25
_NO_ROOM = 1 << 20
_TAR = "tar --numeric-owner --format=posix --pax-option=delete=atime,delete=ctime"
_PACK = f"""
cd /tmp/trees
{_TAR} -cf {_DISKS}/in *
truncate -s "${{DISK}}M" {_DISKS}/work {_DISKS}/out
{MKFS} {_DISKS}/work
chown {_NOBODY}:{_NOBODY} {_DISKS}/*
"""
_UNPACK = f"truncate -s $SIZE {_DISKS}/out && cd /tmp/trees && tar --numeric-owner -xpf {_DISKS}/out"


@dataclass(frozen=True)
class Ended:
    """How a machine ended. silence: why it had to be ended, if so. code: of the command."""

    said: talk.Said
    silence: talk.Silence | None

    @property
    def code(self) -> int | None:
        """How the command ended, if it did."""
        # It may have ended all by itself while it was about to be ended.
        return self.said.code if self.silence is None or self.said.done else None


class EmulatedMachine:
    """An `xbuild.build.environment.Machine` that boots anew for every command.

    emulator: the emulator's root. disk: the file with the target root. All paths outside. jobs: processors it has.
    keep: what jobs change is brought back where they want that.
    """

    def __init__(
        self, system: MachineSpec, emulator: Path, kernel: Kernel, disk: Path, *, jobs: int, keep: bool = True
    ) -> None:
        self.system = system
        self.emulator = emulator
        self.kernel = kernel
        self.disk = disk
        self.cores = max(1, min(jobs, _CORES))
        self.keep = keep

    def describe(self) -> list[str]:
        """What it consists of, one line each."""
        words = [Path(self.system.binary).name, self.system.machine, self.system.cpu]
        return [
            f"machine: {' '.join(words)}, {self.cores} processors, {self.system.memory} MiB, no network",
            f"kernel: {self.kernel.package}",
            f"root: {self.disk}, read-only",
        ]

    def capture(self, place: WorkPlace, job: Job) -> tuple[int, bytes]:
        """Run `job` on the trees of `place`; give its returncode and what it said. Raises MachineError."""
        with self._workshop(place) as workshop:
            log = workshop / "said"
            log.touch()
            code = self._run(place, job, workshop, log, IDLE_LIMIT, lambda _: None)
            if code is None:
                raise MachineError(f"{job.command[0]} did nothing for {IDLE_LIMIT:.0f} s in the emulated machine")
            return code, log.read_bytes()

    def run_logged(
        self, place: WorkPlace, job: Job, log: Path, *, idle_limit: float, on_idle: Callable[[float], None]
    ) -> int | None:
        """Run `job` on the trees of `place`, with its output appended to the file `log`.

        None if it was ended since it did nothing for `idle_limit` seconds; `on_idle` is told halfway. Raises
        MachineError. What Linux says on the machine's console is kept beside the log.
        """
        with self._workshop(place) as workshop:
            try:
                return self._run(place, job, workshop, log, idle_limit, on_idle)
            finally:
                if (workshop / "disks/console").exists():
                    shutil.copyfile(workshop / "disks/console", log.with_suffix(".console"))

    @contextmanager
    def _workshop(self, place: WorkPlace) -> Iterator[Path]:
        path = place.path / "machine"
        # A killed xbuild may have left one.
        remove_tree(path)
        (path / "disks").mkdir(parents=True)
        (path / "disks").chmod(0o755)
        try:
            yield path
        finally:
            remove_tree(path)

    def _run(
        self, place: WorkPlace, job: Job, workshop: Path, log: Path, idle_limit: float, on_idle: Callable[[float], None]
    ) -> int | None:
        self._fill(place, job, workshop)
        with piped_to(log) as output:
            ended = self._boot(workshop, log, output, idle_limit, on_idle)
        judge(ended, self.system, workshop, log)
        if ended.code is not None and job.changes and self.keep:
            self._bring_back(place, workshop, ended.said)
        return ended.code

    def _fill(self, place: WorkPlace, job: Job, workshop: Path) -> None:
        self._put(workshop / "disks", job)
        shown: list[Bind | Overlay] = [Bind(str(workshop / "disks"), _DISKS)]
        shown += [Bind(str(source), f"/tmp/trees/{name}", readonly=True) for name, source in _trees(place).items()]
        if job.over:
            shown.append(laid(job.over, "/tmp/trees/over"))
        env = {"DISK": str(self.system.disk)}
        run_script(self.emulator, shown, _PACK, env, "the disks of the emulated machine could not be made")

    def _put(self, disks: Path, job: Job) -> None:
        """Write what the emulator reads, and what it is to write to; then nobody but it writes in `disks`."""
        spec = talk.spec(
            job.command,
            {**job.env, **ROOT_VARIABLES} if job.root else job.env,
            modules=self.kernel.modules,
            trees=TREES,
            cwd=job.cwd,
            user=0 if job.root else BUILDER,
            seconds=int(time.time()),
            name="xbuild",
            over=bool(job.over),
            keep=job.changes and self.keep,
        )
        initrd = disks / "initrd"
        initrd.write_bytes(self.kernel.initrd.read_bytes() + cpio.archive({"spec": spec}))
        initrd.chmod(0o644)
        for name in ("console", "control"):
            (disks / name).touch()
        give_tree(0, [disks])

    def _boot(
        self,
        workshop: Path,
        log: Path,
        output: IO[bytes],
        idle_limit: float,
        on_idle: Callable[[float], None],
    ) -> Ended:
        disks = workshop / "disks"
        said = talk.Said()
        now = time.monotonic()
        watch = talk.Watch(now, boot_limit=self.system.boot_limit, idle_limit=idle_limit)
        told = False
        with started(self._sandbox(workshop), self.command_line(), output=output) as running:
            output.close()
            with (disks / "control").open("rb") as control:
                silence = None
                while silence is None and running.child.wait(1.0) is None:
                    said.hear(control.read())
                    now = time.monotonic()
                    silence = watch.look(now, said, log.stat().st_size)
                    if watch.idle(now) < idle_limit / 2:
                        told = False
                    elif not told:
                        on_idle(watch.idle(now))
                        told = True
                said.hear(control.read())
        return Ended(said, silence)

    def _sandbox(self, workshop: Path) -> Sandbox:
        mounts = (
            Bind(str(workshop / "disks"), _DISKS),
            Bind(str(self.kernel.vmlinuz), "/tmp/vmlinuz", readonly=True),
            Bind(str(self.disk), "/tmp/root.img", readonly=True),
        )
        return replace(tool_sandbox(self.emulator, mounts, {}), uid=_NOBODY, gid=_NOBODY)

    def command_line(self) -> list[str]:
        """The emulator with its options, as in its sandbox."""
        system = self.system
        # -1: at once. An oops too is an end: what runs on after it proves nothing.
        boot = f"console={system.console} panic=-1 oops=panic rdinit=/init cryptomgr.notests"
        command = [system.binary, "-machine", system.machine, "-cpu", system.cpu, "-m", str(system.memory)]
        command += ["-smp", str(self.cores), "-accel", "tcg,thread=multi", "-nodefaults", "-no-user-config"]
        command += ["-display", "none", "-no-reboot", "-sandbox", "on,elevateprivileges=deny,spawn=deny"]
        command += ["-global", "virtio-mmio.force-legacy=false"]
        command += ["-kernel", "/tmp/vmlinuz", "-initrd", f"{_DISKS}/initrd", "-append", boot]
        command += ["-chardev", f"file,id=console,path={_DISKS}/console", "-serial", "chardev:console"]
        command += ["-device", "virtio-serial-device"]
        for name, path in (("output", "/dev/stdout"), ("control", f"{_DISKS}/control")):
            command += ["-chardev", f"file,id={name},path={path}"]
            command += ["-device", f"virtserialport,chardev={name},name={name}"]
        drives = [("root", "/tmp/root.img", "readonly=on"), ("in", f"{_DISKS}/in", "readonly=on")]
        # Without werror, a machine whose disk cannot grow waits for ever.
        drives += [(name, f"{_DISKS}/{name}", "cache=unsafe,werror=report") for name in ("work", "out")]
        for name, path, options in drives:
            command += ["-drive", f"if=none,id={name},format=raw,file={path},{options}"]
            command += ["-device", f"virtio-blk-device,drive={name},serial={name}"]
        return command

    def _bring_back(self, place: WorkPlace, workshop: Path, said: talk.Said) -> None:
        file = workshop / "disks/out"
        assert said.out is not None
        size, crc = said.out
        if crc != crc_of(file, size):
            raise MachineError(
                "the files that the emulated machine wrote were changed on their way out",
                hint="is the disk failing, or full? If neither, report it",
            )
        new = workshop / "new"
        new.mkdir()
        give_tree(0, tops=[new])
        mounts = (Bind(str(workshop / "disks"), _DISKS), Bind(str(new), "/tmp/trees"))
        env = {"SIZE": str(size)}
        run_script(self.emulator, mounts, _UNPACK, env, "what the emulated machine wrote could not be unpacked")
        trees = _trees(place)
        below = [f"build/{path.name}" for path in place.build.iterdir()]
        if missing := [name for name in (*trees, *below) if not _is_directory(new / name)]:
            raise MachineError(f"the emulated machine has not given back {', '.join(missing)}", hint="report it")
        scripts = new / "build" / place.scripts.name
        tops = [*trees.values(), *(new / name for name in trees)]
        take_back(new, *((new / name).parent for name in trees), *tops, scripts)
        # The caller writes the scripts, by their names: what root of the machine has made of them stays out.
        exchange_trees(place.scripts, scripts)
        for name, path in trees.items():
            exchange_trees(path, new / name)
        give_tree(0, tops=tops)


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _trees(place: WorkPlace) -> dict[str, Path]:
    """Where the trees lie outside."""
    return {"build": place.build, **{name: place.scratch(name) for name in SCRATCH}}


def crc_of(file: Path, size: int) -> int | None:
    """CRC-32 of the first `size` bytes of `file`; None if it has fewer."""
    crc = 0
    with file.open("rb") as stream:
        while size:
            chunk = stream.read(min(size, 1 << 20))
            if not chunk:
                return None
            crc = zlib.crc32(chunk, crc)
            size -= len(chunk)
    return crc


def judge(ended: Ended, system: MachineSpec, workshop: Path, log: Path) -> None:
    """Raise MachineError, with the end of the console, unless the command has ended by itself or was only idle.

    workshop: the directory outside with the machine's disks and its console. log: what the command and the emulator
    have said.
    """
    said, silence = ended.said, ended.silence
    console = workshop / "disks/console"
    lines = console.read_text(errors="replace").splitlines() if console.exists() else []
    # Linux goes on when a disk cannot be written any more: what is read back later may be anything.
    broken = any("I/O error" in line for line in lines)
    if broken:
        message = "the disks of the emulated machine could not be written"
    elif silence == "idle" or (said.done and said.error is None):
        _require_room(said)
        return
    elif silence == "boot":
        message = f"the emulated machine was not ready after {system.boot_limit} s"
    elif silence == "dead":
        message = f"the emulated machine has not shown any life for {talk.BEAT_LIMIT:.0f} s"
    elif said.error is not None:
        message = f"the emulated machine: {said.error}"
    else:
        message = f"the emulated machine ended {'while the command ran' if said.ready else 'before it was ready'}"
    if not said.ready and log.exists():
        # It may have been the emulator that did not start, and that says why.
        lines = [*lines[-_TAIL:], *log.read_text(errors="replace").splitlines()]
    raise MachineError(message, details=lines[-_TAIL:], hint=_hint(lines, said, silence))


def _require_room(said: talk.Said) -> None:
    if said.code and said.free is not None and said.free < _NO_ROOM:
        raise MachineError(
            "the disk of the emulated machine is full",
            hint="`system: {disk: ...}` in the toolchain's file says how large it is, in MiB",
        )


def _hint(lines: list[str], said: talk.Said, silence: talk.Silence | None) -> str:
    text = "\n".join(lines)
    if "I/O error" in text or "No space left" in text:
        return "is the disk full? `invoke clean` frees what the store can make again"
    if "Out of memory" in text or "cannot set up guest memory" in text:
        return "`system: {memory: ...}` in the toolchain's file says how much memory it has, in MiB"
    if silence == "boot":
        return "a busy machine may need more: `system: {boot-limit: ...}` in the toolchain's file, in seconds"
    if said.ready:
        return "try again; if it ends in the same place, --mode emulated may work"
    return "`system` in the toolchain's file says which machine and kernel they are"


__all__ = ["IDLE_LIMIT", "TREES", "EmulatedMachine", "Ended", "crc_of", "judge"]
