"""Runs inside: a tar archive becomes a tree. Part of unpack.py; standard library only.

Whoever calls has changed the root of the process into the tree: links and `..` lead where they would lead on the
target, and nowhere else.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import stat
import tarfile
from pathlib import Path
from typing import IO, Any, cast

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
"""The OCI image specification, "Representing Changes", https://github.com/opencontainers/image-spec/blob/main/layer.md"""
_IDS = 65536
_BLOCK = 512
"""Of a tar file (tar(5)); its end is two blocks of zeros."""
_CHUNK = 1 << 20
_GNU_MAGIC = b"ustar  \0"
_DUMPED, _VOLUME, _CONTINUED = b"D", b"V", b"M"
"""Types of GNU tar (tar(5)): a directory with the names in it, an archive's label, the rest of a file."""
_ATTRIBUTE = re.compile(r"(SCHILY|LIBARCHIVE)\.(xattr\.(security\.capability|user\.)|acl\.)")
"""What pax archives call extended attributes and access control lists of files (tar(5))."""


class Refused(Exception):
    """The source holds what no honest one holds."""


class Damaged(Exception):
    """The source is cut off or corrupt."""


class _Ended(io.RawIOBase):
    """A stream that remembers its last block, and whether there was anything."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b""

    def readable(self) -> bool:
        """For io: it is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, fewer only at the end."""
        data = self._stream.read(size)
        self.last = (self.last + data)[-_BLOCK:]
        return data


class _Member(tarfile.TarInfo):
    """A member as GNU tar means it: in its format, times stand where others have the beginning of the name."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        """As tarfile; a sparse file's map, in the same place, is left alone."""
        member = super().frombuf(buf, encoding, errors)
        if buf[257:265] == _GNU_MAGIC and member.type not in tarfile.GNU_TYPES:
            member.name = buf[:100].partition(b"\0")[0].decode(encoding, errors)
        return member

    def isdir(self) -> bool:
        """Also a directory of an incremental archive, whose contents tarfile skips."""
        return self.type in (tarfile.DIRTYPE, _DUMPED)


