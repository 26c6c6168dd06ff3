"""A machine that works for a cluster: it asks the scheduler who that is, joins it, and comes back when it was lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from xbuild.base import log
from xbuild.base.errors import MachineError, UsageError
from xbuild.base.paths import cache
from xbuild.cluster import certificates, preflight
from xbuild.cluster.front import HELLO, REFUSED
from xbuild.cluster.settings import configured, own_address
from xbuild.store.moment import for_a_moment
from xbuild.store.own import open_store

if TYPE_CHECKING:
    from distributed.security import Security

_AGAIN = 5.0
"""Seconds between two tries to reach a scheduler."""
_JOIN = 30.0
"""Seconds in which a scheduler has to take a worker."""
_RECOVER = 60.0
"""Seconds between two looks at a machine that has become unable to build."""


@dataclass(frozen=True)
class Joining:
    """How a machine joins. address: the scheduler's. place: of certificates; None: without encryption.

    patient: whether a scheduler that cannot be reached is waited for.
    """

    address: str
    offer: preflight.Worker
    place: Path | None
    patient: bool = True


def work(joining: Joining) -> None:
    """Work until SIGTERM or SIGINT. Raises MachineError if this machine may not, with the reasons, which it also tells
    the scheduler; UsageError for certificates.
    """
    with configured(encrypted=joining.place is not None):
        from xbuild.cluster.builder import scrub

        scrub()
        asyncio.run(_Work(joining).run())


async def asked(address: str, security: Security | None, question: str, role: str = "worker", **words: Any) -> Any:
    """What the scheduler at `address` answers. Raises MachineError if it cannot be reached, or is none of ours."""
    from distributed import core

    kind: Any = core.rpc
    arguments = cast("Any", security).get_connection_args(role) if security is not None else {}
    try:
        async with kind(address, connection_args=arguments, timeout=10) as scheduler:
            return await getattr(scheduler, question)(**words)
    except (OSError, TimeoutError) as error:
        hint = "does it run (`invoke cluster.start`), is the address right, and are the certificates of its authority?"
        raise MachineError(f"{address} does not answer: {str(error) or type(error).__name__}", hint=hint) from error
    except (AttributeError, KeyError, ValueError) as error:
        raise MachineError(f"{address} is no scheduler of xbuild's", hint="`invoke cluster.start`") from error


class _Work:
    def __init__(self, joining: Joining) -> None:
        self._joining = joining
        self._security = certificates.security(joining.place, "worker") if joining.place else None
        self._end = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        told = False
        while not self._end.is_set():
            try:
                known = await asked(self._joining.address, self._security, HELLO)
                await self._require_fit(known)
                await self._joined()
                told = False
            except MachineError as error:
                if isinstance(error, preflight.RefusedError) or not self._joining.patient:
                    raise
                if not told:
                    log.warn(f"{error.message}; trying until it does")
                told = True
            await self._pause(_AGAIN)

    async def _require_fit(self, known: Any) -> None:
        reasons = preflight.strangeness(known)
        reasons += await asyncio.to_thread(preflight.obstacles, cache())
        if reasons:
            with contextlib.suppress(MachineError):
                worker = self._joining.offer.name
                await asked(self._joining.address, self._security, REFUSED, worker=worker, reasons=reasons)
            raise preflight.refusal(reasons)

    async def _joined(self) -> None:
        """Work until the scheduler is lost, we are to end, or the machine cannot build any more."""
        from xbuild.cluster.builder import Builder

        builder = Builder(self._joining.offer)
        async with _worker(self._joining, self._security, builder, self._end) as worker:
            if worker is None:
                return
            log.info(f"{self._joining.offer.name} works for {self._joining.address}")
            ended = [asyncio.create_task(worker.finished()), asyncio.create_task(self._end.wait())]
            await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.cancel()
        if builder.faulty.is_set():
            await self._recovered()
        elif not self._end.is_set():
            log.warn("the scheduler is lost; what was being built ended, and goes on where it stopped")

    async def _recovered(self) -> None:
        while not self._end.is_set():
            reasons = await asyncio.to_thread(preflight.obstacles, cache())
            if not reasons:
                return
            log.warn(f"this machine cannot build any more: {reasons[0]}; it takes nothing until it can")
            with contextlib.suppress(MachineError):
                worker = self._joining.offer.name
                await asked(self._joining.address, self._security, REFUSED, worker=worker, reasons=reasons)
            await self._pause(_RECOVER)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._end.wait(), seconds)


@contextlib.asynccontextmanager
async def _worker(
    joining: Joining, security: Security | None, plugin: Any, end: asyncio.Event
) -> AsyncIterator[Any]:
    """A worker that has joined; None if we are to end before that."""
    from distributed.worker import Worker

    offer = joining.offer
    at: Any = {"host": own_address(joining.address)}
    with for_a_moment(open_store(), "worker") as scratch:
        # A name must not be there twice, and a scheduler may still hold one that was lost for a while.
        worker = Worker(
            joining.address,
            nthreads=offer.slots,
            name=f"{offer.name}~{secrets.token_hex(3)}",
            resources=offer.resources(),
            memory_limit=0,
            local_directory=str(scratch),
            security=security,
            plugins=(plugin,),
            dashboard_address="127.0.0.1:0",
            death_timeout=_JOIN,
            startup_information={"xbuild": lambda _: {"jobs": offer.jobs}},
            **at,
        )
        try:
            starting = asyncio.ensure_future(worker)
            ending = asyncio.ensure_future(end.wait())
            await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if not starting.done():
                starting.cancel()
                yield None
                return
            starting.result()
            try:
                yield worker
            finally:
                await worker.close()
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise MachineError(f"the scheduler does not take this machine: {error}") from error


@contextlib.contextmanager
def from_stdin() -> Iterator[Path]:
    """Certificates of a worker as `certificates.bundle` gives them, read from stdin, in a closed directory that goes.

    When stdin ends after that, whoever has started us is gone: then we get SIGTERM.
    """
    lines: list[bytes] = []
    with open(0, "rb", closefd=False) as stream:
        for line in stream:
            if line.strip() == b"":
                break
            lines.append(line)
    if not lines:
        raise UsageError("no certificates on stdin", hint="--certificates DIR names a directory of them")

    def wait() -> None:
        while os.read(0, 1 << 10):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    with for_a_moment(open_store(), "certificates") as place:
        certificates.unbundled(b"".join(lines).decode(errors="replace"), place, "worker")
        threading.Thread(target=wait, daemon=True).start()
        yield place
