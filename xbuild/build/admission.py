"""Who is let in to a server of compilers: machines that may ask, so many at once, and nobody for ever.

A client that is stopped, or cut off from the network, must not keep the job that it was given.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from xbuild.base import log

QUESTION = b"XBUILD?\n"
"""What a build says first, to get an answer of ours. distcc's own words begin with DIST (its doc/protocol-1.txt)."""

_SILENCE = 60
"""Seconds that somebody who has connected may say nothing."""

_LONGEST = 1800
"""Seconds without a word, of a compiler that works or of a client that hangs: distccd waits for the rest of a file for
ever."""

_GONE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
"""Seconds, and how often, after which a machine that no longer answers the kernel is taken for gone (tcp(7))."""

_CONNECTIONS = 256
"""At once, in use, waiting for a job or silent: each has a thread. A client that is sent away compiles by itself."""

_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE = 0.5
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Serving:
    """Where to listen (port 0: any), for whom, and how many compilers may run at once."""

    address: str
    port: int
    networks: Sequence[IPv4Network | IPv6Network]
    jobs: int


class Door:
    """Hands connections on to the server that `reach` connects to; gives whoever asks the question the `answer`."""

    def __init__(self, wanted: Serving, answer: str, reach: Callable[[], socket.socket]) -> None:
        self._wanted, self._answer, self._reach = wanted, answer, reach
        self._jobs = threading.BoundedSemaphore(wanted.jobs)
        self._connections = threading.BoundedSemaphore(_CONNECTIONS)
        self._refused = set[str]()

    def accept(self, listening: socket.socket) -> None:
        """Take the next connection, if one comes before the timeout of `listening`."""
        try:
            there, peer = listening.accept()
        except (TimeoutError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _LACKS:
                raise
            # Whoever has what we lack may give it back.
            time.sleep(_PAUSE)
            return
        if not may_ask(peer[0], self._wanted):
            self._refuse(there, peer[0])
        elif not self._connections.acquire(blocking=False):
            there.close()
        else:
            self._start(there)

    def _start(self, there: socket.socket) -> None:
        try:
            threading.Thread(target=self._serve, args=(there,), daemon=True).start()
        except RuntimeError:
            there.close()
            self._connections.release()

    def _refuse(self, there: socket.socket, name: str) -> None:
        there.close()
        if name not in self._refused:
            self._refused.add(name)
            log.warn(f"{name} asked, and may not")

    def _serve(self, there: socket.socket) -> None:
        try:
            with there, contextlib.suppress(OSError):
                self._carry(there)
        finally:
            self._connections.release()

    def _carry(self, there: socket.socket) -> None:
        """Hand all of a connection on to the server, and back, when a job is free; or answer its question."""
        there.settimeout(_SILENCE)
        if there.recv(len(QUESTION), socket.MSG_PEEK) == QUESTION:
            there.sendall(self._answer.encode())
            return
        there.settimeout(_LONGEST)
        there.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _GONE:
            there.setsockopt(socket.IPPROTO_TCP, option, value)
        with self._jobs, self._reach() as server:
            back = threading.Thread(target=_pump_back, args=(server, there), daemon=True)
            back.start()
            _pump(there, server)
            back.join()


def may_ask(peer: str, wanted: Serving) -> bool:
    """Whether the machine with the address `peer`, as accept(2) has it, is one of those that may."""
    address = ip_address(peer.partition("%")[0])
    return any((getattr(address, "ipv4_mapped", None) or address) in network for network in wanted.networks)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _pump_back(server: socket.socket, there: socket.socket) -> None:
    """Once the server has nothing more to say, it is over, whether or not the client knows."""
    _pump(server, there)
    for one in (there, server):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
