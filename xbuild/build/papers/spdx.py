"""What went into a build as an SPDX document (version 2.3, JSON): its files, sources, packages, and what is linked."""

from __future__ import annotations

import hashlib
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from xbuild import __name__ as tool
from xbuild.base.walk import shown
from xbuild.build.papers.inputs import Origin, Package, origins, own_version, packages
from xbuild.formats.elf import ElfError, read_elf

_DOCUMENT, _ARTIFACT = "SPDXRef-DOCUMENT", "SPDXRef-Artifact"
_NOTHING = "NOASSERTION"
_CHUNK = 1 << 20
_NAMESPACE = "https://spdx.org/spdxdocs"
"""What the specification (6.5) offers to who has no site of his own."""


@dataclass(frozen=True)
class File:
    """A file of the artifact. needed, soname: what an ELF file says, in which `elf` is true."""

    name: str
    sha1: str
    sha256: str
    elf: bool = False
    needed: tuple[str, ...] = ()
    soname: str | None = None


def files_of(tar: Path) -> list[File]:
    """The regular files of a plain tar, in its order; each name of a hard link is one."""
    found = []
    with tarfile.open(tar) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isreg() or member.islnk() else None
            if stream is None:
                continue
            with stream:
                found.append(_read(shown(member.name), stream))
    return found


def _read(name: str, stream: IO[bytes]) -> File:
    sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    while more := stream.read(_CHUNK):
        sha1.update(more)
        sha256.update(more)
    file = File(name, sha1.hexdigest(), sha256.hexdigest())
    try:
        info = read_elf(stream)
    except ElfError:
        # No ELF file, or data that only looks like one.
        return file
    return replace(file, elf=True, needed=info.needed, soname=info.soname)


def sbom(told: Mapping[str, Any], files: Sequence[File]) -> dict[str, Any]:
    """The document. told: the manifest. files: those of the artifact."""
    sources, known = list(origins(told)), list(packages(told))
    title = f"{told['name']}-{told['version']}-{told['target']}"
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": title,
        "documentNamespace": f"{_NAMESPACE}/{title}-{told['artifact']['sha256']}",
        "creationInfo": {
            # Of the newest source: the same on every day.
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(told["source-date-epoch"])),
            "creators": [f"Tool: {tool}-{own_version()}"],
        },
        "packages": [
            _artifact(told, files),
            *(_source(number, origin) for number, origin in enumerate(sources, 1)),
            *(_package(number, package) for number, package in enumerate(known, 1)),
            *(_recipe(number, one) for number, one in enumerate(told.get("recipes", ()), 1)),
        ],
        "files": [_file(number, file) for number, file in enumerate(files, 1)],
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
            for one, kind, other in _relations(told, files, sources, known)
        ],
    }


def _relations(
    told: Mapping[str, Any], files: Sequence[File], sources: Sequence[Origin], known: Sequence[Package]
) -> Iterator[tuple[str, str, str]]:
    yield _DOCUMENT, "DESCRIBES", _ARTIFACT
    yield from ((_ARTIFACT, "CONTAINS", _file_id(number)) for number, _ in enumerate(files, 1))
    yield from ((_ARTIFACT, "GENERATED_FROM", f"SPDXRef-Source-{number}") for number, _ in enumerate(sources, 1))
    for number, _ in enumerate(told.get("recipes", ()), 1):
        yield f"SPDXRef-Recipe-{number}", "BUILD_DEPENDENCY_OF", _ARTIFACT
    for number, package in enumerate(known, 1):
        kind = "BUILD_TOOL_OF" if package.native else "BUILD_DEPENDENCY_OF"
        yield f"SPDXRef-Package-{number}", kind, _ARTIFACT
    numbers = {package.name: number for number, package in enumerate(known, 1) if not package.native}
    own = {file.soname or file.name.rpartition("/")[2]: number for number, file in enumerate(files, 1) if file.elf}
    linked: dict[int, None] = {}
    for number, file in enumerate(files, 1):
        for library in file.needed:
            if library in own:
                yield _file_id(number), "DYNAMIC_LINK", _file_id(own[library])
            elif (package_number := numbers.get(told["libraries"].get(library, ""))) is not None:
                linked[package_number] = None
                yield _file_id(number), "DYNAMIC_LINK", f"SPDXRef-Package-{package_number}"
    yield from ((f"SPDXRef-Package-{number}", "RUNTIME_DEPENDENCY_OF", _ARTIFACT) for number in sorted(linked))


