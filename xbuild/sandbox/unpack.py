"""Runs inside: one step of bringing somebody else's tree into the store.

Started by `xbuild.roots.imported` as a script: `python -I -S unpack.py JOB`, JOB as JSON, in a sandbox that shows
nothing of the user's but the source. What a step found is the last line of its output, as JSON, behind `MARK`: a
report, or `error` with a message and, where the kernel gave one, `errno`. Standard library only.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import json
import lzma
import os
import re
import stat
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from xbuild.sandbox import untar as tar_

MARK = "xbuild-report:"
_CHUNK = 1 << 20
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError, UnicodeError)


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """The contents of the file `path`, decompressed if its first bytes say that it is compressed.

    Raises what the decompressors raise on damage, while it is read.
    """
    with Path(path).open("rb") as file:
        start = file.read(6)
        file.seek(0)
        if start.startswith(b"\x1f\x8b"):
            with gzip.open(file) as plain:
                yield cast("IO[bytes]", plain)
        elif start.startswith(b"BZh"):
            with bz2.open(file) as plain:
                yield cast("IO[bytes]", plain)
        elif start == b"\xfd7zXZ\0":
            with lzma.open(file) as plain:
                yield cast("IO[bytes]", plain)
        else:
            yield file


def peek(archive: str) -> dict[str, Any]:
    """The first 4 KiB of `archive`, decompressed, in hex."""
    with opened(archive) as stream:
        return {"start": stream.read(4096).hex()}


def inflate(archive: str, to: str) -> dict[str, Any]:
    """Write `archive`, decompressed, to the file `to`, with holes for zeros; give its size in bytes."""
    with opened(archive) as stream, Path(to).open("wb") as file:
        while chunk := stream.read(_CHUNK):
            if chunk.count(0) == len(chunk):
                file.seek(len(chunk), os.SEEK_CUR)
            else:
                file.write(chunk)
        file.truncate()
        return {"bytes": file.tell()}


def _change_root(into: str) -> None:
    # A codec would be looked for in the tree after the change of roots.
    "".encode("idna")
    os.chroot(into)
    os.chdir("/")


def untar(archive: str, into: str, *, layer: bool = False, nobody_is_root: bool = False) -> dict[str, Any]:
    """Unpack the tar file `archive`, compressed or not, into the directory `into`; give what is to be told.

    layer: names as in OCI layers take away what is there. nobody_is_root: files of nobody belong to an owner outside
    whom the user namespace does not know, and become root's.
    """
    with opened(archive) as stream:
        _change_root(into)
        return tar_.untar(stream, layer=layer, nobody_is_root=nobody_is_root)


def folders(into: str, commands: str) -> dict[str, Any]:
    """Write to `commands` the commands by which debugfs lists all directories of the tree `into`; give how many.

    Raises untar.Refused for names of several lines, which debugfs can neither be told nor tell.
    """
    names = []
    for folder, folders, files in os.walk(into):
        names.append(folder.removeprefix(into) or "/")
        if odd := next((name for name in (*folders, *files) if "\n" in name), None):
            raise tar_.Refused(f"the name {odd!r} has several lines")
    # A quote in a quoted word is written twice.
    text = "".join('ls -p "{}"\n'.format(name.replace('"', '""')) for name in names)
    Path(commands).write_text(text, errors="surrogateescape")
    return {"folders": len(names)}


def doubts(into: str, commands: str, listing: str, doubts: str, every: bool) -> dict[str, Any]:
    """Write to `doubts` commands that show the inodes whose files in `into` have another size than they should have.

    every: of all. commands, listing: as for `correct`. Raises untar.Damaged if one is missing.
    """
    found = set()
    for path, inode, mode, size in _entries(commands, listing):
        place = Path(into + path)
        if not stat.S_IFMT(mode) or (_kept(mode) and not os.path.lexists(place)):
            raise tar_.Damaged(f"{path} is listed and not there")
        if every or (stat.S_ISREG(mode) and place.lstat().st_size != size):
            found.add(inode)
        elif stat.S_ISLNK(mode) and len(os.fsencode(place.readlink())) != size:
            raise tar_.Damaged(f"the link {path} has another length than its inode says")
    Path(doubts).write_text("".join(f"stat <{inode}>\n" for inode in sorted(found)))
    return {"inodes": len(found)}


def correct(into: str, commands: str, listing: str, flags: str) -> dict[str, Any]:
    """Make the tree `into`, which debugfs has copied, what its file system was; give what is to be told.

    commands: from `folders`. listing: what debugfs said to them; flags: to those of `doubts`. Files of several names
    are copied several times; neither devices, pipes nor the set-user-id bit come over; and of a file that is kept in
    its inode all bytes that there is room for. Raises untar.Refused and Damaged for what debugfs cannot read.
    """
    report: dict[str, Any] = {"files": 0, "special": [], "set-id": []}
    first: dict[str, Path] = {}
    known = _flags(_text(flags))
    for path, inode, mode, size in _entries(commands, listing):
        report["files"] += 1
        place = Path(into + path)
        if known.get(inode, 0) & _ENCRYPTED:
            raise tar_.Refused(f"{path} is encrypted")
        if stat.S_ISFIFO(mode):
            place.unlink(missing_ok=True)
            os.mkfifo(place)
            place.chmod(mode & 0o777)
        elif not _kept(mode):
            report["special"].append(path)
            place.unlink(missing_ok=True)
        elif stat.S_ISREG(mode):
            _resize(place, path, size, inline=bool(known.get(inode, 0) & _INLINE))
            if mode & 0o6000:
                report["set-id"].append(path)
                place.chmod(mode & 0o1777)
            if inode in first:
                place.unlink()
                os.link(first[inode], place, follow_symlinks=False)
            else:
                first[inode] = place
    return report


def _kept(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)


_ENCRYPTED, _INLINE = 0x800, 0x10000000
"""Flags of an inode: its contents are encrypted; they are kept in it (kernel documentation, ext4/inodes.rst)."""


def _flags(text: str) -> dict[str, int]:
    """The flags by inode, from what debugfs says to `stat`."""
    found = re.findall(r"^Inode: (\d+) .*\bFlags: (0x[0-9a-f]+)$", text, re.MULTILINE)
    return {inode: int(flags, 16) for inode, flags in found}


def _resize(place: Path, path: str, size: int, *, inline: bool) -> None:
    """Give the file its inode's size; behind what an inode holds Linux reads zeros."""
    status = place.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise tar_.Damaged(f"{path} is listed as a file and is none")
    if status.st_size == size:
        return
    if not inline:
        raise tar_.Damaged(f"{path} has {status.st_size} bytes, and its inode says {size}")
    os.truncate(place, size)
    os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))


