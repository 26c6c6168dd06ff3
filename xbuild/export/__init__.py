"""Exports a target root with its native tools as a container image, or the native tools alone."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xbuild.base import log, paths
from xbuild.base.digest import file_sha256, key_of
from xbuild.base.errors import UsageError
from xbuild.export import trees
from xbuild.export.image import Compression, Layer, Layout, packed_as
from xbuild.formats.debian import Tree
from xbuild.model.load import load_policy, load_toolchain
from xbuild.model.toolchain import Platform, Toolchain
from xbuild.roots import partners
from xbuild.roots.distribution import Roots
from xbuild.sandbox.run import ROOT_PATH
from xbuild.store.local import Store, writing_below
from xbuild.store.own import open_store
from xbuild.twins import pairing

_ENDINGS: dict[str, Compression | None] = {".tar": None, ".tar.gz": "gzip", ".tgz": "gzip", ".tar.zst": "zstd"}


CONFIG: dict[str, Any] = {
    "Env": [f"PATH={ROOT_PATH}"],
    "Entrypoint": [trees.ENTER],
    "Cmd": ["/bin/bash"],
    # Not of the OCI's specification but of Docker's, which also has it in images of that kind: what RUN runs by.
    "Shell": [trees.ENTER, "/bin/sh", "-c"],
    "WorkingDir": "/",
}
"""How the image starts commands."""


@dataclass(frozen=True)
class Wish:
    """What is to be exported.

    packages: of the distribution, besides the target's own. layer: only the overlay with the native tools.
    name: `REPOSITORY:TAG`; "": by the target. compression: of the image's layers.
    """

    target: str
    suite: str | None = None
    packages: tuple[str, ...] = ()
    layer: bool = False
    name: str = ""
    compression: Compression = "gzip"


@dataclass(frozen=True)
class Exported:
    """What was written. digest: of the image's manifest, or of the tar file of a layer; sha256, in hex."""

    path: Path
    name: str
    digest: str
    platform: Platform
    twins: int
    layers: tuple[Layer, ...]

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "path": str(self.path),
            "name": self.name,
            "digest": f"sha256:{self.digest}",
            "platform": self.platform.model_dump(exclude_none=True),
            "twins": self.twins,
            "layers": [{**layer.blob.descriptor(), "diff_id": f"sha256:{layer.diff_id}"} for layer in self.layers],
        }


