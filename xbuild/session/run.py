"""Runs one program of the user's, made for another machine, as if it were one for this."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from xbuild.base import log, paths
from xbuild.base.errors import UsageError, called
from xbuild.formats import libraries, record
from xbuild.formats.debian import Tree
from xbuild.model.load import load_policy, load_toolchain, toolchain_names
from xbuild.model.toolchain import Toolchain
from xbuild.roots import mirror
from xbuild.roots.distribution import Roots
from xbuild.roots.imported import Imported
from xbuild.sandbox.attached import run_attached
from xbuild.sandbox.run import Sandbox
from xbuild.sandbox.view import RootView
from xbuild.session import files, kept, marks, personal, program
from xbuild.session.root import Origin, prepare, sysroot, target_root
from xbuild.store.local import Store, writing_below
from xbuild.store.own import open_store

_NOT_FOUND = 127
"""Exit code of a program whose libraries the loader does not find (and of a shell for a missing command)."""


@dataclass(frozen=True)
class RunOptions:
    """How to run a program.

    target: a name, None: the one whose programs it is one of. snapshot: a day, or a time, whose archive is taken.
    sysroot: what is `/` instead of the target's root. keep: name of a kept system that is `/`. native: programs of the
    root have twins; emulate: but for these, by name. trace: tell afterwards which programs ran, and how.
    """

    target: str | None = None
    suite: str | None = None
    snapshot: str | None = None
    sysroot: Path | None = None
    keep: str | None = None
    native: bool = True
    emulate: frozenset[str] = frozenset()
    trace: bool = False


DEFAULT_TARGET = "armhf"


@dataclass(frozen=True)
class Started:
    """What is started. view: the root that it sees. variables: besides the user's."""

    command: Sequence[str]
    view: RootView
    variables: Mapping[str, str] = field(default_factory=dict)


Change = Callable[[Roots, Started, files.View], Started]
"""Makes another one of it, for a target, by the files that are seen."""


def roots_of(
    toolchain: Toolchain, store: Store, imported: Imported | None = None, snapshot: str | None = None
) -> Roots:
    """What makes and finds the roots of a target. imported: the target root, where the user has brought it.

    snapshot: a day, or a time, whose archive is taken.
    """
    address = mirror.snapshot(toolchain, snapshot)
    return Roots(store, toolchain, load_policy(toolchain), imported=imported, snapshot=address)


def run(command: Sequence[str], options: RunOptions, change: Change | None = None) -> int:
    """Run `command`; give its returncode (as in process.Completed).

    change: gives what is to be started in its place; then there may be no command. Raises UsageError if it cannot run,
    with the reason; MachineError if the machine lacks something; LateError, at the end, if a twin could not go on.
    """
    store = open_store()
    options = _as_kept(store, options)
    wanted = program.look(command[0]) if command else program.Found("", None)
    toolchain = _toolchain_for(wanted, options)
    with store.in_use(), contextlib.ExitStack() as stack:
        with writing_below(store.root):
            roots = roots_of(toolchain, store, snapshot=options.snapshot)
            source = _source(roots, options, stack)
            emulate = options.emulate
            root = prepare(roots, source, native=options.native, emulate=emulate, record=options.trace)
        view, seen = seen_by_user(root.view, wanted.path)
        if command:
            program.check(wanted, toolchain, seen)
        recorded = stack.enter_context(marks.watched(store, there=root.view.private is not None))
        started = Started(command, replace(view, record=recorded))
        started = change(roots, started, seen) if change else started
        sandbox = _sandbox(started, root.registrations, seen, store)
        with log.paused():
            code = run_attached(sandbox, started.command)
        if code == _NOT_FOUND:
            _tell_missing(wanted, toolchain, seen)
        if recorded and options.trace:
            tell_trace(recorded)
        return code


def _as_kept(store: Store, options: RunOptions) -> RunOptions:
    """A kept system is of one target and suite: these are meant where none is named."""
    if options.keep is None or options.target:
        return options
    system = kept.find(store, options.keep)
    return replace(options, target=system.target, suite=options.suite or system.suite)


def _toolchain_for(wanted: program.Found, options: RunOptions) -> Toolchain:
    """That of the target that is named, or that runs what is wanted. Raises UsageError if it cannot."""
    project = paths.project()
    # The one that is meant first: reading all takes longer than the rest of a start.
    names = [options.target or DEFAULT_TARGET, *toolchain_names(project)]
    toolchains = (load_toolchain(name, project) for name in dict.fromkeys(names))
    toolchain = next(toolchains) if options.target else program.choose(wanted, toolchains)
    if os.geteuid() == 0:
        _check_reachable([Path.cwd(), *([wanted.path] if wanted.path else [])])
    if wanted.info is not None:
        # Before roots are made, which takes minutes.
        program.check_machine(wanted, wanted.info, toolchain, lambda: (toolchain, *toolchains))
    return toolchain.with_suite(options.suite) if options.suite else toolchain


