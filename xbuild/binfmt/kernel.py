"""What the kernel has: the instance of binfmt_misc that counts for this process, and those of other user namespaces.

A program that is executed is looked up in one instance only: that of the nearest user namespace, upwards, that ever
mounted one (load_binfmt_misc in fs/binfmt_misc.c, Linux 6.7; before that there is one for the whole machine).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xbuild.base import process
from xbuild.base.errors import XbuildError
from xbuild.binfmt.entry import Entry
from xbuild.binfmt.formats import parse

MOUNT_POINT = "/proc/sys/fs/binfmt_misc"

INITIAL = "user:[4026531837]"
"""The machine's first user namespace, as /proc/PID/ns/user shows it (PROC_USER_INIT_INO, <linux/nsfs.h>)."""

Owner = Literal["system", "own", "ancestor", "other"]

OWNERS: dict[Owner, str] = {
    "system": "the machine's",
    "own": "this user namespace's own",
    "ancestor": "an ancestor user namespace's",
    "other": "another user namespace's",
}

_READ_UNMOUNTED = f"""
mount -t binfmt_misc binfmt_misc {MOUNT_POINT}
cd {MOUNT_POINT}
ls -U | while IFS= read -r name; do
    [ "$name" = register ] || {{ printf '%s\\n' "$name"; cat -- "$name"; printf '\\0'; }}
done
"""


@dataclass(frozen=True)
class Instance:
    """One binfmt_misc.

    place: the directory that it was read from. entries: in the order in which the kernel asks them, which is the
    reverse of that in which they were registered. pid: a process that has it, where it is another namespace's.
    """

    owner: Owner
    place: str
    enabled: bool
    entries: tuple[Entry, ...]
    namespace: str
    pid: int | None = None

    def title(self) -> str:
        """One line about it."""
        state = "" if self.enabled else ", disabled as a whole"
        holder = f", held by process {self.pid}" if self.pid is not None else ""
        return f"{OWNERS[self.owner]} binfmt_misc at {self.place} ({self.namespace}{holder}){state}"

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "owner": self.owner,
            "place": self.place,
            "enabled": self.enabled,
            "namespace": self.namespace,
            "pid": self.pid,
            "entries": [entry.as_json() for entry in self.entries],
        }


@dataclass(frozen=True)
class State:
    """What can be seen of all instances.

    effective: the one that counts for this process; None if none can be read. certain: whether there can be no other
    one that counts. remark: why there is none, or why that is not certain.
    """

    supported: bool
    effective: Instance | None
    others: tuple[Instance, ...]
    certain: bool
    remark: str

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "supported": self.supported,
            "effective": self.effective.as_json() if self.effective else None,
            "others": [instance.as_json() for instance in self.others],
            "certain": self.certain,
            "remark": self.remark,
        }


def look(proc: Path = Path("/proc"), *, others: bool = True) -> State:
    """What can be seen. proc: where /proc is. others: also look for instances of other processes."""
    namespace = _link(proc / "self/ns/user")
    supported = "binfmt_misc" in (proc / "filesystems").read_text().split()
    place = _mount_point(proc / "self/mountinfo", proc)
    found = tuple(_of_processes(proc, namespace, place)) if others else ()
    if place is not None:
        owner = _owner(place, namespace)
        doubt = ""
        if owner == "ancestor":
            doubt = "if this user namespace ever mounted one of its own, that one counts, though it cannot be seen"
        return State(True, _read(place, owner, namespace), found, not doubt, doubt)
    if namespace != INITIAL:
        text = f"none is mounted at {MOUNT_POINT} here, so what counts for this user namespace cannot be read"
        return State(supported, None, found, False, text)
    if supported and os.geteuid() == 0 and proc == Path("/proc"):
        return State(True, _unmounted(namespace), found, True, _NOT_MOUNTED)
    if not supported:
        text = "the kernel has no binfmt_misc, or its module is not loaded: `modprobe binfmt_misc` as root"
        return State(False, None, found, True, text)
    return State(True, Instance("system", MOUNT_POINT, True, (), namespace), found, True, _NOT_MOUNTED)


