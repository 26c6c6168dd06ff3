"""What a parcel says: JSON of some kilobytes. Everything larger is a blob, named by its sha256."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from xbuild.base.digest import canonical_json, read_json
from xbuild.base.errors import MachineError, UsageError
from xbuild.build.request import Request
from xbuild.build.wire import as_json, from_json
from xbuild.model.base import NAME
from xbuild.model.load import SUFFIX
from xbuild.store.shared.records import Blob

SCHEMA = 1
"""Of what is below. Raise it when an older xbuild would take a parcel for another one than it is."""

TREES, FILES, TOOLCHAINS, REPOSITORIES = "trees", "files", "toolchains", "repositories"
"""Where in a place its directories, its single files, the targets of the project and packages of the user's own lie;
recipes lie at its top."""

MOST_WORDS = 16 << 20
"""Bytes of the JSON of a parcel; each recipe, patch or source has some 200."""
MOST_BYTES = 256 << 30
"""Bytes that all of it may have when it is laid out; the largest source trees have some ten gigabytes."""
MOST_FILES = 1_000_000
"""Files of all its trees; the largest have some hundred thousand."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST, _LONGEST_NAME = 255, 3000
"""Bytes of a part of a name (NAME_MAX), and of all of it: PATH_MAX is 4096, with the place before it."""
_ODD = "it was not packed by xbuild, or was tampered with: nothing of it is used"


class Blobs(Protocol):
    """Where blobs are put, and had from again: what a parcel needs of `Shared`."""

    def put_blob(self, path: Path) -> Blob:
        """Keep the bytes of the file `path`."""

    def get_blob(self, blob: Blob, to: Path) -> bool:
        """Write just these bytes to the new file `to`; False if they cannot be had."""


def fetched(blob: Blob, blobs: Blobs, to: Path, what: str) -> None:
    """Write the blob to the new file `to`. Raises MachineError if it cannot be had."""
    if not blobs.get_blob(blob, to):
        message = f"{what} is not in the shared store: {blob.sha256}"
        raise MachineError(message, hint="pack it again, and see that both machines name one store")


@dataclass(frozen=True)
class Item:
    """A file of a parcel, or a directory with files and links. name: where it lies in the place.

    blob: the bytes; of a directory as a tar file compressed by gzip, which has `size` bytes before that, and `files`
    members. state: what git says of a directory, for the manifest.
    """

    name: str
    blob: Blob
    kind: Literal["file", "tree"] = "file"
    size: int = 0
    files: int = 1
    state: dict[str, Any] | None = None


@dataclass(frozen=True)
class Parcel:
    """A build that can be made on another machine.

    xbuild: the version that packed it. title: for people. request: with paths as they are in the place. inputs: the key
    of all inputs but the artifacts of recipes that it needs, which are `value`, as JSON. key: of the artifact; None if
    recipes that it needs were not built where it was packed, so that nobody knew it.
    """

    schema: int
    xbuild: str
    title: str
    request: Request
    inputs: str
    value: Blob
    items: tuple[Item, ...]
    key: str | None = None

    def as_json(self) -> Any:
        """What `parcel_of` reads."""
        return as_json(self)


def parcel_of(value: Any) -> Parcel:
    """The parcel that these words, which may be a stranger's, are of. Raises UsageError if they are of none."""
    schema = value.get("schema") if isinstance(value, Mapping) else None
    if isinstance(schema, int) and schema != SCHEMA:
        said = f"it was packed by xbuild {value.get('xbuild')}" if isinstance(value.get("xbuild"), str) else ""
        message = f"this parcel has schema {schema}, and this xbuild reads {SCHEMA}"
        raise UsageError(message, details=[said] if said else [], hint="use one version of xbuild on both machines")
    parcel = from_json(Parcel, value)
    for fault in filter(None, (_fault(parcel), *map(_item_fault, parcel.items))):
        raise UsageError(f"refused parcel: {fault}", hint=_ODD)
    return parcel


def sent(parcel: Parcel, blobs: Blobs) -> Blob:
    """Put the words of a parcel among its blobs: then one digest is all that has to be told."""
    with tempfile.TemporaryDirectory(prefix="xbuild-parcel-") as place:
        file = Path(place, "parcel")
        file.write_text(canonical_json(parcel.as_json()))
        return blobs.put_blob(file)


def received(blob: Blob, blobs: Blobs) -> Parcel:
    """What `sent` has put. Raises UsageError if it is no parcel, and as `fetched`."""
    if blob.size > MOST_WORDS:
        raise UsageError(f"refused parcel: its words have {blob.size} bytes", hint=_ODD)
    with tempfile.TemporaryDirectory(prefix="xbuild-parcel-") as place:
        file = Path(place, "parcel")
        fetched(blob, blobs, file, "the parcel")
        try:
            return parcel_of(read_json(file))
        except ValueError as error:
            raise UsageError(f"refused parcel: its words are not JSON: {error}", hint=_ODD) from error


def refused(fault: str) -> UsageError:
    """The error for a parcel that no xbuild can have packed."""
    return UsageError(f"refused parcel: {fault}", hint=_ODD)


def _fault(parcel: Parcel) -> str | None:
    """What is wrong with the whole, in words: all that an honest sender never says."""
    request, names = parcel.request, [item.name for item in parcel.items]
    files = {item.name for item in parcel.items if item.kind == "file"}
    if len(set(names)) != len(names):
        return "two items have one name"
    if "/" in request.recipe or not request.recipe.endswith(SUFFIX) or request.recipe not in files:
        return f"{request.recipe!r} is no recipe of it"
    if request.root is not None and not re.fullmatch(NAME, request.root):
        return f"{request.root!r} is no name of a root"
    if odd := [place for place in request.repositories if f"{place}/Packages" not in files]:
        return f"{odd[0]!r} is no repository of it"
    if not _is_blob(parcel.value) or not _SHA256.fullmatch(parcel.inputs):
        return "its inputs have no digest"
    if parcel.key is not None and not _SHA256.fullmatch(parcel.key):
        return "its key is none"
    if sum(item.size if item.kind == "tree" else item.blob.size for item in parcel.items) > MOST_BYTES:
        return f"it has more than {MOST_BYTES} bytes"
    return f"it has more than {MOST_FILES} files" if sum(item.files for item in parcel.items) > MOST_FILES else None


def _item_fault(item: Item) -> str | None:
    parts = item.name.split("/")
    if fault := name_fault(item.name):
        return fault
    if (item.kind == "tree") != (parts[0] == TREES) or (item.kind == "tree" and len(parts) != 3):
        return f"{item.name!r} lies where none of its kind does"
    if not _is_blob(item.blob) or item.size < 0 or item.files < 0:
        return f"{item.name!r} has no digest or no size"
    return None


def _is_blob(blob: Blob) -> bool:
    return _SHA256.fullmatch(blob.sha256) is not None and blob.size >= 0


def name_fault(name: str) -> str | None:
    """Why nothing may be written under this name; None if it stays where it is laid."""
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        return f"{name!r} leads out of its place"
    if any(part.lower() == ".git" for part in parts):
        return f"{name!r} is git's own, which decides what programs git starts"
    try:
        lengths = [len(part.encode(errors="surrogateescape")) for part in parts]
    except UnicodeEncodeError:
        return f"{name!r} is no name that a file can have"
    too_long = max(lengths) > _LONGEST or sum(lengths) + len(lengths) > _LONGEST_NAME
    return f"{name[:40]!r}... is longer than a name can be" if too_long else None
