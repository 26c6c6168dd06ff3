"""Makes a parcel: what the build takes of the sender's files, and nothing else of them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from xbuild.base import log, paths
from xbuild.base.digest import canonical_json, file_sha256, is_file_with, key_of
from xbuild.base.errors import ProjectSourceError, UsageError
from xbuild.base.walk import shown
from xbuild.build.locking import locked_target
from xbuild.build.papers.inputs import own_version
from xbuild.build.parcel import trees
from xbuild.build.parcel.recipes import NOT_HERE, Written
from xbuild.build.parcel.words import FILES, REPOSITORIES, SCHEMA, TOOLCHAINS, TREES, Blobs, Item, Parcel
from xbuild.build.prepared import NotBuiltError, own_inputs, prepared
from xbuild.build.request import Here, Request
from xbuild.build.subject import Subject, read
from xbuild.model.base import NAME
from xbuild.model.base import SCHEMA as FILE_SCHEMA
from xbuild.model.load import SUFFIX, dependency_path, patches_directory
from xbuild.model.lock import Lock, write_lock
from xbuild.model.native import here
from xbuild.roots.repository import Repository
from xbuild.sources import ChangingError, name_of
from xbuild.sources.local import Local, state_in_git
from xbuild.store.local import Store
from xbuild.store.own import open_store
from xbuild.store.shared.records import Blob

_TRIES = 3
"""How often the project's files are looked at, if they change while they are copied."""


def pack(request: Request, blobs: Blobs, store: Store | None = None) -> Parcel:
    """A parcel of the build `request`, whose blobs are put into `blobs`. store: the local one; None for the user's.

    Packages are those that it is built with here, exactly. Raises UsageError for what cannot travel,
    ProjectSourceError for sources that are not to be sent, and as `read` and `Subject.settled`.
    """
    store = store or open_store()
    _require_possible(request)
    for left in reversed(range(_TRIES)):
        try:
            with store.in_use(), tempfile.TemporaryDirectory(prefix="xbuild-parcel-") as scratch:
                return _Packing(read(request, store), blobs, Path(scratch)).parcel()
        except ChangingError as error:
            if not left:
                raise
            log.info(f"{error.message}; once more, as it is now")
    raise AssertionError("each try returns, or is the last one")


def _require_possible(request: Request) -> None:
    if request.here.start is not None:
        raise UsageError("--from goes on in a tree that is here: such a build cannot travel", hint="leave out --from")
    if request.root is not None and "/" in request.root:
        hint = "`invoke root.import NAME SOURCE` on both machines, and --root NAME"
        raise UsageError(f"the root {request.root} is a path of this machine", hint=hint)


