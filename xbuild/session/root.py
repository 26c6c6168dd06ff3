"""The root that a session enters: where its `/` comes from, its twins, its dispatcher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xbuild.base import log, paths
from xbuild.base.digest import key_of
from xbuild.base.errors import MachineError, UsageError
from xbuild.dispatcher.table import Entry
from xbuild.formats.debian import Tree
from xbuild.roots import partners
from xbuild.roots.distribution import Natives, Roots
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.view import RootView
from xbuild.store.local import LAYOUT, Store
from xbuild.twins import pairing

_STATUS = "var/lib/dpkg/status"


@dataclass(frozen=True)
class Origin:
    """Where the `/` of a session comes from.

    layers: directories outside, topmost first. foreign: those of them that others than us have written, in which a
    file need no longer be what its package brought; such a file has a twin only if its package's checksum agrees.
    """

    layers: tuple[Path, ...]
    foreign: frozenset[Path] = frozenset()

    def below(self, upper: Path) -> Origin:
        """This one with the directory `upper` of a user's changes over it."""
        return Origin((upper, *self.layers), self.foreign | {upper})


@dataclass(frozen=True)
class SessionRoot:
    """What a session sees, to which it adds what is its own. registrations: for the private binfmt_misc."""

    view: RootView
    registrations: tuple[str, ...]


def target_root(roots: Roots) -> Origin:
    """The target's own root, made if it is not there; or the imported one."""
    base = roots.base()
    return Origin((base,), frozenset({base}) if roots.imported else frozenset())


def sysroot(directory: Path) -> Origin:
    """A directory of the user's. Raises UsageError if it is none."""
    if not directory.is_dir():
        raise UsageError(f"--sysroot {directory} is no directory", hint="name one that holds the target's /lib")
    path = directory.resolve()
    return Origin((path,), frozenset({path}))


def prepare(
    roots: Roots,
    source: Origin,
    *,
    native: bool,
    emulate: frozenset[str] = frozenset(),
    record: bool = False,
    credentials: bool = False,
) -> SessionRoot:
    """What a session in `source` sees; its dispatcher is kept in the store, so that the next session starts at once.

    native: programs have twins; emulate: but for these programs, tools and groups. record: each exec is written down.
    credentials: set-user-id bits count. Raises UsageError if one of `emulate` is none.
    """
    own = tuple(one.bind(roots.toolchain.architecture) for one in roots.resolver.repositories)
    if roots.toolchain.native:
        return SessionRoot(RootView(source.layers, shown=own), ())
    natives = _natives(roots, source, emulate) if native else roots.natives()

    def make(staging: Path) -> None:
        entries = _entries(roots, natives, source, emulate) if native else ()
        roots.dispatcher(entries, staging / "dispatcher", record=record)
        _ask_cpuinfo(roots, source, staging)

    value = {
        "what": "session",
        "layout": LAYOUT,
        "target": roots.toolchain.name,
        "private": natives.key,
        "layers": [_identity(layer) for layer in source.layers],
        "native": native,
        "emulate": sorted(emulate),
        "record": record,
    }
    _forget_older(roots.store, value)
    place = roots.store.ensure("sessions", value, f"the dispatcher of {roots.toolchain.name}", make)
    cpuinfo = place / "cpuinfo" if (place / "cpuinfo").exists() else None
    registrations, dispatcher = roots.hook(place / "dispatcher", credentials=credentials)
    view = RootView(source.layers, private=natives.private, layer=natives.layer, cpuinfo=cpuinfo, shown=own)
    return SessionRoot(replace(view, dispatcher=dispatcher), registrations)


def _forget_older(store: Store, value: Mapping[str, Any]) -> None:
    """Remove what was made for the same layers as they were before; who still uses it has it open."""
    known = () if store.get("sessions", key_of(value)) else store.finished("sessions")
    for _, key, older in known:
        changed = {name for name in value if older.get(name) != value[name]}
        if changed == {"layers"} and [layer[0] for layer in older["layers"]] == [layer[0] for layer in value["layers"]]:
            store.remove("sessions", key)


def _identity(layer: Path) -> list[Any]:
    """What tells this very tree, with these packages, from another one that may lie there later."""
    status = layer / _STATUS
    state = (status if status.exists() else layer).stat()
    return [str(layer), state.st_ino, state.st_ctime_ns]


def _natives(roots: Roots, source: Origin, emulate: frozenset[str]) -> Natives:
    if emulate and roots.policy is not None:
        pairing.require_names(emulate, roots.natives().twins, roots.policy)
    try:
        return partners.of_tree(roots, roots.tree_of(source.layers)).natives()
    except MachineError as error:
        # A session needs no network: what has no partner runs emulated.
        log.warn(f"compiled modules of the root's own packages stay emulated: {error.message}")
        return roots.natives()


def _entries(roots: Roots, natives: Natives, source: Origin, emulate: frozenset[str]) -> Sequence[Entry]:
    tree = roots.tree_of(source.layers)
    policy = roots.policy
    # Without a package database nothing says what a file is.
    if policy is None or (roots.imported is None and tree.find(f"/{_STATUS}") is None):
        return ()
    paths = {twin.target_path for twin in natives.twins}
    without = frozenset(path for path in paths if _is_doubtful(tree, path, source))
    chosen = pairing.pair(
        natives.twins, tree, policy, roots.toolchain, removed=emulate, without=without, libc=roots.libc
    )
    return chosen.table


def _is_doubtful(tree: Tree, path: str, source: Origin) -> bool:
    """Is the file `path` of a foreign layer something else than what its package brought?"""
    place = tree.find(path)
    if place is None or not any(layer in place.parents for layer in source.foreign):
        return False
    return not tree.as_packaged(path)


def _ask_cpuinfo(roots: Roots, source: Origin, staging: Path) -> None:
    """The emulator shows its own to the programs that it runs; twins would read the machine's."""
    mounts = RootView(source.layers, memory=True, private=roots.natives().private).mounts()
    sandbox = sandboxes.Sandbox(mounts=mounts, mount_point=roots.store.directory("mnt"), env={"PATH": "/usr/bin:/bin"})
    code, said = sandboxes.capture(sandbox, [f"{paths.PRIVATE}/qemu", "/usr/bin/cat", "/proc/cpuinfo"])
    if code == 0:
        (staging / "cpuinfo").write_bytes(said)
        (staging / "cpuinfo").chmod(0o444)
