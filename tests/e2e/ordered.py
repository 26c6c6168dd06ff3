"""Carries out an order of a build: JSON on stdin; on stdout a line of JSON an event, then one with the outcome."""

from __future__ import annotations

import json
import sys

from xbuild.build.executor import Event, Order
from xbuild.build.executors import executor_of
from xbuild.build.modes.table import mode_of
from xbuild.build.wire import as_json, from_json
from xbuild.store.own import open_store


def main() -> None:
    """As another machine would have it: nothing comes in but the order."""
    order = from_json(Order, json.load(sys.stdin))

    def tell(event: Event) -> None:
        print(json.dumps({"event": as_json(event)}), flush=True)

    outcome = executor_of(mode_of(order.request.mode), open_store()).perform(order, tell)
    print(json.dumps({"outcome": as_json(outcome)}), flush=True)


if __name__ == "__main__":
    main()
