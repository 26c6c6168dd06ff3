"""What a worker does with an order: our own command as a child of it, whose talk goes to who has ordered.

The thread of a task only waits and looks. Builds are children with a lifeline, so that nothing of a killed worker goes
on; all builds of a worker share one budget of jobs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import WorkerPlugin

from xbuild.base.errors import EXIT_MACHINE, XbuildError
from xbuild.cluster import parcels, preflight
from xbuild.cluster.parcels import CancelledError
from xbuild.cluster.talk import Talk
from xbuild.graph.children import Files
from xbuild.graph.crew import Order, Own, Running
from xbuild.graph.past import place_of_run
from xbuild.graph.scheduler import Task
from xbuild.store.own import open_store

if TYPE_CHECKING:
    from distributed.worker import Worker

_LOOK = 0.5
"""Seconds between two looks at a build."""
_TURN = 0.01
"""Seconds in which threads that wait for the crew can have it."""
_FAREWELL = 2.0
"""Seconds between the end of a build that the machine could not make and that of the worker."""
_PATIENCE = 20.0
"""Seconds that a build has to end in order."""


def perform(text: str) -> dict[str, Any]:
    """Carry out an order of `xbuild.cluster.crew`, on a worker, as a task of Dask; what came of it."""
    from distributed.worker import get_worker

    worker: Worker = get_worker()
    builder = worker.plugins.get(Builder.name)
    if not isinstance(builder, Builder):
        raise RuntimeError(f"{worker.name} builds nothing: it was started without xbuild.cluster.preload")
    return builder.perform(json.loads(text), worker.get_current_task())


def scrub() -> None:
    """Take out of our environment what a nanny of Dask has put there for numerical programs: it is not for builds."""
    import dask.config

    for kind in ("pre-spawn-environ", "environ"):
        for name, value in (dask.config.get(f"distributed.nanny.{kind}", None) or {}).items():
            if os.environ.get(name) == str(value):
                del os.environ[name]


class Builder(WorkerPlugin):
    """The builds of a worker. offer: what it has."""

    name = "xbuild"

    def __init__(self, offer: preflight.Worker) -> None:
        self.offer = offer
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._busy = threading.Event()
        self._ending = threading.Event()
        self.faulty = threading.Event()

    def setup(self, worker: Worker) -> None:
        """As Dask has it."""
        self._worker = worker
        self._store = open_store()
        self._place = self._stack.enter_context(place_of_run(self._store))
        self._crew = Own(self._place, self.offer.jobs, self.offer.slots)
        self._crew.open()
        threading.Thread(target=self._turn, daemon=True).start()

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - as Dask calls it
        """As Dask has it: all builds end."""
        self._ending.set()
        import asyncio

        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        end = time.monotonic() + _PATIENCE
        while self._crew.running and time.monotonic() < end:
            time.sleep(0.05)
        with self._lock:
            self._crew.close()
            self._stack.close()

    def _turn(self) -> None:
        """Hand the tokens of the jobserver on, as long as there are builds."""
        while not self._ending.is_set() or self._crew.running:
            if not self._crew.running:
                self._busy.wait(1.0)
                self._busy.clear()
                continue
            with self._lock:
                self._crew.wait(0)
            time.sleep(_TURN)

    def perform(self, order: Mapping[str, Any], key: Any) -> dict[str, Any]:
        """Carry it out. key: of the task."""
        talk = Talk(self._worker, order["topic"], order["name"], order["attempt"])
        # Two clients may send builds of one name, and one that was lost and came back sends it again.
        name = f"{order['name']}~{order['attempt']}~{order['topic']}"
        try:
            # A worker lives for days: what a shared store did not answer once is asked again by the next order.
            store = open_store()
            over = partial(self._unwanted, key)
            there = parcels.laid(order, self._place / f"{name}.parcel", store, self.offer.jobs, over)
            task = Task(name, (), None, order.get("memory"))
            code, value = self._run(Order(task, order["title"], there.words, env=there.env), order, key, talk)
            if code == 0:
                there.give_back()
        except CancelledError:
            return {"code": -15, "value": {"status": "interrupted"}, "said": talk.count, "where": self.offer.name}
        except (XbuildError, OSError) as error:
            code, value = _fault(error)
        finally:
            talk.finish()
            self._forget(name)
        if code == EXIT_MACHINE and (reasons := preflight.obstacles(self._store.root)):
            # It would fail all the others too.
            self._leave(reasons)
        return {"code": code, "value": value, "said": talk.count, "where": self.offer.name}

    def _run(self, order: Order, sent: Mapping[str, Any], key: Any, talk: Talk) -> tuple[int, dict[str, Any]]:
        files = Files(self._place, order.task.name)
        with self._begun(order, files, float(sent["priority"]), key) as running:
            talk.say("began", where=self.offer.name)
            while (result := running.result()) is None:
                if self._unwanted(key):
                    self._end(running)
                    raise CancelledError
                talk.look(running, files)
                time.sleep(_LOOK)
            talk.look(running, files)
            return result

    @contextlib.contextmanager
    def _begun(self, order: Order, files: Files, priority: float, key: Any) -> Iterator[Running]:
        while (running := self._taken(order, files, priority)) is None:
            if self._unwanted(key):
                raise CancelledError
            time.sleep(0.05)
        self._busy.set()
        try:
            yield running
        finally:
            with self._lock:
                self._crew.end(order.task.name)

    def _taken(self, order: Order, files: Files, priority: float) -> Running | None:
        with self._lock:
            if self._crew.takes(order):
                return self._crew.begin(order, files, priority)
            # A token that another build has comes back to who begins.
            self._crew.jobserver.turn(1)
            return None

    def _unwanted(self, key: Any) -> bool:
        if self._ending.is_set():
            return True
        task = self._worker.state.tasks.get(key)
        return task is None or task.state not in ("executing", "long-running")

    def _end(self, running: Running) -> None:
        running.ask_to_end()
        end = time.monotonic() + _PATIENCE
        while running.result() is None and time.monotonic() < end:
            time.sleep(0.05)

    def _leave(self, reasons: list[str]) -> None:
        if not self.faulty.is_set():
            self.faulty.set()
            # Not before what it says of this build is on its way: it would count as lost.
            loop, close = self._worker.loop, partial(self._worker.close, reason=reasons[0])
            loop.add_callback(loop.call_later, _FAREWELL, close)

    def _forget(self, name: str) -> None:
        for file in self._place.glob(f"{name}.*"):
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)


def _fault(error: XbuildError | OSError) -> tuple[int, dict[str, Any]]:
    if isinstance(error, XbuildError):
        return error.exit_code, {"status": "failed", "error": error.as_json()}
    known = {"kind": "machine", "code": EXIT_MACHINE, "message": str(error), "where": None, "details": []}
    return EXIT_MACHINE, {"status": "failed", "error": {**known, "hint": None, "log": None}}
