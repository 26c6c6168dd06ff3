"""The environment of one build: its place in the store, its sandbox, its variables."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from xbuild.base.paths import BUILD, BUILDER, RECORD
from xbuild.build.stepfiles import StepFiles
from xbuild.formats.record import Marks
from xbuild.model.load import load_presets
from xbuild.model.recipe import Recipe
from xbuild.model.toolchain import Toolchain
from xbuild.roots.network import layer_of, make_network
from xbuild.sandbox import idmap
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.run import Sandbox, Service, give_tree, machine_view, remove_tree, run
from xbuild.sandbox.run import capture as capture_in
from xbuild.sandbox.run import run_logged as run_logged_in
from xbuild.sandbox.view import RootView

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
VARIABLES = f"{BUILD}/run/variables"
"""Where, inside, shell text sets the variables of phases that are not exported."""
JOBS_PIPE = "/run/xbuild-jobs"
"""Where, inside, the named pipe is that jobs come from, if a scheduler shares them out."""
FIXED_VARIABLES: Mapping[str, str] = {
    "PATH": _PATH, "HOME": BUILD, "USER": "builder", "LOGNAME": "builder", "SHELL": "/bin/sh", "TERM": "dumb",
    "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC",
}  # fmt: skip
"""The variables that are the same for every recipe."""
ROOT_VARIABLES: Mapping[str, str] = {"USER": "root", "LOGNAME": "root"}
"""What they are in a phase that runs as root."""
_TREES = ("src", "obj", "dest")
"""Directories below /build that a phase of any build can write to."""
DEBUG = "debug"
"""The directory below /build for what is taken out of installed files."""
SCRATCH = ("tmp", "var/tmp", "run")
"""Directories of a root that a build can write to, besides its own."""


@dataclass(frozen=True)
class WorkPlace:
    """The directory outside that one build works in; it survives a failure, for a shell and for resuming.

    further: names of directories directly below /build, beside those of each build, that phases can write to.
    """

    path: Path
    further: tuple[str, ...] = ()

    @property
    def build(self) -> Path:
        """What is /build inside: src, obj, dest, run."""
        return self.path / "build"

    @property
    def trees(self) -> tuple[str, ...]:
        """Names of the directories below /build that phases can write to."""
        return tuple(dict.fromkeys((*_TREES, *self.further)))

    @property
    def source(self) -> Path:
        """The unpacked source."""
        return self.build / "src"

    @property
    def dest(self) -> Path:
        """What the install phase installs into."""
        return self.build / "dest"

    @property
    def scripts(self) -> Path:
        """The phases' scripts, /build/run inside."""
        return self.build / "run"

    def scratch(self, name: str) -> Path:
        """What is the directory `name` of SCRATCH inside."""
        return self.path / "scratch" / name.replace("/", "-")

    @property
    def logs(self) -> Path:
        """One log a phase."""
        return self.path / "logs"

    @property
    def state(self) -> Path:
        """What has been done here, as JSON."""
        return self.path / "progress.json"

    @property
    def records(self) -> Path:
        """The record of execs and of CPU use, two files a step."""
        return self.path / "records"

    def script(self, step: StepFiles) -> Path:
        """The shell text of `step`."""
        return self.scripts / step.script

    def log(self, step: StepFiles) -> Path:
        """What `step` said."""
        return self.logs / step.log

    def record(self, step: StepFiles | None) -> Path:
        """Where the execs of `step` are written down, or the `marks` of what is none; a sandbox makes the file."""
        return self.records / step.record if step else self.marks

    def accounts(self, step: StepFiles) -> Path:
        """Where the CPU use of `step` is written down (sandbox/sampler.py); a sandbox makes the file."""
        return self.records / step.accounts

    @property
    def marks(self) -> Path:
        """Where it is written down that twins could not go on in what is no step; a sandbox makes the file."""
        return self.records / StepFiles(None, "no-step").marks

    @property
    def taken_modes(self) -> Path:
        """The modes of what was installed that `outputs.take_over` has changed on the disk."""
        return self.path / "modes.json"

    @property
    def taken_owners(self) -> Path:
        """The owners of what was installed, as they were before `outputs.take_over`."""
        return self.path / "owners.json"

    @property
    def stripped(self) -> Path:
        """How what was installed has been stripped (build/strip.py)."""
        return self.path / "stripped.json"

    @property
    def cpuinfo(self) -> Path:
        """What /proc/cpuinfo is on the emulated CPU."""
        return self.path / "cpuinfo"

    @property
    def dispatcher(self) -> Path:
        """The dispatcher with this build's table."""
        return self.path / "dispatcher"

    def set_variables(self, text: str) -> None:
        """Let phases and shells find `text`, which sets variables that are not exported, at VARIABLES."""
        file = self.scripts / Path(VARIABLES).name
        file.write_text(text)
        file.chmod(0o644)

    def names(self, *, network: bool) -> Path:
        """A layer that says how names are looked up: the root is read-only, and may lack it. network: the machine's."""
        return self.path / ("network" if network else "loopback")

    def _layers(self) -> list[Path]:
        return [self.names(network=network) for network in (False, True)]

    @property
    def strange(self) -> bool:
        """Whether its tree is not root's inside, as of an older xbuild, or after an exchange that was cut short."""
        return self.build.exists() and self.build.lstat().st_uid != idmap.find().root[0]

    @property
    def given(self) -> bool:
        """Whether root inside has the directory of records: so it is from before the first command of a build on."""
        return self.records.exists() and self.records.lstat().st_uid == idmap.find().root[0]

    def make(self) -> None:
        """Make the directories that are missing; `give_to_builder` makes them those of root and of the builder inside.

        What is there is removed if it is `strange`.
        """
        if self.strange:
            remove_tree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        # What others may write to inside is closed to the other users of the machine.
        idmap.own(self.path).chmod(0o700)
        for path in (self.build, self.logs, self.scripts, self.records, self.path / "root"):
            if not path.exists():
                path.mkdir()
                path.chmod(0o755)
        for name in SCRATCH:
            place = self.scratch(name)
            if not place.exists():
                place.mkdir(parents=True)
                place.chmod(0o1777)
        for layer in self._layers():
            made = make_network(layer, network=layer == self.names(network=True))
            if made and not self.strange:
                give_tree(0, tops=layer_of(layer))

    def give_to_builder(self, *names: str) -> None:
        """Make the builder own these directories below /build, made if they are missing, and root inside the rest."""
        tops = [self.build, self.records, *(self.scratch(name) for name in SCRATCH)]
        tops += [path for layer in self._layers() for path in layer_of(layer)]
        give_tree(BUILDER, [self.build / name for name in names], tops=tops)

    def complete(self) -> None:
        """As `give_to_builder`, of what is missing: what is there has the owners that phases gave it."""
        self.give_to_builder(*(name for name in self.trees if not (self.build / name).exists()))

    def empty_dest(self) -> None:
        """Make the install directory anew, empty."""
        for noted in (self.taken_modes, self.taken_owners, self.stripped):
            noted.unlink(missing_ok=True)
        script = 'rm -rf -- "$1" && mkdir -- "$1" && chown "$2:$2" -- "$1"'
        run(machine_view(), ["sh", "-euc", script, "sh", self.dest, str(BUILDER)])


