"""Opens a whole foreign system to work in: as its root, with a network, with apt; kept by name or thrown away."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from xbuild.base import log, paths
from xbuild.base.errors import UsageError, called
from xbuild.base.process import InVain
from xbuild.formats.debian import Tree
from xbuild.model.load import load_toolchain, toolchain_names
from xbuild.model.toolchain import Toolchain
from xbuild.roots import imported as imported_roots
from xbuild.roots.distribution import Roots
from xbuild.roots.network import layer_of, make_network
from xbuild.sandbox.attached import has_terminal, run_apart
from xbuild.sandbox.mounts import Bind, Tmpfs
from xbuild.sandbox.run import ROOT_PATH, Sandbox, capture, give_tree, take_made
from xbuild.sandbox.view import TMP, RootView
from xbuild.session import kept, marks, personal
from xbuild.session.root import Origin, prepare, target_root
from xbuild.session.run import roots_of
from xbuild.store.local import Store, writing_below
from xbuild.store.own import open_store

STATUS = "/var/lib/dpkg/status"
_PACKAGE = re.compile(r"^Package: (\S+)$", re.MULTILINE)
_PASSED = ("TERM", "COLORTERM", "TZ")
"""Variables that are about the person; those about the network are `personal`'s."""


@dataclass(frozen=True)
class ShellOptions:
    """How to open a system. keep: the name that its changes are kept by; None: they are thrown away.

    native: programs have twins; emulate: but for these, by name. binds: directories of the user's that he wants to see
    at the same paths. root: name or path of an imported root. snapshot: a day, or a time, whose archive is taken.
    personal: with the user's own settings, of which the way to the network is there in any case.
    """

    target: str
    suite: str | None = None
    snapshot: str | None = None
    keep: str | None = None
    native: bool = True
    emulate: frozenset[str] = frozenset()
    binds: tuple[Path, ...] = ()
    root: str | None = None
    personal: bool = True


def shell(command: Sequence[str], options: ShellOptions) -> int:
    """Run `command` (a shell if it is empty) in the system of a target; give its returncode.

    Raises LateError, at the end, if a twin could not go on.
    """
    project = paths.project()
    toolchain = load_toolchain(options.target, project)
    for path in options.binds:
        if not path.is_absolute() or not path.is_dir() or path == Path("/"):
            raise UsageError(f"--bind {path} is no directory", hint="name a directory; it is shown at the same path")
    store = open_store()
    imported = None
    if options.root:
        toolchains = [load_toolchain(name, project) for name in toolchain_names(project)]
        imported = imported_roots.find(store, options.root, toolchains, toolchain)
    suite = options.suite or (imported_roots.release(imported, toolchain) if imported else None)
    toolchain = toolchain.with_suite(suite) if suite else toolchain
    with store.in_use(), contextlib.ExitStack() as stack:
        stack.enter_context(writing_below(store.root))
        stack.enter_context(imported_roots.used(store, imported))
        roots = roots_of(toolchain, store, imported, options.snapshot)
        source = target_root(roots)
        place = stack.enter_context(_place(store, toolchain, options.keep, source))
        return enter(roots, source, place, command, options)


@contextlib.contextmanager
def _place(store: Store, toolchain: Toolchain, keep: str | None, source: Origin) -> Iterator[Path]:
    """A directory with `upper` and `work` for the changes: that of a kept system, or one that goes after the block."""
    if keep is not None:
        suite = toolchain.distribution.suite
        with kept.opened(store, keep, toolchain.name, suite, source.layers[-1]) as changes:
            yield changes.path
        return
    with store.lock("shell", shared=True, describe="runs a shell"):
        path = store.scratch("shell")
        try:
            kept.make_place(path)
            yield path
        finally:
            store.discard(path)


def trial(
    roots: Roots, command: Sequence[str], binds: Sequence[Path], packages: Sequence[str] = ()
) -> tuple[int, str]:
    """Run `command` in a system of these roots that is thrown away; give its returncode, and what it said.

    binds: directories that are shown at the same paths. packages: what is installed there besides. Raises LateError if
    a twin could not go on; it is killed then.
    """
    with roots.store.in_use(), writing_below(roots.store.root):
        source = Origin(roots.layers(packages))
        said = []

        def run(sandbox: Sandbox, words: Sequence[str | Path], late: InVain) -> int:
            code, text = capture(sandbox, words, late)
            said.append(text.decode(errors="replace"))
            return code

        options = ShellOptions(roots.toolchain.name, binds=tuple(binds), personal=False)
        with _place(roots.store, roots.toolchain, None, source) as place:
            code = enter(roots, source, place, command, options, run)
        return code, "".join(said)