_NOT_MOUNTED = (
    f"it is not mounted, so it has no entries (`mount -t binfmt_misc binfmt_misc {MOUNT_POINT}` as root)"
)


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _mount_point(mountinfo: Path, proc: Path) -> Path | None:
    """Where binfmt_misc is mounted, the usual place first; proc(5), /proc/PID/mountinfo."""
    # systemd mounts it when somebody looks.
    with contextlib.suppress(OSError):
        any((proc / "sys/fs/binfmt_misc").iterdir())
    places = []
    with contextlib.suppress(OSError):
        for line in mountinfo.read_text(errors="surrogateescape").splitlines():
            left, dash, right = line.partition(" - ")
            if dash and right.split(" ")[0] == "binfmt_misc":
                places.append(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), left.split(" ")[4]))
    if MOUNT_POINT in places:
        return proc / "sys/fs/binfmt_misc"
    return Path(places[-1]) if places else None


def _owner(place: Path, namespace: str) -> Owner:
    if namespace == INITIAL:
        return "system"
    # Its files belong to root of the namespace that it is of (inode_init_always), who has no id here if that is an
    # ancestor: user_namespaces(7), "unmapped user and group IDs".
    return "own" if (place / "register").stat().st_uid == 0 else "ancestor"


def _read(place: Path, owner: Owner, namespace: str, pid: int | None = None) -> Instance:
    entries = []
    # The directory is read newest first, as the kernel asks the entries.
    for name in (path.name for path in place.iterdir()):
        if name in ("register", "status"):
            continue
        # It may be gone meanwhile.
        with contextlib.suppress(OSError):
            entries += _parsed((place / name).read_bytes(), name, str(place / name))
    enabled = (place / "status").read_text().strip() == "enabled"
    return Instance(owner, str(place), enabled, tuple(entries), namespace, pid)


def _parsed(data: bytes, name: str, source: str) -> list[Entry]:
    try:
        return parse(data, name, source, "proc")[1]
    except XbuildError:
        # A kind of entry that a later kernel has.
        return [Entry(name, "M", "(not understood)", enabled=False, source=source)]


def _unmounted(namespace: str) -> Instance:
    """The machine's own, read in a mount namespace that is thrown away."""
    command = ["unshare", "--mount", "--", "sh", "-euc", _READ_UNMOUNTED]
    done = process.run(command, capture=True, check=False)
    enabled, entries = True, []
    for part in done.stdout.split(b"\0")[:-1]:
        name, _, data = part.partition(b"\n")
        if name == b"status":
            enabled = data.strip() == b"enabled"
        else:
            text = os.fsdecode(name)
            entries += _parsed(data, text, f"{MOUNT_POINT}/{text}")
    return Instance("system", MOUNT_POINT, enabled, tuple(entries), namespace)


def _of_processes(proc: Path, namespace: str, own: Path | None) -> Iterator[Instance]:
    """The instances of other user namespaces whose processes we may look at."""
    seen = {own.stat().st_dev} if own is not None else set()
    for entry in sorted((path for path in proc.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)):
        other = _link(entry / "ns/user")
        if other in ("", namespace):
            continue
        for place in _places(entry):
            with contextlib.suppress(OSError):
                device = place.stat().st_dev
                # What a namespace has inherited is not its own.
                if device in seen or (place / "register").stat().st_dev != device:
                    continue
                seen.add(device)
                yield _read(place, "other", other, int(entry.name))


def _places(entry: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for line in (entry / "mountinfo").read_text(errors="surrogateescape").splitlines():
            left, _, right = line.partition(" - ")
            if right.split(" ")[0] == "binfmt_misc":
                yield entry / "root" / left.split(" ")[4].lstrip("/")
    # A sandbox of ours keeps its instance by a descriptor of the directory alone.
    with contextlib.suppress(OSError):
        for descriptor in (entry / "fd").iterdir():
            if (descriptor / "register").exists() and (descriptor / "status").exists():
                yield descriptor
