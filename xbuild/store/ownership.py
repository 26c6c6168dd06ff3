"""Whose a directory is, and who else could change what lies there."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from xbuild.base.digest import damaged
from xbuild.base.errors import MachineError
from xbuild.sandbox import idmap

_HINT = "name a directory of your own, in one of your own, by XBUILD_CACHE"
_ROOTS_OWN = {"roots": "root", "layers": "upper"}
"""What of an entry must belong to root inside, by kind: apt writes over it. Twins are only read."""
_MOST_LINKS = 40
"""The kernel follows no more (path_resolution(7))."""


def check_own(path: Path, mine: Collection[int]) -> None:
    """Raise MachineError if another user has, or could put, anything of his in the place of `path`.

    path: absolute; it need not be there. mine: the caller's user ids; what is above `path` may be root's too.
    """
    last = None
    for place, facts in _way(path):
        last = place, facts
        if facts.st_uid not in (0, *mine) and not _is_unknown(facts.st_uid):
            raise _refused(path, f"{place} belongs to {_name(facts.st_uid)}")
        shared = stat.S_ISDIR(facts.st_mode) and not facts.st_mode & stat.S_ISVTX
        if shared and (facts.st_mode & stat.S_IWOTH or (facts.st_mode & stat.S_IWGRP and _others_in(facts.st_gid))):
            raise _refused(path, f"others may write to {place}")
    if last is None or os.path.realpath(last[0]) != os.path.realpath(path):
        return
    if last[1].st_uid not in mine:
        raise _refused(path, f"it belongs to {_name(last[1].st_uid)}")
    if last[1].st_mode & stat.S_IWOTH:
        raise _refused(path, "others may write to it")


def spoilt(kind: str, entry: Path) -> str | None:
    """What is wrong with an entry, in words; None if all is well.

    After a chown of the store, or with other subordinate ids, root inside may not write what is his.
    """
    if fault := damaged(entry):
        return fault
    own = entry / _ROOTS_OWN[kind] if kind in _ROOTS_OWN else None
    if own is None or not own.exists() or (owner := own.lstat().st_uid) == (root := idmap.find().root[0]):
        return None
    return f"{own} belongs to {_name(owner)}, and root inside is {_name(root)}"


def _refused(path: Path, reason: str) -> MachineError:
    return MachineError(f"the store must not be {path}: {reason}", hint=_HINT)


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All that the kernel passes on its way to `path`, links and their targets, as far as it is there."""
    place, rest, links = Path("/"), list(path.parts[1:]), 0
    yield place, place.lstat()
    while rest:
        name = rest.pop(0)
        if name == "..":
            place = place.parent
            continue
        try:
            facts = (place / name).lstat()
        except FileNotFoundError:
            return
        yield place / name, facts
        if not stat.S_ISLNK(facts.st_mode):
            place = place / name
            continue
        links += 1
        if links > _MOST_LINKS:
            raise _refused(path, "its links lead in a circle")
        target = (place / name).readlink()
        place = Path("/") if target.is_absolute() else place
        rest[:0] = target.parts[1:] if target.is_absolute() else target.parts


def _is_unknown(uid: int) -> bool:
    """Whether `uid` stands for users outside of the caller's user namespace, of whom the machine's root is one."""
    whole = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    return not whole and uid == int(Path("/proc/sys/kernel/overflowuid").read_text())


def _others_in(gid: int) -> bool:
    """Whether the group has members beside root and the caller."""
    own = {0, os.geteuid()}
    try:
        names = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        names = set()
    known = pwd.getpwall()
    return any(user.pw_uid not in own and (user.pw_gid == gid or user.pw_name in names) for user in known)


def _name(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"
