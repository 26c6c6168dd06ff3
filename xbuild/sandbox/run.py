"""Outside: describe a sandbox, start commands in it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from xbuild.base import process
from xbuild.base.errors import MachineError, PhaseError
from xbuild.base.paths import callers_umask
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

_GRACE = 5.0
"""Seconds that programs have to end in order: make and the compilers remove what they have half written."""
_FRAMES = frozenset({"sh", "dash", "bash", "timeout"})
"""What ends as soon as what it runs has ended, and with which all others are killed: a phase's shell, and what is
around it. Our pid 1 need not be here: it has all signals blocked (enter.py)."""


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

    mounts: executed in order. mount_point: an existing directory outside, which is `/` where no overlay is; None: the
    command sees the machine's own file system, plus `mounts`. registrations: lines for the private binfmt_misc.
    env: the whole environment. uid, gid: inside. locked: no_new_privs, so no program gains rights by exec.
    himself: the caller keeps his own ids inside (uid and gid do not count), his umask, and the machine's name and ipc,
    for his own programs; the machine's root is root of his range all the same. known: the caller, an ordinary user, is
    `idmap.IDS` inside, so that root inside can reach what is his. service: what is to run beside the command.
    accounts: a file outside that is made (mounts.made_outside) and gets the CPU use by program as JSON (sampler.py), by
    the record of execs at `record`, a path inside. narrow: root inside may do to files and processes what root may,
    and nothing else: no mounts, no devices.
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
    known: bool = False
    service: Service | None = None
    record: str | None = None
    accounts: Path | None = None
    narrow: bool = False

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
    sandbox: Sandbox, command: Sequence[str | Path],
    *, output: IO[bytes] | None = None, attached: Attachment = "no", mask: Iterable[int] = (), input: int | None = None,
) -> Iterator[Running]:  # fmt: skip
    """Start `command` in `sandbox`; everything in it is killed when the block ends.

    output: where stdout and stderr go (None: our stderr). input: its stdin (None: /dev/null). mask: the signals that it
    has blocked. attached: for sandbox/attached.py; `yes`: the command has our three streams and our process group, and
    the signals ignored that we had ignored; it hands out what signals can be sent by, begins when it is told to, and
    pid 1 tells when it stops; `terminal`: it has a terminal of its own.
    """
    if not sandbox.himself:
        # /dev/stdout and /dev/stderr open the file anew, as a user inside who is not its owner.
        for descriptor in (0, 1, 2) if output is None else (output.fileno(),):
            _open_to_all(descriptor)
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as spec:
        told = {**_spec(sandbox, command), "attached": attached, "mask": [*mask], "xbuild": os.getpid()}
        spec.write(json.dumps(_as_utf8(told)).encode())
        spec.seek(0)
        fds = (spec.fileno(), theirs.fileno())
        arguments: list[process.Argument] = [sys.executable, "-I", "-S", _ENTER, *map(str, fds)]
        own = attached != "no"
        with process.started(arguments, env=_BARE, pass_fds=fds, output=output, interactive=own, input=input) as child:
            theirs.close()
            greeting = ours.recv(4096)
            if greeting != b"user\n":
                reason = greeting.decode(errors="replace").removeprefix("error ").strip()
                raise MachineError(f"no user namespace: {reason or 'refused'}", hint=_USERNS_HINT)
            idmap.apply(id_map_of(sandbox), child.pid)
            ours.sendall(b"go\n")
            yield Running(child, ours)


def _open_to_all(descriptor: int) -> None:
    """Let all open a pipe or a file of the caller's that has no name; others stay as they are."""
    with contextlib.suppress(OSError):
        facts = os.fstat(descriptor)
        unnamed = facts.st_nlink == 0 or os.fspath(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("pipe:")
        if unnamed and facts.st_uid == os.geteuid():
            os.fchmod(descriptor, 0o666)


def id_map_of(sandbox: Sandbox) -> idmap.IdMap:
    """Which ids outside stand for those in `sandbox`. Raises MachineError as `idmap.find` does."""
    known, uid, gid = idmap.find(), os.geteuid(), os.getegid()
    if uid == 0:
        return known
    if sandbox.himself:
        return idmap.with_own(known, uid, gid)
    # Only the machine's own tools may know the user: root of somebody else's system could give him a set-uid program.
    strange = sandbox.mount_point is not None and not sandbox.known
    return known if strange else idmap.with_caller(known, uid, gid)


def run(
    sandbox: Sandbox,
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | None = None,
    check: bool = True,
    in_vain: process.InVain = process.never,
) -> int:
    """Run `command` in `sandbox` to its end, or kill it when it is `in_vain` (process.wait); give its returncode.

    Raises MachineError if the sandbox cannot be had, PhaseError if `check` and the command fails.
    """
    with started(sandbox, command, output=output) as running:
        process.wait(running.child, in_vain)
        returncode = running.result()
    if check and returncode != 0:
        raise PhaseError(f"{process.show(command)}: {process.describe_exit(returncode)}")
    return returncode


def capture(
    sandbox: Sandbox, command: Sequence[str | Path], in_vain: process.InVain = process.never
) -> tuple[int, bytes]:
    """Run `command` in `sandbox`, as `run`; give its returncode and its stdout and stderr together."""
    with tempfile.TemporaryFile() as output:
        returncode = run(sandbox, command, output=output, check=False, in_vain=in_vain)
        output.seek(0)
        return returncode, output.read()


def run_logged(
    sandbox: Sandbox, command: Sequence[str | Path], log: Path,
    *, idle_limit: float, on_idle: Callable[[float], None], on_stopped: Callable[[], None] = lambda: None,
    in_vain: process.InVain = process.never,
) -> int | None:  # fmt: skip
    """Run `command` with its output appended to the file `log`; None if it was ended for being idle, or `in_vain`.

    idle_limit: seconds without output and without CPU use after which it is ended; see process.watch. on_stopped: told
    if we are to end meanwhile, and all programs have ended in order before.
    """
    with piped_to(log) as output, started(sandbox, command, output=output) as running:
        output.close()
        try:
            ended = process.watch(running.child, log, idle_limit=idle_limit, on_idle=on_idle, in_vain=in_vain)
        except BaseException:
            if process.end_in_order(running.child, _GRACE, spared=_FRAMES):
                on_stopped()
            raise
        return None if ended is None else running.result()


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

    It is for tools that work on trees from outside: chown, tar, removing what subordinate users own. An ordinary
    user is known in it, as user and group `idmap.IDS`, and his files are open to it.
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
    # The caller's own goes without a sandbox, whose start takes longer. What is not his ends this at once.
    with contextlib.suppress(OSError):
        shutil.rmtree(path)
        return
    # chmod first: overlayfs leaves work directories of mode 000.
    script = 'chmod -R u+rwX -- "$1" 2>/dev/null; rm -rf -- "$1"'
    run(machine_view(), ["sh", "-c", script, "sh", path])


_GIVE = """
uid=$1 gid=$2 root=$3 count=$4
shift 4
while [ $count -gt 0 ]; do chown -h $root -- "$1"; shift; count=$((count - 1)); done
[ $# -eq 0 ] || { mkdir -p -- "$@"; chown -hR $uid:$gid -- "$@"; }
"""


def give_tree(uid: int, trees: Sequence[Path] = (), *, tops: Sequence[Path] = ()) -> None:
    """Make the user `uid` inside the owner of the directories `trees` and of all below them; they are made if missing.

    tops: existing directories and files that root inside becomes the owner of, but not of what is below them.
    """
    # The machine's root does it itself: what it wrote has an owner that the namespace does not know.
    first_uid, first_gid = idmap.find().root if os.geteuid() == 0 else (0, 0)
    words = [first_uid + uid, first_gid + uid, f"{first_uid}:{first_gid}", len(tops), *tops, *trees]
    command: list[str | Path] = ["sh", "-euc", _GIVE, "sh", *map(str, words)]
    if os.geteuid() == 0:
        process.run(command)
    else:
        run(machine_view(), command)


def take_back(*tops: Path, tree: Path | None = None) -> None:
    """Make the caller the owner of the directories `tops`, but not of what is in them, so that he can rename them.

    tree: a directory that he becomes the owner of with all below it.
    """
    own = 0 if os.geteuid() == 0 else idmap.IDS
    options = ["-h", f"{own}:{own}", "--"]
    commands: list[list[str | Path]] = [["chown", *options, *tops]]
    commands += [["chown", "-R", *options, tree]] if tree else []
    for command in commands:
        if own == 0:
            process.run(command)
        else:
            run(machine_view(), command)


def take_made(trees: Sequence[Path]) -> None:
    """Make the caller, an ordinary user, the owner of what root inside has made in his directories `trees`."""
    if os.geteuid() != 0 and trees:
        own = f"{idmap.IDS}:{idmap.IDS}"
        words = ["-xdev", "-uid", "0", "-exec", "chown", "-h", own, "--", "{}", "+"]
        run(machine_view(), ["find", *trees, *words])


def move_tree(source: Path, destination: Path) -> None:
    """Rename the directory `source`, whoever inside owns it; `destination` must not be there."""
    if os.geteuid() == 0:
        source.rename(destination)
    else:
        run(machine_view(), ["mv", "-T", "--", source, destination])


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


def _as_utf8(value: object, name: str = "") -> object:
    """`value` with all text of the system as a sandbox's Python takes it: it has a locale with UTF-8."""
    if isinstance(value, dict):
        return {key: _as_utf8(item, key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_utf8(item, name) for item in value]
    # In these each character is a byte.
    if not isinstance(value, str) or name in ("text", "registrations"):
        return value
    return os.fsencode(value).decode("utf-8", "surrogateescape")


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
        "narrow": sandbox.narrow,
        # The machine's root is never mapped, and must not get in unmapped either: he is root of his range.
        "himself": sandbox.himself and os.geteuid() != 0,
        "umask": callers_umask() if sandbox.himself else 0o022,
        "attached": "no",
        "mask": [],
        "record": sandbox.record,
        "accounts": str(sandbox.accounts) if sandbox.accounts else None,
        "service": service
        and {**_spec(service.where, service.command), "port": service.port, "log": str(service.log)},
        "command": [os.fspath(word) for word in command],
    }
