"""Lays a parcel out on another machine. It may be a stranger's: what is written stays in its place all the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from xbuild.base.digest import json_contents, key_of
from xbuild.base.errors import MachineError, UsageError, XbuildError
from xbuild.build.papers.inputs import own_version
from xbuild.build.parcel import trees
from xbuild.build.parcel.recipes import NOT_HERE, Written
from xbuild.build.parcel.words import Blobs, Item, Parcel, fetched, parcel_of, refused
from xbuild.build.prepared import own_inputs
from xbuild.build.request import Request
from xbuild.build.subject import read
from xbuild.model.load import SUFFIX
from xbuild.sources.local import WHOLE
from xbuild.store.differences import diff_values
from xbuild.store.local import Store, writing_below

_SHOWN = 20
"""How many lines of what differs a message has."""


def unpacked(parcel: Parcel, place: Path, blobs: Blobs) -> Request:
    """Lay `parcel` out as the directory `place`, which is not there yet; give the request that builds it from there.

    `place` is the project of that build (XBUILD_PROJECT). It is there whole or not at all. Raises UsageError for what
    no xbuild has packed, MachineError for too little room, and as `fetched`.
    """
    parcel = parcel_of(parcel.as_json())
    if place.exists() or place.is_symlink():
        raise UsageError(f"{place} is there already", hint="a parcel is laid out anew")
    part = place.with_name(f".{place.name}.part")
    with writing_below(place.parent):
        _require_room(parcel, place.parent)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            for number, item in enumerate(parcel.items):
                _lay(item, part, blobs, part / f".blob-{number}")
            _require_own(parcel, part)
            part.rename(place)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    own = parcel.request
    repositories = tuple(str(place / name) for name in own.repositories)
    return replace(own, recipe=str(place / own.recipe), repositories=repositories)


def require_same(
    parcel: Parcel, request: Request, place: Path, blobs: Blobs, store: Store | None = None
) -> None:
    """Raise UsageError, with what differs, if `request`, which `unpacked` gave, comes to other inputs here.

    Artifacts of recipes that it needs are not looked at: with these, an order's key is the proof.
    """
    subject = read(request, store, place)
    here = own_inputs(subject)
    if key_of(here) == parcel.inputs:
        return
    file = place / ".value"
    try:
        fetched(parcel.value, blobs, file, "what it is made from")
        lines = diff_values(json_contents(file), here)
    except XbuildError as error:
        lines = [f"what differs is not known: {error.message}"]
    finally:
        file.unlink(missing_ok=True)
    own = own_version()
    lines = [*([f"xbuild: {parcel.xbuild} -> {own}"] if parcel.xbuild != own else []), *lines]
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    message = f"{subject.title} has other inputs here than where it was packed"
    hint = "use one version of xbuild on both machines"
    raise UsageError(message, details=[*lines[:_SHOWN], *more], hint=hint)


def _require_room(parcel: Parcel, folder: Path) -> None:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    # The largest tree is there twice for a moment.
    wanted = sum(item.size + item.blob.size for item in parcel.items) + max(item.size for item in parcel.items)
    if wanted > free:
        message = f"{parcel.title}: {wanted >> 20} MiB are to be laid out, and {existing} has {free >> 20} MiB free"
        raise MachineError(message, hint="free some space")


def _lay(item: Item, part: Path, blobs: Blobs, blob: Path) -> None:
    target = part / item.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise refused(f"{item.name!r} lies in a file") from error
    if target.exists():
        raise refused(f"two items lie at {item.name!r}")
    fetched(item.blob, blobs, blob, item.name)
    if item.kind == "tree":
        trees.laid(item, blob, target, part)
        (target.parent / WHOLE).write_text(json.dumps(item.state))
        blob.unlink()
        return
    blob.rename(target)
    target.chmod(0o644)


def _require_own(parcel: Parcel, part: Path) -> None:
    """Raise UsageError for a recipe that names files of this machine: they would be read, and sent back as a result."""
    files = {item.name for item in parcel.items if item.kind == "file"}
    sources = {item.name for item in parcel.items}
    for name in sorted(files):
        file = part / name
        if "/" in name or not name.endswith(SUFFIX) or file.read_bytes() == NOT_HERE.encode():
            continue
        recipe = Written(file)
        for path in (*(path for path in recipe.paths if path not in sources), *set(recipe.patches) - files):
            raise refused(f"{name} names {path!r}, which is not in it")
