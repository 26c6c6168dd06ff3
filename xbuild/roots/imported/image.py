"""Container images: OCI layouts and what `docker save` writes, unpacked as files; their layers, lowest first."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base.digest import file_sha256
from xbuild.base.errors import UsageError

_PLATFORMS = {("arm", "v7"): "armhf", ("arm", ""): "armhf", ("arm", "v8"): "armhf"}
_ARCHITECTURES = {"arm64": "arm64", "amd64": "amd64", "riscv64": "riscv64"}
"""Names of architectures in images (Go's GOARCH and GOARM), and Debian's; 32-bit ARM below v7 may be soft-float."""

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_LARGEST = 64 << 20
"""Bytes of JSON that are read of one file."""


@dataclass(frozen=True)
class Candidate:
    """One image of a layout. name: of its platform, for people. architecture: Debian's, if it is one we know."""

    name: str
    architecture: str | None
    descriptor: Mapping[str, Any]


def is_image(folder: Path) -> bool:
    """Whether `folder` holds an OCI layout, or an unpacked `docker save` archive, and not a root."""
    if (folder / "oci-layout").is_file():
        return True
    return (folder / "manifest.json").is_file() and not (folder / "bin").exists() and not (folder / "usr").exists()


def layers(folder: Path, architecture: str | None, title: str) -> list[Path]:
    """The files of the layers of the image in `folder`, lowest first, with their digests checked.

    architecture: which one, Debian's name, where the folder holds several; None: the only one. Raises UsageError.
    """
    reader = _Reader(folder, title)
    try:
        found = reader.oci(architecture) if (folder / "index.json").is_file() else reader.saved(architecture)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise UsageError(f"{title}: not an image as it should be: {error!r}") from error
    if not found:
        raise UsageError(f"{title}: the image has no layers")
    return found


class _Reader:
    def __init__(self, folder: Path, title: str) -> None:
        self._folder = folder
        self._title = title

    def file(self, name: str) -> Path:
        """The file `name` of the folder. Older ones have links among the layers; none may lead out of it."""
        top = self._folder.resolve()
        path = (top / name).resolve()
        if not path.is_relative_to(top):
            raise UsageError(f"{self._title}: {name!r} leads out of it")
        if not path.is_file():
            raise UsageError(f"{self._title}: {name} is missing", hint="the image is incomplete: get it again")
        return path

    def json(self, path: Path) -> Any:
        """The JSON in `path`."""
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{self._title}: {path.name} is too large")
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise UsageError(f"{self._title}: {path.name} is no JSON: {error}") from error

    def blob(self, descriptor: Mapping[str, Any]) -> Path:
        """The blob of a descriptor, if its size and digest are right."""
        digest = str(descriptor["digest"])
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise UsageError(f"{self._title}: the digest {digest!r} is of a kind that is not known")
        path = self.file(f"blobs/sha256/{digest[7:]}")
        if file_sha256(path) != digest[7:]:
            raise UsageError(f"{self._title}: damaged: {digest} has another digest", hint="get the image again")
        return path

    def oci(self, architecture: str | None) -> list[Path]:
        """By index.json: https://github.com/opencontainers/image-spec/blob/main/image-layout.md."""
        found = self.candidates(self.json(self.file("index.json"))["manifests"])
        chosen = choose(found, architecture, self._title)
        manifest = self.json(self.blob(chosen.descriptor))
        return [self.blob(layer) for layer in manifest["layers"]]

    def candidates(self, descriptors: Sequence[Mapping[str, Any]], depth: int = 0) -> list[Candidate]:
        """The images behind `descriptors`, those of nested indexes too."""
        found: list[Candidate] = []
        for descriptor in descriptors:
            if descriptor.get("mediaType") in _INDEXES and depth < 3:
                found += self.candidates(self.json(self.blob(descriptor))["manifests"], depth + 1)
                continue
            platform = descriptor.get("platform") or self._platform(descriptor)
            # What BuildKit says about an image, filed as one.
            if platform.get("architecture") != "unknown":
                found.append(candidate(platform, descriptor))
        return found

    def _platform(self, descriptor: Mapping[str, Any]) -> Mapping[str, Any]:
        config = self.json(self.blob(self.json(self.blob(descriptor))["config"]))
        return {name: config.get(name, "") for name in ("os", "architecture", "variant")}

    def saved(self, architecture: str | None) -> list[Path]:
        """By manifest.json, as docker wrote it before it wrote OCI layouts."""
        images = self.json(self.file("manifest.json"))
        found = [candidate(self.json(self.file(image["Config"])), image) for image in images]
        return [self.file(name) for name in choose(found, architecture, self._title).descriptor["Layers"]]


def candidate(platform: Mapping[str, Any], descriptor: Mapping[str, Any]) -> Candidate:
    """The image of `descriptor`, by its platform (architecture, variant, os)."""
    words = [str(platform.get(name) or "") for name in ("os", "architecture", "variant")]
    known = _PLATFORMS.get((words[1], words[2])) or _ARCHITECTURES.get(words[1])
    return Candidate("/".join(word for word in words if word), known, descriptor)


def choose(found: Sequence[Candidate], architecture: str | None, title: str) -> Candidate:
    """The one for `architecture`, or the only one. Raises UsageError, with what there is."""
    shown = ", ".join(one.name or "no platform" for one in found) or "none"
    good = [one for one in found if architecture is None or one.architecture == architecture]
    if len(good) == 1:
        return good[0]
    if len(found) == 1:
        raise UsageError(f"{title}: the image is for {shown}, not for {architecture}")
    if architecture is None:
        raise UsageError(f"{title}: it holds several images: {shown}", hint="name the target: --target armhf")
    number = "several images" if good else "no image"
    raise UsageError(f"{title}: it holds {number} for {architecture}; there are: {shown}")
