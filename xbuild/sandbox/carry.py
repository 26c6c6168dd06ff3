"""Runs inside: records what is in entries of a store, packs them into an archive, and unpacks such an archive.

Started by `xbuild.store.carry` as a script, `python -I -S carry.py JOB`: a file with the job as JSON, which names the
file for the report. Standard library only. The archive is a tar file in POSIX's format: a member `HEAD`, then for each
entry its names, and what `contents` records of them. The same entries give the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, cast

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from xbuild.base.digest import CONTENTS, key_of
from xbuild.base.walk import Visit, shown
from xbuild.sandbox import contents
from xbuild.sandbox.contents import Item, Owners
from xbuild.sandbox.unwrap import HEAD, LISTED, SKIPPED, Damaged, Head, Refused, Unwrapper, attribute_key

_CHUNK: Final = 1 << 20
_BLOCK: Final = 512
"""Of a tar file; its end is two blocks of zeros (tar(5))."""
_TYPES = {
    "file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE, "whiteout": tarfile.CHRTYPE,
}  # fmt: skip


def record(trees: Sequence[tuple[str, str]], owners: Owners) -> dict[str, Any]:
    """Write what is in each of `trees`, (directory, file to write); give what could not be read, by directory."""
    faults = {}
    for tree, file in trees:
        try:
            text = contents.recorded(Path(tree), owners, SKIPPED)
        except OSError as error:
            faults[tree] = f"{shown(os.fsdecode(error.filename or ''))}: {error.strerror}".removeprefix(": ")
            continue
        Path(file).write_text(text)
    return {"faults": faults}


class _Packer:
    """Writes members. output: where to."""

    def __init__(self, output: IO[bytes], owners: Owners) -> None:
        self._output = output
        self._owners = owners

    def member(self, name: str, text: str) -> None:
        """A file of the archive's own."""
        data = text.encode()
        self._header(Item(name, "file", 0o644, 0, 0, 0, len(data), "", {}), "")
        self._output.write(data + b"\0" * (-len(data) % _BLOCK))

    def entry(self, name: str, tree: Path) -> str:
        """All that is in an entry; gives the sha256 of what is recorded of it. Raises Damaged, Refused or OSError."""
        packed = []
        for item, visit in contents.items(tree, self._owners, SKIPPED):
            _require_packable(name, item)
            self._header(item, f"{name}/")
            packed.append(item._replace(text=self._copy(item, visit)) if item.kind == "file" else item)
        text = contents.text_of(packed)
        file = tree / CONTENTS
        if file.exists() and (fault := contents.first_difference(file.read_text(), text)):
            raise Damaged(f"{name} is not as it was made: {fault}")
        self.member(f"{name}{LISTED}", text)
        return hashlib.sha256(text.encode()).hexdigest()

    def _header(self, item: Item, prefix: str) -> None:
        info = tarfile.TarInfo(f"{prefix}{item.path}")
        info.type = _TYPES[item.kind]
        info.mode, info.uid, info.gid, info.size = item.mode, item.uid, item.gid, item.size
        if item.kind in ("link", "hard link"):
            info.linkname = item.text if item.kind == "link" else f"{prefix}{item.text}"
        # Here it is exact; a number in the old field would be rounded, by each Python in its own way.
        info.mtime = 0
        seconds, rest = divmod(abs(item.mtime), 10**9)
        values = {"mtime": f"{'-' if item.mtime < 0 else ''}{seconds}.{rest:09}"} if item.mtime else {}
        for name, value in item.attributes.items():
            values[attribute_key(name)] = os.fsdecode(bytes.fromhex(value))
        info.pax_headers = values
        self._output.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _copy(self, item: Item, visit: Visit) -> str:
        digest = hashlib.sha256()
        left = item.size
        with visit.open() as stream:
            while left:
                chunk = stream.read(min(left, _CHUNK))
                if not chunk:
                    raise OSError(errno.ESTALE, "it changes while it is read", item.path)
                digest.update(chunk)
                self._output.write(chunk)
                left -= len(chunk)
            visit.require_same(stream)
        self._output.write(b"\0" * (-item.size % _BLOCK))
        return digest.hexdigest()


def _require_packable(name: str, item: Item) -> None:
    if item.kind == "other":
        raise Refused(f"{name}/{shown(item.path)} is a device or a socket, which does not travel")
    if any(attribute.startswith(contents.LISTS) for attribute in item.attributes):
        raise Refused(f"{name}/{shown(item.path)} has an access control list, which does not travel")


def pack(entries: Sequence[Mapping[str, Any]], layout: int, owners: Owners) -> dict[str, Any]:
    """Write the archive of `entries` (kind, key, value, path) to stdout; give the digest of each."""
    told = [{name: entry[name] for name in ("kind", "key", "value")} for entry in entries]
    with os.fdopen(os.dup(1), "wb", buffering=_CHUNK) as output:
        packer = _Packer(output, owners)
        packer.member(HEAD, Head.text(layout, told))
        digests = [packer.entry(Head.name(entry), Path(entry["path"])) for entry in entries]
        output.write(b"\0" * 2 * _BLOCK)
    return {"digests": digests}


def unpack(
    stream: IO[bytes], into: str, layout: int, kinds: Sequence[str], present: Sequence[str], owners: Owners
) -> dict[str, Any]:
    """Unpack an archive into the directory `into`, each entry as KIND/NAME; give those that it tells of.

    present: entries, as KIND/NAME, that are passed over. What is made is held against the archive's own record of it.
    Raises Refused, Damaged, OSError, or what Python raises for an archive that nobody has made for it.
    """
    with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
        unwrapper = Unwrapper(tar, Path(into), owners, frozenset(present))
        entries = unwrapper.run(layout, kinds)
    while stream.read(_CHUNK):
        pass
    for entry in entries:
        if key_of(entry["value"]) != entry["key"]:
            raise Damaged(f"{Head.name(entry)} does not have the key of what it is said to be made from")
    for name, text in unwrapper.listed.items():
        tree = Path(into) / name
        if fault := contents.first_difference(text, contents.recorded(tree, owners, SKIPPED)):
            raise Damaged(f"{name}: {fault}")
        (tree / CONTENTS).write_text(text)
    return {"entries": entries}


def _unpack_stdin(**words: Any) -> dict[str, Any]:
    with os.fdopen(os.dup(0), "rb", buffering=_CHUNK) as stream:
        return unpack(stream, **words)


_JOBS = {"record": record, "pack": pack, "unpack": _unpack_stdin}
_FAULTS = (tarfile.TarError, EOFError, ValueError, OverflowError, TypeError, KeyError, RecursionError, MemoryError)


def attempted(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The report of `work`, or of what was in its way: `error` (refused, damaged, os), `message`, `errno`, `where`."""
    try:
        return work()
    except Refused as error:
        return {"error": "refused", "message": str(error)}
    except OSError as error:
        where = shown(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else ""
        message = error.strerror or str(error)
        return {"error": "os", "errno": error.errno or errno.EIO, "message": message, "where": where}
    except Damaged as error:
        return {"error": "damaged", "message": str(error)}
    except _FAULTS as error:
        return {"error": "damaged", "message": f"{type(error).__name__}: {shown(str(error))}"}


def main() -> None:
    """The script: one job."""
    job = json.loads(Path(sys.argv[1]).read_text())
    work, place = cast("Any", _JOBS[job.pop("do")]), Path(job.pop("report"))
    root, caller = (tuple(ids) for ids in job.pop("owners"))
    os.umask(0o022)
    place.write_text(json.dumps(attempted(lambda: work(**job, owners=Owners(root, caller)))))


if __name__ == "__main__":
    main()