@dataclass(frozen=True)
class Job:
    """A command of a build, and what it is to find.

    env: the whole environment. cwd: inside. network: the machine's, else none but the loopback. over: directories laid
    over the root, topmost first. changes: what it changes below the directories that it can write to is wanted. step:
    the one whose execs and CPU use are to be written down; None: what is written goes to `WorkPlace.marks`. root: root
    runs it, not the builder.
    """

    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str = BUILD
    network: bool = False
    over: tuple[Path, ...] = ()
    changes: bool = False
    step: StepFiles | None = None
    root: bool = False


class Machine(Protocol):
    """What runs commands of a build instead of a sandbox, without network. See `xbuild.build.modes.system.machine`."""

    def capture(self, place: WorkPlace, job: Job) -> tuple[int, bytes]:
        """As `capture` below."""

    def run_logged(
        self, place: WorkPlace, job: Job, log: Path, *, idle_limit: float, on_idle: Callable[[float], None]
    ) -> int | None:
        """As `run_logged` below."""

    def describe(self) -> list[str]:
        """What it consists of, one line each."""


@dataclass(frozen=True)
class Root:
    """What a build sees as `/`. layers: directories outside, topmost first. private: the private tree, if any;
    native_layer: what lies in it as such.

    registrations: for the private binfmt_misc. dispatcher: a file outside, for where the machine's own entry is to find
    it instead. service: what runs beside each phase without network. network: every phase needs the machine's.
    machine: what runs commands that have no network; None: a sandbox. jobs: a named pipe, to be seen at JOBS_PIPE.
    below: of the layers the distribution's, if others lie over them. inside: what lies in the private tree besides.
    """

    layers: tuple[Path, ...]
    private: Path | None
    registrations: tuple[str, ...]
    service: Service | None = None
    network: bool = False
    dispatcher: Path | None = None
    machine: Machine | None = None
    native_layer: Path | None = None
    jobs: Path | None = None
    below: tuple[Path, ...] = ()
    inside: tuple[Bind, ...] = ()


def capture(root: Root, place: WorkPlace, job: Job) -> tuple[int, bytes]:
    """Run `job` in the build at `place`; give its returncode (as in process.Completed), and what it said.

    It is killed when a twin of it could not go on, as by `run_logged`.
    """
    if root.machine and not job.network:
        return root.machine.capture(place, job)
    return capture_in(_sandbox_of(root, place, job), job.command, Marks(place.record(job.step)).programs)


