"""What an imported root is: for which machine, of which distribution and release, with which libc."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xbuild.base.errors import UsageError
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ElfError, read_elf

_PLAIN = ("etc", "usr", "var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/info")
"""Directories that are read from outside: behind a link another file of the machine could be meant."""

_INSIDE = ("usr/bin", "usr/lib", "usr/sbin")
"""These may be links that stay in the tree, from outside too (`prepare` in sandbox/unpack.py makes them so)."""

_READ = ("var/lib/dpkg/status", "lib/apk/db/installed")
_ROLLING = {"unstable": "sid", "testing": "testing", "sid": "sid"}


@dataclass(frozen=True)
class Facts:
    """machine, elf_class, data, float_abi: of /bin/sh, as in a toolchain's `elf`. interpreter: the loader, if any.

    libc: glibc, musl or unknown (all that was found is static). distribution: ID of os-release(5). family: debian (dpkg
    and apt), alpine (apk) or other. suite: the Debian release that it is, if it is one. merged: /bin is /usr/bin.
    """

    machine: str
    elf_class: int
    data: str
    float_abi: str | None
    interpreter: str | None
    libc: str
    distribution: str
    pretty: str
    family: str
    suite: str | None
    merged: bool

    def as_json(self) -> dict[str, Any]:
        """For the store, and for people's programs."""
        return asdict(self)

    @property
    def kind(self) -> str:
        """The machine in words: `ARM, 32 bit, hard float`."""
        return f"{self.machine}, {self.elf_class} bit" + (f", {self.float_abi} float" if self.float_abi else "")


def examine(tree: Path, title: str) -> Facts:
    """The facts of the root in the directory `tree`. Raises UsageError if it is none, or cannot be entered."""
    try:
        return _examine(tree, title)
    except PermissionError as error:
        raise UsageError(f"{title}: {error.filename} must be readable for everybody, as in every root") from error


def _examine(tree: Path, title: str) -> Facts:
    for name in _PLAIN:
        if (tree / name).is_symlink():
            raise UsageError(f"{title}: /{name} is a symbolic link", hint="xbuild needs a directory there")
    for name in _INSIDE:
        if (tree / name).is_symlink() and not (tree / name).resolve().is_relative_to(tree.resolve()):
            raise UsageError(f"{title}: /{name} is a symbolic link to nothing", hint="xbuild needs a directory there")
    for name in _READ:
        place = tree / name
        if place.is_symlink() or (place.exists() and not place.is_file()):
            what = "a symbolic link" if place.is_symlink() else "no file"
            raise UsageError(f"{title}: /{name} is {what}", hint="xbuild needs a file there")
    known = Tree([tree])
    shell, program = known.located("/bin/sh") or ("", None)
    if program is None or not program.is_file():
        entries = ", ".join(sorted(path.name for path in tree.iterdir())[:12])
        raise UsageError(f"{title}: it has no /bin/sh; at its top: {entries}", hint="is it a root, and all of it?")
    try:
        info = read_elf(program)
    except ElfError as error:
        raise UsageError(f"{title}: /bin/sh ({shell}): {error.reason}") from error
    if info.interpreter and known.real_path(info.interpreter) is None:
        raise UsageError(f"{title}: /bin/sh asks for the loader {info.interpreter}, which is missing in it")
    release = os_release(known)
    family = _family(known)
    return Facts(
        machine=info.machine,
        elf_class=info.elf_class,
        data=info.data,
        # A file without floating point says nothing; its loader's name does.
        float_abi=info.float_abi or ("hard" if "armhf" in (info.interpreter or "") else None),
        interpreter=info.interpreter or _musl_loader(known),
        libc=_libc(known, info.interpreter),
        distribution=release.get("ID", "unknown"),
        pretty=release.get("PRETTY_NAME", "unknown distribution"),
        family=family,
        suite=_suite(known, release) if release.get("ID") == "debian" and family == "debian" else None,
        merged=(tree / "bin").is_symlink(),
    )


def _text(tree: Tree, path: str) -> str:
    return tree.text(path) or ""


def os_release(tree: Tree) -> dict[str, str]:
    """The fields of os-release(5); {} if there is none."""
    text = _text(tree, "/etc/os-release") or _text(tree, "/usr/lib/os-release")
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        if equals and not name.startswith("#"):
            found[name.strip()] = " ".join(words)
    return found


def _family(tree: Tree) -> str:
    if tree.find("/var/lib/dpkg/status"):
        return "debian"
    return "alpine" if tree.find("/lib/apk/db/installed") else "other"


def _musl_loader(tree: Tree) -> str | None:
    """The loader of a musl root whose shell is static; its file names the machine."""
    folder = None if (tree.layers[0] / "lib").is_symlink() else tree.find("/lib")
    names = [path.name for path in folder.glob("ld-musl-*.so.1")] if folder is not None else []
    return f"/lib/{names[0]}" if len(names) == 1 else None


def _libc(tree: Tree, interpreter: str | None) -> str:
    if interpreter:
        return "musl" if "/ld-musl-" in interpreter else "glibc"
    # A static shell says nothing; the loader that the others name does.
    folder = tree.find("/lib") if not (tree.layers[0] / "lib").is_symlink() else tree.find("/usr/lib")
    names = [path.name for path in folder.iterdir()] if folder is not None else []
    if any(name.startswith("ld-musl-") for name in names):
        return "musl"
    return "glibc" if any(name.startswith("ld-linux") for name in names) else "unknown"


def _suite(tree: Tree, release: Mapping[str, str]) -> str | None:
    # Testing and unstable name the same release; debian_version has forky/sid in both.
    sources = _text(tree, "/etc/apt/sources.list")
    for name in sorted(tree.names("/etc/apt/sources.list.d")):
        sources += "\n" + _text(tree, f"/etc/apt/sources.list.d/{name}")
    if _text(tree, "/etc/debian_version").strip().endswith("/sid"):
        words = sources.split()
        return next((_ROLLING[word] for word in words if word in _ROLLING), release.get("VERSION_CODENAME"))
    return release.get("VERSION_CODENAME")
