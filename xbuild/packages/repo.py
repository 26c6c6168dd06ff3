"""An apt repository of one's own: packages are added, indexes written anew, all or nothing, whatever cuts it off."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from xbuild.base import log, process
from xbuild.base.digest import file_sha256
from xbuild.base.errors import MachineError, UsageError
from xbuild.formats.deb822 import Fields, paragraphs, unsigned
from xbuild.sandbox.run import exchange_trees

SUITE = "local"
_POOL, _COMPONENT, _LOCK = "pool", "main", ".lock"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGITS = 16
"""Of a package's sha256 in the name of its directory: the same version may be built again with other contents, and who
reads the old index must find the old one until there is a new index."""


@dataclass(frozen=True)
class Package:
    """One in a repository. text: its paragraph in the index."""

    fields: Fields
    text: str

    @classmethod
    def read(cls, text: str) -> Package:
        """One from its paragraph. Raises ValueError for what is none."""
        fields = next(paragraphs(text))
        if missing := {"Package", "Version", "Architecture", "Filename", "SHA256"} - fields.keys():
            raise ValueError(f"no {', '.join(sorted(missing))}")
        return cls(fields, text)

    @property
    def identity(self) -> tuple[str, str, str]:
        """Name, version, architecture: of these there is one in a repository."""
        return self.fields["Package"], self.fields["Version"], self.fields["Architecture"]


@dataclass(frozen=True)
class Published:
    """What a repository has now. added: names of files that came in. signed: by a key of the user's."""

    place: Path
    suite: str
    architectures: tuple[str, ...]
    packages: tuple[Package, ...]
    added: tuple[str, ...]
    signed: bool

    @property
    def line(self) -> str:
        """For a file sources.list."""
        option = "" if self.signed else "[trusted=yes] "
        return f"deb {option}file:{self.place} {self.suite} {_COMPONENT}"


def publish(
    place: Path, words: Sequence[Path], *, suite: str = SUITE, architectures: Iterable[str] = (), key: str | None = None
) -> Published:
    """Add packages to the repository in the directory `place`, which is made, and write its index.

    words: .deb files, .changes files (the packages that they name), directories (all packages below). What is there
    stays; the same version of a package with other contents replaces it. architectures: those that there is an index
    for, besides those of its packages. key: gpg signs by it. Raises UsageError for a word that is none, or a
    directory that cannot be written to; MachineError for a full disk.
    """
    if not _NAME.fullmatch(suite):
        raise UsageError(f"--suite must be a plain name, not {suite!r}", hint="for example --suite trixie-local")
    files = [file for word in words for file in _packages_of(word)]
    new = {file: described(file) for file in files}
    if key is not None:
        _gpg(key, "--list-secret-keys", key)
    try:
        with _locked(place):
            return _publish(place, new, suite, set(architectures), key)
    except OSError as error:
        lacking = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        message, hint = f"{error.filename or place}: {error.strerror}", "the repository is as it was before"
        raise (MachineError if lacking else UsageError)(message, hint=hint) from error


def _packages_of(word: Path) -> list[Path]:
    if word.is_dir():
        return sorted(file for file in word.rglob("*.deb") if file.is_file())
    if not word.is_file():
        raise UsageError(f"{word}: no such file", hint="packages, .changes files and directories can be added")
    if word.suffix == ".changes":
        return _of_changes(word)
    if word.suffix != ".deb":
        raise UsageError(f"{word}: is no .deb file", hint="packages, .changes files and directories can be added")
    return [word]


def _of_changes(file: Path) -> list[Path]:
    """The packages that a .changes file names (deb-changes(5)), as it says they are."""
    try:
        fields = next(paragraphs(unsigned(file.read_text(encoding="utf-8", errors="replace"))), {})
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from error
    sums = [line.split() for line in fields.get("Checksums-Sha256", "").splitlines() if line.strip()]
    found = []
    for sha256, _, name in (words for words in sums if len(words) == 3 and words[2].endswith(".deb")):
        path = file.parent / Path(name).name
        if not path.is_file() or file_sha256(path) != sha256:
            raise UsageError(f"{path}: is not the file that {file.name} names", hint="build the package again")
        found.append(path)
    return found


