"""Runs inside: the members of an archive of entries become trees. Part of carry.py; standard library only.

Nothing in the archive is trusted: a name is only ever made in a directory that was made here just before, by its
descriptor, and never over another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xbuild.base.digest import CONTENTS
from xbuild.base.walk import shown
from xbuild.sandbox.contents import CAPABILITY, Owners
from xbuild.sandbox.idmap import IDS

HEAD: Final = "xbuild-entries.json"
LISTED: Final = ".contents"
"""Behind an entry's name: the archive's member that records what is in it."""
SKIPPED: Final = frozenset({b"key.json", CONTENTS.encode(), b"log"})
"""What of an entry is not recorded, nor carried: what the store itself writes; and the log of its making, which names
paths of this machine."""

_FORMAT: Final = 1
_NAME_DIGITS: Final = 20
"""As in the store."""
_LARGEST_HEAD: Final = 64 << 20
_LARGEST_LIST: Final = 1 << 30
_HOLE: Final = 1 << 16
"""Bytes: a file's zeros of that length become a hole."""
_ATTRIBUTE: Final = "SCHILY.xattr."
"""As star, GNU tar and bsdtar name extended attributes (tar(5))."""


class Refused(Exception):
    """It is whole, but nothing for here."""


class Damaged(Exception):
    """It is not what was packed, or not by us."""


class Head:
    """What an archive says first: which entries it has."""

    @staticmethod
    def name(entry: Mapping[str, Any]) -> str:
        """KIND/NAME, as in the store."""
        return f"{entry['kind']}/{entry['key'][:_NAME_DIGITS]}"

    @staticmethod
    def text(layout: int, entries: Sequence[Mapping[str, Any]]) -> str:
        """The head as text."""
        told = {"format": _FORMAT, "layout": layout, "entries": entries}
        return json.dumps(told, sort_keys=True, separators=(",", ":")) + "\n"

    @staticmethod
    def parsed(text: bytes, layout: int, kinds: Sequence[str]) -> list[dict[str, Any]]:
        """The entries. Raises Refused for those of another xbuild, Damaged for what none has written."""
        told = json.loads(text)
        if not isinstance(told, dict) or set(told) != {"format", "layout", "entries"}:
            raise Damaged("its first member is not one of xbuild's")
        if told["format"] != _FORMAT:
            raise Refused(f"it is of format {told['format']}, this xbuild reads {_FORMAT}")
        if told["layout"] != layout:
            raise Refused(f"its entries have layout {told['layout']}, those of this xbuild {layout}")
        entries = told["entries"]
        for entry in entries:
            if set(entry) != {"kind", "key", "value"} or not re.fullmatch("[0-9a-f]{64}", entry["key"]):
                raise Damaged("its first member is not one of xbuild's")
            if entry["kind"] not in kinds:
                raise Refused(f"it has an entry of the kind {shown(str(entry['kind']))}, of which none travel to here")
        if len({Head.name(entry) for entry in entries}) != len(entries):
            raise Damaged("it has an entry twice")
        return list(entries)


def attribute_key(name: str) -> str:
    """What an extended attribute is called in a tar file; `=` ends a name there."""
    return _ATTRIBUTE + name.replace("%", "%25").replace("=", "%3D")


def _attributes(member: tarfile.TarInfo) -> dict[str, bytes]:
    found = {}
    for key, value in member.pax_headers.items():
        if key.startswith(_ATTRIBUTE):
            name = key.removeprefix(_ATTRIBUTE).replace("%3D", "=").replace("%25", "%")
            if name != CAPABILITY and not name.startswith("user."):
                raise Damaged(f"{shown(member.name)} has the attribute {shown(name)}")
            found[name] = os.fsencode(value)
    return found


def _nanoseconds(member: tarfile.TarInfo) -> int:
    text = member.pax_headers.get("mtime", "0.0")
    if not re.fullmatch(r"-?\d+\.\d{1,9}", text, re.ASCII):
        raise Damaged(f"{shown(member.name)} has the time {shown(text)}")
    seconds, _, rest = text.partition(".")
    amount = abs(int(seconds)) * 10**9 + int(rest.ljust(9, "0"))
    return -amount if text.startswith("-") else amount


@dataclass
class _Level:
    """A directory that is being filled. member: what it becomes in the end; none for an entry's own."""

    path: str
    folder: int
    member: tarfile.TarInfo | None


