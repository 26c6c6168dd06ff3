"""Which ids outside stand for the ids 0 .. 65535 inside: a range of subordinate ones (user_namespaces(7))."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from xbuild.base import process
from xbuild.base.errors import MachineError

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

    Nobody maps himself. What is set-uid in a root would else be a way to become the user, for whoever reaches it; and
    a process with the machine's own uid 0 could write to /proc/sys of the machine even from inside a namespace.
    """
    uid = os.geteuid()
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
                hint="`invoke doctor` gives the command that adds a free range",
            )
    assert uids is not None
    assert gids is not None
    return IdMap(((0, uids[0], min(uids[1], IDS)),), ((0, gids[0], min(gids[1], IDS)),))


def with_own(id_map: IdMap, uid: int, gid: int) -> IdMap:
    """`id_map`, changed so that the ordinary user `uid`, with the group `gid`, is himself inside."""
    return IdMap(_with_own(id_map.uids, uid), _with_own(id_map.gids, gid))


def _with_own(lines: tuple[tuple[int, int, int], ...], own: int) -> tuple[tuple[int, int, int], ...]:
    ((_, first, count),) = lines
    below = min(own, count)
    parts = ((0, first, below), (own, own, 1), (own + 1, first + own + 1, count - own - 1))
    return tuple(part for part in parts if part[2] > 0)


def with_caller(id_map: IdMap, uid: int, gid: int) -> IdMap:
    """`id_map` and the ordinary user `uid`, with the group `gid`, as the first id inside that no root knows: `IDS`.

    For the machine's own tools only: root inside can then reach what is the user's, and can give him files.
    """
    return IdMap((*id_map.uids, (IDS, uid, 1)), (*id_map.gids, (IDS, gid, 1)))


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
    """See that root inside can fill the directory `path` in `run.machine_view`; returns `path`.

    It is the user's there; only the machine's root is not known inside, and has to give the directory away.
    """
    if os.geteuid() == 0:
        os.chown(path, *find().root)
    return path