def _check_reachable(paths_: Sequence[Path]) -> None:
    """Raise UsageError if root, who is nobody of the machine's inside, could not get at one of these."""
    for path in paths_:
        for part in (path.resolve(), *path.resolve().parents):
            if not part.stat().st_mode & stat.S_IXOTH:
                raise UsageError(
                    f"{part} is closed to other users, and root of the sandbox is another user",
                    hint="run it as an ordinary user, or let all read and search it",
                )


def _sandbox(started: Started, registrations: tuple[str, ...], view: files.View, store: Store) -> Sandbox:
    users = files.variables(os.environ, ":".join(program.search_path(view)), view)
    if os.geteuid() == 0:
        users |= personal.for_nobody(users, Path.cwd())
    return Sandbox(
        mounts=started.view.mounts(),
        mount_point=store.directory("mnt"),
        registrations=registrations,
        env={**users, **started.variables},
        cwd=str(Path.cwd()),
        network=True,
        locked=True,
        himself=True,
    )


def _source(roots: Roots, options: RunOptions, stack: contextlib.ExitStack) -> Origin:
    if options.sysroot is not None:
        return sysroot(options.sysroot)
    source = target_root(roots)
    if options.keep is None:
        return source
    base, toolchain = source.layers[-1], roots.toolchain
    suite = toolchain.distribution.suite
    changes = stack.enter_context(kept.read_only(roots.store, options.keep, toolchain.name, suite, base))
    return source.below(changes.upper)


def seen_by_user(root: RootView, path: Path | None) -> tuple[RootView, files.View]:
    """The root with the user's directories, and the machine's devices; and to be read. path: of his program."""
    tree = Tree(root.layers)
    shown = files.machine_directories()
    shown += files.further(files.wanted(os.environ, path), shown, tree)
    texts, trusted = personal.for_program(tree)
    # What a variable names is that very file or directory, wherever it is; a later mount would hide one below it.
    named = {Path(bind.target) for bind in shown}
    hidden = [bind for bind in trusted if not named.isdisjoint((Path(bind.target), *Path(bind.target).parents))]
    shown = [*(bind for bind in trusted if bind not in hidden), *shown]
    settings = [*files.settings(tree, os.geteuid(), os.getegid()), *texts]
    view = replace(root, memory=True, settings=tuple(settings), devices=False, shown=tuple(shown))
    return view, files.View(root.layers, shown)


def _tell_missing(wanted: program.Found, toolchain: Toolchain, view: files.View) -> None:
    """The loader names the first library that is missing; this names all, and what to do."""
    if wanted.path is None or wanted.info is None or not wanted.info.interpreter:
        return
    library_path = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    missing = libraries.missing(str(wanted.path), view, library_path)
    for name, needed_by in missing:
        log.warn(f"there is no {name} for {toolchain.name}, which {needed_by} needs")
    if missing:
        ways = (
            f"LD_LIBRARY_PATH, --sysroot DIR, or apt in `invoke shell --target {toolchain.name} --keep NAME` and then "
            "`invoke run --keep NAME -- ...` bring libraries"
        )
        log.info(called(ways))


_WAYS = {
    record.Choice.TWIN: "native",
    record.Choice.WIDTH_TWIN: "native",
    record.Choice.NO_ENTRY: "emulated",
    record.Choice.CHANGED: "emulated: not as its package brought it",
    record.Choice.ARGUMENT: "emulated: an argument asks for the target's own",
    record.Choice.VARIABLE: "emulated: a variable asks for the target's own",
    record.Choice.PRELOADED: "emulated: /etc/ld.so.preload names a library of the target",
    record.Choice.FAILED: "emulated: its twin could not be started",
    record.Choice.BEGUN_AGAIN: "emulated: its twin asked for a library that is only there for the target",
    record.Choice.TOO_LATE: "ended: it asked for a library that is only there for the target, and had done something",
}


def tell_trace(file: Path) -> None:
    """Tell which programs were executed, how, and how often, in the order of their first time."""
    execs = record.read(file)
    counts: Counter[tuple[str, str]] = Counter()
    for (path, verdict), count in execs.counts.items():
        counts[path, _WAYS[verdict]] += count
    log.table(("program", "execs", "how"), [(path, count, way) for (path, way), count in counts.items()])
    if not execs.whole:
        log.warn("the record was cut short; not all that ran is in it")
