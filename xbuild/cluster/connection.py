"""A client of Dask: connected, lost and connected again, with what comes back put where the caller wants it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xbuild.base.errors import MachineError
from xbuild.cluster import certificates, preflight
from xbuild.cluster.front import FORGET, HELLO
from xbuild.cluster.settings import configured

if TYPE_CHECKING:
    from distributed.client import Client

_CONNECT = 10
"""Seconds for a connection to be made."""


class Connection:
    """To the scheduler at `address`. place: of certificates; None: without encryption."""

    def __init__(self, address: str, place: Path | None) -> None:
        self.address = address
        self._place = place
        self._security = certificates.security(place, "client") if place else None
        self._stack = contextlib.ExitStack()
        self._client: Client | None = None
        self._topic = ""
        self._hear: Callable[[Any], None] = lambda _: None

    def open(self, topic: str = "", hear: Callable[[Any], None] = lambda _: None) -> None:
        """Connect. hear: gets each message of `topic`, in a thread of Dask's.

        Raises MachineError if it does not answer, or is another xbuild or Dask than this.
        """
        self._topic, self._hear = topic, hear
        self._stack.enter_context(configured(encrypted=self._place is not None))
        try:
            self._connect()
            if found := preflight.Versions.here().differences(self.hello()["versions"]):
                message = f"{self.address} runs other versions: {found[0]}"
                raise MachineError(message, details=found[1:], hint="install the same on all machines")
        except BaseException:
            self.close("")
            raise

    def _connect(self) -> None:
        from distributed.client import Client

        kind: Any = Client
        try:
            self._client = kind(
                self.address, security=self._security, timeout=_CONNECT, set_as_default=False, name="xbuild"
            )
        except (OSError, TimeoutError, ValueError) as error:
            hint = "does it run (`invoke cluster.start`), and are the certificates of its authority?"
            raise MachineError(f"{self.address} does not answer: {error}", hint=hint) from error
        if self._topic:
            self._client.subscribe_topic(self._topic, lambda event: self._hear(event[1]))

    @property
    def lost(self) -> bool:
        """Whether the scheduler is gone, or was: it knows nothing of us any more."""
        client: Any = self._client
        if client is None or client.status != "running" or client.scheduler_comm is None:
            return True
        return bool(client.scheduler_comm.closed())

    def reopen(self, seconds: float) -> None:
        """Connect anew. Raises MachineError if that does not succeed in so many seconds."""
        end = time.monotonic() + seconds
        while True:
            self._disconnect()
            try:
                self._connect()
                return
            except MachineError:
                if time.monotonic() >= end:
                    raise
                time.sleep(1.0)

    def hello(self) -> dict[str, Any]:
        """What the scheduler says of itself. Raises MachineError if it says nothing."""
        return dict(self._asked(HELLO))

    def _asked(self, question: str, **words: Any) -> Any:
        client: Any = self._client
        try:
            return client.sync(getattr(client.scheduler, question), **words)
        except (OSError, TimeoutError) as error:
            raise MachineError(f"{self.address} does not answer: {error}") from error
        except Exception as error:
            hint = "`invoke cluster.start` starts one"
            raise MachineError(f"{self.address} is no scheduler of xbuild's: {error}", hint=hint) from error

    def submit(
        self, function: Callable[[str], Any], text: str, *, done: Callable[[str, Any], None], **options: Any
    ) -> Any:
        """A task. done: gets `finished` and what the function gave, `killed` and a worker's name, or `error` and why.

        It is called in a thread of Dask's. options: as of `Client.submit`.
        """
        client: Any = self._client
        future = client.submit(function, text, pure=False, **options)

        def ended(future: Any) -> None:
            done(*_outcome(future))

        future.add_done_callback(ended)
        return future

    def _disconnect(self) -> None:
        client: Any = self._client
        self._client = None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close(timeout=2)

    def close(self, topic: str = "") -> None:
        """Disconnect; builds that nobody wants any more end."""
        if topic and not self.lost:
            with contextlib.suppress(MachineError):
                self._asked(FORGET, topic=topic)
        self._disconnect()
        self._stack.close()


def _outcome(future: Any) -> tuple[str, Any]:
    from distributed.scheduler import KilledWorker

    try:
        if future.status == "finished":
            return "finished", future.result(timeout=30)
        if future.status == "error":
            error = future.exception(timeout=30)
            if isinstance(error, KilledWorker):
                return "killed", error.last_worker.name
            return "error", f"{type(error).__name__}: {error}"
    except Exception as error:
        # Its worker was lost after it had ended.
        return "killed", str(error)
    return "cancelled", None
