"""A program of the user's under the emulator, with the distribution's gdb connected to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xbuild.base import paths
from xbuild.base.errors import MachineError, UsageError
from xbuild.base.nearest import did_you_mean
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ElfError, read_elf
from xbuild.model.native import here
from xbuild.roots.distribution import Roots
from xbuild.sandbox import idmap
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.view import RootView, laid
from xbuild.session import files, program
from xbuild.session.run import RunOptions, Started, run
from xbuild.store.local import writing_below
from xbuild.store.own import open_store

_PACKAGE = "gdb-multiarch"
_PLACE = "/run/xbuild-debugger"
"""Where gdb's own root is seen inside, beside the target's, which is `/` for gdb too: all paths are the program's."""
_SCRIPT = "/run/xbuild-debugger.py"
_SOCKETS = "/run/xbuild-debugger.d"

_FLAGS = frozenset(
    {
        "tui", "readnow", "r", "readnever", "quiet", "q", "silent", "nh", "nx", "n", "batch-silent", "batch", "args",
        "nowindows", "nw", "fullname", "f", "version", "configuration", "return-child-result", "statistics",
    }
)  # fmt: skip
_VALUES = frozenset(
    {
        "symbols", "s", "core", "c", "command", "x", "eval-command", "ex", "init-command", "ix", "init-eval-command",
        "iex", "early-init-command", "eix", "early-init-eval-command", "eiex", "directory", "d", "cd", "tty",
        "interpreter", "i", "ui", "annotate", "l",
    }
)  # fmt: skip
"""gdb's options, with one dash or two, and those of them that take a value (gdb: "Invoking GDB")."""


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """gdb's own options, and the program with its arguments. Raises UsageError for an option that is not gdb's."""
    rest = list(words)
    own: list[str] = []
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        name, equals, _ = word.removeprefix("-").removeprefix("-").partition("=")
        if name not in _FLAGS | _VALUES:
            known = [f"--{flag}" for flag in sorted(_FLAGS | _VALUES) if len(flag) > 2] + ["--target", "--keep"]
            hint = "options of xbuild come first, then gdb's, then the program"
            raise UsageError(f"neither xbuild nor gdb has an option {word!r}{did_you_mean(word, known)}", hint=hint)
        if name == "args":
            break
        own.append(word)
        if name in _VALUES and not equals:
            if not rest:
                raise UsageError(f"{word} wants a value")
            own.append(rest.pop(0))
    return own, rest


def debug(words: Sequence[str], options: RunOptions) -> int:
    """Run gdb for the program among `words`, with the options for gdb before it; give gdb's returncode.

    Raises UsageError if there is nothing to debug, MachineError if gdb cannot be had.
    """
    own, command = split(words)
    if not own and not command:
        raise UsageError("there is no program to debug", hint="invoke debug ./program its arguments")
    store = open_store()
    with store.in_use(), store.lock("debug", shared=True, describe="debugs a program"):
        sockets = store.scratch("debug")
        sockets.mkdir()
        # Whoever we are inside; the store is closed to all others.
        sockets.chmod(0o777)
        idmap.own(sockets)
        try:
            return run(command, options, lambda roots, found, seen: _started(roots, found, seen, own, sockets))
        finally:
            store.discard(sockets)


def _started(roots: Roots, found: Started, seen: files.View, own: Sequence[str], sockets: Path) -> Started:
    """What is to run in the place of the program: gdb, which starts it."""
    if roots.toolchain.native:
        hint = "its own gdb does: apt-get install gdb"
        raise UsageError(f"programs for {roots.toolchain.name} are not emulated here", hint=hint)
    told = ["--args", _program_of(found.command[0], seen), *found.command[1:]] if found.command else []
    with writing_below(roots.store.root):
        tree = roots.machine_root([_PACKAGE], "debugger")
    inner = {
        "PYTHONHOME": f"{_PLACE}/usr",
        "PYTHONNOUSERSITE": "1",
        # gdb converts names to UTF-32.
        "GCONV_PATH": f"{_PLACE}/usr/lib/{here().triplet}/gconv",
    }
    given = {"emulator": [f"{paths.PRIVATE}/qemu"], "socket": f"{_SOCKETS}/gdb", "inner": list(inner)}
    return replace(
        found,
        command=[*_debugger(tree), *own, *told],
        view=_with_debugger(found.view, tree, sockets),
        variables={**found.variables, **inner, "XBUILD_DEBUG": json.dumps(given)},
    )


def _program_of(word: str, seen: files.View) -> str:
    """The path inside of the program to debug. Raises UsageError if it is no ELF file."""
    found = program.look(word)
    if found.path is not None:
        path: Path | None = found.path
        inside: str | None = str(path)
    else:
        places = [f"{folder}/{word}" for folder in program.search_path(seen)] if "/" not in word else [word]
        inside = next((real for place in places if (real := seen.real_path(place))), None)
        path = seen.find(inside) if inside else None
    try:
        if inside and path:
            read_elf(path)
            return inside
    except ElfError as error:
        hint = "name the program that its first line names, and the script as its argument"
        raise UsageError(f"{word} is no ELF file, and gdb knows no other", hint=hint) from error
    raise UsageError(f"there is no {word} to debug")


def _debugger(tree: Path) -> list[str]:
    """The words that start gdb from its root `tree`, and tell it how the target's root is looked at."""
    known = Tree((tree,))
    debugger = known.real_path(f"/usr/bin/{_PACKAGE}")
    wanted = read_elf(tree / debugger[1:]).interpreter if debugger else None
    # What is only unpacked has no links in `/` to what is in /usr.
    loader = (known.real_path(wanted) or known.real_path(f"/usr{wanted}")) if wanted else None
    if debugger is None or loader is None:
        raise MachineError(f"there is no {_PACKAGE} that runs in {tree}", hint="`invoke clean --roots`, and once more")
    folders = [f"{_PLACE}{folder}" for folder in (f"/usr/lib/{here().triplet}", "/usr/lib", f"/lib/{here().triplet}")]
    scripts = "/usr/lib/debug:/usr/share/gdb/auto-load"
    settings = (
        "set sysroot /",
        "set debug-file-directory /usr/lib/debug",
        f"set auto-load scripts-directory {scripts}",
        f"set auto-load safe-path {scripts}",
        f"source {_SCRIPT}",
    )
    return [
        f"{_PLACE}{loader}",
        *("--argv0", "gdb", "--library-path", ":".join(folders), f"{_PLACE}{debugger}"),
        f"--data-directory={_PLACE}/usr/share/gdb",
        *(word for text in settings for word in ("-iex", text)),
    ]


def _with_debugger(view: RootView, tree: Path, sockets: Path) -> RootView:
    script = Bind(str(paths.PACKAGE / "sandbox" / "gdbstart.py"), _SCRIPT, readonly=True)
    return replace(view, shown=(*view.shown, laid((tree,), _PLACE), script, Bind(str(sockets), _SOCKETS)))