class Export:
    """One export. Makes the roots and twins that are missing in `store`."""

    def __init__(self, wish: Wish, store: Store | None = None) -> None:
        self.wish = wish
        known = load_toolchain(wish.target, paths.project())
        self.toolchain: Toolchain = known.with_suite(wish.suite) if wish.suite else known
        if self.toolchain.native:
            raise UsageError(f"{known.name} is the machine's own: there is nothing to run natively")
        if self.toolchain.platform is None:
            raise UsageError(
                f"target {known.name} has no platform", hint=f"name it in toolchains/{known.name}.yml: `platform`"
            )
        self.platform = self.toolchain.platform
        self.store = store or open_store()
        self.roots = Roots(self.store, self.toolchain, load_policy(self.toolchain))
        suite = self.toolchain.distribution.suite
        what = "xbuild-layer" if wish.layer else "xbuild"
        self.name = wish.name or f"localhost/{what}-{known.name}:{suite}"
        if ":" not in self.name.rpartition("/")[2]:
            self.name += ":latest"

    def to_layout(self, directory: Path) -> Exported:
        """Write an OCI image layout to `directory`, which must not be there, or be empty."""
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
        if directory.exists() or directory.is_symlink():
            raise UsageError(f"{directory} is there already", hint="remove it, or name another directory")
        with self._work(directory) as (scratch, part):
            result = self._image(Layout(part), scratch, directory)
            part.rename(directory)
        return result

    def to_archive(self, file: Path) -> Exported:
        """Write the image as one file, for `docker load`, `podman load`, `oci-archive:`; what is there is replaced."""
        _require_file(file)
        with self._work(file) as (scratch, part):
            layout = Layout(scratch / "layout")
            result = self._image(layout, scratch, file)
            layout.archive(part, self._epoch)
            part.replace(file)
        return result

    def to_layer(self, file: Path) -> Exported:
        """Write the overlay as a tar file, compressed as its name says, for ADD; what is there is replaced."""
        compression = layer_compression(file)
        _require_file(file)
        with self._work(file) as (scratch, part):
            archive, count = self._overlay(scratch)
            packed_as(archive, part, compression)
            part.replace(file)
        return Exported(file, "", file_sha256(file), self.platform, count, ())

    @cached_property
    def _tree(self) -> Tree:
        return Tree(self.roots.layers(self.wish.packages))

    @cached_property
    def _epoch(self) -> int:
        return trees.epoch_of(self._tree)

    def _image(self, layout: Layout, scratch: Path, path: Path) -> Exported:
        layers = []
        packages = " ".join(self.wish.packages)
        if not self.wish.layer:
            trees.check_sources(self._tree)
            with log.step("root"):
                archive = scratch / "root.tar"
                trees.write_root(self._tree.layers, scratch, archive, self._epoch)
                history = f"xbuild: {self.toolchain.distribution.suite} for {self.toolchain.name} {packages}".strip()
                layers.append(layout.add_layer(archive, self.wish.compression, history))
        with log.step("native tools"):
            archive, count = self._overlay(scratch)
            layers.append(layout.add_layer(archive, self.wish.compression, f"xbuild: native tools {packages}".strip()))
        config = {} if self.wish.layer else CONFIG
        manifest = layout.finish(layers, self.platform, config, self.name, self._epoch)
        return Exported(path, self.name, manifest.digest, self.platform, count, tuple(layers))

    def _overlay(self, scratch: Path) -> tuple[Path, int]:
        natives, archive = partners.of(self.roots, self.wish.packages).natives(), scratch / "overlay.tar"
        policy = self.roots.policy
        assert policy is not None
        pairs = pairing.pair(natives.twins, self._tree, policy, self.toolchain, added=frozenset(policy.tools))
        trees.write_overlay(self.roots, natives, pairs, self._tree, scratch, archive, self._epoch)
        return archive, len(pairs.entries)

    @contextlib.contextmanager
    def _work(self, destination: Path) -> Iterator[tuple[Path, Path]]:
        """A scratch directory in the store, and the place beside `destination` that is renamed to it in the end."""
        lock = f"export-{key_of(str(destination))[:16]}"
        part = destination.with_name(f".{destination.name}.part")
        if not destination.parent.is_dir():
            raise UsageError(f"there is no directory {destination.parent}")
        if not os.access(destination.parent, os.W_OK | os.X_OK):
            raise UsageError(f"cannot write {destination}", hint="name a place that you can write to")
        in_use = self.store.in_use()
        with in_use, self.store.lock(lock, wait=False, describe=f"exports to {destination}"):
            # What one that was killed has left.
            for left in (part, *self.store.directory("tmp").glob(f"{lock}.*")):
                self.store.discard(left)
            scratch = self.store.scratch(lock)
            try:
                with writing_below(self.store.root), writing_below(destination.parent):
                    scratch.mkdir()
                    scratch.chmod(0o755)
                    yield scratch, part
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                hint = "name a place that you can write to"
                raise UsageError(f"cannot write {destination}: {error.strerror}", hint=hint) from error
            finally:
                self.store.discard(scratch)
                self.store.discard(part)


def _require_file(file: Path) -> None:
    """Raise UsageError if something other than a file is at `file`: it would be replaced, or could not be."""
    if file.exists() and not file.is_file():
        raise UsageError(f"{file} is there already, and no file", hint="name another file")


def layer_compression(file: Path) -> Compression | None:
    """How a layer in `file` is compressed, by its name. Raises UsageError for another ending."""
    for ending, compression in _ENDINGS.items():
        if file.name.endswith(ending):
            return compression
    raise UsageError(f"a layer is no {file.name!r}", hint=f"name a file *{', *'.join(_ENDINGS)}")
