"""Runs inside a sandbox, as root of it: lists the files of a build tree with their digests. Standard library only.

    python scan.py OUTPUT TREE [SKIPPED ...]

OUTPUT gets a JSON list of [path, kind, size, sha256] for the regular files below TREE; kind is elf, archive or other.
SKIPPED: names directly below TREE.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Collection
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from xbuild.base.walk import Visit, walk

_ELF = b"\x7fELF"
_ARCHIVES = (b"!<arch>\n", b"!<thin>\n")
"""First bytes of `.a` files, whole and thin (ar(5))."""

Row = tuple[str, str, int, str]


def rows(tree: str, skipped: Collection[str] = ()) -> list[Row]:
    """Path relative to `tree`, kind, size in bytes and sha256 in hex of each regular file; links are not followed.

    Raises OSError for what cannot be read.
    """
    visits = walk(Path(tree), skipped=[os.fsencode(name) for name in skipped])
    found = [(os.fsdecode(visit.node.path), *_examined(visit)) for visit in visits if visit.node.kind == stat.S_IFREG]
    return sorted(found)


def _examined(visit: Visit) -> tuple[str, int, str]:
    with visit.open() as stream:
        start = stream.read(8)
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        size = stream.tell()
    kind = "elf" if start.startswith(_ELF) else "archive" if start in _ARCHIVES else "other"
    return kind, size, digest


if __name__ == "__main__":
    with open(sys.argv[1], "w") as output:  # noqa: PTH123
        json.dump(rows(sys.argv[2], sys.argv[3:]), output)
