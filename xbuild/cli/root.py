"""Tasks about roots that the user brings."""

from __future__ import annotations

from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from xbuild import foreign, log, paths
from xbuild.cli.arguments import number
from xbuild.cli.guard import guarded
from xbuild.doctor import require
from xbuild.errors import UsageError
from xbuild.inputs import open_store
from xbuild.model.load import load_toolchain, toolchain_names
from xbuild.model.toolchain import Toolchain


def _toolchains() -> list[Toolchain]:
    project = paths.project()
    return [load_toolchain(name, project) for name in toolchain_names(project)]


def _as_json(root: foreign.Imported) -> dict[str, object]:
    return {
        "name": root.name,
        "targets": [toolchain.name for toolchain in _toolchains() if root.fits(toolchain)],
        "sha256": root.sha256,
        "source": root.source,
        "tree": str(root.tree),
        "facts": root.facts.as_json(),
    }


@task(
    positional=["name", "source"],
    auto_shortflags=False,
    help={
        "name": "what the root is to be called: --root NAME, or `root: NAME` in a recipe",
        "source": "a directory, a tar archive, a container image (OCI layout, docker save), or a disk image",
        "target": "which root is meant, where an image holds several: armhf, arm64 ...",
        "partition": "number of the partition of a disk image, where several hold a root",
        "replace": "the name may have another root already",
        "json": "one JSON object on stdout",
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
    """Bring a root of your own into the store, to build in it and to enter it."""
    log.configure(json=json)
    if name.startswith("-") or source.startswith("-"):
        raise UsageError("a name and a source are needed", hint="invoke root.import NAME SOURCE")
    chosen = load_toolchain(target, paths.project()) if target else None
    wanted = number("--partition", partition) or None
    require(native=True)
    root, remarks = foreign.import_root(
        open_store(), name, Path(source), _toolchains(), target=chosen, partition=wanted, replace=replace
    )
    for remark in remarks:
        log.warn(remark)
    facts = _as_json(root)
    log.output(f"{name}: {root.facts.pretty}, {root.facts.kind}, libc {root.facts.libc}")
    log.output(f"for --target {' or '.join(map(str, facts['targets']))}  sha256 {root.sha256}")  # type: ignore[call-overload]
    log.result({**facts, "remarks": remarks})


@task(auto_shortflags=False, name="list", help={"json": "one JSON object on stdout"})
@guarded
def list_(_c: Context, json: bool = False) -> None:
    """List the roots that were imported."""
    log.configure(json=json)
    roots = [_as_json(root) for root in foreign.named(open_store())]
    if not json:
        rows = [
            (root.name, " ".join(toolchain.name for toolchain in _toolchains() if root.fits(toolchain)),
             root.facts.pretty, root.facts.libc, root.source)
            for root in foreign.named(open_store())
        ]  # fmt: skip
        log.table(("root", "targets", "system", "libc", "from"), rows)
    log.result({"roots": roots})


@task(positional=["name"], auto_shortflags=False, help={"name": "as `root.list` shows it"})
@guarded
def remove(_c: Context, name: str) -> None:
    """Forget an imported root; its files go with its last name."""
    log.configure()
    foreign.remove(open_store(), name)


namespace = Collection("root")
namespace.add_task(import_, name="import")
namespace.add_task(list_)
namespace.add_task(remove)
