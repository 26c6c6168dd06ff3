"""Runs inside a sandbox, as root of it: lists the files of a build tree with their digests. Standard library only.

    python scan.py OUTPUT TREE [SKIPPED ...]

OUTPUT gets a JSON list of [path, kind, size, sha256] for the regular files below TREE; kind is elf, archive or other.
SKIPPED: names directly below TREE.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterator

_ELF = b"\x7fELF"
_ARCHIVES = (b"!<arch>\n", b"!<thin>\n")
"""First bytes of `.a` files, whole and thin (ar(5))."""

Row = tuple[str, str, int, str]


def rows(tree: str, skipped: Collection[str] = ()) -> list[Row]:
    """Path relative to `tree`, kind, size in bytes and sha256 in hex of each regular file; links are not followed.

    Raises OSError for what cannot be read.
    """
    found = [(os.path.relpath(path, tree), *_examined(path)) for path in _files(tree, skipped)]
    return sorted(found)


def _files(directory: str, skipped: Collection[str]) -> Iterator[str]:
    # Not os.walk: it leaves out directories that it cannot read without a word.
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name in skipped:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path, ())
            elif entry.is_file(follow_symlinks=False):
                yield entry.path


def _examined(path: str) -> tuple[str, int, str]:
    with open(path, "rb") as stream:  # noqa: PTH123
        start = stream.read(8)
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
    kind = "elf" if start.startswith(_ELF) else "archive" if start in _ARCHIVES else "other"
    return kind, size, digest


if __name__ == "__main__":
    with open(sys.argv[1], "w") as output:  # noqa: PTH123
        json.dump(rows(sys.argv[2], sys.argv[3:]), output)
