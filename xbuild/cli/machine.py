"""Tasks about the machine and the store."""

from __future__ import annotations

import contextlib
from dataclasses import asdict

from xbuild.base import log
from xbuild.base.errors import EXIT_MACHINE, MachineError, called
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.doctor import examine
from xbuild.roots import imported as imported_roots
from xbuild.session import kept
from xbuild.store.local import KINDS
from xbuild.store.own import open_store

_ROOTS = ("indexes", "resolved", "roots", "layers", "twins", "canaries", "sessions", "machines")
"""Kinds of entries in the store that are made of the distribution's packages."""


@task(help={"json": "write one JSON object to stdout, and nothing else", "offline": "do not use the network"})
@guarded
def doctor(_c: Context, json: bool = False, offline: bool = False) -> int:
    """Try on this machine what a build does; name what is missing."""
    log.configure(json=json)
    probes = examine(open_store().root, offline=offline)
    good = all(probe.status != "fail" for probe in probes)
    if json:
        log.result({"ok": good, "probes": [asdict(probe) for probe in probes]})
    else:
        log.table(("", "probe", "found"), [(probe.status, probe.name, probe.text) for probe in probes])
        for probe in probes:
            if probe.status != "ok" and probe.hint:
                log.output(f"{probe.name}: {called(probe.hint)}")
    return 0 if good else EXIT_MACHINE


@task(
    help={
        "roots": "remove also roots, layers, twins and machines; the next build makes them anew, of today's packages",
        "downloads": "remove also downloaded sources",
        "everything": "remove the whole store, imported roots and kept systems too",
    },
)
@guarded
def clean(_c: Context, roots: bool = False, downloads: bool = False, everything: bool = False) -> None:
    """Remove build trees and artifacts from the store; options remove more."""
    log.configure()
    store = open_store()
    kinds = ["work", "artifacts"]
    kinds += _ROOTS if roots or everything else []
    kinds += ["downloads"] if downloads or everything else []
    kinds += ["imported", "taught"] if everything else []
    store.sweep()
    # What a running build stands on is not taken from under it.
    alone = store.alone() if "roots" in kinds else contextlib.nullcontext()
    with alone, log.step(f"remove {', '.join(kinds)}"):
        systems = kept.all_kept(store)
        for known in systems if everything else ():
            kept.remove(store, known.name)
        spared = {known.root: known.name for known in systems if not everything}
        for kind in KINDS:
            if kind in kinds and (store.root / kind).is_dir():
                store.clear(kind, spared)
        if everything:
            # It loads all that builds need.
            from xbuild.build import compilercache

            imported_roots.forget_all(store)
            compilercache.remove(store)
    # What another xbuild has made, unless somebody is at work here.
    with contextlib.suppress(MachineError), store.alone():
        store.remove_older(spared)
    if "roots" in kinds and spared:
        names = ", ".join(sorted(spared.values()))
        log.info(called(f"the roots of kept systems stay ({names}); `invoke root.remove NAME` removes one"))
