"""What no build needs of the kernel is answered as by a kernel without it: a fixed program of seccomp(2).

Closed are sockets to the hypervisor (vsock(7)), io_uring, keys (keyrings(7)), and typing into a terminal. Whether a
call is refused is told by its number, or by its first arguments; the kernel remembers the numbers that always pass.

Standard library only, like everything that a starting sandbox loads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from xbuild.sandbox import syscalls as sys_

# <linux/bpf_common.h>: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JGE|BPF_K, BPF_RET|BPF_K.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
# <linux/seccomp.h>
_MODE_FILTER = 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE = 0, 4
"""Offsets in struct seccomp_data."""

# <linux/socket.h>, <linux/net.h>, <asm-generic/ioctls.h>
_AF_VSOCK = 40
_SYS_SOCKET = 1
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_IO_URING = (425, 426, 427)
"""io_uring_setup and its kin: new calls have the same number everywhere."""
_X32 = 0x40000000
"""__X32_SYSCALL_BIT of <asm/unistd.h>. No Debian runs programs of x32, whose calls have numbers of their own."""


@dataclass(frozen=True)
class _Abi:
    """Numbers of <asm/unistd.h> for one kind of program. audit: its AUDIT_ARCH of <linux/audit.h>.

    keys: add_key, request_key, keyctl. socketcall: i386's call for all calls about sockets; of a socket's family it
    holds an address only, so it makes none: i386's twins (compiler, assembler, linker) have none.
    """

    audit: int
    socket: int
    ioctl: int
    keys: tuple[int, int, int]
    socketcall: int | None = None
    x32: bool = False


_ABIS = {
    "x86_64": (
        _Abi(0xC000003E, socket=41, ioctl=16, keys=(248, 249, 250), x32=True),
        _Abi(0x40000003, socket=359, ioctl=54, keys=(286, 287, 288), socketcall=102),
    ),
    "aarch64": (
        _Abi(0xC00000B7, socket=198, ioctl=29, keys=(217, 218, 219)),
        _Abi(0x40000028, socket=281, ioctl=54, keys=(309, 310, 311)),
    ),
}
"""By what uname -m says: the programs that such a machine can run."""

_Step = tuple[int, int, int, int]
"""A struct sock_filter of <linux/filter.h>: code, steps to skip if it is so, if it is not, and a value."""


def program(machine: str) -> bytes:
    """The filter for a machine that calls itself `machine`; empty for one that is not known."""
    steps: list[_Step] = []
    for abi in _ABIS.get(machine, ()):
        part = _part(abi)
        steps += [(_LOAD, 0, 0, _ARCHITECTURE), (_IF_EQUAL, 0, len(part), abi.audit), *part]
    if not steps:
        return b""
    return b"".join(struct.pack("=HBBI", *step) for step in [*steps, _refuse(errno.ENOSYS)])


def _part(abi: _Abi) -> list[_Step]:
    steps: list[_Step] = [(_LOAD, 0, 0, _NUMBER)]
    if abi.x32:
        steps += [(_IF_AT_LEAST, 0, 1, _X32), _refuse(errno.ENOSYS)]
    for number in (*abi.keys, *_IO_URING):
        steps += [(_IF_EQUAL, 0, 1, number), _refuse(errno.ENOSYS)]
    steps += _by_argument(abi.socket, 0, [_AF_VSOCK], errno.EAFNOSUPPORT)
    # EIO: what a kernel says whose dev.tty.legacy_tiocsti is off.
    steps += _by_argument(abi.ioctl, 1, [_TIOCSTI, _TIOCLINUX], errno.EIO)
    if abi.socketcall is not None:
        steps += _by_argument(abi.socketcall, 0, [_SYS_SOCKET], errno.EAFNOSUPPORT)
    return [*steps, (_RETURN, 0, 0, _ALLOW)]


def _by_argument(number: int, position: int, values: Sequence[int], error: int) -> list[_Step]:
    """Refuse the call `number` where its argument is one of `values`. The kernel takes 32 bits of these arguments."""
    # struct seccomp_data: six arguments of 64 bits from byte 16 on; of both machines the lower half comes first.
    checks: list[_Step] = [(_LOAD, 0, 0, 16 + 8 * position)]
    for value in values:
        checks += [(_IF_EQUAL, 0, 1, value), _refuse(error)]
    checks.append((_RETURN, 0, 0, _ALLOW))
    return [(_IF_EQUAL, 0, len(checks), number), *checks]


def _refuse(error: int) -> _Step:
    return (_RETURN, 0, 0, _ERRNO | error)


class _Program(ctypes.Structure):
    """struct sock_fprog of <linux/filter.h>."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def install() -> None:
    """Put the filter on this process and all that come of it. Where the kernel has no seccomp there is none.

    The caller has all rights in its user namespace, or has given up gaining any (no_new_privs).
    """
    steps = program(os.uname().machine)
    if not steps:
        return
    # Of bytes with zeros in them c_char_p holds the address all the same; `steps` keeps them alive.
    loaded = _Program(len(steps) // 8, steps)
    try:
        sys_.prctl(sys_.PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(loaded))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def try_dispatch() -> None:
    """Ask for Syscall User Dispatch, in which all calls are let pass, and give it back. Raises OSError if refused."""
    let_pass = ctypes.c_char(0)
    sys_.prctl(sys_.PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, ctypes.addressof(let_pass))
    sys_.prctl(sys_.PR_SET_SYSCALL_USER_DISPATCH, 0)
