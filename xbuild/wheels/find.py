"""The project that a word of the command line means: a requirement, a sdist, or a directory."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version

from xbuild.base import log
from xbuild.base.digest import file_sha256
from xbuild.base.errors import MachineError, SourceError, UsageError
from xbuild.formats.wheel import WheelError, name_of
from xbuild.model.source import Source
from xbuild.sources import FetchContext, fetch
from xbuild.sources.download import Failure, opened, read_in_parts, shown
from xbuild.sources.index import IndexFile, configured_access, configured_directories, configured_indexes, files_of
from xbuild.store.local import Store
from xbuild.wheels.python import Python

_MOST = 4 << 20
"""Bytes of a pyproject.toml."""
_MOST_SDIST = 4 << 30
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, LookupError, OSError)
_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_BACKEND = "setuptools.build_meta:__legacy__"
_SPECIFICATIONS = "packaging.python.org, PyPA specifications: Names and normalization, Version specifiers"
_NETWORK = "check the network; `pip config list` shows the index that pip is set to use"


@dataclass(frozen=True)
class Project:
    """What a wheel is made of. name: as indexes normalise it. version: "0" where only the backend would tell.

    source: as a recipe's `sources` has it. pyproject: what pyproject.toml holds, {} without one.
    """

    name: str
    version: str
    source: Mapping[str, Any]
    pyproject: Mapping[str, Any]

    @property
    def requires(self) -> list[str]:
        """The build requirements that it states (PEP 518), and those of a project that states none."""
        table = self.pyproject.get("build-system") or {}
        asked = table.get("requires", ["setuptools"])
        if not isinstance(asked, list) or not all(isinstance(text, str) for text in asked):
            raise UsageError(f"{self.name}: build-system.requires of its pyproject.toml is no list of requirements")
        # What setuptools needed for wheels until 70.1, which a project without pyproject.toml may pin.
        return asked if table else [*asked, "wheel"]

    @property
    def backend(self) -> str:
        """The build backend, MODULE:OBJECT."""
        return str((self.pyproject.get("build-system") or {}).get("build-backend", _BACKEND))

    @property
    def directory(self) -> Path | None:
        """The directory that it is, if it is one."""
        place = self.source.get("path")
        return Path(place) if place and Path(place).is_dir() else None


def requirement_of(text: str) -> Requirement:
    """The requirement (PEP 508). Raises UsageError if it is none, or one by address."""
    try:
        found = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{text}: no requirement: {reason}", hint="for example numpy>=2") from error
    if found.url:
        raise UsageError(f"{text}: requirements by address are not fetched", hint="fetch it, and name the file")
    return found


def find(word: str, python: Python, store: Store, *, hashes: Iterable[str] = ()) -> Project:
    """The project that `word` means for `python`. hashes: the sha256 of which the sdist must have one, if any.

    Raises UsageError if it means none; SourceError and MachineError if the index or the sdist cannot be had.
    """
    place = Path(word)
    if place.is_dir() and ("/" in word or word == "."):
        return _of_directory(place.resolve())
    if word.endswith(_SUFFIXES) and "://" not in word:
        if not place.is_file():
            raise UsageError(f"{word}: no such file")
        return _of_file(place.name, place, {"path": str(place.resolve()), "sha256": file_sha256(place)})
    if word.endswith(".whl"):
        raise UsageError(f"{word} is a wheel already", hint="name the project, or its sdist")
    requirement = requirement_of(word)
    file = newest(requirement, files(requirement.name), python)
    if file.sha256 is not None and (wanted := set(hashes)) and file.sha256 not in wanted:
        details = [f"index:        {file.sha256}", *(f"requirements: {one}" for one in sorted(wanted))]
        raise SourceError(f"{file.name}: its sha256 is not one that the requirements name", details=details)
    version = version_of(file.name)
    source: dict[str, Any] = {"pypi": requirement.name, "version": version, "file": file.name, "sha256": file.sha256}
    if file.address.startswith("file:"):
        source = {"url": file.address, "sha256": file.sha256}
    fetched = fetch(Source.model_validate(source), FetchContext(store, lambda: (), Path("/")))
    return _of_file(file.name, fetched, source)


def files(project: str) -> list[IndexFile]:
    """The sdists and wheels of `project` in all indexes, and directories, that pip is set to use.

    Raises SourceError, or MachineError if no index answered, where there is no sdist.
    """
    found: list[IndexFile] = []
    failures: list[Failure] = []
    for index in configured_indexes():
        try:
            found += files_of(index, project)
        except Failure as failure:
            log.detail(f"{failure.address}: {failure.reason}")
            failures.append(failure)
    for folder in configured_directories():
        found += [IndexFile(file.name, file.as_uri()) for file in sorted(folder.iterdir()) if file.is_file()]
    if any(_version(file, project) is not None for file in found):
        return found
    details = [f"{failure.address}: {failure.reason}" for failure in failures]
    if failures and all(failure.unreachable for failure in failures):
        raise MachineError(f"no package index answers for {project}", details=details, hint=_NETWORK)
    broken = [failure for failure in failures if "not a page" in failure.reason or failure.passing]
    if broken:
        raise SourceError(f"{project}: an index gave no page that can be read", details=details, hint=_NETWORK)
    has = "has wheels, but no sdist" if any(_is_wheel(file, project) for file in found) else "is not known"
    raise SourceError(f"{project} {has} in the index that pip is set to use", details=details)


def _is_wheel(file: IndexFile, project: str) -> bool:
    """Whether it is a wheel of `project`: a directory has those of others too."""
    with suppress(WheelError):
        return name_of(file.name).project == canonicalize_name(project)
    return False


def has_pure(files: Iterable[IndexFile], project: str, version: str) -> bool:
    """Whether one of the files is the wheel of this version for any machine."""
    wanted = (canonicalize_name(project), Version(version), "pure")
    for file in files:
        with suppress(WheelError, InvalidVersion):
            name = name_of(file.name)
            if (name.project, Version(name.version), name.kind) == wanted:
                return True
    return False


def newest(requirement: Requirement, files: Iterable[IndexFile], python: Python) -> IndexFile:
    """The newest sdist that fits, with its sha256. Raises SourceError if none does."""
    known = [(version, file) for file in files if (version := _version(file, requirement.name)) is not None]
    fitting = [(version, file) for version, file in known if _runs(file, python)]
    allowed = set(requirement.specifier.filter({version for version, _ in fitting}))
    exact = any(one.operator in ("==", "===") for one in requirement.specifier)
    chosen = [(version, file) for version, file in fitting if version in allowed and (exact or not file.yanked)]
    if not chosen:
        versions = ", ".join(map(str, sorted({version for version, _ in known})[-8:]))
        message = f"{requirement}: no sdist fits, for python {python.version}"
        raise SourceError(message, details=[f"the newest sdists: {versions}"], hint="another version?")
    best = max(version for version, _ in chosen)
    file = next(file for version, file in chosen if version == best)
    return file if file.sha256 else IndexFile(file.name, file.address, _digest_of(file.address))


def version_of(sdist: str) -> str:
    """The version in the name of a sdist."""
    return str(parse_sdist_filename(_plain(sdist))[1])


def _plain(name: str) -> str:
    """The name of a sdist with the ending that packaging's parser knows."""
    return re.sub(r"\.(?:tgz|tar\.bz2|tar\.xz)$", ".tar.gz", name)


