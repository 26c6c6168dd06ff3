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
from xbuild.roots import apt, enclosed
from xbuild.roots.fetching import FETCHED, fetch
from xbuild.roots.index import LISTS, SOURCES
from xbuild.roots.network import layer_of, make_network
from xbuild.roots.repository import Repository
from xbuild.roots.resolve import Question
from xbuild.sandbox import idmap
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.mounts import Bind, Mount, Overlay
from xbuild.sandbox.view import TMP, RootView, laid
from xbuild.store.local import Store

_ARCHIVES = "var/cache/apt/archives"
_NOTHING = "nothing"
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

    foreign: None where the machine runs the root's programs itself, or none of them is run. repositories: the user's
    own, where a layer's packages may come from. architecture: of a layer, if not the target's.
    """

    store: Store
    staging: Path
    toolchain: Toolchain
    foreign: Foreign | None
    repositories: tuple[Repository, ...] = ()
    architecture: str | None = None

    def bootstrap(self, question: Question, answer: Path) -> None:
        """Make a root at `root`. answer: what was resolved for `question`; nothing else is to be had for it."""
        staging, foreign, packages = self.staging, self.foreign, question.packages
        fetch(staging, answer, question.architecture, complaint := "the root could not be made")
        sandboxes.give_tree(0, tops=[_made(staging / "root")])
        registrations, shown = foreign.hook(staging / "dispatcher", enclosed.NATIVE) if foreign else ((), None)
        command = ["mmdebstrap", "--mode=root", f"--variant={question.variant}"]
        command += [f"--architectures={question.architecture}"]
        command += [f"--components={','.join(self.toolchain.distribution.components)}", "--format=directory"]
        command += [f"--include={','.join(packages)}"] if packages else []
        # Whether programs of the target can be run is not for mmdebstrap to find out, with a package of its own wish.
        command += ["--skip=update,check/qemu,chroot/mount/sys", "--dpkgopt=force-unsafe-io"]
        command += [f'--setup-hook=cp {enclosed.ANSWER}/lists/* "$1/var/lib/apt/lists"']
        fetched, there = f"{enclosed.STAGING}/{FETCHED}", f'"$1/{_ARCHIVES}"'
        command += [f"--setup-hook=mkdir -p {there} && find {fetched} -name '*.deb' -exec mv -t {there} {{}} +"]
        command += [f"--customize-hook={apt.CUSTOMIZE}"]
        if foreign:
            inside = f'"$1{paths.PRIVATE}"'
            # With the record over it.
            command += [f"--setup-hook=mkdir {inside} && mount --rbind {enclosed.NATIVE} {inside}"]
            if shown:
                place = f'"$1{paths.DISPATCH}"'
                command += [f"--setup-hook=mount --bind {enclosed.STAGING}/{shown.name} {place}"]
                command += [f"--customize-hook=umount {place}"]
            command += [f"--customize-hook=umount --recursive {inside}"]
        command += [self.toolchain.distribution.suite, f"{enclosed.STAGING}/root", f"{enclosed.ANSWER}/{SOURCES}"]
        sandbox = enclosed.sandbox(staging, self._window(answer), registrations)
        self._run(sandbox, command, complaint)
        # The first names a place of this store.
        self._discard("dispatcher", FETCHED, _NOTHING, _RECORD)

    def install_inside(self, base: Path, question: Question) -> None:
        """As `install`, by the root's own apt in the root: its configuration and its keys are somebody else's."""
        staging = self.staging
        make_network(staging / "network")
        parts = [_made(staging / name) for name in ("upper", "work", "merged")]
        sandboxes.give_tree(0, tops=[*parts, *layer_of(staging / "network")])
        registrations, view = self.seen((base,), paths.PRIVATE)
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
        asked = apt.asked(question.packages, question.profiles)
        command = ["sh", "-uc", apt.INSTALL_INSIDE, "sh", *apt.INSIDE, "--no-upgrade", *asked]
        hint = "do the root's own package sources answer? `invoke shell --root NAME` is a place to look"
        self._run(sandbox, command, "installing build dependencies in the imported root failed", hint)
        self._discard("merged", "dispatcher", "network", "work", _NOTHING, _RECORD)

    def install(self, base: Path, question: Question, answer: Path) -> None:
        """Install what was resolved for `question` in `answer` over the root `base`; what changes goes to `upper`."""
        script = 'apt-get -qq -y "$@"; code=$?; apt-get clean; exit $code'
        words = apt.asked(question.packages, question.profiles)
        self.with_apt(base, script, words, answer, "installing build dependencies failed", apt.NETWORK)

    def with_apt(
        self, base: Path, script: str, words: Sequence[str], answer: Path, complaint: str, hint: str
    ) -> None:
        """Run a shell script whose apt works on `base`, with changes going to `upper`. answer: all that it can get."""
        staging = self.staging
        self._fetch(answer, complaint, hint)
        # apt writes beside its lists, and an answer in the store stays as it was made.
        shutil.copytree(answer / LISTS, staging / LISTS)
        tops = [_made(staging / name) for name in ("upper", "work", "merged")]
        sandboxes.give_tree(0, [staging / LISTS], tops=tops)
        registrations, view = self.seen((base,), enclosed.NATIVE)
        merged, config = f"{enclosed.STAGING}/merged", f"{enclosed.STAGING}/apt.conf"
        architecture = self.architecture or self.toolchain.architecture
        words_of = {"root": merged, "answer": enclosed.ANSWER, "lists": f"{enclosed.STAGING}/{LISTS}"}
        (staging / "apt.conf").write_text(apt.CONFIG.format(architecture=architecture, **words_of))
        shown = (*self._window(answer), *view.mounts(merged), Bind(str(staging / FETCHED), f"{merged}/{_ARCHIVES}"))
        env = {"APT_CONFIG": config, "DEBIAN_FRONTEND": "noninteractive"}
        sandbox = enclosed.sandbox(staging, shown, registrations, env)
        self._run(sandbox, ["sh", "-c", script, "sh", *words], complaint, hint)
        self._discard("merged", "apt.conf", FETCHED, LISTS, "dispatcher", "work", _NOTHING, _RECORD)

    def unpack(self, script: str, folder: Path, answer: Path, complaint: str, hint: str) -> None:
        """Fill `folder`, a new directory of `staging`, from the packages of `answer` by a shell script; none of their
        own runs.
        """
        self._fetch(answer, complaint, hint)
        idmap.own(folder)
        command = ["sh", "-c", script, "sh", f"{enclosed.STAGING}/{folder.name}"]
        apt.run_logged(self.staging, enclosed.sandbox(self.staging, ours=True), command, complaint, hint)
        self._discard(FETCHED)

    def _fetch(self, answer: Path, complaint: str, hint: str = apt.NETWORK) -> None:
        architecture = self.architecture or self.toolchain.architecture
        shown = [repository.bind(architecture) for repository in self.repositories]
        fetch(self.staging, answer, architecture, complaint, hint, shown)

    def run_over(
        self,
        layers: Sequence[Path],
        command: Sequence[str],
        complaint: str,
        hint: str = "--verbose tells more",
        shown: Sequence[Bind] = (),
    ) -> None:
        """Run `command` as root in the root that `layers` are; what changes goes to `upper`, which is there.

        shown: what it sees besides.
        """
        staging = self.staging
        tops = [_made(staging / name) for name in ("work", "merged")]
        sandboxes.give_tree(0, [staging / "upper"], tops=tops)
        registrations, view = self.seen(layers, paths.PRIVATE)
        env = {"PATH": sandboxes.ROOT_PATH, "LC_ALL": "C.UTF-8"}
        view = replace(view, shown=(*view.shown, *shown))
        sandbox = sandboxes.Sandbox(view.mounts(), staging / "merged", registrations, env, locked=True)
        self._run(sandbox, command, complaint, hint)
        self._discard("merged", "work", "dispatcher", _NOTHING, _RECORD)

    def seen(self, layers: Sequence[Path], private: str) -> tuple[tuple[str, ...], RootView]:
        """Lines for the kernel, and `layers` with changes going to `staging`. private: `view` of `Foreign.hook`."""
        view = RootView(tuple(layers), self.staging, empty=(TMP,))
        if self.foreign is None:
            return (), view
        registrations, dispatcher = self.foreign.hook(self.staging / "dispatcher", private)
        shown = (self._private(self.foreign, paths.PRIVATE),)
        return registrations, replace(view, shown=shown, dispatcher=dispatcher, record=self._recorded())

    def _window(self, answer: Path) -> list[Mount]:
        """`answer`, and the private tree, over whose file `record` the record lies."""
        shown: list[Mount] = [Bind(str(answer), enclosed.ANSWER, readonly=True)]
        if self.foreign is None:
            return shown
        private = self._private(self.foreign, enclosed.NATIVE)
        return [*shown, private, Bind(str(self._recorded()), f"{enclosed.NATIVE}/{_RECORD}")]

    def _private(self, foreign: Foreign, target: str) -> Overlay:
        """The private tree, which no remount makes writable: root inside owns what is in it."""
        nothing = self.staging / _NOTHING
        nothing.mkdir(exist_ok=True)
        return laid((foreign.private, nothing), target)

    def _recorded(self) -> Path:
        """The record of what runs, which every user of the root may write to."""
        file = self.staging / _RECORD
        file.touch()
        file.chmod(0o666)
        return file

    def _run(self, sandbox: sandboxes.Sandbox, command: Sequence[str], complaint: str, hint: str = apt.NETWORK) -> None:
        """As `apt.run_logged`. Raises TwinsTooLateError, however the command ended: a script may have gone on."""
        marks = record.Marks(self.staging / _RECORD)
        try:
            apt.run_logged(self.staging, sandbox, command, complaint, hint, in_vain=marks.programs)
        finally:
            if late := marks.programs():
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