def run_logged(
    root: Root, place: WorkPlace, job: Job, log: Path,
    *, idle_limit: float, on_idle: Callable[[float], None], on_stopped: Callable[[], None] = lambda: None,
) -> int | None:  # fmt: skip
    """Run `job` with its output appended to the file `log`; None if it was ended: for being idle (process.watch), or
    since a twin could not go on, and others might wait for it for ever.

    on_stopped: told if we are to end, and the job's programs have ended in order (not of a `Machine`).
    """
    if root.machine and not job.network:
        return root.machine.run_logged(place, job, log, idle_limit=idle_limit, on_idle=on_idle)
    where, late = _sandbox_of(root, place, job), Marks(place.record(job.step)).programs
    return run_logged_in(
        where, job.command, log, idle_limit=idle_limit, on_idle=on_idle, on_stopped=on_stopped, in_vain=late
    )


def describe(root: Root, place: WorkPlace, job: Job) -> list[str]:
    """Where `job` runs, one line each, for --verbose."""
    if root.machine and not job.network:
        return root.machine.describe()
    return _sandbox_of(root, place, job).describe()


def _sandbox_of(root: Root, place: WorkPlace, job: Job) -> Sandbox:
    network, as_root = job.network, job.root
    return sandbox(root, place, job.env, cwd=job.cwd, network=network, over=job.over, step=job.step, as_root=as_root)


def sandbox(
    root: Root, place: WorkPlace, env: Mapping[str, str],
    *, cwd: str = BUILD, network: bool = False, over: Sequence[Path] = (), step: StepFiles | None = None,
    as_root: bool = False,
) -> Sandbox:  # fmt: skip
    """The sandbox of the build at `place`: the root read-only, /build and the scratch directories writable.

    cwd: inside. network: the machine's, else none but the loopback. over: directories laid over the root. step: the
    one whose execs and CPU use are to be written down. as_root: for root inside, who may do to files and processes what
    root may, and nothing else.
    """
    user = 0 if as_root else BUILDER
    noted = step if root.private else None
    view = _view(root, place, over, as_root=as_root)
    record = place.record(noted) if noted or (root.private and place.given) else None
    return Sandbox(
        mounts=replace(view, names=place.names(network=network), record=record).mounts(),
        mount_point=place.path / "root",
        registrations=root.registrations,
        env={**env, **ROOT_VARIABLES} if as_root else env,
        cwd=cwd,
        uid=user,
        gid=user,
        network=network,
        locked=True,
        narrow=True,
        service=None if network else root.service,
        record=RECORD if noted else None,
        accounts=place.accounts(noted) if noted else None,
    )


def _view(root: Root, place: WorkPlace, over: Sequence[Path], *, as_root: bool) -> RootView:
    # What we write to or give away by its name is not for root inside to rename, or to lay links in the place of.
    own = [Bind(str(place.build), BUILD, readonly=as_root)]
    own += [Bind(str(place.build / name), f"{BUILD}/{name}") for name in place.trees if as_root]
    own += [*_kept(place, over), *(Bind(str(place.scratch(name)), f"/{name}") for name in SCRATCH)]
    own += [Bind(str(root.jobs), JOBS_PIPE)] if root.jobs else []
    return RootView(
        (*over, *root.layers),
        shown=tuple(own),
        private=root.private,
        layer=root.native_layer,
        inside=root.inside,
        dispatcher=root.dispatcher,
        cpuinfo=place.cpuinfo if root.private and place.cpuinfo.exists() else None,
        writer=BUILDER,
    )


def _kept(place: WorkPlace, over: Sequence[Path]) -> list[Bind]:
    """What is laid over the root is what has been checked: what runs there does not change it below /build either."""
    below = [path.relative_to(place.build) for path in over if path.is_relative_to(place.build)]
    return [Bind(str(place.build / path), f"{BUILD}/{path}", readonly=True) for path in below]


def build_directory(recipe: Recipe) -> str:
    """Where, inside, the recipe is configured and compiled."""
    in_tree = load_presets()[recipe.build.preset].build_directory == "in-tree"
    return f"{BUILD}/src" if in_tree else f"{BUILD}/obj"


def variables(recipe: Recipe, epoch: int) -> dict[str, str]:
    """The whole environment of the recipe's phases. epoch: seconds since 1970, for SOURCE_DATE_EPOCH."""
    return {**FIXED_VARIABLES, "SOURCE_DATE_EPOCH": str(epoch), **recipe.env}


def phase_variables(recipe: Recipe, toolchain: Toolchain, jobs: int) -> dict[str, str]:
    """What the shell of a phase knows beside its environment. jobs: how many compilers may run at once.

    Not exported: a makefile with `TARGET ?= libx.so` would take our word for the user's.
    """
    preset = load_presets()[recipe.build.preset]
    return {
        "NAME": recipe.name,
        "VERSION": recipe.version,
        "TARGET": toolchain.name,
        "TARGET_TRIPLET": toolchain.triplet,
        "PREFIX": "/usr",
        "LIBDIR": toolchain.library_directory,
        "DESTDIR": f"{BUILD}/dest",
        "SRCDIR": f"{BUILD}/src",
        "BUILDDIR": build_directory(recipe),
        "JOBS": str(jobs),
        **preset.environment(recipe.build.options),
    }


def assignments(values: Mapping[str, str]) -> str:
    """Shell text that gives variables their values, one a line."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
