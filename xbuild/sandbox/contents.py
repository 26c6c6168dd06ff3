"""What is in a tree, name by name, in a form that is the same wherever the tree lies and whoever owns it.

Standard library only: sandboxes load it too.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from xbuild.base.walk import Node, Visit, shown, walk
from xbuild.sandbox.idmap import IDS

Kind = Literal["file", "directory", "link", "hard link", "fifo", "whiteout", "other"]

CAPABILITY: Final = "security.capability"
LISTS: Final = "system.posix_acl_"
"""Attributes with an access control list begin so; it holds ids of the machine, so it does not travel."""

_NOBODY: Final = IDS - 2
"""What the kernel shows for an id that a namespace does not know (user_namespaces(7))."""
_OF_THE_MACHINE: Final = frozenset(f"user.overlay.{name}" for name in ("origin", "impure", "uuid", "nlink"))
"""What an overlay notes about the lower files that it had then (kernel documentation, filesystems/overlayfs.rst): it
does without, and elsewhere it would be wrong. What hides lower files is no such note (`user.overlay.opaque`)."""
_REVISION_2, _REVISION_3 = 0x02000000, 0x03000000
"""Of a file's capabilities (linux/capability.h); the second ends with the uid outside of the root they are good for."""


class Item(NamedTuple):
    """One name of a tree. path: relative. mode: without the kind. uid, gid: inside; `IDS` is the caller himself.

    mtime: nanoseconds since 1970. size: bytes. text: the sha256 of a file, in hex; a link's target; of a further name
    of a file the first one. attributes: extended ones, in hex.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    text: str
    attributes: dict[str, str]


@dataclass(frozen=True)
class Owners:
    """How this process sees the ids inside: those of root inside, and of the caller."""

    root: tuple[int, int]
    caller: tuple[int, int]

    def inside(self, seen: tuple[int, int]) -> tuple[int, int]:
        """The ids inside of the owner and group of a file."""
        uid, gid = (
            IDS if number == own else number - first if first <= number < first + IDS else _NOBODY
            for number, first, own in zip(seen, self.root, self.caller, strict=True)
        )
        return uid, gid

    def seen(self, uid: int, gid: int) -> tuple[int, int]:
        """What a file's owner and group have to become for the ids inside."""
        own_uid, own_gid = self.caller
        return (
            own_uid if uid == IDS else self.root[0] + uid,
            own_gid if gid == IDS else self.root[1] + gid,
        )

    def capability_inside(self, value: bytes) -> bytes:
        """The attribute `CAPABILITY` as root inside sees it."""
        (revision,) = struct.unpack_from("<I", value)
        if revision & 0xFF000000 != _REVISION_3:
            return value
        return struct.pack("<I", _REVISION_2 | (revision & 0xFFFFFF)) + value[4:-4]

    def capability_seen(self, value: bytes) -> bytes:
        """The attribute as this process has to write it."""
        if self.root[0] == 0:
            return value
        (revision,) = struct.unpack_from("<I", value)
        return struct.pack("<I", _REVISION_3 | (revision & 0xFFFFFF)) + value[4:] + struct.pack("<I", self.root[0])


def items(top: Path, owners: Owners, skipped: Collection[bytes] = ()) -> Iterator[tuple[Item, Visit]]:
    """All that is below the directory `top`, sorted as by `walk`; the text of files is not filled in.

    skipped: names directly below `top`. Raises OSError.
    """
    first: dict[tuple[int, int], str] = {}
    for visit in walk(top, skipped=skipped):
        yield _item(visit, owners, first), visit


def _item(visit: Visit, owners: Owners, first: dict[tuple[int, int], str]) -> Item:
    node = visit.node
    path, text, kind = os.fsdecode(node.path), os.fsdecode(node.target), _kind(node)
    if kind == "file" and node.links > 1 and (text := first.setdefault(node.inode, path)) == path:
        text = ""
    if text and kind == "file":
        return Item(path, "hard link", 0, 0, 0, 0, 0, text, {})
    mode = 0o777 if kind == "link" else stat.S_IMODE(node.mode)
    size = node.size if kind == "file" else 0
    return Item(path, kind, mode, *owners.inside(node.owner), node.mtime, size, text, _attributes(visit, owners))


def _kind(node: Node) -> Kind:
    if node.kind == stat.S_IFCHR and node.device == 0:
        return "whiteout"
    kinds: dict[int, Kind] = {
        stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo",
    }  # fmt: skip
    return kinds.get(node.kind, "other")


def _attributes(visit: Visit, owners: Owners) -> dict[str, str]:
    kept = {}
    for name, value in sorted(visit.attributes().items()):
        if name == CAPABILITY:
            kept[name] = owners.capability_inside(value).hex()
        elif name.startswith(("user.", LISTS)) and name not in _OF_THE_MACHINE:
            kept[name] = value.hex()
    return kept


def recorded(top: Path, owners: Owners, skipped: Collection[bytes] = ()) -> str:
    """All that is below `top`, with the digests of files, as the text that `parsed` reads. Raises OSError."""
    return text_of(_with_digest(item, visit) for item, visit in items(top, owners, skipped))


def _with_digest(item: Item, visit: Visit) -> Item:
    if item.kind != "file":
        return item
    with visit.open() as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        visit.require_same(stream)
    return item._replace(text=digest)


def text_of(items: Iterable[Item]) -> str:
    """`items` as lines of JSON, and a last one with the digest of the others: the same items give the same text."""
    text = "".join(json.dumps(item, separators=(",", ":"), sort_keys=True) + "\n" for item in items)
    return f"{text}{hashlib.sha256(text.encode()).hexdigest()}\n"


def parsed(text: str) -> dict[str, Item]:
    """The items, by path, of a text of `text_of`. Raises ValueError if it is not as it was written."""
    *lines, last = text.splitlines(keepends=True) or [""]
    if last.strip() != hashlib.sha256("".join(lines).encode()).hexdigest():
        raise ValueError("it was changed, or is cut off")
    return {item.path: item for item in (Item(*json.loads(line)) for line in lines)}


def differences(recorded: str, present: str) -> Iterator[tuple[str, str]]:
    """The paths that differ between two texts of `text_of`, each with how. Raises ValueError if one is damaged."""
    old, new = parsed(recorded), parsed(present)
    for path in sorted({*old, *new}):
        if path not in new:
            yield path, "is gone"
        elif path not in old:
            yield path, "was added"
        elif old[path] != new[path]:
            yield path, _difference(old[path], new[path])


def first_difference(recorded: str, present: str) -> str | None:
    """Where two records differ first, in words; None if they are the same."""
    if recorded == present:
        return None
    try:
        return next((f"{shown(path)} {how}" for path, how in differences(recorded, present)), None)
    except (ValueError, TypeError):
        return "what was recorded of it was changed, or is cut off"


def _difference(old: Item, new: Item) -> str:
    if old.kind != new.kind:
        return f"was a {old.kind}, and is a {new.kind}"
    if (old.size, old.text) != (new.size, new.text):
        return "has other contents" if old.kind == "file" else "leads elsewhere"
    names = ("mode", "uid", "gid", "mtime", "attributes")
    return f"has another {next(name for name in names if getattr(old, name) != getattr(new, name))}"