def _artifact(told: Mapping[str, Any], files: Sequence[File]) -> dict[str, Any]:
    # As the specification has it (7.9): the SHA1 of those of the files, sorted.
    code = hashlib.sha1("".join(sorted(file.sha1 for file in files)).encode(), usedforsecurity=False).hexdigest()
    return {
        "SPDXID": _ARTIFACT,
        "name": told["name"],
        "versionInfo": told["version"],
        "packageFileName": told["artifact"]["file"],
        "downloadLocation": _NOTHING,
        "filesAnalyzed": True,
        "packageVerificationCode": {"packageVerificationCodeValue": code},
        "checksums": [_sum("SHA256", told["artifact"]["sha256"])],
        "licenseConcluded": _NOTHING,
        "licenseDeclared": told["license"] or _NOTHING,
        "copyrightText": _NOTHING,
        "primaryPackagePurpose": "ARCHIVE",
    }


def _source(number: int, origin: Origin) -> dict[str, Any]:
    words = [f"digest of the tree: {origin.tree}"] if origin.tree else []
    words += [f"commit {origin.commit}{', changed' if origin.dirty else ''}"] if origin.commit else []
    return {
        "SPDXID": f"SPDXRef-Source-{number}",
        "name": origin.name,
        **({"versionInfo": origin.version} if origin.version else {}),
        "downloadLocation": origin.address or _NOTHING,
        "filesAnalyzed": False,
        **({"checksums": [_sum("SHA256", origin.sha256)]} if origin.sha256 else {}),
        **({"sourceInfo": "; ".join(words)} if words else {}),
        "licenseConcluded": _NOTHING,
        "licenseDeclared": _NOTHING,
        "copyrightText": _NOTHING,
        "primaryPackagePurpose": "SOURCE",
        **({"externalRefs": [_reference(origin.purl)]} if origin.purl else {}),
    }


def _package(number: int, package: Package) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-Package-{number}",
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": _NOTHING,
        "filesAnalyzed": False,
        **({"checksums": [_sum("SHA256", package.sha256)]} if package.sha256 else {}),
        "licenseConcluded": _NOTHING,
        "licenseDeclared": _NOTHING,
        "copyrightText": _NOTHING,
        "externalRefs": [_reference(package.purl)],
    }


def _recipe(number: int, one: Mapping[str, Any]) -> dict[str, Any]:
    """The artifact of another recipe that this one was built with."""
    return {
        "SPDXID": f"SPDXRef-Recipe-{number}",
        "name": one["name"],
        "versionInfo": one["version"],
        "downloadLocation": _NOTHING,
        "filesAnalyzed": False,
        "checksums": [_sum("SHA256", one["sha256"])],
        "licenseConcluded": _NOTHING,
        "licenseDeclared": _NOTHING,
        "copyrightText": _NOTHING,
        "primaryPackagePurpose": "ARCHIVE",
    }


def _file(number: int, file: File) -> dict[str, Any]:
    return {
        "SPDXID": _file_id(number),
        "fileName": f"./{file.name}",
        **({"fileTypes": ["BINARY"]} if file.elf else {}),
        "checksums": [_sum("SHA1", file.sha1), _sum("SHA256", file.sha256)],
        "licenseConcluded": _NOTHING,
        "copyrightText": _NOTHING,
    }


def _file_id(number: int) -> str:
    return f"SPDXRef-File-{number}"


def _sum(algorithm: str, value: str) -> dict[str, str]:
    return {"algorithm": algorithm, "checksumValue": value}


def _reference(purl: str) -> dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
