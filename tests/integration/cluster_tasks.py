"""A client of a cluster: `cluster_tasks.py ADDRESS PLACE COUNT SECONDS [commands [SIGN]]`: tasks that sleep, or our
commands. SIGN: a file that it waits for before it sends any; `PLACE/ready` is there then.

Each leaves a file `began-NAME-ATTEMPT` with the process id of its worker; one object on stdout says what came of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xbuild.cluster.builder import perform
from xbuild.cluster.certificates import folder
from xbuild.cluster.connection import Connection
from xbuild.cluster.crew import Cluster
from xbuild.graph.crew import Order, Running
from xbuild.graph.run import Ended, Run
from xbuild.graph.scheduler import Task


class Watch:
    """Nobody watches."""

    def began(self, ended: Ended, running: Running) -> None:
        """As of `Watcher`."""

    def finished(self, ended: Ended) -> None:
        """As of `Watcher`."""

    def looked(self) -> None:
        """As of `Watcher`."""


def sleep(text: str) -> Mapping[str, Any]:
    """What a worker does; it is sent as it stands here."""
    import json
    import os
    import time
    from pathlib import Path

    from distributed.worker import get_worker

    order = json.loads(text)
    place, seconds = order["words"]
    worker, task = get_worker(), {"name": order["name"], "attempt": order["attempt"]}
    Path(place, f"began-{order['name']}-{order['attempt']}").write_text(str(os.getpid()))
    began = {**task, "number": 1, "kind": "began", "time": time.time(), "where": str(worker.name).partition("~")[0]}
    worker.log_event(order["topic"], began)
    time.sleep(float(seconds))
    return {"code": 0, "value": {"status": "slept"}, "said": 1, "where": began["where"]}


def main() -> None:
    """Run them, each third needing the one before."""
    address, place, count, seconds, *more = sys.argv[1:]
    words = ("build", "zlib", "--plan") if more else (place, seconds)
    orders = [
        Order(Task(f"t{n}", (f"t{n - 1}",) if n % 3 == 2 else ()), f"t{n}", words) for n in range(int(count))
    ]
    (logs := Path(place, "logs")).mkdir(exist_ok=True)
    cluster = Cluster(Connection(address, folder()), perform if more else sleep)
    cluster.open()
    slots = sum(int(worker["slots"]) for worker in cluster.workers)
    for sign in map(Path, more[1:]):
        Path(place, "ready").touch()
        while not sign.exists():
            time.sleep(0.01)
    began, cpu = time.monotonic(), time.process_time()
    run = Run(orders, logs, Watch(), jobs=1, crew=cluster, keep_going=True)
    run.run()
    told = {
        "seconds": round(time.monotonic() - began, 3), "cpu": round(time.process_time() - cpu, 3), "slots": slots,
        "tasks": {ended.name: [ended.status, ended.where, ended.code] for ended in run.all},
        "held": [[round(ended.began or 0.0, 3), round(ended.seconds, 3)] for ended in run.all],
    }  # fmt: skip
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
