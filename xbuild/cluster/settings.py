"""How Dask is set for builds: tasks of minutes, on machines that come and go."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from xbuild.base import log
from xbuild.base.errors import UsageError

PORT = 8786
"""Dask's own for a scheduler."""
DASHBOARD = 8787
"""Dask's own for its dashboard."""
PREFIX = "build"
"""What the keys of our tasks begin with; never a text alone: Dask puts a result in the place of an argument that is
equal to a key."""

CONFIGURATION: Mapping[str, Any] = {
    # Who lost what is counted by the client: it knows which of the tasks of a lost worker had begun.
    "distributed.scheduler.allowed-failures": 0,
    # A client hands out no more than there is room for, so nothing waits on a worker that another one could take.
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.default-task-durations": {PREFIX: "60s"},
    "distributed.scheduler.unknown-task-duration": "60s",
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.worker-ttl": "60s",
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.comm.timeouts.connect": "10s",
    "distributed.comm.timeouts.tcp": "20s",
    "distributed.comm.require-encryption": True,
    # They would let whoever reaches them through to any worker, or change the cluster.
    "distributed.scheduler.http.routes": [
        "distributed.http.scheduler.info", "distributed.http.scheduler.json", "distributed.http.health",
        "distributed.http.statics",
    ],
    "distributed.worker.http.routes": ["distributed.http.health"],
    # Of the events that a client reads so many stay in the scheduler's memory.
    "distributed.admin.low-level-log-length": 50,
    # It looks at every thread a hundred times a second.
    "distributed.worker.profile.enabled": False,
    # A builder's own memory is small; its children have limits of their own.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.event-loop": "asyncio",
}  # fmt: skip


@contextlib.contextmanager
def configured(*, encrypted: bool = True) -> Iterator[None]:
    """Inside the block Dask goes by our settings, whatever its files and variables say, and tells by our own log.

    Raises UsageError if it is not installed.
    """
    require()
    import dask.config

    with dask.config.set({**CONFIGURATION, "distributed.comm.require-encryption": encrypted}), _quiet():
        yield


def require() -> None:
    """Raise UsageError if Dask is not installed."""
    try:
        import cryptography  # noqa: F401
        import distributed  # noqa: F401
    except ImportError as error:
        message = f"clusters need a package that is missing: {error.name}"
        raise UsageError(message, hint="in a checkout of xbuild: pip install '.[cluster]'") from error


class _Told(logging.Handler):
    """What Dask has to say, for who wants to know more."""

    def emit(self, record: logging.LogRecord) -> None:
        log.detail(f"dask: {record.getMessage().splitlines()[0] if record.getMessage() else ''}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Dask has given some of its loggers handlers of their own; tornado tells of each connection that ends.
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("distributed", "tornado")]
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio", *names)]
    before = [(logger, logger.handlers[:], logger.propagate) for logger in loggers]
    handler = _Told()
    for logger in loggers:
        logger.handlers[:], logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, handlers, passes in reversed(before):
            logger.handlers[:], logger.propagate = handlers, passes


def address_of(word: str, *, encrypted: bool = True) -> str:
    """The address of a scheduler as Dask has it, of `MACHINE[:PORT]` or `tls://MACHINE:PORT`.

    Raises UsageError for one that is none, or without encryption beyond loopback.
    """
    kind = "tls" if encrypted else "tcp"
    try:
        parts = urlsplit(word if "://" in word else f"{kind}://{word}")
        port = parts.port or PORT
    except ValueError as error:
        raise UsageError(f"{word!r} is no address of a cluster: {error}", hint=_FORM) from error
    if parts.scheme not in ("tls", "tcp") or not parts.hostname or parts.path not in ("", "/"):
        raise UsageError(f"{word!r} is no address of a cluster", hint=_FORM)
    if parts.scheme == "tcp" and not is_loopback(parts.hostname):
        raise UsageError(f"{word}: beyond this machine a cluster talks by TLS only", hint=_FORM)
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}:{port}"


_FORM = "such as tls://192.0.2.7:8786; `xbuild cluster.start` tells it"


def is_loopback(name: str) -> bool:
    """Whether this is an address, or the name, of this machine's loopback."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def own_address(scheduler: str) -> str:
    """The address of this machine that `scheduler` is reached from: a worker listens there, and nowhere else.

    Raises UsageError if there is no way to it.
    """
    parts = urlsplit(scheduler)
    try:
        # Nothing is sent: the kernel only chooses an address.
        for family, kind, number, _, place in socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind, number) as probe:
                probe.connect(place)
                return str(probe.getsockname()[0])
    except OSError as error:
        raise UsageError(f"no network route to {scheduler}: {error.strerror}", hint="is the address right?") from error
    raise UsageError(f"no network route to {scheduler}", hint="is the address right?")
