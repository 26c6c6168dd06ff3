"""A cluster as the crew of a run: orders go to workers as tasks of Dask, and what they say comes back.

The client hands out no more than there is room for, most urgent first, and begins anew what was lost: with a worker,
which does not count as a failure of the build, or with the scheduler, which has no memory of its own. What it packs and
fetches for one build holds up no other one.
"""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.errors import EXIT_MACHINE, MachineError, XbuildError
from xbuild.cluster.aside import Aside
from xbuild.cluster.connection import Connection
from xbuild.cluster.preflight import resource_of
from xbuild.cluster.settings import PREFIX
from xbuild.graph.children import Files, Told
from xbuild.graph.crew import Order

DEATHS = 2
"""So many workers may be lost while they make one build; with one more it is taken to be what kills them."""
FAULTY = 2
"""On so many machines a build may fail for the machine's sake; then it is tried nowhere else."""
GRACE = 60.0
"""Seconds that a run waits for a cluster that has lost all of its workers, or its scheduler."""
_LOOK = 0.25
"""Seconds that `wait` waits for news."""
_ASK = 2.0
"""Seconds between two looks at which workers there are."""
_LATE = 10.0
"""Seconds that the last words of a build may be later than its end."""


class Sent:
    """An order that was taken. attempt: how often it was sent. faulty: names of machines that it failed on.

    words: what is sent; None while that is made. coming: it was built, and what came of it is fetched.
    """

    def __init__(self, order: Order, files: Files, priority: float) -> None:
        self.order = order
        self.files = files
        self.priority = priority
        self.words: Mapping[str, Any] | None = None
        self.coming = False
        self.attempt = 0
        self.begun = 0
        self.where = ""
        self.told = Told()
        self.memory = 0
        self.held = 1
        self.future: Any = None
        self.running = False
        self.deaths: list[str] = []
        self.faulty: list[str] = []
        self.outcome: tuple[int, dict[str, Any]] | None = None
        self.ending: tuple[dict[str, Any], float] | None = None
        self.said = 0
        self._apart = 0.0
        self._events: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """Of its task."""
        return self.order.task.name

    def look(self) -> list[dict[str, Any]]:
        """As of `Running`."""
        found, self._events = self._events, []
        return found

    def result(self) -> tuple[int, dict[str, Any]] | None:
        """As of `Running`."""
        return self.outcome

    def ask_to_end(self) -> None:
        """As of `Running`."""
        if self.future is not None:
            # Who is gone cannot be asked, and has ended it.
            with contextlib.suppress(Exception):
                self.future.cancel(force=True)

    def anew(self) -> None:
        """It is sent once more: what was said before does not count."""
        self.attempt += 1
        self.running, self.ending, self.said = False, None, 0
        self.told = Told()

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take what its worker says."""
        if message["attempt"] != self.attempt:
            return
        self.said = max(self.said, int(message["number"]))
        match message["kind"]:
            case "began":
                self._apart = time.time() - float(message["time"])
                self.begun, self.running, self.where = self.begun + 1, True, str(message["where"])
            case "events":
                for event in message["events"]:
                    self._take(event)
            case "log":
                self._write(str(message["log"]), bytes(message["data"]))
            case "state":
                self.memory = max(self.memory, int(message["memory"]))
                self.held = int(message["held"])

    def _take(self, event: dict[str, Any]) -> None:
        # In the time of this machine, and with the names of its files.
        event["time"] = float(event.get("time", 0.0)) + self._apart
        if event.get("log"):
            event["log"] = str(self.local(str(event["log"])))
        with contextlib.suppress(KeyError, TypeError, ValueError):
            self.told.take(event)
            self._events.append(event)

    def local(self, log_there: str) -> Path:
        """Where a log of the worker's is here; "": of all that the command says."""
        if not log_there:
            return self.files.log
        return self.files.place / f"{self.name}.logs" / f"{self.attempt}-{Path(log_there).name}"

    def _write(self, log_there: str, data: bytes) -> None:
        file = self.local(log_there)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        with file.open("ab") as stream:
            stream.write(data)