class Tree:
    """The tree in which names are written; the process has changed its root into it."""

    def __init__(self, *, layer: bool, nobody_is_root: bool = False) -> None:
        self._layer = layer
        self._nobody_is_root = nobody_is_root
        self._made: set[str] = set()
        self._times: dict[str, float] = {}
        self.report: dict[str, Any] = {
            "files": 0, "absolute": [], "special": [], "set-id": [], "other-ids": [], "attributes": [],
        }  # fmt: skip

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """One member, in the archive's order."""
        path = self._path(member.name)
        if path is None:
            if member.isdir():
                self._times["/"] = member.mtime
            return
        folder, _, name = path.rpartition("/")
        if self._layer and name.startswith(_WHITEOUT):
            self._white_out(folder or "/", name)
            return
        if member.type == _CONTINUED:
            raise Damaged(f"it begins within {member.name!r}: one volume of several")
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk() or member.isfifo()):
            if member.type != _VOLUME:
                self._note("special", path)
            return
        self._parents(folder)
        if member.isdir():
            self._directory(path)
        elif member.issym():
            self._remove(path)
            Path(path).symlink_to(member.linkname)
        elif member.islnk():
            self._hard_link(member, path)
        elif member.isfifo():
            self._remove(path)
            os.mkfifo(path)
        else:
            self._file(tar, member, path)
        self._made.add(path)
        if not member.islnk():
            self._describe(member, path)
            # Labels of a security module say nothing elsewhere.
            if any(_ATTRIBUTE.match(key) for key in member.pax_headers):
                self._note("attributes", path)
        self.report["files"] += 1

    def finish(self) -> None:
        """Do what later members would have undone."""
        for path, mtime in sorted(self._times.items(), reverse=True):
            with contextlib.suppress(OSError, OverflowError):
                os.utime(path, (mtime, mtime), follow_symlinks=False)

    def _note(self, what: str, path: str) -> None:
        self.report[what].append(path)

    def _path(self, name: str) -> str | None:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise Refused(f"the member {name!r} leads upwards")
        if name.startswith("/"):
            self._note("absolute", name)
        return "/" + "/".join(parts) if parts else None

    def _parents(self, folder: str) -> None:
        # mkdir follows a link to a directory, as a later layer's lib/x after lib -> usr/lib wants.
        if folder and not Path(folder).is_dir():
            try:
                Path(folder).mkdir(parents=True)
            except FileExistsError as error:
                raise Refused(f"{folder!r} is no directory, and members lie in it") from error

    def _remove(self, path: str) -> None:
        try:
            Path(path).unlink()
        except FileNotFoundError:
            return
        except IsADirectoryError:
            shutil.rmtree(path)

    def _directory(self, path: str) -> None:
        if Path(path).is_symlink() or not Path(path).is_dir():
            self._remove(path)
            Path(path).mkdir()

    def _hard_link(self, member: tarfile.TarInfo, path: str) -> None:
        target = self._path(member.linkname)
        if target == path:
            return
        if target is None or not os.path.lexists(target) or stat.S_ISDIR(os.lstat(target).st_mode):
            raise Refused(f"{member.name!r} is a hard link to {member.linkname!r}, which is no file of the archive")
        self._remove(path)
        os.link(target, path, follow_symlinks=False)

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        self._remove(path)
        contents = tar.extractfile(member)
        assert contents is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with contents, os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            shutil.copyfileobj(contents, file, _CHUNK)
            if file.tell() != member.size:
                raise Damaged(f"it ends within {member.name!r}")

    def _describe(self, member: tarfile.TarInfo, path: str) -> None:
        uid, gid = (0 if self._nobody_is_root and number == _IDS - 2 else number for number in (member.uid, member.gid))
        if not (0 <= uid < _IDS and 0 <= gid < _IDS):
            self._note("other-ids", path)
            uid, gid = 0, 0
        os.chown(path, uid, gid, follow_symlinks=False)
        if not member.issym():
            mode = member.mode & 0o7777
            if not member.isdir() and mode & 0o6000:
                # On the machine the owner is the caller or a user of his: nobody else may become one of them.
                self._note("set-id", path)
                mode &= 0o1777
            Path(path).chmod(mode)
        if member.isdir():
            self._times[path] = member.mtime
            return
        with contextlib.suppress(OSError, OverflowError):
            os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)

    def _white_out(self, folder: str, name: str) -> None:
        if name == _OPAQUE:
            # What this layer itself brings stays: the mark may come after it.
            for entry in list(Path(folder).iterdir()) if Path(folder).is_dir() else ():
                self._forget(str(entry))
            return
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise Refused(f"{folder}/{name} is no whiteout")
        # A parent may be missing: then there is nothing to hide.
        with contextlib.suppress(NotADirectoryError):
            self._remove(f"{folder.rstrip('/')}/{hidden}")

    def _forget(self, path: str) -> None:
        """Remove what lower layers have at and below `path`."""
        if path not in self._made and not any(made.startswith(path + "/") for made in self._made):
            self._remove(path)
        elif Path(path).is_dir() and not Path(path).is_symlink():
            for entry in list(Path(path).iterdir()):
                self._forget(str(entry))


def untar(stream: IO[bytes], *, layer: bool, nobody_is_root: bool) -> dict[str, Any]:
    """Unpack the tar archive in `stream` into the present root; give what is to be told. See unpack.py."""
    ended = _Ended(stream)
    names = Tree(layer=layer, nobody_is_root=nobody_is_root)
    with tarfile.open(fileobj=cast("IO[bytes]", ended), mode="r|", tarinfo=_Member) as tar:
        for member in tar:
            names.add(tar, member)
            # tarfile keeps all members otherwise.
            tar.members = []  # type: ignore[attr-defined]
    while ended.read(_CHUNK):
        pass
    if ended.last.count(0) != _BLOCK:
        raise Damaged("it ends before its end mark")
    names.finish()
    return names.report
