"""Tasks about roots that the user brings, and systems that he keeps."""

from __future__ import annotations

from pathlib import Path

from xbuild.base import log, paths
from xbuild.base.errors import UsageError, called
from xbuild.cli.arguments import number
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.doctor import require
from xbuild.model.load import load_toolchain, toolchain_names
from xbuild.model.toolchain import Toolchain
from xbuild.roots import imported as imported_roots
from xbuild.session import kept
from xbuild.store.own import open_store


def _toolchains() -> list[Toolchain]:
    project = paths.project()
    return [load_toolchain(name, project) for name in toolchain_names(project)]


def _targets(root: imported_roots.Imported) -> list[str]:
    return [toolchain.name for toolchain in _toolchains() if root.fits(toolchain)]


def _as_json(root: imported_roots.Imported) -> dict[str, object]:
    return {
        "name": root.name,
        "targets": _targets(root),
        "sha256": root.sha256,
        "source": root.source,
        "tree": str(root.tree),
        "facts": root.facts.as_json(),
    }


@task(
    name="import",
    positional=["name", "source"],
    help={
        "name": "a name for the root: for --root NAME, or `root: NAME` in a recipe",
        "source": "a directory, a tar archive, a container image (OCI layout, docker save), or a disk image",
        "target": "take the root of this target, where an image holds several: armhf, arm64 ...",
        "partition": "take the partition of this number, where several of a disk image hold a root",
        "replace": "replace the root that has this name already",
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def import_(
    _c: Context,
    name: str,
    source: str,
    target: str = "",
    partition: str = "",
    replace: bool = False,
    json: bool = False,
) -> None:
    """Bring a root of your own into the store, to build in it or to open a shell in it."""
    log.configure(json=json)
    if name.startswith("-") or source.startswith("-") or not source:
        raise UsageError("a name and a source are needed", hint="invoke root.import NAME SOURCE")
    chosen = load_toolchain(target, paths.project()) if target else None
    wanted = number("--partition", partition) or None
    # Before anything is installed for what is not there.
    if not Path(source).exists():
        raise UsageError(f"{source}: there is no such file or directory", hint="invoke root.import NAME SOURCE")
    require(native=True)
    root, remarks = imported_roots.import_root(
        open_store(), name, Path(source), _toolchains(), target=chosen, partition=wanted, replace=replace
    )
    for remark in remarks:
        log.warn(remark)
    facts = _as_json(root)
    log.output(f"{name}: {root.facts.pretty}, {root.facts.kind}, libc {root.facts.libc}")
    log.output(f"for --target {' or '.join(_targets(root))}  sha256 {root.sha256}")
    log.result({**facts, "remarks": remarks})


@task(name="list", help={"json": "write one JSON object to stdout, and nothing else"})
@guarded
def list_(_c: Context, json: bool = False) -> None:
    """List imported roots, and the systems that `shell --keep` has made."""
    log.configure(json=json)
    store = open_store()
    roots, systems = imported_roots.named(store), kept.all_kept(store)
    sizes = kept.sizes(systems)
    if json:
        imported = [_as_json(root) for root in roots]
        log.result({"imported": imported, "kept": [{**one.as_json(), "bytes": sizes[one.name]} for one in systems]})
        return
    if not roots and not systems:
        log.output(called("nothing is imported or kept: `invoke root.import NAME SOURCE`, `invoke shell --keep NAME`"))
    if roots:
        facts = [
            (root.name, " ".join(_targets(root)), root.facts.pretty, root.facts.libc, root.source) for root in roots
        ]
        log.table(("imported", "targets", "system", "libc", "from"), facts)
    if systems:
        rows = [
            (one.name, one.target, one.suite, log.human_size(sizes[one.name]), one.created, one.used) for one in systems
        ]
        log.table(("kept", "target", "suite", "changes", "created", "last used"), rows)


@task(
    positional=["name"],
    help={"name": "its name, as `root.list` shows it", "kind": "imported or kept, where both have the name"},
)
@guarded
def remove(_c: Context, name: str, kind: str = "") -> None:
    """Remove an imported root, or a kept system with all that was changed in it."""
    log.configure()
    store = open_store()
    there = {
        "imported": name in {root.name for root in imported_roots.named(store)},
        "kept": name in {system.name for system in kept.all_kept(store)},
    }
    if kind not in ("", *there):
        raise UsageError(f"--kind must be imported or kept, not {kind!r}")
    if not kind and all(there.values()):
        raise UsageError(f"there are an imported root and a kept system {name}", hint="--kind imported, or --kind kept")
    chosen = kind or ("imported" if there["imported"] else "kept")
    (imported_roots if chosen == "imported" else kept).remove(store, name)
    log.info(f"{name} is removed")


TASKS = (import_, list_, remove)