class _Packing:
    """Packs one subject. scratch: a directory of ours."""

    def __init__(self, subject: Subject, blobs: Blobs, scratch: Path) -> None:
        # What is looked at once is what travels.
        self._needs = [one.settled() for one in subject.needs]
        self._subject = replace(subject.settled(), needs=tuple(self._needs))
        self._blobs = blobs
        self._scratch = scratch
        self._items: dict[str, Item] = {}
        self._held: set[str] = set()

    def parcel(self) -> Parcel:
        """All of it."""
        subject = self._subject
        for one in (subject, *self._needs):
            self._recipe(one)
        self._toolchains()
        places = [self._repository(number, one) for number, one in enumerate(subject.roots.resolver.repositories)]
        value = own_inputs(subject)
        try:
            key = prepared(subject).key
        except NotBuiltError:
            key = None
        own = self._names[subject.file.resolve()]
        request = replace(
            subject.request, recipe=f"{own}{SUFFIX}", locked=True, repositories=tuple(places), here=Here(publish=False)
        )
        items = tuple(self._items[name] for name in sorted(self._items))
        written = self._written(canonical_json(value))
        return Parcel(SCHEMA, own_version(), subject.title, request, key_of(value), written, items, key)

    @cached_property
    def _names(self) -> Mapping[Path, str]:
        """What each recipe is called in the place: where others name it, as they do."""
        subject = self._subject
        stem = subject.file.stem
        names = {subject.file.resolve(): stem if re.fullmatch(NAME, stem) else subject.recipe.name}
        for one in (subject, *self._needs):
            for need in one.recipe.depends.recipes:
                names[dependency_path(need.name, one.file).resolve()] = need.name
        return names

    def _recipe(self, one: Subject) -> None:
        name, written = self._names[one.file.resolve()], Written(one.file)
        sources = zip(one.recipe.sources, one.local or (), strict=True)
        laid = {
            number: self._source(one, name_of(source), found)
            for number, (source, found) in enumerate(sources)
            if found is not None
        }
        blob = self._written(written.text(laid)) if laid else self._blobs.put_blob(one.file)
        self._add(Item(f"{name}{SUFFIX}", blob))
        for patch in written.patches:
            self._add(Item(patch, self._blobs.put_blob(patches_directory(one.file) / patch)))
        for other in set(written.recipes) - set(self._names.values()):
            self._add(Item(f"{other}{SUFFIX}", self._written(NOT_HERE)))
        if one.imported is None:
            target = locked_target(one)
            self._held |= {text.split()[-1] for root in target.roots.values() for text in root.packages.values()}
            lock = Lock(schema_version=FILE_SCHEMA, targets={one.toolchain.name: target})
            self._add(Item(f"{name}.lock", self._blobs.put_blob(write_lock(self._scratch / "recipe.yml", lock))))

    def _source(self, one: Subject, path: str, found: Local) -> str:
        _require_meant(one, path, found.origin)
        name = found.origin.resolve().name
        if not found.origin.is_dir():
            place = f"{FILES}/{found.digest[:16]}/{PurePosixPath(path).name}"
            item = Item(place, self._blobs.put_blob(found.origin))
            if item.blob.sha256 != found.digest:
                raise ChangingError(f"{found.origin}: was changed while it was copied")
            self._add(item)
            return place
        place = f"{TREES}/{found.digest[:16]}/{name if re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9+._-]*', name) else 'tree'}"
        if place not in self._items:
            file, size = trees.packed(found, self._scratch)
            words = (size, len(found.records), state_in_git(found.origin))
            self._add(Item(place, self._blobs.put_blob(file), "tree", *words))
            file.unlink()
        return place

    def _toolchains(self) -> None:
        """The targets of the project, all: recipes are asked whether what they name is one."""
        shipped = paths.shipped(TOOLCHAINS)
        for file in sorted((self._subject.project / TOOLCHAINS).glob(f"*{SUFFIX}")):
            if re.fullmatch(NAME, file.stem) and not is_file_with(shipped / file.name, file_sha256(file)):
                self._add(Item(f"{TOOLCHAINS}/{file.name}", self._blobs.put_blob(file)))

    def _repository(self, number: int, one: Repository) -> str:
        """Those packages of the user's own that a root gets, with an index of them."""
        place, stanzas = f"{REPOSITORIES}/{number}", dict[str, str]()
        for architecture in {self._subject.toolchain.architecture, *here().widths}:
            for stanza in one.text(architecture).split("\n\n"):
                file = re.search(r"^Filename: *(\S+)$", stanza, re.MULTILINE)
                sha256 = re.search(r"^SHA256: *(\S+)$", stanza, re.MULTILINE)
                if sha256 and file and sha256[1] in self._held:
                    stanzas[str(PurePosixPath(file[1]))] = stanza
        for name in sorted(stanzas):
            self._add(Item(f"{place}/{name}", self._blobs.put_blob(one.place / name)))
        self._add(Item(f"{place}/Packages", self._written("".join(f"{stanzas[name]}\n\n" for name in sorted(stanzas)))))
        return place

    def _add(self, item: Item) -> None:
        if self._items.setdefault(item.name, item) != item:
            message = f"{self._subject.title}: two recipes that it needs have different files called {item.name}"
            raise UsageError(message, hint="give one of them another name")

    def _written(self, text: str) -> Blob:
        file = self._scratch / "text"
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
        return self._blobs.put_blob(file)


def _require_meant(one: Subject, path: str, origin: Path) -> None:
    """Raise ProjectSourceError for what was hardly meant to be sent to another machine."""
    real, what = origin.resolve(), f"{shown(str(one.file))}: path: {shown(path)}"
    for holds, place in (("your home directory", Path("~").expanduser()), ("the store", one.store.root)):
        if place.resolve().is_relative_to(real):
            raise ProjectSourceError(f"{what} holds {holds}, and is not sent", hint="name a directory below it")
    tops = {place.resolve() for place in (one.project, one.base)}
    if not Path(path).is_absolute() and not any(real.is_relative_to(top) for top in tops):
        hint = "if it is meant, name it by its absolute path"
        raise ProjectSourceError(f"{what} leads out of the project to {shown(str(real))}, and is not sent", hint=hint)