def _for_the_user(sandbox: Sandbox, words: Sequence[str | Path], _late: InVain) -> int:
    # He sees what is said of late twins, and ends it himself.
    return run_apart(sandbox, words)


def enter(
    roots: Roots,
    source: Origin,
    place: Path,
    command: Sequence[str],
    options: ShellOptions,
    run: Callable[[Sandbox, Sequence[str | Path], InVain], int] = _for_the_user,
) -> int:
    """Run `command` in the system of `source`; give its returncode.

    place: a directory with `upper`, which holds earlier changes and takes new ones, and `work`; more is made in it.
    run: runs it in its sandbox, in vain once a twin could not go on. Raises UsageError if there is no shell.
    """
    upper = place / "upper"
    # Changes that go away again are no reason to look at the root anew.
    seen = source.below(upper) if options.keep else source
    root = prepare(roots, seen, native=options.native, emulate=options.emulate, credentials=True)
    name, tree = roots.toolchain.name, Tree(seen.layers)
    program = _shell_of(tree, name, needed=not command)
    before = tree.text(STATUS)
    own = _own(source, options)
    with marks.watched(roots.store, there=root.view.private is not None) as recorded:
        view = replace(root.view, layers=source.layers, names=_network(place, name, own.files), record=recorded)
        sandbox = Sandbox(
            mounts=with_changes(view, place, options.binds).mounts(),
            mount_point=roots.store.directory("mnt"),
            registrations=(*root.registrations, *roots.refusals()),
            env=_variables(program or "/bin/sh", options.keep, own.variables),
            cwd="/root" if tree.real_path("/root") else "/",
            network=True,
            name=name,
            known=bool(options.binds),
        )
        try:
            with log.paused():
                return run(sandbox, list(command) or [program or "/bin/sh"], marks.late(recorded))
        finally:
            take_made(options.binds)
            if recorded and options.native:
                tell_installed(roots, Tree((upper, *source.layers)), before, options.keep)


def _own(source: Origin, options: ShellOptions) -> personal.Personal:
    """The user's settings, and a word on those that stay out."""
    if not options.personal:
        return personal.way_out(os.environ, Tree(source.layers))
    own = personal.for_system(os.environ, Tree(source.layers), options.binds)
    if own.left_out:
        log.info(f"not taken into the system, for a password is in it: {', '.join(own.left_out)}")
    return own


def _network(place: Path, name: str, more: Mapping[str, bytes]) -> Path:
    network = place / "network"
    if make_network(network, name, more=more):
        give_tree(0, tops=layer_of(network))
    return network


def _shell_of(tree: Tree, name: str, *, needed: bool) -> str | None:
    program = next((path for path in ("/bin/bash", "/bin/sh") if tree.real_path(path)), None)
    if program is None and needed:
        raise UsageError(f"the root of {name} has no shell, /bin/sh", hint="name a program after `--`")
    return program


def tell_installed(roots: Roots, tree: Tree, before: str | None, keep: str | None) -> None:
    """Tell which programs came that could have twins: the table of twins was made when the session began.

    tree: the system as it is now. before: what its package database held then.
    """
    after = tree.text(STATUS)
    if after == before:
        return
    older = set(_PACKAGE.findall(before or ""))
    new = {path for path, package in tree.owners.items() if package not in older}
    policy = roots.policy
    assert policy is not None
    offered = {twin.target_path for twin in roots.natives().twins if not policy.tools[twin.tool].library}
    if came := sorted(PurePosixPath(path).name for path in new & offered):
        again = f"in `invoke shell --keep {keep}` they" if keep else "with --keep NAME they stay, and"
        told = f"installed meanwhile, and emulated up to here: {', '.join(came)}"
        log.info(f"{told}; {called(again)} run natively the next time")


def with_changes(view: RootView, place: Path, binds: Sequence[Path]) -> RootView:
    """The root with its changes at `place`, what is empty at each start, and the user's directories `binds`."""
    shown = tuple(Bind(str(path.resolve()), str(path)) for path in binds)
    return replace(view, changes=place, empty=(TMP, Tmpfs("/run")), shown=(*view.shown, *shown))


def _variables(program: str, keep: str | None, own: Mapping[str, str]) -> dict[str, str]:
    return {
        "PATH": ROOT_PATH,
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "SHELL": program,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        **{name: os.environ[name] for name in _PASSED if name in os.environ},
        **own,
        # Without a terminal nobody can answer what a package asks.
        **({} if has_terminal() else {"DEBIAN_FRONTEND": "noninteractive"}),
        # Debian's bashrc puts it before the prompt.
        **({"debian_chroot": keep} if keep else {}),
    }
