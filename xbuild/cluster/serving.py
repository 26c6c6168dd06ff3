"""A scheduler on this machine, with workers of its own that are started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xbuild.base import log, process
from xbuild.base.errors import EXIT_MACHINE, EXIT_USAGE, MachineError, called
from xbuild.cluster import certificates
from xbuild.cluster.settings import DASHBOARD, configured, is_loopback

_SOON = 5.0
"""Seconds that a worker has to have lived to be started again at once; else it waits for as long."""


@dataclass(frozen=True)
class Serving:
    """How a cluster is started. listen: address of this machine; port: 0 for any. place: of certificates; None: without
    encryption. workers: how many on this machine. words: for each of them.
    """

    listen: str
    port: int
    place: Path | None
    workers: int
    words: Sequence[str] = ()
    dashboard: int = DASHBOARD


def serve(serving: Serving, ready: Callable[[str, str], None]) -> None:
    """Run a scheduler, and workers, until SIGTERM or SIGINT. ready: is called with its address and its dashboard's.

    Raises MachineError if the port is taken.
    """
    with configured(encrypted=serving.place is not None):
        asyncio.run(_served(serving, ready))


async def _served(serving: Serving, ready: Callable[[str, str], None]) -> None:
    from distributed.scheduler import Scheduler

    from xbuild.cluster.front import Front

    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    front = Front()
    at: Any = {"host": serving.listen}
    scheduler = Scheduler(
        port=serving.port,
        protocol="tls" if serving.place else "tcp",
        security=certificates.security(serving.place, "scheduler") if serving.place else None,
        dashboard_address=f"127.0.0.1:{serving.dashboard}",
        plugins=(front,),
        **at,
    )
    try:
        async with scheduler:
            ready(scheduler.address, (await front.hello())["dashboard"])
            with contextlib.ExitStack() as stack:
                crew = [_Kept(number, serving, scheduler.address, stack) for number in range(1, serving.workers + 1)]
                while not end.is_set():
                    for one in crew:
                        one.look()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(end.wait(), 0.5)
                # In order, as long as the scheduler is there.
                await asyncio.to_thread(_end_all, crew)
    except (OSError, RuntimeError) as error:
        # Dask says that it failed to start, and by what.
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        hint = "--port names another one; 0: any"
        raise MachineError(f"{serving.listen}, port {serving.port}: {cause.strerror or cause}", hint=hint) from error


def _end_all(crew: Sequence[_Kept]) -> None:
    for one in crew:
        one.ask_to_end()
    end = time.monotonic() + 25
    for one in crew:
        one.wait(max(0.0, end - time.monotonic()))


@dataclass
class _Kept:
    """A worker of this machine, which is started again when it dies."""

    number: int
    serving: Serving
    address: str
    stack: contextlib.ExitStack
    began: float = 0.0
    given_up: bool = False
    child: process.Child | None = None
    block: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def look(self) -> None:
        """Start it if it does not run."""
        code = self.wait(0)
        if (self.child is not None and code is None) or self.given_up:
            return
        if self.child is not None:
            self.block.close()
            self.child = None
            if code in (EXIT_MACHINE, EXIT_USAGE):
                log.warn(f"worker {self.number} cannot work here, and is not started again; what it said stands above")
                self.given_up = True
                return
            log.warn(f"worker {self.number} ended ({process.describe_exit(code or 0)}), and is started again")
        if time.monotonic() - self.began >= _SOON:
            self._start()

    def _start(self) -> None:
        self.began = time.monotonic()
        # Its other end is ours alone: when we are killed, it ends in order.
        reading, writing = os.pipe()
        self.block = contextlib.ExitStack()
        self.block.callback(os.close, writing)
        place = self.serving.place
        trust = ["--certificates", str(place)] if place else ["--no-tls"]
        command = [sys.executable, "-m", "xbuild", "cluster.worker", self.address, *trust, *self.serving.words]
        env: dict[str, Any] = {**os.environ, process.LIFELINE: str(reading)}
        self.child = self.block.enter_context(
            process.started([*command, "--number", str(self.number)], env=env, pass_fds=(reading,))
        )
        os.close(reading)
        self.stack.push(self.block)

    def ask_to_end(self) -> None:
        if self.child is not None:
            self.child.ask_to_end()

    def wait(self, seconds: float) -> int | None:
        return self.child.wait(seconds) if self.child is not None else None


def require_closed(listen: str, *, encrypted: bool) -> None:
    """Raise UsageError if a port would be open to others without encryption."""
    from xbuild.base.errors import UsageError

    if not encrypted and not is_loopback(listen):
        message = f"--listen {listen} is for others too, and --no-tls would let everybody who reaches it run programs"
        raise UsageError(message, hint=called("leave out --no-tls; `invoke cluster.certificates` makes what it needs"))
