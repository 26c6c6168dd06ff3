"""Outside: describe a sandbox, start commands in it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from xbuild import process
from xbuild.errors import MachineError, PhaseError
from xbuild.sandbox import idmap, syscalls
from xbuild.sandbox.mounts import Mount, Proc, to_json

ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of root, on the machine and in every root."""

Attachment = Literal["no", "yes", "terminal"]
"""How closely a caller follows a command, see `started`."""

_ENTER = Path(__file__).with_name("enter.py")
# Whoever is root inside can read the environment of the sandbox's first process: it holds nothing of the user's.
_BARE = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
_USERNS_HINT = "run `invoke doctor`: it names the kernel or AppArmor setting that stands in the way"


@dataclass(frozen=True)
class Service:
    """A daemon beside the command, in a file system of its own, and with the same network.

    where: its sandbox, of which mounts, mount_point, env and ids count. port: of the loopback; the command starts
    when something listens there. log: an existing file outside for what it says.
    """

    where: Sandbox
    command: tuple[str, ...]
    port: int
    log: Path


@dataclass(frozen=True)
class Sandbox:
    """Where and as whom a command runs.

    mounts: executed in order. mount_point: an existing directory outside, on which `/` is assembled; None: the
    command sees the machine's own file system, plus `mounts`. registrations: lines for the private binfmt_misc.
    env: the whole environment. uid, gid: inside. locked: no_new_privs, so no program gains rights by exec.
    himself: the caller keeps his own ids inside (uid and gid do not count), his umask, and the machine's name and ipc,
    for his own programs; the machine's root is root of his range all the same. service: what is to run beside the
    command. accounts: an existing file outside that gets the CPU use by program, as JSON (sampler.py), by the record
    of execs at `record`, a path inside.
    """

    mounts: tuple[Mount, ...] = ()
    mount_point: Path | None = None
    registrations: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    network: bool = False
    locked: bool = False
    name: str = "xbuild"
    himself: bool = False
    service: Service | None = None
    record: str | None = None
    accounts: Path | None = None

    def describe(self) -> list[str]:
        """What the sandbox consists of, one line each, for --verbose."""
        network = "network of the machine" if self.network else "no network"
        return [*(mount.describe() for mount in self.mounts), f"{network}, uid {self.uid}"]


class Running:
    """A command in a sandbox. talk: where its pid 1 tells how things go, see enter.py."""

    def __init__(self, child: process.Child, talk: socket.socket) -> None:
        self.child = child
        self.talk = talk

    def result(self) -> int:
        """The command's returncode (as in process.Completed), once the child has ended.

        Raises MachineError if the sandbox could not be set up.
        """
        text = b""
        while chunk := self.talk.recv(65536):
            text += chunk
        return returncode_of(text.decode(errors="replace").strip().rpartition("\n")[2])


def returncode_of(line: str) -> int:
    """The command's returncode from the last line of the talk; minus SIGKILL if the sandbox was killed before it said.

    Raises MachineError if the sandbox could not be set up.
    """
    word, _, rest = line.partition(" ")
    if word == "exit":
        return int(rest)
    if word == "error":
        raise MachineError(f"the sandbox could not be set up: {rest}", hint=_USERNS_HINT)
    return -9


@contextlib.contextmanager
def started(
    sandbox: Sandbox,
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | None = None,
    attached: Attachment = "no",
    mask: Iterable[int] = (),
) -> Iterator[Running]:
    """Start `command` in `sandbox`; everything in it is killed when the block ends.

    output: where stdout and stderr go (None: our stderr). attached: for sandbox/attached.py; `yes`: the command has our
    three streams and our process group, and the signals ignored that we had ignored; it hands out what signals can be
    sent by, begins when it is told to, and pid 1 tells when it stops; `terminal`: it has a terminal of its own.
    mask: the signals that it has blocked.
    """
    id_map = idmap.find()
    if sandbox.himself:
        id_map = idmap.with_own(id_map, os.geteuid(), os.getegid())
    if output is not None and sandbox.uid:
        # /dev/stdout and /dev/stderr open the file anew, as a user inside who is not its owner.
        os.fchmod(output.fileno(), 0o666)
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as spec:
        spec.write(json.dumps({**_spec(sandbox, command), "attached": attached, "mask": [*mask]}).encode())
        spec.seek(0)
        fds = (spec.fileno(), theirs.fileno())
        arguments: list[process.Argument] = [sys.executable, "-I", "-S", _ENTER, *map(str, fds)]
        with process.started(
            arguments, env=_BARE, pass_fds=fds, output=output, interactive=attached != "no"
        ) as child:
            theirs.close()
            greeting = ours.recv(4096)
            if greeting != b"user\n":
                reason = greeting.decode(errors="replace").removeprefix("error ").strip()
                raise MachineError(f"no user namespace: {reason or 'refused'}", hint=_USERNS_HINT)
            idmap.apply(id_map, child.pid)
            ours.sendall(b"go\n")
            yield Running(child, ours)


