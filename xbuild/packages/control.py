"""Files of debian/ of a source package, read from its archives without unpacking them."""

from __future__ import annotations

import gzip
import lzma
import re
import tarfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

_MOST = 8 << 20
"""Bytes of one such file; linux's debian/control has 2 MB."""
_PATH = re.compile(r"(?:\./)?(?:[^/]+/)?debian/([^/]+)")
_DAMAGE = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError)


def debian_files(files: Mapping[str, Path], wanted: Collection[str] = ("control", "changelog")) -> dict[str, str]:
    """Those of debian/ that are `wanted`, from the files of a source package by name; what cannot be found is left out.

    Whether they are damaged is for dpkg-source to say.
    """
    found: dict[str, str] = {}
    try:
        for name, file in files.items():
            if name.endswith(".diff.gz"):
                found |= _of_diff(file, wanted)
        for file in _tars(files):
            if set(wanted) <= found.keys():
                break
            found = {**_of_tar(file, set(wanted) - found.keys()), **found}
    except _DAMAGE:
        pass
    return found


def _tars(files: Mapping[str, Path]) -> list[Path]:
    """Those with debian/ first."""
    ordered = sorted(files, key=lambda name: (".debian.tar." not in name, ".orig" in name, name))
    return [files[name] for name in ordered if ".tar." in name and not name.endswith(".asc")]


def _of_tar(file: Path, wanted: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    with tarfile.open(file, "r:*") as tar:
        for member in tar:
            match = _PATH.fullmatch(member.name)
            if match is None or match[1] not in wanted or not member.isreg() or member.size > _MOST:
                continue
            stream = tar.extractfile(member)
            found[match[1]] = stream.read().decode(errors="replace") if stream else ""
            if found.keys() == wanted:
                break
    return found


def _of_diff(file: Path, wanted: Collection[str]) -> dict[str, str]:
    """What a diff adds (diff -u, of dpkg-source's format 1.0), as far as it is all of a file."""
    found: dict[str, str] = {}
    name = ""
    with gzip.open(file, "rt", errors="replace") as stream:
        for line in stream:
            if line.startswith("+++ "):
                match = _PATH.fullmatch(line[4:].split("\t")[0].strip())
                name = match[1] if match and match[1] in wanted else ""
                found |= {name: ""} if name else {}
            elif line.startswith("--- "):
                name = ""
            elif name and line.startswith("+"):
                found[name] += line[1:]
            elif name and line.startswith(("-", " ")):
                # It changes one that is there.
                del found[name]
                name = ""
    return found
