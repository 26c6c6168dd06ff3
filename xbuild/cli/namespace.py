"""All commands, as tasks of invoke: for `invoke` in a checkout, and for the table that `xbuild` goes by."""

from __future__ import annotations

from collections.abc import Iterable

import invoke.tasks
from invoke.collection import Collection

from xbuild.base import log, paths
from xbuild.cli import binfmt, cluster, root, shapes, store, table
from xbuild.cli.bisect import bisect
from xbuild.cli.build import build, log_, why
from xbuild.cli.compare import compare
from xbuild.cli.completion import completion
from xbuild.cli.deb import deb
from xbuild.cli.deploy import deploy
from xbuild.cli.development import lint, run_tests
from xbuild.cli.export import export
from xbuild.cli.forget import forget
from xbuild.cli.guard import guarded
from xbuild.cli.listing import list_
from xbuild.cli.lock import lock
from xbuild.cli.machine import clean, doctor
from xbuild.cli.measure import bench
from xbuild.cli.project import init
from xbuild.cli.recheck import check
from xbuild.cli.reference import write_reference
from xbuild.cli.repo import repo
from xbuild.cli.reproduce import reproduce
from xbuild.cli.session import debug, run, shell
from xbuild.cli.task import Context, Task, task
from xbuild.cli.trace import trace
from xbuild.cli.wheel import wheel
from xbuild.cli.words import add_short_options, allow_missing_words
from xbuild.model.schema import write_schemas


@task()
@guarded
def reference(_c: Context) -> None:
    """Write docs/schema, docs/reference and the table of commands, from the models and the tasks."""
    log.configure()
    documentation = paths.checkout() / "docs"
    write_schemas(documentation / "schema")
    shapes.write(documentation / "schema")
    table.FILE.write_text(table.of(namespace).text())
    write_reference(namespace, documentation / "reference")


def collection(name: str, tasks: Iterable[Task]) -> Collection:
    """`tasks` for invoke."""
    made = Collection(name)
    for known in tasks:
        made.add_task(
            invoke.tasks.Task(
                known.body,
                name=known.name,
                positional=known.positional,
                iterable=known.iterable,
                auto_shortflags=False,
                help=dict(known.help),
            )
        )
    return made


allow_missing_words()
add_short_options()
namespace = collection(
    "xbuild",
    (
        build, init, deb, wheel, repo, lock, check, compare, bisect, reproduce, trace, bench, why, log_, forget, run,
        debug, shell, deploy, export, list_, clean, doctor, completion, run_tests, lint, reference,
    ),
)  # fmt: skip
for _name, _module in {"binfmt": binfmt, "cluster": cluster, "root": root, "store": store}.items():
    namespace.add_collection(collection(_name, _module.TASKS))