def _version(file: IndexFile, project: str) -> Version | None:
    try:
        name, version = parse_sdist_filename(_plain(file.name))
    except (InvalidSdistFilename, InvalidVersion):
        return None
    return version if name == canonicalize_name(project) else None


def _runs(file: IndexFile, python: Python) -> bool:
    try:
        return not file.requires_python or SpecifierSet(file.requires_python).contains(python.version)
    except InvalidSpecifier:
        return True


def _digest_of(address: str) -> str:
    """The sha256 of what is at `address`, where an index does not tell it."""
    digest = hashlib.sha256()
    try:
        with opened(address, {}, configured_access()) as (answer, _, _):
            for part in read_in_parts(answer, address, _MOST_SDIST):
                digest.update(part)
    except Failure as failure:
        raise SourceError(f"{shown(address)}: {failure.reason}") from failure
    return digest.hexdigest()


def _of_directory(top: Path) -> Project:
    if not any((top / name).is_file() for name in ("pyproject.toml", "setup.py")):
        message = f"{top}: no Python project: it has neither pyproject.toml nor setup.py"
        raise UsageError(message, hint="a recipe for another build system: docs/recipes.md")
    file = top / "pyproject.toml"
    table = _parsed(file.read_bytes(), str(file)) if file.is_file() else {}
    name, version = _named(table, file)
    return Project(name or _allowed(top.name), version, {"path": str(top)}, table)


def _named(table: Mapping[str, Any], file: Path) -> tuple[str, str]:
    """Name, "" if there is none, and version of a project. Raises UsageError for what can be none: both name files."""
    project = table.get("project")
    project = project if isinstance(project, dict) else {}
    name, version = (str(project.get(word) or "") for word in ("name", "version"))
    for word, value, sound in (("name", name, _is_name(name)), ("version", version, _is_version(version))):
        if value and not sound:
            raise UsageError(f"{file}: project.{word} can be none of a Python project: {value!r}", hint=_SPECIFICATIONS)
    return canonicalize_name(name), version or "0"


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text) is not None


def _is_version(text: str) -> bool:
    with suppress(InvalidVersion):
        return bool(Version(text))
    return False


def _allowed(name: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", canonicalize_name(name)).strip("-")[:80] or "project"


def _of_file(name: str, file: Path, source: Mapping[str, Any]) -> Project:
    """The project of a sdist, whose pyproject.toml is read without unpacking it."""
    try:
        project, version = parse_sdist_filename(_plain(name))
    except (InvalidSdistFilename, InvalidVersion) as error:
        raise UsageError(f"{name}: not the name of a sdist: NAME-VERSION.tar.gz") from error
    try:
        texts = _of_zip(file) if name.endswith(".zip") else _of_tar(file)
    except _DAMAGE as error:
        raise SourceError(f"{name}: damaged: {error}", hint="fetch it once more") from error
    table = _parsed(texts["pyproject.toml"], f"{name}: pyproject.toml") if "pyproject.toml" in texts else {}
    return Project(project, str(version), source, table)


def _of_tar(file: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(file, "r:*") as tar:
        for member in tar:
            if member.isreg() and (name := _at_top(member.name)):
                stream = tar.extractfile(member)
                found[name] = stream.read(_MOST) if stream else b""
    return found


def _of_zip(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        names = {name: found for found in archive.namelist() if (name := _at_top(found))}
        return {name: io.BytesIO(archive.read(found)).read(_MOST) for name, found in names.items()}


def _at_top(path: str) -> str | None:
    parts = PurePosixPath(path).parts
    return parts[1] if len(parts) == 2 and parts[1] == "pyproject.toml" else None


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: {error}") from error
