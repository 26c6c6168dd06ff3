"""Builds as orders for a cluster: what is sent of each, and what is made here of what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xbuild.base import log
from xbuild.base.errors import MachineError, XbuildError
from xbuild.build.prepared import Known, prepared
from xbuild.build.request import Request
from xbuild.build.subject import read
from xbuild.cluster import parcels
from xbuild.cluster.builder import perform
from xbuild.cluster.certificates import folder
from xbuild.cluster.connection import Connection
from xbuild.cluster.crew import Cluster
from xbuild.cluster.settings import address_of
from xbuild.graph.builds import up_to_date
from xbuild.graph.crew import Elsewhere, Order
from xbuild.store.local import Store
from xbuild.store.shared.entries import obtain


def cluster_of(address: str, store: Store) -> Cluster:
    """The cluster at `address`, connected. Raises UsageError without a shared store, MachineError without workers."""
    where = address_of(address)
    parcels.require_shared(store)
    crew = Cluster(Connection(where, folder() if where.startswith("tls:") else None), perform)
    crew.open()
    log.info(f"cluster {where}: {crew.described}")
    return crew


def sent_away(order: Order, request: Request, store: Store, words: Sequence[str]) -> Order:
    """`order`, which builds `request`, for a cluster. words: options of `build` that count on any machine."""

    def sent() -> dict[str, Any]:
        # A shared store may have it; that it is here was asked before.
        _fetched(request, store)
        if (here := up_to_date(request, store, {})) is not None:
            return {"there": here}
        return parcels.sent(request, store, words)

    def come(value: Mapping[str, Any]) -> dict[str, Any]:
        _fetched(request, store)
        if (here := up_to_date(request, store, {})) is None:
            message = f"{order.title} was built, but its result is not in the shared store"
            raise MachineError(message, hint="does it answer, and are the keys of its workers trusted here?")
        return {**here, "status": value.get("status", "built")}

    def came(value: Mapping[str, Any]) -> dict[str, Any]:
        return parcels.patiently(parcels.behind(store), lambda: come(value))

    return replace(order, elsewhere=Elsewhere(request.target, sent, came))


def _fetched(request: Request, store: Store) -> None:
    """Take the artifact of `request` out of a shared store, if one has it; what is wrong with it is told later."""
    known: Known = {}
    try:
        build = prepared(read(request, store), known)
        obtain(store, "artifacts", build.value, f"the artifact of {build.subject.title}")
    except XbuildError:
        return
