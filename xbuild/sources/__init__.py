"""Sources: the files and trees that recipes name, fetched from where they can be had, proven by sha256."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xbuild.base import log
from xbuild.base.digest import file_sha256, is_file_with
from xbuild.base.errors import MachineError, ProjectSourceError, SourceError
from xbuild.model.source import Distribution, Source
from xbuild.sources.access import Access
from xbuild.sources.archive import place_file, unpack
from xbuild.sources.download import Failure, basename, download_file, shown
from xbuild.sources.git import Checkout
from xbuild.sources.index import configured_access, configured_indexes, find_sdist
from xbuild.sources.local import Local, listed, look, tree_digest
from xbuild.sources.trees import File, Record, archive_files, archived_records, digest_of
from xbuild.store.local import Store, writing_below
from xbuild.store.shared.entries import borrow, lend

__all__ = [
    "ChangingError",
    "FetchContext",
    "copy_of",
    "downloaded",
    "examine",
    "fetch",
    "lay_out",
    "name_of",
    "pool_address",
    "tree_digest",
    "unpack",
]

_NETWORK_HINT = "check the network (http_proxy and https_proxy name proxies), or add mirrors to the recipe"
_SHOWN = 10
"""How many names of changed files a message has."""
_DIGEST_HINT = "compare the recipe's sha256 with the one that upstream publishes: one of the two changed"


@dataclass(frozen=True)
class FetchContext:
    """What fetching needs beside the source.

    mirrors: gives the distribution's package mirrors in order, each the directory that holds `pool/`; asked only when
    one is wanted, since finding them takes its time where there is no network.
    base: what relative paths of sources are relative to. index_url: a Python package index (None: those that pip is
    set to use).
    """

    store: Store
    mirrors: Callable[[], Sequence[str]]
    base: Path
    index_url: str | None = None


class ChangingError(ProjectSourceError):
    """A source of the project was not copied as it was when it was looked at: it changes right now."""


def name_of(source: Source) -> str:
    """What to call `source` in messages."""
    if source.url is not None:
        return basename(source.url)
    if source.distribution is not None:
        return source.distribution.file
    if source.pypi is not None:
        return source.file or source.pypi
    if source.git is not None:
        return f"{shown(source.git)} at {(source.commit or '')[:12]}"
    return str(source.path)


def pool_address(mirror: str, distribution: Distribution) -> str:
    """Where `mirror` has a file of a source package.

    Debian's archive layout: pool/SECTION/PREFIX/PACKAGE/FILE, PREFIX being the package's first letter, or its
    first four if it begins with `lib`.
    """
    package = distribution.package
    prefix = package[:4] if package.startswith("lib") else package[:1]
    return f"{mirror.rstrip('/')}/pool/{distribution.section}/{prefix}/{package}/{distribution.file}"


def fetch(source: Source, context: FetchContext) -> Path:
    """The file of `source` in the store, its sha256 verified now; git and path trees come as a tar file.

    source: if it is a sdist, `completed` with the recipe's version. Addresses are tried in this order: url,
    mirrors, the distribution's copy on each mirror. Raises SourceError if what came is not what the recipe
    names, MachineError if no address could be reached.
    """
    if source.path is not None:
        return _fetch_path(source, context)
    lock = f"download-{source.digest[:20]}"
    with context.store.lock(lock, describe=f"fetches {name_of(source)}"):
        for place in downloaded(source, context.store):
            if is_file_with(place, place.stem.rpartition("-")[2]):
                log.detail(f"{name_of(source)} is in the store")
                return place
            log.warn(f"{place} is damaged: {name_of(source)} is fetched again")
            context.store.discard(place)
        scratch = context.store.scratch(lock)
        try:
            with writing_below(context.store.root):
                name = _borrow(source, context, scratch)
                known = name is not None
                name = name or (_bring_commit(source, scratch) if source.git else _bring(source, context, scratch))
                place = scratch.rename(context.store.directory("downloads") / name)
        finally:
            context.store.discard(scratch)
    if not known:
        lend(context.store, source.digest, place)
    return place


def _borrow(source: Source, context: FetchContext, target: Path) -> str | None:
    """Write the file of `source` to `target`, from a shared store; give the name for it."""
    blob = borrow(context.store, source.digest, target, name_of(source))
    if blob is None:
        return None
    if blob.sha256 == source.digest:
        return f"sha256-{blob.sha256}"
    return f"git-{source.digest}-{blob.sha256}.tar" if source.git is not None else None


def downloaded(source: Source, store: Store) -> list[Path]:
    """The files in the store that `source` was fetched to; their names end with their own sha256."""
    directory = store.root / "downloads"
    files = [directory / f"sha256-{source.sha256}", *sorted(directory.glob(f"git-{source.sha256}-*.tar"))]
    return [file for file in files if file.exists()]


def _bring_commit(source: Source, target: Path) -> str:
    """Write the commit of `source` as a tar file to `target`; give the name for it."""
    # Named as the target is, so that whoever sweeps up after a killed process finds both.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.stem}.") as directory:
        checkout = Checkout(source.git or "", source.commit or "", Path(directory, "tree"))
        with log.step(f"git fetch {name_of(source)}"):
            checkout.make()
            # The digest that older versions took: of what an archive has, which lacks submodules and more.
            checkout.archive(target)
            if file_sha256(target) == source.sha256:
                return f"sha256-{source.sha256}"
            checkout.fetch_history()
            tags = checkout.proven(source.digest)
            if tags is None:
                _verify(source, checkout.digest(), f"the checkout of {name_of(source)}")
            checkout.pack(tags or (), target)
        return f"git-{source.sha256}-{file_sha256(target)}.tar"


def _bring(source: Source, context: FetchContext, target: Path) -> str:
    """Write the file of `source` to `target`; give the name for it."""
    failures: list[Failure] = []
    for address, access in _addresses(source, context, failures):
        try:
            download_file(address, target, source.digest, access)
            return f"sha256-{source.sha256}"
        except Failure as failure:
            # What is not the named file deserves the user's eye, even if the next address has the right one.
            (log.warn if failure.wrong else log.info)(f"{failure.address}: {failure.reason}")
            failures.append(failure)
    raise _none_worked(source, failures)


def _addresses(source: Source, context: FetchContext, failures: list[Failure]) -> Iterable[tuple[str, Access | None]]:
    # A generator, so that an index is asked only when its turn comes.
    if source.url is not None:
        yield from ((address, None) for address in (source.url, *source.mirrors))
    if source.distribution is not None:
        yield from ((pool_address(mirror, source.distribution), None) for mirror in context.mirrors())
    if source.pypi is not None:
        indexes = [context.index_url] if context.index_url else configured_indexes()
        file = source.file or f"{source.pypi}-{source.version}.tar.gz"
        for index in indexes:
            try:
                yield find_sdist(index, source.pypi, file), configured_access()
            except Failure as failure:
                log.info(f"{failure.address}: {failure.reason}")
                failures.append(failure)


def _none_worked(source: Source, failures: Sequence[Failure]) -> SourceError | MachineError:
    details = [f"{failure.address}: {failure.reason}" for failure in failures]
    if not failures:
        return SourceError(
            f"{name_of(source)}: there is no address to fetch it from",
            hint="the recipe names the distribution's copy only, and no package mirror is set",
        )
    if any(failure.wrong for failure in failures):
        message = f"{name_of(source)}: no address gave the file with the sha256 that the recipe names"
        return SourceError(message, details=details, hint=_DIGEST_HINT)
    message = f"{name_of(source)}: could not be fetched"
    if all(failure.unreachable for failure in failures):
        return MachineError(message, details=details, hint=_NETWORK_HINT)
    return SourceError(message, details=details, hint=_NETWORK_HINT)


def examine(source: Source, base: Path, store: Store) -> Local:
    """What the path of `source` is now; a relative one is below `base`.

    Raises ProjectSourceError if it is not there, or not what the recipe names, if it names a sha256; with the names of
    files, where an older tree is in the store.
    """
    found = look(base / str(source.path), f"the recipe names it: path: {source.path}", store)
    if source.sha256 is not None and found.digest != source.sha256:
        packed = store.root / "downloads" / _tree_name(source.sha256)
        changes = _changes(packed, found) if found.records and packed.exists() else []
        _verify(source, found.digest, str(found.origin), ProjectSourceError, changes)
    return found


def _changes(packed: Path, found: Local) -> list[str]:
    """How the tree `found` differs from the one in the tar file `packed`, some lines; [] if that cannot be read."""
    try:
        before = {record.name: record for record in archived_records(packed)}
    except (tarfile.TarError, OSError):
        return []
    after = found.records
    words = {(True, True): "changed", (True, False): "removed", (False, True): "new"}
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    lines = [f"{words[name in before, name in after]}: {os.fsdecode(name)}" for name in names[:_SHOWN]]
    return lines + ([f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else [])


def _fetch_path(source: Source, context: FetchContext) -> Path:
    """As `fetch`. Raises ChangingError if it is no longer as it was when the sha256 was taken from it."""
    origin = context.base / str(source.path)
    if not origin.is_dir():
        found = examine(source, context.base, context.store)
        return found.origin
    place = context.store.directory("downloads") / _tree_name(source.digest)
    lock = f"tree-{source.digest[:20]}"
    with context.store.lock(lock, describe=f"packs {origin}"):
        # Made anew each time: the digest is the tree's, so an older tar file could not be verified by it.
        scratch = context.store.scratch(lock)
        try:
            with writing_below(context.store.root):
                digest = _packed(origin, scratch)
                if digest != source.sha256:
                    # Told by names, if the recipe names a digest.
                    examine(source, context.base, context.store)
                    raise ChangingError(f"{origin}: was changed while it was copied")
                scratch.rename(place)
        finally:
            context.store.discard(scratch)
    return place


def copy_of(local: Local, names: Iterable[bytes], target: Path) -> None:
    """Write these files of `local` as a tar file to `target`. Raises ChangingError if they are other ones by now."""
    files = [File(os.fsdecode(name), f"{local.origin}/{os.fsdecode(name)}") for name in names]
    for record in _written(files, target):
        if local.records[record.name] != record:
            raise ChangingError(f"{local.origin / os.fsdecode(record.name)}: was changed while it was copied")


def _packed(origin: Path, target: Path) -> str:
    """Pack the directory `origin`; give the digest of what was written."""
    return digest_of(_written(listed(origin), target))


def _written(files: Iterable[File], target: Path) -> list[Record]:
    try:
        return list(archive_files(files, target))
    except FileNotFoundError as error:
        raise ChangingError(f"{error.filename}: was removed while it was copied") from error
    except OSError as error:
        # tarfile's word for a file that ends early; it has no number.
        if error.errno is not None:
            raise
        raise ChangingError("a file of the project was cut while it was copied") from error


def _tree_name(sha256: str) -> str:
    return f"tree-{sha256}.tar"


def _verify(
    source: Source, digest: str, what: str, error: type[SourceError] = SourceError, changes: Sequence[str] = ()
) -> None:
    if digest != source.sha256:
        raise error(
            f"{what}: sha256 is not the one that the recipe names",
            details=[f"recipe: {source.sha256}", f"found:  {digest}", *changes],
            hint="if the change is meant, write the found value into the recipe",
        )


def lay_out(source: Source, archive: Path, directory: Path) -> None:
    """Unpack `archive`, which `fetch` gave for `source`, into the source directory by its `into` and `strip`.

    Trees (git, and a path to a directory) lack the leading directory that archives have: nothing is stripped. What is
    not to be unpacked lies there under its own name, dated 1970: its digest says nothing of a time.
    """
    tree = source.git is not None or archive.name == _tree_name(source.digest)
    if not source.unpack and not tree:
        place_file(archive, directory, PurePosixPath(name_of(source)).name, into=source.into)
        return
    unpack(archive, directory, 0 if tree else source.strip, name_of(source), into=source.into)
