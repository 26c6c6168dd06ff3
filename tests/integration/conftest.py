"""What the integration tests share: a place that sandboxes can use, and a real armhf root."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from xbuild.base import paths
from xbuild.base.yamlfile import load_model
from xbuild.dispatcher.table import Entry
from xbuild.formats.debian import Tree
from xbuild.formats.record import Exec, execs, read
from xbuild.model.load import load_toolchain
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain
from xbuild.roots.distribution import Natives, Roots
from xbuild.sandbox import idmap
from xbuild.sandbox.mounts import Bind, Devices, Mount, Overlay, Proc, Tmpfs
from xbuild.sandbox.run import Sandbox, capture, give_tree, remove_tree
from xbuild.store.local import Store
from xbuild.twins import pairing

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
ENV = {"PATH": PATH, "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Armhf:
    """The armhf target: its root's layers, what is native behind it, and the pairs between the two."""

    roots: Roots
    toolchain: Toolchain
    policy: Policy
    natives: Natives
    layers: tuple[Path, ...]
    pairs: pairing.Pairs


@dataclass(frozen=True)
class Target:
    """A target root of its own for one test, on which everything can be tried."""

    armhf: Armhf
    place: Path
    dispatcher: Path

    @property
    def upper(self) -> Path:
        """Where the changes to the root go."""
        return self.place / "upper"

    def execs(self) -> tuple[Exec, ...]:
        """All execs so far."""
        file = self.place / "record"
        assert read(file).whole
        with file.open("rb") as stream:
            return tuple(execs(stream.fileno()))

    def traced(self) -> list[str]:
        """The real paths of the programs that ran emulated so far."""
        return [known.path for known in self.execs() if not known.native]

    def sandbox(self, env: Mapping[str, str] | None = None, *, uid: int = 0, cwd: str = "/") -> Sandbox:
        """The sandbox that `run` starts commands in; env: besides PATH and the locale."""
        lowers = tuple(str(layer) for layer in self.armhf.layers)
        mounts: tuple[Mount, ...] = (
            Overlay(lowers, str(self.upper), str(self.place / "work")),
            Proc(),
            Devices(),
            Tmpfs("/tmp", "1777"),
            Bind(str(self.armhf.natives.private), paths.PRIVATE, readonly=True),
            Bind(str(self.dispatcher), paths.DISPATCH, readonly=True),
            Bind(str(self.place / "record"), f"{paths.PRIVATE}/record"),
        )
        return Sandbox(
            mounts=mounts,
            mount_point=self.place / "root",
            registrations=self.armhf.roots.hook(self.dispatcher)[0],
            env={**ENV, **(env or {})},
            cwd=cwd,
            uid=uid,
            gid=uid,
        )

    def run(self, *command: str, env: Mapping[str, str] | None = None, uid: int = 0) -> tuple[int, str]:
        """Run `command` in the root; give its returncode and what it said."""
        returncode, said = capture(self.sandbox(env, uid=uid), command)
        return returncode, said.decode()

    def says(self, *command: str, env: Mapping[str, str] | None = None, uid: int = 0) -> str:
        """What `command`, which must succeed, says; without the last newline."""
        returncode, said = self.run(*command, env=env, uid=uid)
        assert returncode == 0, said
        return said.removesuffix("\n")

    def sh(self, script: str, env: Mapping[str, str] | None = None, *, uid: int = 0) -> str:
        """What the shell script, which must succeed, says."""
        return self.says("sh", "-euc", script, env=env, uid=uid)


@pytest.fixture
def place(runnable: None) -> Iterator[Path]:
    """An empty directory that the machine's tools can fill. Unlike tmp_path, every id inside can reach it."""
    path = Path(tempfile.mkdtemp(prefix="xbuild-test-"))
    path.chmod(0o755)
    idmap.own(path)
    yield path
    remove_tree(path)


def load_target(name: str) -> Armhf:
    """The target of that name from the store, made if it is not there (that takes minutes and the network)."""
    toolchain = load_toolchain(name, paths.PACKAGE.parent)
    policy = load_model(paths.POLICIES / "default.yml", Policy)
    roots = Roots(Store(paths.cache(), remove_tree), toolchain, policy)
    natives, layers = roots.natives(), roots.layers(())
    pairs = pairing.pair(natives.twins, Tree(layers), policy, toolchain)
    return Armhf(roots, toolchain, policy, natives, layers, pairs)


@pytest.fixture
def store(place: Path) -> Iterator[Store]:
    """An empty store."""
    path = place / "store"
    path.mkdir()
    yield Store(path, remove_tree)
    remove_tree(path)


@pytest.fixture
def folder(place: Path) -> Path:
    """A directory for sources, which the user owns."""
    path = place / "sources"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def armhf(runnable: None) -> Armhf:
    """The armhf target."""
    return load_target("armhf")


def make_target(armhf: Armhf, place: Path, entries: Sequence[Entry]) -> Target:
    """A target root below `place` whose dispatcher knows `entries`."""
    (place / "record").touch()
    (place / "record").chmod(0o666)
    give_tree(0, tops=[_made(place / name) for name in ("upper", "work", "root")])
    return Target(armhf, place, armhf.roots.dispatcher(entries, place / "dispatcher"))


def _made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.fixture
def target(armhf: Armhf, place: Path) -> Target:
    """A target root with all its twins."""
    return make_target(armhf, place, armhf.pairs.table)


@pytest.fixture
def emulated(armhf: Armhf, runnable: None) -> Iterator[Target]:
    """A target root without a single twin."""
    path = Path(tempfile.mkdtemp(prefix="xbuild-test-"))
    path.chmod(0o755)
    idmap.own(path)
    yield make_target(armhf, path, ())
    remove_tree(path)