class Tree:
    """An entry that is being made in the new directory `top`."""

    def __init__(self, top: Path, owners: Owners) -> None:
        # Not what is above: where that is gone, nobody waits for the entry any more.
        top.parent.mkdir(exist_ok=True)
        top.mkdir()
        self._top = top
        self._owners = owners
        self._levels = [_Level("", os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), None)]
        self._files: set[str] = set()

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        """One member; path: its name in the entry. Raises Damaged for what no entry holds, OSError."""
        if not path or {"", ".", ".."} & set(path.split("/")) or os.fsencode(path) in SKIPPED:
            raise Damaged(f"the name {shown(member.name)}")
        if not (0 <= member.uid <= IDS and 0 <= member.gid <= IDS):
            raise Damaged(f"{shown(member.name)} has the owner {member.uid}:{member.gid}")
        if member.uid == IDS and not member.isdir() and member.mode & 0o6000:
            raise Damaged(f"{shown(member.name)} would give others the rights of whoever unpacks it")
        folder, _, name = path.rpartition("/")
        while self._levels[-1].path != folder:
            if len(self._levels) == 1:
                raise Damaged(f"{shown(member.name)} is in no directory that came before it")
            self._leave()
        self._make(tar, member, path, name)

    def _make(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, name: str) -> None:
        folder = self._levels[-1].folder
        if member.type == tarfile.REGTYPE and member.sparse is None:
            self._file(tar, member, name)
            self._files.add(path)
        elif member.isdir():
            os.mkdir(name, 0o700, dir_fd=folder)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            self._levels.append(_Level(path, below, member))
        elif member.islnk():
            self._hard_link(member, path, name)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=folder)
            self._own(member, name)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=folder)
            self._own(member, name)
        elif member.ischr() and (member.devmajor, member.devminor) == (0, 0):
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=folder)
            self._own(member, name)
        else:
            raise Damaged(f"{shown(member.name)} is a device, or of a kind that no entry has")

    def _hard_link(self, member: tarfile.TarInfo, path: str, name: str) -> None:
        # The entry's own name stands before both.
        target = member.linkname.removeprefix(member.name.removesuffix(path))
        if target not in self._files:
            raise Damaged(f"{shown(member.name)} is one file with {shown(member.linkname)}, which is none before it")
        # Each directory on the way was made here, and none was replaced: no link can lead elsewhere.
        os.link(self._top / target, name, dst_dir_fd=self._levels[-1].folder, follow_symlinks=False)

    def _own(self, member: tarfile.TarInfo, name: str) -> None:
        folder = self._levels[-1].folder
        os.chown(name, *self._owners.seen(member.uid, member.gid), dir_fd=folder, follow_symlinks=False)
        if not member.issym():
            # It is no link, and was made here.
            os.chmod(name, member.mode & 0o7777, dir_fd=folder)
        when = _nanoseconds(member)
        os.utime(name, ns=(when, when), dir_fd=folder, follow_symlinks=False)

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        contents = tar.extractfile(member)
        assert contents is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self._levels[-1].folder)
        with contents, os.fdopen(descriptor, "wb", buffering=0) as file:
            while chunk := contents.read(_HOLE):
                if chunk.count(0) == len(chunk):
                    file.seek(len(chunk), os.SEEK_CUR)
                    continue
                while chunk:
                    chunk = chunk[file.write(chunk) :]
            file.truncate()
            if file.tell() != member.size:
                raise Damaged(f"it ends within {shown(member.name)}")
            self._describe(member, descriptor)

    def _describe(self, member: tarfile.TarInfo, descriptor: int) -> None:
        # In this order: a new owner takes away set-user-id bits and capabilities.
        os.fchown(descriptor, *self._owners.seen(member.uid, member.gid))
        for name, value in _attributes(member).items():
            os.setxattr(descriptor, name, self._owners.capability_seen(value) if name == CAPABILITY else value)
        os.fchmod(descriptor, member.mode & 0o7777)
        when = _nanoseconds(member)
        os.utime(descriptor, ns=(when, when))

    def _leave(self) -> None:
        level = self._levels.pop()
        try:
            if level.member is not None:
                self._describe(level.member, level.folder)
        finally:
            os.close(level.folder)

    def finish(self) -> None:
        """Give directories what they are to have in the end."""
        while self._levels:
            self._leave()

    def close(self) -> None:
        """Leave it as it is."""
        for level in self._levels:
            with contextlib.suppress(OSError):
                os.close(level.folder)


class Unwrapper:
    """Reads the members of `tar` and makes the entries below `into`, but for those of `present`.

    listed: the record of each that was made, by its name.
    """

    def __init__(self, tar: tarfile.TarFile, into: Path, owners: Owners, present: Collection[str]) -> None:
        self._tar = tar
        self._into = into
        self._owners = owners
        self._present = present
        self.listed: dict[str, str] = {}

    def run(self, layout: int, kinds: Sequence[str]) -> list[dict[str, Any]]:
        """Do it; gives the entries that the archive tells of. Raises Refused, Damaged or OSError."""
        first = self._tar.next()
        if first is None or first.name != HEAD:
            raise Damaged("it has no entries of xbuild's")
        entries = Head.parsed(self._own_text(first, _LARGEST_HEAD), layout, kinds)
        for entry in entries:
            self._entry(Head.name(entry))
        if (more := self._tar.next()) is not None:
            raise Damaged(f"it has a member more: {shown(more.name)}")
        return entries

    def _entry(self, name: str) -> None:
        tree = None if name in self._present else Tree(self._into / name, self._owners)
        try:
            while (member := self._tar.next()) is not None:
                # tarfile keeps all members otherwise.
                self._tar.members = []  # type: ignore[attr-defined]
                if member.name == f"{name}{LISTED}":
                    text = self._own_text(member, _LARGEST_LIST)
                    if tree:
                        tree.finish()
                        self.listed[name] = text.decode()
                    return
                if not member.name.startswith(f"{name}/"):
                    raise Damaged(f"the name {shown(member.name)}, which is not in {name}")
                if tree:
                    tree.add(self._tar, member, member.name.removeprefix(f"{name}/"))
            raise Damaged(f"it ends within {name}")
        finally:
            if tree:
                tree.close()

    def _own_text(self, member: tarfile.TarInfo, largest: int) -> bytes:
        stream = self._tar.extractfile(member) if member.isreg() and member.size <= largest else None
        if stream is None:
            raise Damaged(f"its member {shown(member.name)} is no text")
        data = stream.read()
        if len(data) != member.size:
            raise Damaged(f"it ends within {shown(member.name)}")
        return data