def run(
    sandbox: Sandbox,
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | None = None,
    check: bool = True,
) -> int:
    """Run `command` in `sandbox` to its end; give its returncode.

    Raises MachineError if the sandbox cannot be had, PhaseError if `check` and the command fails.
    """
    with started(sandbox, command, output=output) as running:
        running.child.wait()
        returncode = running.result()
    if check and returncode != 0:
        raise PhaseError(f"{process.show(command)}: {process.describe_exit(returncode)}")
    return returncode


def capture(sandbox: Sandbox, command: Sequence[str | Path]) -> tuple[int, bytes]:
    """Run `command` in `sandbox`; give its returncode and its stdout and stderr together."""
    with tempfile.TemporaryFile() as output:
        returncode = run(sandbox, command, output=output, check=False)
        output.seek(0)
        return returncode, output.read()


def run_logged(
    sandbox: Sandbox,
    command: Sequence[str | Path],
    log: Path,
    *,
    idle_limit: float,
    on_idle: Callable[[float], None],
) -> int | None:
    """Run `command` with its output appended to the file `log`; None if it was ended for being idle.

    idle_limit: seconds without output and without CPU use after which it is ended; see process.watch.
    """
    with piped_to(log) as output, started(sandbox, command, output=output) as running:
        output.close()
        if process.watch(running.child, log, idle_limit=idle_limit, on_idle=on_idle) is None:
            return None
        return running.result()


@contextlib.contextmanager
def piped_to(log: Path) -> Iterator[IO[bytes]]:
    """A pipe whose other end is appended to the file `log`, until all who write to it are gone.

    Not the file itself: a script's `> /dev/stderr` would empty it. Raises OSError at the end if not all could be
    written.
    """
    reading, writing = os.pipe()
    faults: list[OSError] = []

    def pump() -> None:
        with open(reading, "rb", buffering=0) as source, log.open("ab", buffering=0) as file:  # noqa: PTH123
            while chunk := source.read(65536):
                try:
                    while chunk:
                        chunk = chunk[file.write(chunk) :]
                except OSError as fault:
                    # Reading goes on: whoever writes must not wait for ever, nor die of it.
                    faults.append(fault)

    thread = threading.Thread(target=pump)
    thread.start()
    try:
        with open(writing, "wb", buffering=0) as output:  # noqa: PTH123
            yield output
    finally:
        thread.join()
    if faults:
        raise faults[0]


def machine_view(*, network: bool = False, env: Mapping[str, str] | None = None) -> Sandbox:
    """A sandbox that sees the machine's own files, as root of its own user namespace.

    It is for tools that work on roots from outside: mmdebstrap, and removing trees of subordinate users.
    """
    plain = {"PATH": ROOT_PATH, "LC_ALL": "C.UTF-8"}
    return Sandbox(mounts=(Proc(),), network=network, env=plain if env is None else env)


def remove_tree(path: Path) -> None:
    """Remove the directory `path` and all below it, whoever inside owns it. A missing one is fine."""
    if not (path.is_symlink() or path.exists()):
        return
    if os.geteuid() == 0:
        process.run(["rm", "-rf", "--", path])
        return
    # chmod first: overlayfs leaves work directories of mode 000.
    script = 'chmod -R u+rwX -- "$1" 2>/dev/null; rm -rf -- "$1"'
    run(machine_view(), ["sh", "-c", script, "sh", path])


def give_tree(uid: int, trees: Sequence[Path]) -> None:
    """Make the user `uid` inside the owner of the directories `trees` and of all below them."""
    if os.geteuid() == 0:
        # What root itself wrote has an owner that the namespace does not know.
        first = idmap.find().root[0]
        process.run(["chown", "-hR", f"{first + uid}:{first + uid}", "--", *trees])
    else:
        run(machine_view(), ["chown", "-hR", f"{uid}:{uid}", "--", *trees])


def exchange_trees(one: Path, other: Path) -> None:
    """Let two directories of one file system change names, so that there is always one of the name `one`."""
    try:
        syscalls.exchange(str(one), str(other))
    except OSError as error:
        # Not every file system can (renameat2(2)).
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        aside = other.with_name(f"{other.name}.aside")
        one.rename(aside)
        other.rename(one)
        aside.rename(other)


def _spec(sandbox: Sandbox, command: Sequence[str | Path]) -> dict[str, object]:
    service = sandbox.service
    return {
        "mounts": [to_json(mount) for mount in sandbox.mounts],
        "private_root": sandbox.mount_point is not None,
        "mount_point": str(sandbox.mount_point or "/"),
        "registrations": list(sandbox.registrations),
        "network": sandbox.network,
        "name": sandbox.name,
        "env": dict(sandbox.env),
        "cwd": sandbox.cwd,
        "uid": sandbox.uid,
        "gid": sandbox.gid,
        "no_new_privileges": sandbox.locked,
        # The machine's root is never mapped, and must not get in unmapped either: he is root of his range.
        "himself": sandbox.himself and os.geteuid() != 0,
        "attached": "no",
        "mask": [],
        "record": sandbox.record,
        "accounts": str(sandbox.accounts) if sandbox.accounts else None,
        "service": service
        and {**_spec(service.where, service.command), "port": service.port, "log": str(service.log)},
        "command": [os.fspath(word) for word in command],
    }
