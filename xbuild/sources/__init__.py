"""Sources: the files and trees that recipes name, fetched from where they can be had, proven by sha256."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xbuild import log
from xbuild.digest import file_sha256
from xbuild.errors import MachineError, SourceError
from xbuild.model.source import Distribution, Source
from xbuild.sources.archive import unpack
from xbuild.sources.download import Failure, basename, download_file, shown
from xbuild.sources.index import configured_indexes, find_sdist
from xbuild.sources.trees import archive_commit, archive_tree, tree_digest
from xbuild.store import Store, writing_below

__all__ = ["FetchContext", "fetch", "lay_out", "name_of", "pool_address", "tree_digest", "unpack"]

_NETWORK_HINT = "check the network (http_proxy and https_proxy name proxies), or add mirrors to the recipe"
_DIGEST_HINT = "compare the recipe's sha256 with the one that upstream publishes: one of the two changed"


@dataclass(frozen=True)
class FetchContext:
    """What fetching needs beside the source.

    mirror_urls: the distribution's package mirrors in order, each the directory that holds `pool/`.
    project: what relative paths are relative to. index_url: a Python package index (None: those that pip is
    set to use).
    """

    store: Store
    mirror_urls: Sequence[str]
    project: Path
    index_url: str | None = None


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
    place = context.store.directory("downloads") / f"sha256-{source.sha256}"
    lock = f"download-{source.sha256[:20]}"
    with context.store.lock(lock, describe=f"fetches {name_of(source)}"):
        if place.exists():
            if file_sha256(place) == source.sha256:
                log.detail(f"{name_of(source)} is in the store")
                return place
            log.warn(f"{place} is damaged: {name_of(source)} is fetched again")
            context.store.discard(place)
        scratch = context.store.scratch(lock)
        try:
            with writing_below(context.store.root):
                _bring(source, context, scratch)
                scratch.rename(place)
        finally:
            context.store.discard(scratch)
    return place


def _bring(source: Source, context: FetchContext, target: Path) -> None:
    if source.git is not None:
        with log.step(f"git fetch {name_of(source)}"):
            archive_commit(source.git, source.commit or "", target)
        _verify(source, file_sha256(target), f"git archive of {name_of(source)}")
        return
    failures: list[Failure] = []
    for address in _addresses(source, context, failures):
        try:
            download_file(address, target, source.sha256)
            return
        except Failure as failure:
            # What is not the named file deserves the user's eye, even if the next address has the right one.
            (log.warn if failure.wrong else log.info)(f"{failure.address}: {failure.reason}")
            failures.append(failure)
    raise _none_worked(source, failures)


def _addresses(source: Source, context: FetchContext, failures: list[Failure]) -> Iterable[str]:
    # A generator, so that an index is asked only when its turn comes.
    if source.url is not None:
        yield from (source.url, *source.mirrors)
    if source.distribution is not None:
        yield from (pool_address(mirror, source.distribution) for mirror in context.mirror_urls)
    if source.pypi is not None:
        indexes = [context.index_url] if context.index_url else configured_indexes()
        file = source.file or f"{source.pypi}-{source.version}.tar.gz"
        for index in indexes:
            try:
                yield find_sdist(index, source.pypi, file)
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


def _fetch_path(source: Source, context: FetchContext) -> Path:
    origin = context.project / str(source.path)
    if not origin.exists():
        raise SourceError(f"{origin}: not found", hint=f"the recipe names it: path: {source.path}")
    if origin.is_file():
        _verify(source, file_sha256(origin), str(origin))
        return origin
    _verify(source, tree_digest(origin), str(origin))
    place = context.store.directory("downloads") / _tree_name(source)
    lock = f"tree-{source.sha256[:20]}"
    with context.store.lock(lock, describe=f"packs {origin}"):
        # Made anew each time: the digest is the tree's, so an older tar file could not be verified by it.
        scratch = context.store.scratch(lock)
        try:
            with writing_below(context.store.root):
                archive_tree(origin, scratch)
                scratch.rename(place)
        finally:
            context.store.discard(scratch)
    return place


def _tree_name(source: Source) -> str:
    return f"tree-{source.sha256}.tar"


def _verify(source: Source, digest: str, what: str) -> None:
    if digest != source.sha256:
        raise SourceError(
            f"{what}: sha256 is not the one that the recipe names",
            details=[f"recipe: {source.sha256}", f"found:  {digest}"],
            hint="if the change is meant, write the found value into the recipe",
        )


def lay_out(source: Source, archive: Path, directory: Path) -> None:
    """Unpack `archive`, which `fetch` gave for `source`, into the source directory by its `into` and `strip`.

    Trees (git, and a path to a directory) lack the leading directory that archives have: nothing is stripped.
    """
    tree = source.git is not None or archive.name == _tree_name(source)
    destination = directory / source.into
    destination.mkdir(parents=True, exist_ok=True)
    unpack(archive, destination, 0 if tree else source.strip, name_of(source))
