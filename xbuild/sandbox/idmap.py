"""Which ids outside stand for the ids 0 .. 65535 inside: the user and a subordinate range (user_namespaces(7))."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from xbuild import process
from xbuild.errors import MachineError

IDS = 65536
"""How many ids a Debian root wants: 0 to 65534 (nobody), and one."""

ROOT_BASE = 0x70000000
"""First id for root without an entry in /etc/subuid: just above the range that systemd hands to containers
(systemd's UIDS-GIDS document), and below 2^31, which some programs cannot read."""


@dataclass(frozen=True)
class IdMap:
    """Lines of /proc/PID/uid_map and gid_map: (first inside, first outside, count)."""

    uids: tuple[tuple[int, int, int], ...]
    gids: tuple[tuple[int, int, int], ...]

    @property
    def root(self) -> tuple[int, int]:
        """The uid and gid outside that root inside stands for."""
        return self.uids[0][1], self.gids[0][1]


def subordinate(path: Path, names: tuple[str, ...]) -> tuple[int, int] | None:
    """The largest range (first, count) that a file like /etc/subuid gives to one of `names` (name or number)."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    ranges = []
    for line in lines:
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if name in names and first.isdigit() and count.isdigit():
            ranges.append((int(first), int(count)))
    return max(ranges, key=lambda entry: entry[1], default=None)


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def find(subuid: Path = Path("/etc/subuid"), subgid: Path = Path("/etc/subgid")) -> IdMap:
    """The caller's map. Raises MachineError if an ordinary user has no subordinate range that is wide enough.

    Root never maps itself: a process with the machine's own uid 0 could write to /proc/sys of the machine even from
    inside a namespace. It maps a range of its own instead.
    """
    uid, gid = os.geteuid(), os.getegid()
    names = (_user_name(), str(uid))
    uids, gids = subordinate(subuid, names), subordinate(subgid, names)
    if uid == 0:
        first_uid = uids[0] if uids and uids[1] >= IDS else ROOT_BASE
        first_gid = gids[0] if gids and gids[1] >= IDS else ROOT_BASE
        return IdMap(((0, first_uid, IDS),), ((0, first_gid, IDS),))
    for file, found in ((subuid, uids), (subgid, gids)):
        if found is None or found[1] < IDS - 1:
            amount = "no subordinate ids" if found is None else f"only {found[1]} subordinate ids"
            raise MachineError(
                f"user {names[0]} has {amount} in {file}; {IDS - 1} are needed",
                hint="invoke doctor gives the command that adds a free range",
            )
    assert uids is not None
    assert gids is not None
    return IdMap(((0, uid, 1), (1, uids[0], IDS - 1)), ((0, gid, 1), (1, gids[0], IDS - 1)))


def with_own(id_map: IdMap, uid: int, gid: int) -> IdMap:
    """`id_map`, in which root inside is the caller, changed so that he is himself: `uid` and `gid` stay what they are.

    Root inside is one of the subordinate ids then.
    """
    return IdMap(_swapped(id_map.uids, uid), _swapped(id_map.gids, gid))


def _swapped(lines: tuple[tuple[int, int, int], ...], own: int) -> tuple[tuple[int, int, int], ...]:
    (_, outside, single), *others = lines
    if outside != own or single != 1:
        # Root maps a range of its own, in which it is nobody of the machine's.
        return lines
    ((_, first, count),) = others
    below = min(own, count)
    parts = ((0, first, below), (own, own, 1), (own + 1, first + below, count - below))
    return tuple(part for part in parts if part[2])


def cut(lines: Iterable[tuple[int, int, int]], seams: Iterable[int]) -> list[tuple[int, int, int]]:
    """`lines` of a map, each cut wherever one of `seams`, first ids of ranges outside, lies in it.

    The kernel takes no line that spans two ranges of the caller's own map (user_namespaces(7)), as that of a
    container often has them.
    """
    parts = []
    for inside, outside, count in lines:
        end = outside + count
        marks = [outside, *sorted(seam for seam in seams if outside < seam < end), end]
        parts += [(inside + first - outside, first, last - first) for first, last in pairwise(marks)]
    return parts


def apply(id_map: IdMap, pid: int) -> None:
    """Write the map of the process `pid`, which has just made its user namespace."""
    for name, lines in (("uid", id_map.uids), ("gid", id_map.gids)):
        if os.geteuid() == 0:
            own = Path(f"/proc/self/{name}_map").read_text().splitlines()
            parts = cut(lines, [int(line.split()[0]) for line in own])
            text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in parts)
            try:
                Path(f"/proc/{pid}/{name}_map").write_text(text)
            except OSError as error:
                ranges = ", ".join(f"{outside} to {outside + count - 1}" for _, outside, count in lines)
                raise MachineError(
                    f"root may not map the {name}s {ranges}: {error.strerror}",
                    hint="is this a container without these ids? A line for root in /etc/subuid names others",
                ) from error
            continue
        words = [str(number) for line in lines for number in line]
        done = process.run([f"new{name}map", str(pid), *words], capture=True, check=False)
        if done.returncode != 0:
            raise MachineError(
                f"new{name}map failed: {done.stderr.decode(errors='replace').strip()}",
                hint="the package uidmap must be installed, and its programs setuid root",
            )


def own(path: Path) -> Path:
    """Give the directory `path` to root inside, so that a sandbox can fill it; returns `path`."""
    if os.geteuid() == 0:
        os.chown(path, *find().root)
    return path
