"""The tasks about systems that the user keeps."""

from __future__ import annotations

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from xbuild import log
from xbuild.cli.guard import guarded
from xbuild.inputs import open_store
from xbuild.session import kept


@task(auto_shortflags=False, name="list", help={"json": "one JSON object on stdout"})
@guarded
def list_(_c: Context, json: bool = False) -> None:
    """List the systems that `shell --keep` has made."""
    log.configure(json=json)
    systems = kept.all_kept(open_store())
    sizes = kept.sizes(systems)
    if json:
        log.result({"kept": [{**known.as_json(), "bytes": sizes[known.name]} for known in systems]})
        return
    if not systems:
        log.output("nothing is kept; `invoke shell --target armhf --keep NAME` begins a system")
        return
    rows = [
        (known.name, known.target, known.suite, log.human_size(sizes[known.name]), known.created, known.used)
        for known in systems
    ]
    log.table(("name", "target", "suite", "changes", "created", "last used"), rows)


@task(positional=["name"], auto_shortflags=False, help={"name": "its name, as `root.list` shows it"})
@guarded
def remove(_c: Context, name: str) -> None:
    """Remove a kept system with all that was changed in it."""
    log.configure()
    kept.remove(open_store(), name)
    log.info(f"{name} is removed")


namespace = Collection("root")
namespace.add_task(list_, name="list")
namespace.add_task(remove, name="remove")