def _text(path: str) -> str:
    return Path(path).read_text(errors="surrogateescape")


def _entries(commands: str, listing: str) -> Iterator[tuple[str, str, int, int]]:
    """Path, inode, mode and size of each entry: /INODE/MODE/UID/GID/NAME/SIZE/ (debugfs(8), `ls -p`).

    The size of a directory is not told, and 0 here.
    """
    names = [line[7:-1].replace('""', '"') for line in _text(commands).split("\n")[:-1]]
    number = -1
    for line in _text(listing).split("\n"):
        if line.startswith("debugfs: ls -p "):
            number += 1
            continue
        fields = line.split("/")
        # Free places of a directory have the inode 0.
        if len(fields) == 8 and number < len(names) and fields[1] != "0" and fields[5] not in (".", ".."):
            path = f"{names[number].rstrip('/')}/{fields[5]}"
            yield path, fields[1], int(fields[2], 8), int(fields[6] or 0)


_FOLDERS = {"proc": 0o555, "sys": 0o555, "dev": 0o755, "tmp": 0o1777, "var": 0o755, "var/tmp": 0o1777, "run": 0o755}
"""Mount points of a sandbox; a root from a container or made by hand may lack them."""


def prepare(root: str, places: list[str], user: int, home: str, services: bool) -> dict[str, Any]:
    """Make what a sandbox needs in the root `root`: mount points, the builder, a host name.

    places: further directories. user: uid and gid of the builder; home: his. services: Debian's way to say that none
    may start. Raises untar.Refused if a mount point is something else.
    """
    _change_root(root)
    Path("/").chmod(0o755)
    os.chown("/", 0, 0)
    for name, mode in (*_FOLDERS.items(), *((place.lstrip("/"), 0o755) for place in places)):
        folder = Path(name)
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise tar_.Refused(f"/{name} is no directory in it, but a link or a file")
        if not folder.is_dir():
            folder.mkdir()
            folder.chmod(mode)
    Path("etc").mkdir(exist_ok=True)
    for name, line in (("passwd", f"builder:x:{user}:{user}::{home}:/bin/sh"), ("group", f"builder:x:{user}:")):
        _add_line(f"etc/{name}", line, str(user))
    Path("etc/hostname").unlink(missing_ok=True)
    Path("etc/hostname").write_text("xbuild\n")
    for name in _LINKED:
        _lead_inside(Path(name))
    policy = Path("usr/sbin/policy-rc.d")
    if services and policy.parent.is_dir():
        policy.unlink(missing_ok=True)
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    return {}


_LINKED = ("usr/bin", "usr/lib", "usr/sbin")
"""May be links in a root: Arch and Fedora have `usr/sbin -> bin`, small ones `usr/bin -> /bin`."""


def _lead_inside(place: Path) -> None:
    """Let the link `place` lead from outside, too, to the directory that it means in this root."""
    real = os.path.realpath(place)
    if place.is_symlink() and Path(real).is_dir() and not place.parent.is_symlink():
        link = os.path.relpath(real, place.parent.absolute())
        place.unlink()
        place.symlink_to(link)


def _add_line(name: str, line: str, number: str) -> None:
    path = Path(name)
    old = path.read_text(errors="surrogateescape") if path.is_file() else ""
    if not any(known.split(":")[2:3] == [number] for known in old.splitlines()):
        joined = old + ("" if not old or old.endswith("\n") else "\n") + line + "\n"
        path.unlink(missing_ok=True)
        path.write_text(joined, errors="surrogateescape")
        path.chmod(0o644)


_JOBS = {
    "peek": peek,
    "inflate": inflate,
    "untar": untar,
    "folders": folders,
    "doubts": doubts,
    "correct": correct,
    "prepare": prepare,
}


def main() -> None:
    """The script: one job."""
    job = json.loads(sys.argv[1])
    work = cast("Any", _JOBS[job.pop("do")])
    os.umask(0o022)
    try:
        report = work(**job)
    except tar_.Refused as error:
        report = {"error": "refused", "message": str(error)}
    except OSError as error:
        # gzip and bz2 tell damage by an OSError without a number.
        kind = "os" if error.errno else "damaged"
        report = {"error": kind, "errno": error.errno or errno.EIO, "message": str(error)}
    except (tar_.Damaged, *_DAMAGE) as error:
        report = {"error": "damaged", "message": str(error) or type(error).__name__}
    # In ASCII: names may be no text.
    with os.fdopen(os.dup(1), "wb") as output:
        output.write(f"\n{MARK}{json.dumps(report)}\n".encode())


if __name__ == "__main__":
    main()
