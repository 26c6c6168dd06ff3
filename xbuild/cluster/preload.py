"""For workers that somebody else starts, such as dask-jobqueue: `dask worker ... --preload xbuild.cluster.preload`.

It makes a worker of Dask one of ours, and its scheduler too. A machine that cannot build joins all the same, for Dask
only logs what a preload fails by; but it builds for no target, and `cluster.status` says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbuild.base.paths import cache
from xbuild.cluster import preflight
from xbuild.cluster.builder import Builder, scrub
from xbuild.cluster.front import HELLO, REFUSED, Front

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler
    from distributed.worker import Worker


async def dask_setup(server: Worker | Scheduler) -> None:
    """As Dask calls it: before a worker joins."""
    from distributed.scheduler import Scheduler

    if isinstance(server, Scheduler):
        front = Front()
        await front.start(server)
        server.add_plugin(front)
        return
    scrub()
    known = await getattr(server.scheduler, HELLO)()
    found = server.state.total_resources
    targets = ",".join(name.partition("-")[2] for name in found if name.startswith("target-"))
    offer = preflight.Worker.here("", server.state.nthreads, 0, int(found.get("memory", 0)), targets)
    if reasons := [*preflight.strangeness(known), *preflight.obstacles(cache())]:
        await getattr(server.scheduler, REFUSED)(worker=offer.name, reasons=reasons)
        return
    # The scheduler is told of them when it joins.
    found.update(offer.resources())
    server.state.available_resources.update(offer.resources())
    await server.plugin_add(Builder(offer))