def described(file: Path) -> tuple[str, str]:
    """The sha256 of a package, and its paragraph without the name of the file (deb-control(5))."""
    done = process.run(["dpkg-deb", "--field", file], capture=True, check=False)
    text = done.stdout.decode(errors="surrogateescape").strip("\n")
    if done.returncode or not text:
        said = done.stderr.decode(errors="replace").splitlines()
        raise UsageError(f"{file}: is no Debian package", details=said[-5:])
    data = file.read_bytes()
    digests = {"MD5sum": hashlib.md5(data, usedforsecurity=False), "SHA256": hashlib.sha256(data)}
    lines = [f"Size: {len(data)}", *(f"{name}: {digest.hexdigest()}" for name, digest in digests.items())]
    return digests["SHA256"].hexdigest(), "\n".join((text, *lines))


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Alone in the repository; the kernel gives it free, however we end."""
    place.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _publish(
    place: Path, new: Mapping[Path, tuple[str, str]], suite: str, architectures: set[str], key: str | None
) -> Published:
    current = place / "dists" / suite
    if key is None and (current / "InRelease").exists():
        hint = "name the key again (--sign KEY), or another --suite"
        raise UsageError(f"{current}: is signed, and would lose its signature", hint=hint)
    packages = {package.identity: package for package in _present(current)}
    known = {path.name.removeprefix("binary-") for path in current.glob(f"{_COMPONENT}/binary-*")}
    for file, (sha256, text) in new.items():
        package = _pooled(place, file, sha256, text)
        packages[package.identity] = package
    listed = tuple(packages[identity] for identity in sorted(packages))
    own = {package.fields["Architecture"] for package in listed} - {"all"}
    names = tuple(sorted(known | architectures | own | (set() if own or architectures or known else {"all"})))
    staging = current.with_name(f".{suite}.new")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _write(staging, suite, names, listed)
        if key is not None:
            _sign(staging, key)
        if current.exists():
            exchange_trees(staging, current)
        else:
            staging.rename(current)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _sweep(place)
    return Published(place, suite, names, listed, tuple(file.name for file in new), key is not None)


def _present(suite: Path) -> list[Package]:
    """What the index has."""
    found = []
    for file in sorted(suite.glob(f"{_COMPONENT}/binary-*/Packages")):
        text = file.read_text(errors="surrogateescape")
        try:
            found += [Package.read(part.strip("\n")) for part in re.split(r"\n{2,}", text) if part.strip()]
        except ValueError as error:
            raise UsageError(f"{file}: {error}", hint="remove `dists`, and add the packages again") from error
    return found


def _pooled(place: Path, file: Path, sha256: str, text: str) -> Package:
    """The package in the pool, under a name of its own; no file there changes."""
    fields = next(paragraphs(text))
    version = fields["Version"].partition(":")[2] or fields["Version"]
    name = f"{fields['Package']}_{version}_{fields['Architecture']}.deb"
    relative = Path(_POOL, sha256[:_DIGITS], name)
    target = place / relative
    if not target.exists() or file_sha256(target) != sha256:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_suffix(".new")
        shutil.copyfile(file, beside)
        _sync(beside)
        beside.replace(target)
    return Package.read(f"{text}\nFilename: {relative}")


def _write(place: Path, suite: str, architectures: Sequence[str], packages: Sequence[Package]) -> None:
    """The index, as apt wants it (wiki.debian.org/DebianRepository/Format)."""
    for architecture in architectures:
        folder = place / _COMPONENT / f"binary-{architecture}"
        folder.mkdir(parents=True)
        own = [package.text for package in packages if package.fields["Architecture"] in (architecture, "all")]
        data = "".join(f"{text}\n\n" for text in own).encode(errors="surrogateescape")
        (folder / "Packages").write_bytes(data)
        (folder / "Packages.gz").write_bytes(gzip.compress(data, mtime=0))
    files = sorted(file for file in place.rglob("Packages*"))
    lines = ["Origin: xbuild", "Label: xbuild", f"Suite: {suite}", f"Codename: {suite}"]
    lines += [f"Date: {formatdate(usegmt=True)}", f"Architectures: {' '.join(architectures)}"]
    lines += [f"Components: {_COMPONENT}", "SHA256:"]
    lines += [f" {file_sha256(file)} {file.stat().st_size} {file.relative_to(place)}" for file in files]
    (place / "Release").write_text("\n".join(lines) + "\n")
    for file in (*files, place / "Release"):
        _sync(file)


def _sign(place: Path, key: str) -> None:
    for kind, name in (("--clearsign", "InRelease"), ("-ab", "Release.gpg")):
        files = ["--output", str(place / name), str(place / "Release")]
        _gpg(key, "--yes", "--local-user", key, kind, *files)


def _gpg(key: str, *words: str) -> None:
    """Raises UsageError, which tells of the key, if gpg cannot."""
    done = process.run(["gpg", "--batch", *words], capture=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines()
        raise UsageError(f"--sign {key}: gpg could not sign", details=said[-5:], hint="`gpg --list-secret-keys`")


def _sweep(place: Path) -> None:
    """Remove from the pool what no index names."""
    named = {place / package.fields["Filename"] for suite in (place / "dists").iterdir() for package in _present(suite)}
    for folder in (place / _POOL).glob("[0-9a-f]" * _DIGITS):
        for file in folder.iterdir():
            if file not in named:
                file.unlink()
                log.detail(f"{file.name}: no longer named")
        with contextlib.suppress(OSError):
            folder.rmdir()


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
