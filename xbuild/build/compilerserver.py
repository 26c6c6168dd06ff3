"""Compilers of this machine, for builds on others: distccd in a sandbox.

Whoever may talk to distccd can have it run any program that it can see, for compilers have options that start others.
So it sees a native root and nothing else, is nobody there, and its network is its own: what comes from machines that
may ask is handed on through a socket in the file system.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from xbuild.base import log
from xbuild.base.digest import key_of
from xbuild.base.errors import MachineError
from xbuild.build.admission import QUESTION, Door, Serving
from xbuild.build.modes import distcc
from xbuild.model.native import here
from xbuild.roots.distribution import Roots
from xbuild.sandbox import run as sandboxes
from xbuild.store.local import Store
from xbuild.twins.privatetree import tool_sandbox

LOCK = "compilers"

SERVER = re.compile(r"(?P<name>\[[^]]+\]|(?!-)[\w.-]*\w)(?::(?P<port>[0-9]+))?(?![\w@:])")
"""A word of DISTCC_HOSTS that names a machine to connect to (distcc(1), "HOST SPECIFICATIONS")."""

_ANSWER = 10.0
"""Seconds that a server has to answer."""

_SOCKET = "socket"
_LOOK = 5.0
"""Seconds between two looks at whether the server still runs."""
_START = 1.0
"""Seconds in which a sandbox that cannot be set up has ended."""
_BACKLOG = 128

# Hands on to distccd, in the same network, what comes to the socket that is its stdin; and back. Perl is in every
# Debian.
_FORWARD = r"""
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);
sub pump {
    my ($from, $to) = @_;
    while (sysread($from, my $part, 65536)) {
        for (my $at = 0; $at < length $part;) { $at += syswrite($to, $part, length($part) - $at, $at) // return }
    }
    shutdown($to, 1);
}
$SIG{CHLD} = 'IGNORE';
for (;;) {
    accept(my $one, STDIN) or next;
    my $child = fork();
    if (defined $child && !$child) {
        socket(my $server, PF_INET, SOCK_STREAM, 0) or exit 1;
        connect($server, pack_sockaddr_in($ARGV[0], INADDR_LOOPBACK)) or exit 1;
        setsockopt($server, IPPROTO_TCP, TCP_NODELAY, 1);
        my $back = fork();
        $back ? pump($one, $server) : pump($server, $one);
        wait;
        exit;
    }
    close $one;
}
"""


def identity(roots: Roots) -> str:
    """A digest of what the compilers are made from that a server for this target has."""
    return key_of(roots.native_value(here().architectures(roots.toolchain.elf.elf_class)[-1]))


@cache
def require_same(servers: Sequence[str], known: str) -> None:
    """Raises MachineError if one of the servers, in distcc's words, has other compilers than the `identity` of a build:
    its objects would be others too.

    What cannot be reached is no matter: compilers run here then.
    """
    for word in servers:
        found = SERVER.match(word)
        if found is None or (found["name"], found["port"]) == ("localhost", None):
            continue
        try:
            said = _asked(found["name"].strip("[]"), int(found["port"] or distcc.PORT), len(known))
        except OSError as error:
            log.warn(f"{word}: {error.strerror or error}; what it should compile is compiled here")
            continue
        if said != known.encode():
            what = "has other compilers than this build" if said else "does not tell which compilers it has"
            hint = "start `invoke cluster.compilers` there anew, with the same version, and --allow this machine"
            raise MachineError(f"{word}: {what}", hint=hint)


def _asked(name: str, port: int, most: int) -> bytes:
    with socket.create_connection((name, port), timeout=_ANSWER) as server:
        server.sendall(QUESTION)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            return server.makefile("rb").read(most)
    return b""


def serve(roots: Roots, store: Store, wanted: Serving, ready: Callable[[str, int], None]) -> None:
    """Compile for others until we are to end. ready: told address and port once they can ask.

    Raises MachineError if the address cannot be had, or the server does not run.
    """
    natives, toolchain = roots.natives(), roots.toolchain
    with store.lock(LOCK, shared=True), _directory(store) as folder, _listening(wanted) as listening:
        names = _names(natives.tree, toolchain.triplet)
        places = (folder / "distccd", folder / distcc.SERVER_LOG)
        service = distcc.server(toolchain, natives.trees, names, places, wanted.jobs, "warning")
        forwarding = replace(tool_sandbox(natives.tree, (), {}), uid=distcc.NOBODY, gid=distcc.NOBODY, service=service)
        command = ("perl", "-e", _FORWARD, str(service.port))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as inside, _opened(folder) as at:
            inside.bind(f"/proc/self/fd/{at}/{_SOCKET}")
            inside.listen(_BACKLOG)
            with sandboxes.started(forwarding, command, input=inside.fileno()) as running:
                # What is wrong with a sandbox shows at once.
                if running.child.wait(_START) is None:
                    ready(*listening.getsockname()[:2])
                _accept(listening, at, (wanted, identity(roots)), running)


def _names(tree: Path, triplet: str) -> list[str]:
    """What builds call the compilers of the native root `tree`."""
    full = [file.name for kind in ("gcc", "g++") for file in (tree / "usr/bin").glob(f"{triplet}-{kind}*")]
    own = [name for name in full if re.fullmatch(r"(gcc|g\+\+)(-[0-9]+)?", name.removeprefix(f"{triplet}-"))]
    return sorted({"cc", "c++", *own, *(name.removeprefix(f"{triplet}-") for name in own)})


def _accept(listening: socket.socket, at: int, offer: tuple[Serving, str], running: sandboxes.Running) -> None:
    door = Door(*offer, lambda: _reached(at))
    listening.settimeout(_LOOK)
    while running.child.wait(0) is None:
        door.accept(listening)
    running.result()
    raise MachineError("the server of compilers has ended")


def _reached(at: int) -> socket.socket:
    """A connection to the sandbox whose directory is opened as `at`."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The name of a socket has room for 108 bytes (unix(7)); that of a store may be longer.
        server.connect(f"/proc/self/fd/{at}/{_SOCKET}")
    except OSError:
        server.close()
        raise
    return server


@contextlib.contextmanager
def _listening(wanted: Serving) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
    try:
        found = socket.create_server((wanted.address, wanted.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        hint = "--listen wants an address of this machine, and --port one that is free"
        # Python adds what it has tried to the system's words.
        what = os.strerror(error.errno) if error.errno else str(error)
        raise MachineError(f"{wanted.address}, port {wanted.port}: {what}", hint=hint) from error
    with found:
        yield found


@contextlib.contextmanager
def _directory(store: Store) -> Iterator[Path]:
    """Where the socket and the names of compilers lie."""
    folder = store.scratch(LOCK)
    folder.mkdir()
    try:
        yield folder
    finally:
        store.discard(folder)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
