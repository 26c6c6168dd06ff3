"""Runs inside: makes the namespaces, builds the file system, runs one command as the child of its pid 1.

Started by `xbuild.sandbox.run` as a script: `python -I -S enter.py SPEC_FD TALK_FD`. Over the talk socket it says
`user` when its user namespace waits for its id maps, takes `go`, and says `exit N` (N as in process.Completed) or
`error TEXT` at the end. If somebody is attached, `started` comes with a pidfd of the command (and with the master of
its terminal), the command begins after `run`, and `stopped N` comes whenever signal N has stopped it. Standard library
only: it is on the path of every phase.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, overload

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from xbuild.sandbox import mounts, seccomp
from xbuild.sandbox import syscalls as sys_
from xbuild.sandbox.sampler import INTERVAL, Sampler

_BINFMT = "/proc/sys/fs/binfmt_misc"
_PATIENCE = 20
"""Seconds until a service has to listen."""
_NEW_ROOT = "/tmp/root"
"""Where the new root is assembled, in a file system in memory that covers /tmp: whoever is root inside need not reach
any other place of the machine."""
# What a build must not change or learn through /proc even if it ran as root: kernel documentation, proc.rst.
_PROC_READONLY = ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs")


def _tell(talk: socket.socket, line: str) -> None:
    # If xbuild itself was killed, nobody is left to be told.
    with contextlib.suppress(BrokenPipeError):
        talk.sendall(line.encode() + b"\n")


def _new_user_namespace(talk: socket.socket) -> None:
    sys_.unshare(sys_.CLONE_NEWUSER)
    _tell(talk, "user")
    if talk.recv(16) != b"go\n":
        raise OSError("xbuild went away before the id maps were written")


def _reach_out(spec: dict[str, Any]) -> None:
    """Do what takes the caller's own rights: to him the store is open, to root inside it is not."""
    service = spec["service"]
    for part in (spec, service) if service else (spec,):
        for path in (part["mount_point"], *(path for value in part["mounts"] for path in _paths_outside(value))):
            mounts.open_outside(path)
    if spec["accounts"]:
        mounts.open_outside(spec["accounts"].rpartition("/")[0])
    if service:
        service["log_fd"] = os.open(service["log"], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    if spec["registrations"]:
        # The F flag opens the interpreter now, by its path outside. The descriptor stays open in pid 1, so the entries
        # outlive the mount, which the build does not get to see.
        _register(spec["registrations"])


def _paths_outside(value: dict[str, Any]) -> tuple[str, ...]:
    operation = mounts.from_json(value)
    return operation.outside if isinstance(operation, (mounts.Bind, mounts.Overlay)) else ()


def _become_root() -> None:
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.setgroups([])
    # The change of user made us undumpable (prctl(2)); then nobody inside could follow /proc/1/root.
    sys_.prctl(sys_.PR_SET_DUMPABLE, 1)


def _die_with(xbuild: int) -> None:
    """Ask to be killed when our parent, the process `xbuild`, dies; raises OSError if it has died before we asked."""
    # To be set again after every change of credentials, which clears it (prctl(2)).
    sys_.prctl(sys_.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != xbuild:
        raise OSError("xbuild went away while the sandbox was made")


def _register(registrations: list[str]) -> int:
    """Mount this namespace's binfmt_misc, fill it, and give a descriptor that keeps its entries alive."""
    # A namespace that ever mounted its own instance no longer sees its ancestors', and that is the point: no entry of
    # the machine's can take part in a build.
    sys_.mount("binfmt_misc", _BINFMT, "binfmt_misc")
    for line in registrations:
        Path(_BINFMT, "register").write_bytes(line.encode("latin-1"))
    # Of the directory: whoever may look at pid 1 can read the entries by it (binfmt.list).
    return os.open(_BINFMT, os.O_RDONLY | os.O_DIRECTORY)


def _execute(operations: Iterable[mounts.Mount], root: str) -> None:
    for operation in operations:
        try:
            operation.execute(root)
        except OSError as error:
            raise OSError(error.errno, f"{operation.describe()}: {error}") from error


def _assemble(spec: dict[str, Any], root: str) -> None:
    """Mount what the spec wants as `/` on the directory `root`, which is made."""
    operations = [mounts.from_json(value) for value in spec["mounts"]]
    Path(root).mkdir(mode=0o755)
    if not any(isinstance(operation, mounts.Overlay) and operation.target == "/" for operation in operations):
        sys_.mount(mounts.outside(spec["mount_point"]), root, None, sys_.MS_BIND)
    _execute(operations, root)


def _change_machine(spec: dict[str, Any]) -> None:
    """Mount what the spec wants over the machine's own file system."""
    sys_.mount("none", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
    _execute(map(mounts.from_json, spec["mounts"]), "/")
    if spec["registrations"]:
        _register(spec["registrations"])
    mounts.close_outside()


def _switch_root(root: str) -> None:
    os.chdir(root)
    sys_.pivot_root(".", ".")
    sys_.umount(".", sys_.MNT_DETACH)
    os.chdir("/")
    for path in _PROC_READONLY:
        if Path(path).exists():
            sys_.mount(path, path, None, sys_.MS_BIND | sys_.MS_REC)
            flags = sys_.MS_REMOUNT | sys_.MS_BIND | sys_.MS_RDONLY | sys_.MS_NOSUID | sys_.MS_NODEV
            sys_.mount("none", path, None, flags | sys_.MS_NOEXEC)


def _exec(spec: dict[str, Any], *, ours: bool = False) -> NoReturn:
    """Become the command. ours: it is a service, a program of the native root that knows what it may do."""
    if not spec["himself"]:
        sys_.join_new_keyring()
        # The libc of a service of 32 bits makes its sockets by the one call whose families cannot be told apart.
        if not ours:
            seccomp.install()
    if spec["uid"] and not spec["himself"]:
        os.setgroups([])
        os.setresgid(spec["gid"], spec["gid"], spec["gid"])
        os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    elif spec["narrow"]:
        sys_.narrow_root()
    if spec["no_new_privileges"]:
        sys_.prctl(sys_.PR_SET_NO_NEW_PRIVS, 1)
    os.umask(spec["umask"])
    os.chdir(spec["cwd"])
    command = spec["command"]
    signal.pthread_sigmask(signal.SIG_SETMASK, spec["mask"])
    os.execvpe(command[0], command, spec["env"])


def _default_signals(spec: dict[str, Any]) -> None:
    """Undo what Python does with signals, and our caller, except for a command that he is to have as if it were his."""
    numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    if spec["attached"] == "yes":
        of_python = (signal.SIGPIPE, signal.SIGXFSZ)
        numbers = {number for number in numbers if number in of_python or signal.getsignal(number) != signal.SIG_IGN}
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)


def _build_root(spec: dict[str, Any]) -> None:
    sys_.mount("tmpfs", "/tmp", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0755")
    # Else it would be shown where the machine's /tmp is.
    sys_.mount("none", "/tmp", None, sys_.MS_UNBINDABLE)
    if spec["service"]:
        _start_service(spec["service"])
    _assemble(spec, _NEW_ROOT)
    # Before anything of the build runs, which could go outside by what pid 1 has open.
    mounts.close_outside()
    _switch_root(_NEW_ROOT)


def _listens(port: int) -> bool:
    """Asked from the kernel: a connection for the question's sake would be an error in the service's log."""
    # proc(5), /proc/net/tcp: local address and port in hexadecimal; state 0A is TCP_LISTEN (<net/tcp_states.h>).
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return any(line[1].endswith(f":{port:04X}") and line[3] == "0A" for line in lines)


def _start_service(spec: dict[str, Any]) -> None:
    """Start a daemon with a file system of its own, and wait until it listens on its port of the loopback.

    It ends with pid 1. What it says goes to its log, a path outside.
    """
    log, root = spec["log_fd"], f"{_NEW_ROOT}-of-service"
    _assemble(spec, root)
    service = os.fork()
    if service == 0:
        try:
            sys_.unshare(sys_.CLONE_NEWNS)
            os.dup2(log, 1)
            os.dup2(log, 2)
            _default_signals(spec)
            _switch_root(root)
            _exec(spec, ours=True)
        except BaseException as error:
            os.write(2, f"xbuild: cannot run {spec['command'][0]}: {error}\n".encode())
            os._exit(127)
    os.close(log)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and os.waitpid(service, os.WNOHANG)[0] == 0:
        if _listens(spec["port"]):
            return
        time.sleep(0.02)
    raise OSError(f"{spec['command'][0]} does not listen on port {spec['port']}; its log: {spec['log']}")


def _attach(spec: dict[str, Any], talk: socket.socket) -> None:
    """Hand out, as the command that is about to start, what others hold it by."""
    descriptors = [os.pidfd_open(os.getpid())]
    slave = None
    if spec["attached"] == "terminal":
        master, slave = os.openpty()
        descriptors.append(master)
    socket.send_fds(talk, [b"started\n"], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    if slave is not None:
        os.login_tty(slave)
    # Until then our signals are blocked, so that none is lost that comes before this process is known.
    if talk.recv(16) != b"run\n":
        raise OSError("xbuild went away before the command began")


def _run_as_init(spec: dict[str, Any], talk: socket.socket, accounts: int | None) -> int:
    """pid 1 of the namespace: start the command, reap whatever is left to it, give the command's returncode.

    accounts: descriptor of a file for what the sampler finds; None: CPU use is not sampled.
    """
    command = os.fork()
    if command == 0:
        try:
            _default_signals(spec)
            if spec["attached"] != "no":
                _attach(spec, talk)
            talk.close()
            _exec(spec)
        except BaseException as error:
            os.write(2, f"xbuild: cannot run {spec['command'][0]}: {error}\n".encode())
            os._exit(127)
    if accounts is None:
        if spec["attached"] == "yes":
            return _reap_until(command, on_stop=lambda number: _tell(talk, f"stopped {number}"))
        return _reap_until(command)
    sampler = Sampler(spec["record"])
    # Like all signals it is blocked, and so stays pending until it is asked for.
    look = time.monotonic()
    while (returncode := _reap_until(command, os.WNOHANG)) is None:
        if (left := look - time.monotonic()) > 0:
            signal.sigtimedwait([signal.SIGCHLD], left)
            continue
        sampler.sample()
        look = time.monotonic() + INTERVAL
    # A full disk must not make a phase that worked look like a sandbox that did not.
    with contextlib.suppress(OSError):
        os.write(accounts, json.dumps(sampler.result()).encode())
    return returncode


@overload
def _reap_until(command: int, *, on_stop: Callable[[int], None] | None = None) -> int: ...
@overload
def _reap_until(command: int, flags: int) -> int | None: ...


def _reap_until(command: int, flags: int = 0, on_stop: Callable[[int], None] | None = None) -> int | None:
    while True:
        pid, status = os.waitpid(-1, flags | (os.WUNTRACED if on_stop else 0))
        if os.WIFSTOPPED(status):
            if pid == command and on_stop:
                on_stop(os.WSTOPSIG(status))
        elif pid == command:
            return os.waitstatus_to_exitcode(status)
        elif pid == 0:
            return None


def _enter_namespaces(spec: dict[str, Any], talk: socket.socket) -> int | None:
    """Go into the namespaces, as root inside; give a descriptor of the file for the accounts."""
    flags = sys_.CLONE_NEWPID
    flags |= 0 if spec["himself"] else sys_.CLONE_NEWIPC | sys_.CLONE_NEWUTS
    flags |= 0 if spec["network"] else sys_.CLONE_NEWNET
    # What a terminal, or `kill`, sends to the whole process group is for the command alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _new_user_namespace(talk)
    sys_.unshare(sys_.CLONE_NEWNS)
    if spec["private_root"]:
        sys_.mount("none", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
        _reach_out(spec)
    if not spec["himself"]:
        _become_root()
    accounts = mounts.made_outside(spec["accounts"], 0) if spec["accounts"] else None
    _die_with(spec["xbuild"])
    sys_.unshare(flags)
    return accounts


def _set_up_and_run(spec: dict[str, Any], talk: socket.socket) -> None:
    _die_with(spec["xbuild"])
    accounts = _enter_namespaces(spec, talk)
    alive, keeper_end = os.pipe()
    init = os.fork()
    if init:
        os.waitpid(init, 0)
        return
    try:
        sys_.prctl(sys_.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(keeper_end)
        os.set_blocking(alive, False)
        with contextlib.suppress(BlockingIOError):
            # End of file: the keeper died before we asked to die with it.
            os.read(alive, 1)
            os._exit(1)
        if not spec["network"]:
            sys_.loopback_up()
        if not spec["himself"]:
            socket.sethostname(spec["name"])
        if spec["private_root"]:
            _build_root(spec)
        else:
            _change_machine(spec)
        _tell(talk, f"exit {_run_as_init(spec, talk, accounts)}")
    except BaseException as error:
        text = str(error) if isinstance(error, OSError) else traceback.format_exc()
        _tell(talk, "error " + text.replace("\n", "; "))
    os._exit(0)


def main() -> None:
    """The script: argv holds the numbers of the spec's and the talk socket's descriptors."""
    os.umask(0o022)
    spec_fd, talk_fd = (int(word) for word in sys.argv[1:3])
    # Whoever is inside sees the command line of pid 1, and nothing in it shall tell of paths outside.
    sys_.call_oneself("xbuild")
    with os.fdopen(spec_fd, "rb") as stream:
        spec = json.load(stream)
    talk = socket.socket(fileno=talk_fd)
    talk.set_inheritable(False)
    try:
        _set_up_and_run(spec, talk)
    except OSError as error:
        _tell(talk, f"error {error}")


if __name__ == "__main__":
    main()
