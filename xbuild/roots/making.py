"""Makes one root or layer: mmdebstrap, apt over a root of ours, an imported root's own apt in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xbuild.base import paths
from xbuild.base.errors import MachineError
from xbuild.formats import record
from xbuild.model.toolchain import Toolchain
from xbuild.roots import apt
from xbuild.roots.index import LISTS
from xbuild.roots.network import layer_of, make_network
from xbuild.roots.resolve import Question
from xbuild.sandbox import idmap
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.mounts import Bind, Mount, Proc
from xbuild.sandbox.view import TMP, RootView
from xbuild.store.local import Store

_RECORD = Path(paths.RECORD).name

Hook = tuple[tuple[str, ...], Path | None]
"""How the kernel comes to start a dispatcher, see `Roots.hook`."""


class TwinsTooLateError(MachineError):
    """Twins could not go on, nor begin again: what they were to make is not made. programs: by their real paths."""

    programs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Foreign:
    """What lets programs of the target run in a root that is being made. private: the private tree, outside.

    hook: writes the dispatcher to a file; view: where pid 1 of the sandbox sees the private tree.
    """

    private: Path
    hook: Callable[[Path, str], Hook]


@dataclass(frozen=True)
class Making:
    """One root or layer that is being made in the directory `staging`.

    foreign: None where the machine runs the root's programs itself, or none of them is run. architecture: of a
    layer, if not the target's.
    """

    store: Store
    staging: Path
    toolchain: Toolchain
    foreign: Foreign | None
    architecture: str | None = None

    def bootstrap(self, question: Question, answer: Path) -> None:
        """Make a root at `root`. answer: what was resolved for `question`; nothing else is to be had for it."""
        staging, foreign, packages = self.staging, self.foreign, question.packages
        idmap.own(staging)
        mounts, (seen, index, *private) = self._window(answer)
        registrations, shown = foreign.hook(staging / "dispatcher", str(private[0])) if foreign else ((), None)
        command = ["mmdebstrap", "--mode=root", f"--variant={question.variant}"]
        command += [f"--architectures={question.architecture}"]
        command += [f"--components={','.join(self.toolchain.distribution.components)}", "--format=directory"]
        command += [f"--include={','.join(packages)}"] if packages else []
        # Whether programs of the target can be run is not for mmdebstrap to find out, with a package of its own wish.
        command += ["--skip=update,check/qemu", "--dpkgopt=force-unsafe-io"]
        command += [f'--setup-hook=cp {index}/lists/* "$1/var/lib/apt/lists"']
        command += [f"--customize-hook={apt.CUSTOMIZE}"]
        if foreign:
            inside = f'"$1{paths.PRIVATE}"'
            # With the record over it.
            command += [f"--setup-hook=mkdir {inside} && mount --rbind {private[0]} {inside}"]
            if shown:
                place = f'"$1{paths.DISPATCH}"'
                command += [f"--setup-hook=mount --bind {seen / shown.name} {place}"]
                command += [f"--customize-hook=umount {place}"]
            command += [f"--customize-hook=umount --recursive {inside}"]
        command += [self.toolchain.distribution.suite, str(seen / "root"), str(index / "sources.list")]
        sandbox = apt.machine_sandbox(seen, (Proc(), *mounts), registrations)
        self._run(sandbox, command, "the root could not be made")
        # The first names a place of this store.
        self._discard("dispatcher", _RECORD)

    def install_inside(self, base: Path, packages: Sequence[str]) -> None:
        """As `install`, by the root's own apt in the root: its configuration and its keys are somebody else's."""
        staging = self.staging
        make_network(staging / "network")
        parts = [_made(staging / name) for name in ("upper", "work", "merged")]
        sandboxes.give_tree(0, tops=[*parts, *layer_of(staging / "network")])
        registrations, view = self.seen(base, paths.PRIVATE)
        words = " ".join(apt.INSIDE)
        sandbox = sandboxes.Sandbox(
            mounts=replace(view, names=staging / "network").mounts(),
            mount_point=staging / "merged",
            registrations=registrations,
            env={"PATH": sandboxes.ROOT_PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive",
                 "APT_WORDS": words},
            network=True,
            locked=True,
        )  # fmt: skip
        command = ["sh", "-uc", apt.INSTALL_INSIDE, "sh", *apt.INSIDE, "--no-upgrade", "install", "--", *packages]
        hint = "do the root's own package sources answer? `invoke shell --root` is a place to look"
        self._run(sandbox, command, "installing build dependencies in the imported root failed", hint)
        self._discard("merged", "dispatcher", "network", "work", _RECORD)

    def install(self, base: Path, packages: Sequence[str], answer: Path) -> None:
        """Install `packages`, as resolved in `answer`, over the root `base`; what changes goes to `upper`."""
        script = 'apt-get -qq -y install -- "$@"; code=$?; apt-get clean; exit $code'
        self.with_apt(base, script, packages, answer, "installing build dependencies failed", apt.NETWORK)

    def with_apt(
        self, base: Path, script: str, words: Sequence[str], answer: Path, complaint: str, hint: str
    ) -> None:
        """Run a shell script whose apt works on `base`, with changes going to `upper`. answer: all that it can get."""
        staging = self.staging
        sandboxes.give_tree(0, tops=[_made(staging / name) for name in ("upper", "work", "merged")])
        idmap.own(staging)
        window, (seen, index, *private) = self._window(answer)
        merged = str(seen / "merged")
        registrations, view = self.seen(base, str(private[0]) if private else "")
        # apt writes beside its lists, and an answer in the store stays as it was made.
        shutil.copytree(answer / LISTS, staging / LISTS)
        config, lists = staging / "apt.conf", seen / LISTS
        architecture = self.architecture or self.toolchain.architecture
        config.write_text(apt.CONFIG.format(root=merged, architecture=architecture, answer=index, lists=lists))
        command = ["sh", "-c", script, "sh", *words]
        env = {"APT_CONFIG": str(seen / config.name), "DEBIAN_FRONTEND": "noninteractive"}
        sandbox = apt.machine_sandbox(seen, (Proc(), *window, *view.mounts(merged)), registrations, env)
        self._run(sandbox, command, complaint, hint)
        self._discard("merged", "apt.conf", LISTS, "dispatcher", "work", _RECORD)

    def seen(self, base: Path, private: str) -> tuple[tuple[str, ...], RootView]:
        """Lines for the kernel, and `base` with changes going to `staging`. private: `view` of `Foreign.hook`."""
        view = RootView((base,), self.staging, empty=(TMP,))
        if self.foreign is None:
            return (), view
        registrations, dispatcher = self.foreign.hook(self.staging / "dispatcher", private)
        return registrations, replace(
            view, private=self.foreign.private, dispatcher=dispatcher, record=self._recorded()
        )

    def _window(self, answer: Path) -> tuple[list[Mount], list[Path]]:
        """As `apt.shown`, of `staging`, `answer` and the private tree, over whose file `record` the record lies."""
        if self.foreign is None:
            return apt.shown(self.staging, answer)
        mounts, places = apt.shown(self.staging, answer, self.foreign.private)
        # A store may have a link to another one's twins, and nothing is mounted behind a link.
        return [*mounts, Bind(str(self._recorded()), f"{places[-1].resolve()}/{_RECORD}")], places

    def _recorded(self) -> Path:
        """The record of what runs, which every user of the root may write to."""
        file = self.staging / _RECORD
        file.touch()
        file.chmod(0o666)
        return file

    def _run(self, sandbox: sandboxes.Sandbox, command: Sequence[str], complaint: str, hint: str = apt.NETWORK) -> None:
        """As `apt.run_logged`. Raises TwinsTooLateError, however the command ended: a script may have gone on."""
        try:
            apt.run_logged(self.staging, sandbox, command, complaint, hint)
        finally:
            if late := record.late(self.staging / _RECORD):
                message = f"{', '.join(sorted(late))} asked for a library that is only there for the target"
                error = TwinsTooLateError(message, hint="report it")
                error.programs = late
                raise error

    def _discard(self, *names: str) -> None:
        for name in names:
            self.store.discard(self.staging / name)


def _made(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o755)
    return path
