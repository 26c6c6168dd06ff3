"""The canaries, as data: what each proves, and what helps where it fails."""

from __future__ import annotations

from dataclasses import dataclass

_EMULATOR = (
    "`invoke clean --roots` makes the roots anew, with the newest qemu and libc of the suite; another suite (--suite) "
    "has another qemu"
)
_FILE_SYSTEM = (
    "put the store on xfs, btrfs, tmpfs, or ext4 without the feature dir_index: XBUILD_CACHE names its directory"
)


@dataclass(frozen=True)
class Case:
    """One canary.

    proves: what a build may rely on if it passes. remedy: what to do if it does not. command: run in an empty directory
    on the build's file system. root: as root inside the namespace, else as the build's user. narrow: the program
    compiled with 32-bit file offsets, which only 32-bit targets have.
    """

    name: str
    proves: str
    remedy: str
    command: tuple[str, ...] = ()
    root: bool = False
    narrow: bool = False


COMPILER = Case(
    "compiler",
    "the root's compiler makes a program that the emulator runs",
    f"if the same fails with --mode emulated: {_EMULATOR}; if not, report it",
)

_LDCONFIG = """
ldconfig -X -C "$PWD/ld.so.cache"
ldconfig -p -C "$PWD/ld.so.cache" | grep '^[[:space:]]*libc\\.so' >/dev/null
"""

CASES = (
    Case("readdir", "programs see all files of a directory", _FILE_SYSTEM, ("./canary", "readdir")),
    Case(
        "readdir-narrow",
        "programs compiled with 32-bit file offsets see all files of a directory",
        f"{_FILE_SYSTEM}; or compile with -D_FILE_OFFSET_BITS=64",
        ("./canary-narrow",),
        narrow=True,
    ),
    Case("fork", "fork and exec, and exit codes come through", _EMULATOR, ("./canary", "fork")),
    Case("vfork", "vfork and exec, and exit codes come through", _EMULATOR, ("./canary", "vfork")),
    Case("posix_spawn", "posix_spawn with its file actions", _EMULATOR, ("./canary", "posix_spawn")),
    Case(
        "threads",
        "threads, their own variables, mutexes and conditions",
        f"is the number of processes limited (ulimit -u, a container's pids limit)? Else {_EMULATOR}",
        ("./canary", "threads"),
    ),
    Case(
        "signals", "handlers, masks, timers, other stacks, and death by signal", _EMULATOR, ("./canary", "signals")
    ),
    Case(
        "locks",
        "locks of files exclude other processes",
        "put the store on a local file system: XBUILD_CACHE names its directory",
        ("./canary", "locks"),
    ),
    Case("ldconfig", "ldconfig lists the root's libraries", _EMULATOR, ("sh", "-euc", _LDCONFIG), root=True),
    Case(
        "setuid",
        "root inside can become another user and give files away",
        "`invoke doctor` examines the subordinate ids; where they are right, run xbuild outside of this container",
        ("./canary", "setuid"),
        root=True,
    ),
)
