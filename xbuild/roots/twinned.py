"""Which twins take part while a root is made, and what comes of one that could not do what it was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from xbuild.base import log
from xbuild.dispatcher.table import Entry
from xbuild.formats.debian import Tree
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain
from xbuild.roots.contents import Packages
from xbuild.roots.making import TwinsTooLateError
from xbuild.store.local import Store
from xbuild.twins import pairing


def entries(
    twins: Sequence[pairing.Twin],
    held: Packages | Tree,
    policy: Policy,
    toolchain: Toolchain,
    *,
    libc: str | None = None,
    without: frozenset[str] = frozenset(),
) -> Sequence[Entry]:
    """The twins for a root that is being made, but those for the paths `without`.

    held: a root whose files are as they were, so that twins are by files; libc: its own. Or the packages that there
    will be: while dpkg still writes the tree, no file has a known state, so only paths are compared, and only dpkg
    writes. What loads modules has to have its package's version then.
    """
    if isinstance(held, Tree):
        return _of_any_script(pairing.pair(twins, held, policy, toolchain, libc=libc, without=without).table)
    versions = {name: policy.plain_version(text.split()[0]) for name, text in held.items()}
    pairs = pairing.entries(twins, policy, toolchain).values()
    loaders = {name for name, tool in policy.tools.items() if tool.loads_modules or tool.module}
    fit = [entry for twin, entry in pairs if twin.tool not in loaders or versions.get(twin.package) == twin.version]
    return _of_any_script([entry for entry in fit if entry.path not in without])


def _of_any_script(table: Sequence[Entry]) -> Sequence[Entry]:
    """Whatever script runs while a root is made is a package's own."""
    return [replace(entry, rules=entry.rules.model_copy(update={"script_options": ()})) for entry in table]


def make(staging: Path, store: Store, work: Callable[[frozenset[str]], None]) -> None:
    """Let `work` fill `staging`; anew, without the twins for the paths that it is given, if these were too late."""
    without: frozenset[str] = frozenset()
    while True:
        try:
            work(without)
        except TwinsTooLateError as error:
            if error.programs <= without:
                raise
            without |= error.programs
            log.info(f"{error.message}; all is made anew, with that emulated")
            for path in staging.iterdir():
                store.discard(path)
        else:
            return
