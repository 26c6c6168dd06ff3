"""Writes container images: an OCI layout (image-spec 1.0, "Image Layout"), or an archive that `docker load` takes too.

The same layers, platform and time give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

from xbuild.base import process
from xbuild.model.toolchain import Platform

Compression = Literal["gzip", "zstd"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)

_PREFIX = "application/vnd.oci.image"
# The programs' own defaults, as other makers of images have them.
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
# zlib.compressobj: the largest window, in gzip's format, whose header then holds neither time nor name.
_GZIP_WINDOW = 31
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Blob:
    """A file of the image's store of blobs. digest: sha256, in hex. size: bytes."""

    media_type: str
    digest: str
    size: int

    def descriptor(self, **more: Any) -> dict[str, Any]:
        """As manifests and indexes name it."""
        return {"mediaType": self.media_type, "digest": f"sha256:{self.digest}", "size": self.size, **more}


@dataclass(frozen=True)
class Layer:
    """A layer. diff_id: sha256, in hex, of the archive before compression. history: how it came about, one line."""

    blob: Blob
    diff_id: str
    history: str


class Layout:
    """The image layout in the directory `path`, which is made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        self._blobs.mkdir(parents=True)
        self._combined: dict[str, Any] = {}

    def add(self, data: bytes, media_type: str) -> Blob:
        """Put `data` in as a blob."""
        blob = Blob(media_type, hashlib.sha256(data).hexdigest(), len(data))
        (self._blobs / blob.digest).write_bytes(data)
        return blob

    def add_layer(self, archive: Path, compression: Compression, history: str) -> Layer:
        """Make the tar file `archive`, which is removed, a layer. Raises PhaseError, or MachineError without zstd."""
        packed = self._blobs / "part"
        diff_id = packed_as(archive, packed, compression)
        archive.unlink()
        with packed.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        blob = Blob(f"{_PREFIX}.layer.v1.tar+{compression}", digest, packed.stat().st_size)
        packed.rename(self._blobs / digest)
        return Layer(blob, diff_id, history)

    def finish(
        self, layers: Sequence[Layer], platform: Platform, config: Mapping[str, Any], name: str, epoch: int
    ) -> Blob:
        """Write configuration, manifest and index; gives the manifest.

        config: the image's `config`. name: `REPOSITORY:TAG`. epoch: its time, in seconds since 1970.
        """
        image = self.add(_json(configuration(layers, platform, config, epoch)), f"{_PREFIX}.config.v1+json")
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_PREFIX}.manifest.v1+json",
            "config": image.descriptor(),
            "layers": [layer.blob.descriptor() for layer in layers],
        }
        blob = self.add(_json(manifest), f"{_PREFIX}.manifest.v1+json")
        entry = blob.descriptor(
            platform={"os": "linux", **platform.model_dump(exclude_none=True)},
            # The whole name, as podman and skopeo write it; containerd has a word of its own.
            annotations={"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name},
        )
        index = {"schemaVersion": 2, "mediaType": f"{_PREFIX}.index.v1+json", "manifests": [entry]}
        (self.path / "index.json").write_bytes(_json(index))
        (self.path / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
        # What `docker load` reads: Docker's "Image Specification v1.2", "Combined Image JSON + Filesystem Changeset".
        files = [f"blobs/sha256/{layer.blob.digest}" for layer in layers]
        self._combined = {"Config": f"blobs/sha256/{image.digest}", "RepoTags": [name], "Layers": files}
        return blob

    def archive(self, destination: Path, epoch: int) -> None:
        """Write the finished layout as one tar file, also for `docker load`; all in it has the time `epoch`."""
        (self.path / "manifest.json").write_bytes(_json([self._combined]))
        with tarfile.open(destination, "w", format=tarfile.USTAR_FORMAT) as tar:
            for path in sorted(self.path.rglob("*")):
                add_file(tar, str(path.relative_to(self.path)), path, epoch)


def configuration(
    layers: Sequence[Layer], platform: Platform, config: Mapping[str, Any], epoch: int
) -> dict[str, Any]:
    """The image's configuration (image-spec, "Image Configuration")."""
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "created": created,
        "os": "linux",
        **platform.model_dump(exclude_none=True),
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
        "history": [{"created": created, "created_by": layer.history} for layer in layers],
    }


def packed_as(archive: Path, destination: Path, compression: Compression | None) -> str:
    """Write the file `archive` compressed to `destination` (None: as it is); gives the sha256, in hex, of `archive`."""
    if compression == "zstd":
        process.run(["zstd", f"-{_ZSTD_LEVEL}", "-T0", "--force", "--quiet", archive, "-o", destination], capture=True)
    digest = hashlib.sha256()
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    with archive.open("rb") as source:
        if compression == "zstd":
            return hashlib.file_digest(source, "sha256").hexdigest()
        with destination.open("wb") as packed:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                packed.write(packer.compress(chunk) if compression else chunk)
            packed.write(packer.flush() if compression else b"")
    return digest.hexdigest()


def add_file(tar: tarfile.TarFile, name: str, source: Path | bytes, epoch: int, mode: int | None = None) -> None:
    """Put `source` (a file, directory or link outside, or contents) into `tar` as root's, with the time `epoch`."""
    if isinstance(source, bytes):
        entry = tarfile.TarInfo(name)
        entry.size = len(source)
        entry.mode = 0o644
    else:
        entry = tar.gettarinfo(source, name)
        if entry.islnk():
            # A second name of a file that is in the archive already, as the store has it; here each is its own.
            entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", source.stat().st_size
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = epoch
    entry.mode = entry.mode if mode is None else mode
    if isinstance(source, bytes):
        tar.addfile(entry, BytesIO(source))
    elif entry.isreg():
        with source.open("rb") as stream:
            tar.addfile(entry, stream)
    else:
        tar.addfile(entry)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