class Cluster:
    """The cluster at the other end of `connection`, as a crew.

    function: what a worker does with the words of an order, given as JSON text; it gives `code`, `value`, `where` and
    `said`, which is how many messages it has sent.
    """

    def __init__(self, connection: Connection, function: Callable[[str], Mapping[str, Any]]) -> None:
        self._connection = connection
        self._function = function
        self._news: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._sent: dict[str, Sent] = {}
        self._aside = Aside()
        self._topic = f"xbuild-{secrets.token_hex(8)}"
        self._workers: Sequence[Mapping[str, Any]] = ()
        self._asked = 0.0
        self._none_since: float | None = None

    def open(self) -> None:
        """As of `Crew`; at once, if it is open. Raises MachineError if the cluster cannot be reached, or is empty."""
        if self._workers:
            return
        self._connection.open(self._topic, lambda message: self._news.put(("said", message)))
        hello = self._connection.hello()
        if not hello["workers"]:
            raise _no_workers(hello)
        self._ask()

    @property
    def workers(self) -> Sequence[Mapping[str, Any]]:
        """Those that there are, as the scheduler tells them."""
        return self._workers

    @property
    def described(self) -> str:
        """How large it is, in words."""
        slots = sum(int(worker["slots"]) for worker in self._workers)
        page = self._connection.hello()["dashboard"]
        dashboard = f"; dashboard, on its machine: {page}" if page else ""
        return f"{len(self._workers)} workers, {slots} builds at once, {self.jobs} jobs{dashboard}"

    @property
    def jobs(self) -> int:
        """As of `Crew`: as many as all workers have now."""
        return sum(int(worker["jobs"]) for worker in self._workers) or 1

    def _ask(self) -> None:
        self._asked = time.monotonic()
        self._workers = self._connection.hello()["workers"]
        if self._workers:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = self._asked
            log.warn(f"the cluster has lost all of its workers; waiting {GRACE:.0f} seconds for one")

    def _able(self, order: Order) -> list[Mapping[str, Any]]:
        target = order.elsewhere.target if order.elsewhere else ""
        return [worker for worker in self._workers if not target or target in worker["targets"]]

    def takes(self, order: Order) -> bool:
        """As of `Crew`."""
        if not (able := self._able(order)):
            # Told at once by `begin`, unless workers may come back.
            return bool(self._workers)
        # What came of others is fetched beside that: their workers are free.
        held = sum(not sent.coming for sent in self._sent.values())
        return held < sum(int(worker["slots"]) for worker in able)

    def begin(self, order: Order, files: Files, priority: float) -> Sent:
        """As of `Crew`."""
        sent = Sent(order, files, priority)
        self._sent[order.task.name] = sent
        with files.log.open("wb"):
            pass
        if order.elsewhere is None:
            sent.words = {"words": list(order.words)}
            self._submit(sent)
        elif not self._able(order):
            sent.outcome = _failed(_unable(order.elsewhere.target, self._workers))
        else:
            self._aside.do(order.elsewhere.sent, lambda found: self._news.put(("sent", (sent, found))))
        return sent

    def _submit(self, sent: Sent) -> None:
        assert sent.words is not None
        sent.anew()
        order = sent.order
        able = self._able(order)
        most = max((int(worker["memory"]) for worker in able), default=0)
        words = {
            **sent.words, "topic": self._topic, "name": sent.name, "attempt": sent.attempt, "title": order.title,
            "priority": sent.priority, "memory": order.task.memory,
        }  # fmt: skip
        resources: dict[str, float] = {"memory": min(order.task.memory or 0, most)} if most else {}
        if order.elsewhere and able:
            resources[resource_of(order.elsewhere.target)] = 1
        others = [str(worker["address"]) for worker in able if _plain(worker["name"]) not in sent.faulty]
        # A tuple: no text that is given as an argument is ever equal to it.
        key = (PREFIX, self._topic, sent.name, sent.attempt)
        attempt = sent.attempt
        sent.future = self._connection.submit(
            self._function, json.dumps(words), key=key, priority=round(1000 * sent.priority), resources=resources,
            workers=others if sent.faulty and others else None,
            done=lambda what, value: self._news.put(("done", (sent.name, attempt, what, value))),
        )  # fmt: skip

    def wait(self, waiting: int) -> bool:  # noqa: ARG002 - as of `Crew`
        """As of `Crew`. Raises MachineError if the cluster is gone, and does not come back."""
        with contextlib.suppress(queue.Empty):
            self._hear(*self._news.get(timeout=_LOOK))
            while True:
                self._hear(*self._news.get_nowait())
        if self._connection.lost:
            self._again()
        if time.monotonic() - self._asked >= _ASK:
            self._ask()
        if self._none_since is not None and time.monotonic() - self._none_since > GRACE:
            raise _no_workers(self._connection.hello())
        for sent in self._sent.values():
            self._conclude(sent)
        return True

    def _hear(self, kind: str, value: Any) -> None:
        match kind:
            case "said":
                if (sent := self._sent.get(str(value.get("name")))) is not None:
                    sent.hear(value)
            case "done":
                self._done(*value)
            case _:
                self._made(kind, *value)

    def _done(self, name: str, attempt: int, what: str, found: Any) -> None:
        known = self._sent.get(name)
        if known is None or attempt != known.attempt or known.outcome is not None:
            return
        if what == "finished":
            known.ending = (found, time.monotonic())
        elif what == "killed":
            self._lost(known, str(found))
        elif what == "error":
            known.outcome = _failed(MachineError(f"a worker could not begin: {found}"))

    def _made(self, kind: str, sent: Sent, found: Any) -> None:
        """What was made aside: the words of an order, or the object of one that was carried out."""
        if self._sent.get(sent.name) is not sent:
            return
        if isinstance(found, XbuildError):
            sent.outcome = _failed(found)
        elif isinstance(found, BaseException):
            raise found
        elif kind == "came":
            sent.outcome = 0, found
        elif there := found.get("there"):
            sent.outcome = 0, there
        else:
            sent.words = found
            self._submit(sent)

    def _again(self) -> None:
        """The scheduler is lost, and all that it knew: wait for it, and send what was sent before."""
        log.warn(f"the cluster's scheduler is lost; waiting {GRACE:.0f} seconds for it")
        self._connection.reopen(GRACE)
        self._ask()
        log.info("the scheduler is back")
        end = time.monotonic() + GRACE
        # Its workers come after it.
        while not self._workers and time.monotonic() < end:
            time.sleep(1.0)
            self._ask()
        for sent in self._sent.values():
            if sent.outcome is None and sent.words is not None and not sent.coming:
                self._submit(sent)

    def _lost(self, sent: Sent, worker: str) -> None:
        name = _plain(worker)
        if sent.running:
            sent.deaths.append(name)
            log.warn(f"{sent.order.title}: {name} was lost, and with it this build")
        if len(sent.deaths) > DEATHS:
            message = f"{len(sent.deaths)} workers were lost while they made it: {', '.join(sent.deaths)}"
            sent.outcome = _failed(MachineError(message, hint="does it need more memory than they have?"))
            return
        with contextlib.suppress(MachineError):
            self._ask()
        self._submit(sent)

    def _conclude(self, sent: Sent) -> None:
        """The outcome of what has ended, when all that it has said has come."""
        if sent.ending is None or sent.outcome is not None or sent.coming:
            return
        found, when = sent.ending
        if sent.said < int(found["said"]) and time.monotonic() - when < _LATE:
            return
        code, value = int(found["code"]), dict(found["value"])
        if code == EXIT_MACHINE and len(sent.faulty) < FAULTY:
            sent.faulty.append(_plain(str(found["where"])))
            if any(_plain(worker["name"]) not in sent.faulty for worker in self._able(sent.order)):
                message = (value.get("error") or {}).get("message", "")
                log.warn(f"{sent.order.title}: {found['where']} could not build it ({message}); another machine tries")
                self._submit(sent)
                return
        if (error := value.get("error")) and error.get("log"):
            there = sent.local(str(error["log"]))
            value["error"] = {**error, "log": str(there if there.exists() else sent.files.log)}
        if code or (elsewhere := sent.order.elsewhere) is None:
            sent.outcome = code, value
            return
        sent.coming = True
        self._aside.do(lambda: elsewhere.came(value), lambda found: self._news.put(("came", (sent, found))))

    def end(self, name: str) -> None:
        """As of `Crew`."""
        sent = self._sent.pop(name)
        if sent.outcome is None:
            sent.ask_to_end()
        sent.future = None

    def stop(self) -> None:
        """As of `Crew`: workers end what nobody wants any more."""
        for sent in self._sent.values():
            if sent.outcome is None:
                sent.ask_to_end()

    def close(self) -> None:
        """As of `Crew`."""
        self._aside.close()
        self._connection.close(self._topic)


def _plain(name: Any) -> str:
    """The name of a machine, of a worker's."""
    return str(name).partition("~")[0]


def _failed(error: XbuildError) -> tuple[int, dict[str, Any]]:
    return error.exit_code, {"status": "failed", "error": error.as_json()}


def _no_workers(hello: Mapping[str, Any]) -> MachineError:
    refused = [f"{one['worker']} was refused: {'; '.join(one['reasons'])}" for one in hello["refused"][-5:]]
    hint = "`invoke cluster.worker ADDRESS` on a machine makes it one"
    return MachineError("the cluster has no workers", details=refused, hint=hint)


def _unable(target: str, workers: Sequence[Mapping[str, Any]]) -> MachineError:
    known = sorted({name for worker in workers for name in worker["targets"]})
    message = f"no worker of the cluster builds for {target}"
    hint = "`invoke cluster.status` lists them"
    return MachineError(message, details=[f"they build for {', '.join(known)}"], hint=hint)
