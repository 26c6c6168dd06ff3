"""The builds of a graph as orders: what each is called, when it need not run, and why it has to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xbuild.base.digest import read_json
from xbuild.base.errors import XbuildError
from xbuild.build.build import result_of
from xbuild.build.executor import Outcome
from xbuild.build.prepared import Known, Prepared, prepared
from xbuild.build.request import Here, Request
from xbuild.build.standing import actions, artifact, facts
from xbuild.build.subject import read
from xbuild.graph.crew import Order
from xbuild.graph.nodes import Graph, Node
from xbuild.graph.past import past
from xbuild.graph.scheduler import Task
from xbuild.projects import is_own
from xbuild.store.local import Store

WHAT = "builds"


@dataclass(frozen=True)
class Asked:
    """How all builds of a run are made. words: options of `build` for each, beside those of its request.

    jobs: of all together. here: what is made of the copy of an artifact. pack: of a project without a recipe too.
    """

    jobs: int
    words: tuple[str, ...]
    here: Here
    pack: bool = False


def names_of(titles: Sequence[str]) -> list[str]:
    """A name for each title that can be the name of a file: no two are the same."""
    found: dict[str, int] = {}
    names = []
    for title in titles:
        plain = re.sub(r"[^A-Za-z0-9.+_-]+", "-", title.replace(" for ", "-")).strip("-.")[:100] or "build"
        found[plain] = found.get(plain, 0) + 1
        names.append(plain if found[plain] == 1 else f"{plain}~{found[plain]}")
    return names


Sent = Callable[[Order, Request], Order]
"""What makes an order for another machine of one for this."""


def orders(graph: Graph, asked: Asked, store: Store, sent: Sent = lambda order, _: order) -> list[Order]:
    """An order for each build of the graph, in an order in which all can be built."""
    names = dict(zip(graph.nodes, names_of([node.title for node in graph.nodes]), strict=True))
    known: Known = {}
    return [sent(*_order(node, graph, names, asked, store, known)) for node in graph.nodes]


def _order(
    node: Node, graph: Graph, names: Mapping[Node, str], asked: Asked, store: Store, known: Known
) -> tuple[Order, Request]:
    before = past(store, WHAT, node.title)
    task = Task(names[node], tuple(names[need] for need in graph.needs[node]), before.seconds, before.memory)
    # Of what is only needed nobody wants a copy.
    wanted = node in graph.asked and asked.here.publish
    publish = wanted and (asked.pack or not is_own(node.request.recipe, store))
    request = replace(node.request, here=replace(asked.here, publish=publish))
    words = ["build", request.recipe, "--target", request.target, *shlex.split(request.options())]
    words += ["--jobs", str(asked.jobs), *asked.words, *([] if wanted else ["--no-publish"])]

    def there() -> dict[str, Any] | None:
        return up_to_date(request, store, known)

    def reason() -> str:
        return reason_of(request, store, known)

    return Order(task, node.title, tuple(words), there, reason), request


def up_to_date(request: Request, store: Store, known: Known) -> dict[str, Any] | None:
    """What `build` would say of an artifact that is in the store, sound and of the present inputs; None if none is.

    What is wrong with the request is for the build to tell.
    """
    try:
        build = prepared(read(request, store), known)
    except (XbuildError, OSError):
        return None
    entry = artifact(build)
    if entry is None:
        return None
    try:
        manifest = read_json(entry / f"{build.subject.file_name}.manifest.json")
        return result_of(build.subject, Outcome("up-to-date", build.key, manifest)).as_json()
    except (OSError, ValueError, KeyError):
        return None


def reason_of(request: Request, store: Store, known: Known) -> str:
    """Why it has to be built, in words; "" if only the build can tell."""
    try:
        return reason_for(prepared(read(request, store), known))
    except (XbuildError, OSError):
        return ""


def reason_for(build: Prepared) -> str:
    """The reason of the first step that is to run."""
    names = {step.name for step in build.steps}
    wanted = (action for action in actions(build, facts(build)) if action.name in names and action.verdict != "skip")
    reason = next((action.reason for action in wanted), "only checking and packing is left")
    # Of digests nobody reads more than the beginning.
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", r"\1...", reason)
