"""Many builds by one command: what they come to, how they are shown, and the files about them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xbuild.base import log, process
from xbuild.base.errors import XbuildError
from xbuild.build.request import Here, Request
from xbuild.cli.pages import require_writable, written
from xbuild.graph.builds import Asked, orders
from xbuild.graph.crew import Crew, Order
from xbuild.graph.display import COLUMNS, Board, rows
from xbuild.graph.nodes import Graph
from xbuild.graph.outcome import as_json, fault
from xbuild.graph.past import place_of_run, remember
from xbuild.graph.planned import COLUMNS as PLANNED
from xbuild.graph.planned import planned, tree
from xbuild.graph.run import Ended, Run
from xbuild.store.local import Store
from xbuild.store.own import open_store


@dataclass(frozen=True)
class Many:
    """How a run is made. what: its commands in the plural. jobs: of all together; 0: as many as there are cores.

    at_once: so many commands at most; 0: as many as there are jobs.
    junit, page: files to write. cluster: address of one that does it; "": this machine.
    Raises UsageError if a file cannot be written.
    """

    what: str
    jobs: int
    at_once: int = 0
    keep_going: bool = False
    junit: str = ""
    page: str = ""
    cluster: str = ""

    def __post_init__(self) -> None:
        require_writable(self.junit, self.page)

    @property
    def budget(self) -> int:
        """Jobs of all together."""
        return self.jobs or len(os.sched_getaffinity(0))


def build_many(
    graph: Graph, many: Many, words: Sequence[str], here: Here, *, pack: bool, json: bool, elsewhere: Sequence[str] = ()
) -> None:
    """Build all, and what they need. words: options for each; here, pack: as of `Asked`. elsewhere: on a cluster.

    Raises the error of the whole.
    """
    store, asked = open_store(), Asked(many.budget, tuple(words), here, pack)
    if many.cluster:
        # Only here: it takes long to load, and need not be installed.
        from xbuild.cluster.settings import require

        require()
        from xbuild.cluster.orders import cluster_of, sent_away

        todo = orders(graph, asked, store, lambda order, request: sent_away(order, request, store, elsewhere))
        all_ended, error = run_all(todo, many, store, crew=cluster_of(many.cluster, store))
    else:
        all_ended, error = run_all(orders(graph, asked, store), many, store)
    if not json:
        log.table(COLUMNS, rows(all_ended))
        for ended in all_ended:
            if artifact := ended.value.get("artifact"):
                log.output(f"{artifact}  sha256 {ended.value['sha256']}")
    if error is not None:
        raise error


def plan_many(requests: Sequence[Request], *, json: bool) -> None:
    """Tell what would be built, and why, as a tree."""
    found = planned(Graph.from_requests(requests), open_store())
    log.result({"planned": [one.as_json() for one in found.values()]})
    if not json:
        log.table(PLANNED, list(tree(found)))


def run_all(
    orders: Sequence[Order], many: Many, store: Store, value: Callable[[Run], dict[str, Any]] | None = None,
    crew: Crew | None = None,
) -> tuple[list[Ended], XbuildError | None]:
    """Run them, and tell programs what came of it: by `value`, or `of_builds`; what, and the error it is to end with.

    Whatever interrupts it, what is known by then is told.
    """
    with place_of_run(store) as place:
        board = Board(many.what, len(orders), crew.jobs if crew else many.budget)
        run = Run(
            orders, place, board, jobs=many.budget, at_once=many.at_once, keep_going=many.keep_going, crew=crew
        )
        try:
            with log.running(board):
                run.run()
        finally:
            for ended in run.all:
                remember(store, many.what, ended)
            log.result((value or of_builds)(run) | _files(many, run))
    return run.all, fault(run.all, many.what)


def of_builds(run: Run) -> dict[str, Any]:
    """What `build` tells programs of many."""
    return {"builds": [*map(as_json, run.all)], "jobs": run.jobs, "seconds": round(run.took, 3)}


def _files(many: Many, run: Run) -> dict[str, str | None]:
    # Only here: they take long to load, and few want them.
    from xbuild.graph.junit import junit
    from xbuild.graph.page import page

    title = f"{len(run.all)} {many.what}"
    return {
        "junit": _written(many.junit, junit(f"xbuild {many.what}", run.all, run.took)) if many.junit else None,
        "page": _written(many.page, page(run, title, process.show(sys.argv))) if many.page else None,
    }


def _written(name: str, text: str) -> str | None:
    if file := written(name, text):
        log.info(f"report: {file}")
    return file
