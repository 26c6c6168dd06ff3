"""The scheduler's side: it tells who it is, and takes note of machines that were refused."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

from xbuild.cluster.preflight import Versions

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, WorkerState

HELLO, REFUSED, FORGET = "xbuild_hello", "xbuild_refused", "xbuild_forget"
"""Names of what the scheduler is asked."""
_KEPT = 100
"""Refusals that are remembered."""


class Front(SchedulerPlugin):
    """What a scheduler of Dask needs to be one of ours."""

    name = "xbuild"

    def __init__(self) -> None:
        self._refused: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """As Dask has it."""
        self._scheduler = scheduler
        scheduler.handlers |= {HELLO: self.hello, REFUSED: self.refused, FORGET: self.forget}

    async def hello(self) -> dict[str, Any]:
        """Who we are, and whom we have."""
        scheduler = self._scheduler
        assert scheduler is not None
        return {
            "versions": asdict(Versions.here()),
            "time": time.time(),
            "workers": [_told(state) for state in scheduler.workers.values()],
            "refused": list(self._refused),
            "dashboard": _dashboard(scheduler),
        }

    async def refused(self, worker: str, reasons: list[str]) -> None:
        """A machine may not work for us, and says why."""
        self._refused.append({"worker": worker, "reasons": reasons, "time": time.time()})

    async def forget(self, topic: str) -> None:
        """A client is gone: what its builds have said need not be kept."""
        assert self._scheduler is not None
        self._scheduler._broker._topics.pop(topic, None)


def _told(state: WorkerState) -> dict[str, Any]:
    extra: Mapping[str, Any] = (state.extra or {}).get("xbuild") or {}
    return {
        "name": str(state.name),
        "address": state.address,
        "slots": state.nthreads,
        "running": len(state.processing),
        "jobs": extra.get("jobs", state.nthreads),
        "memory": int(state.resources.get("memory", 0)),
        "targets": sorted(name.partition("-")[2] for name in state.resources if name.startswith("target-")),
    }


def _dashboard(scheduler: Scheduler) -> str:
    server = scheduler.services.get("dashboard")
    if server is None:
        return ""
    # Its pages with charts need one package more.
    page = "status" if find_spec("bokeh") else "info/main/workers.html"
    return f"http://127.0.0.1:{server.port}/{page}"
