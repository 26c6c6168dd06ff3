"""The system calls that Python does not offer, through libc, with errors that say what was tried.

Standard library only: this is loaded in every sandbox that starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

# <sched.h>
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# <sys/mount.h>
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SYSCALL_USER_DISPATCH = 59

# <linux/sockios.h>, <linux/if.h>
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Move the caller into new namespaces (unshare(2))."""
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str = "") -> None:
    """mount(2); `kind` None for a bind or a change of flags."""
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            os.fsencode(options) if options else None,
        ),
        f"mount {kind or 'bind'} {source} on {target} ({options or hex(flags)})",
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _check(_libc.pivot_root(os.fsencode(new_root), os.fsencode(put_old)), f"pivot_root {new_root}")


def prctl(option: int, value: int, *further: int) -> None:
    """prctl(2) with up to four arguments; those that are not given are 0."""
    words = [ctypes.c_ulong(word) for word in (value, *further, 0, 0, 0)[:4]]
    _check(_libc.prctl(ctypes.c_int(option), *words), f"prctl({option})")


# <linux/capability.h>: CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SETGID, CAP_SETUID.
_OF_FILES_AND_PROCESSES = frozenset({0, 1, 3, 4, 5, 6, 7})


def narrow_root() -> None:
    """Whatever is executed from here on can have no capabilities but those over files, their owners and processes."""
    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        if capability not in _OF_FILES_AND_PROCESSES:
            prctl(PR_CAPBSET_DROP, capability)


def signalfd(numbers: Iterable[int]) -> int:
    """A descriptor that can be read when one of these signals, which must be blocked, is waiting (signalfd(2))."""
    # <bits/types/__sigset_t.h>: 1024 bits.
    mask = (ctypes.c_ulong * (1024 // (8 * ctypes.sizeof(ctypes.c_ulong))))()
    for number in numbers:
        _check(_libc.sigaddset(mask, ctypes.c_int(number)), f"sigaddset({number})")
    # <sys/signalfd.h>: its flags have the values of these.
    descriptor: int = _libc.signalfd(-1, mask, ctypes.c_int(os.O_CLOEXEC | os.O_NONBLOCK))
    _check(descriptor, "signalfd")
    return descriptor


def waiting_signals(descriptor: int) -> list[tuple[int, int]]:
    """Take what waits at such a descriptor: number and si_code (sigaction(2)) of each signal."""
    # signalfd(2): a signalfd_siginfo has 128 bytes; ssi_signo, ssi_errno and ssi_code come first.
    data = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(descriptor, 64 * 128):
            data += chunk
    return [(number, code) for number, _, code in struct.iter_unpack("=Iii116x", data)]


def loopback_up() -> None:
    """Bring the interface `lo` of the caller's network namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | IFF_UP, b""))


def exchange(one: str, other: str) -> None:
    """Let two existing paths of one file system change names, at one moment (renameat2(2))."""
    # <fcntl.h>: AT_FDCWD; <linux/fs.h>: RENAME_EXCHANGE.
    result = _libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2)
    _check(result, f"exchange {one} and {other}")


def join_new_keyring() -> None:
    """Have a session keyring of one's own instead of the caller's (keyctl(2)), as far as the kernel allows.

    It has no keys in some containers, and a number for each user, which many sandboxes at once could reach.
    """
    # <asm/unistd.h>: keyctl; <linux/keyctl.h>: KEYCTL_JOIN_SESSION_KEYRING.
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if number is None:
        return
    if _libc.syscall(ctypes.c_long(number), ctypes.c_long(1), None) < 0:
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EPERM, errno.EDQUOT):
            raise OSError(code, f"keyctl: {os.strerror(code)}")


def call_oneself(name: str) -> None:
    """Write `name` over the command line that others see of this process and of those that it forks.

    Only as much of it as there is room for. Python has copied its arguments.
    """
    # proc(5), /proc/PID/stat: fields 48 and 49, arg_start and arg_end; 52 fields, of which the third comes after `)`.
    fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
    start, end = int(fields[48 - 3]), int(fields[49 - 3])
    if 0 < start < end:
        # The last byte stays 0: else the kernel takes what follows for more of it.
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, name.encode()[: end - start - 1], min(len(name.encode()), end - start - 1))
