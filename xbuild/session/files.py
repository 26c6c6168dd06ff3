"""What a user's own program sees of the machine, and what of the target: files, environment, names of users.

The target root is `/`. What belongs to the machine's own system (its programs, libraries, settings) is not shown:
programs of another architecture could only be misled by it. Everything else is, at the same paths.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from xbuild.formats.debian import Place, Tree
from xbuild.sandbox.mounts import Bind, Text
from xbuild.session import personal

_SYSTEM = frozenset(
    {"bin", "boot", "etc", "lib", "lib32", "lib64", "libx32", "lost+found", "proc", "root", "run", "sbin", "usr", "var"}
)
"""Directories of `/` that are a system's own (Filesystem Hierarchy Standard 3.0), for which the target root has its
own. /dev and /sys are the machine's: there is no other."""

_MACHINES = frozenset(
    {
        "PATH", "LD_PRELOAD", "LD_AUDIT", "QEMU_LD_PREFIX", "GCONV_PATH", "LOCPATH", "NLSPATH", "PYTHONHOME",
        "PYTHONPATH", "VIRTUAL_ENV", "PERL5LIB", "PERLLIB", "GIO_EXTRA_MODULES", "GTK_PATH", "XDG_DATA_DIRS",
        "XDG_CONFIG_DIRS",
    }
)  # fmt: skip
"""Variables that name programs, libraries and data of the machine's own system."""

_LOCALES = ("C", "POSIX", "C.UTF-8", "C.utf8")
"""Locales that every root has."""


class View(Tree):
    """What a session sees: `binds` over the layers of a tree."""

    def __init__(self, layers: Sequence[Path], binds: Iterable[Bind]) -> None:
        super().__init__(layers)
        self.binds = sorted(binds, key=lambda bind: len(bind.target), reverse=True)

    def find(self, path: str) -> Path | None:
        """The file outside that `path` (absolute, as seen inside, no links on the way) is; None if there is none."""
        for bind in self.binds:
            if path == bind.target or path.startswith(bind.target + "/"):
                place = Path(bind.source + path.removeprefix(bind.target))
                return place if place.is_symlink() or place.exists() else None
        return super().find(path)

    def entries(self, path: str, folders: Sequence[str]) -> list[Place]:
        """What is at `path`: a bind, or else what its directory holds."""
        for bind in self.binds:
            if path == bind.target and os.path.lexists(bind.source):
                return [(bind.source, os.lstat(bind.source).st_mode)]
        return super().entries(path, folders)


def machine_directories(root: Path = Path("/")) -> list[Bind]:
    """All of the machine that is no part of its system; a link to a directory shows the directory."""
    paths = [path for path in sorted(root.iterdir()) if path.name not in _SYSTEM and path.is_dir()]
    binds = [Bind(str(path.resolve()), f"/{path.name}") for path in paths]
    return [*binds, Bind(str(root / "var/tmp"), "/var/tmp")] if (root / "var/tmp").is_dir() else binds


def further(wanted: Iterable[Path], shown: Sequence[Bind], tree: Tree) -> list[Bind]:
    """Binds for those of the directories and files `wanted` that are not shown yet.

    A directory that the target root has too stays the target's own: the machine's would hide it.
    """
    binds = list(shown)
    for path in wanted:
        real = Path(os.path.normpath(path))
        covered = any(real == Path(bind.target) or Path(bind.target) in real.parents for bind in binds)
        if covered or not real.exists() or len(real.parts) < 2:
            continue
        if real.is_dir() and tree.real_path(str(real)) is not None:
            continue
        binds.append(Bind(str(real.resolve()), _without_links(real, tree)))
    return binds[len(shown) :]


def _without_links(path: Path, tree: Tree) -> str:
    """Where `path` is in the tree once links on the way (/bin, /lib) are followed; it need not be there itself."""
    for parent in path.parents:
        if (place := tree.real_path(str(parent))) is not None:
            return os.path.join(place, path.relative_to(parent))  # noqa: PTH118  (a path inside)
    return str(path)


def wanted(environment: Mapping[str, str], program: Path | None) -> list[Path]:
    """What a user's program needs to see, wherever it is: his directories, this one, the program and its neighbours."""
    names = [environment.get(name) for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR")]
    paths = [Path(name) for name in names if name and PurePosixPath(name).is_absolute()]
    paths += [Path.cwd(), *personal.named(environment)]
    for path in dict.fromkeys((program, program.resolve())) if program else ():
        paths += [path.parent, path]
    return paths


def settings(tree: Tree, uid: int, gid: int) -> list[Text]:
    """The few files of /etc that are about the user and his world, not about a system."""
    files: list[Text] = []
    for path in ("/etc/resolv.conf", "/etc/hosts", "/etc/localtime"):
        machine = Path(path)
        if machine.exists():
            files.append(Text(path, machine.read_bytes().decode("latin-1")))
    for path, line in (("/etc/passwd", _user(uid, gid)), ("/etc/group", _group(gid))):
        own = tree.find(path)
        text = own.read_bytes().decode("latin-1") if own else ""
        number = line.split(":")[2]
        if all(entry.split(":")[2:3] != [number] for entry in text.splitlines()):
            text += line.encode().decode("latin-1")
        files.append(Text(path, text))
    return files


def _user(uid: int, gid: int) -> str:
    try:
        user = pwd.getpwuid(uid)
        return f"{user.pw_name}:x:{uid}:{gid}:{user.pw_gecos}:{user.pw_dir}:/bin/sh\n"
    except KeyError:
        return f"user:x:{uid}:{gid}::/:/bin/sh\n"


def _group(gid: int) -> str:
    try:
        return f"{grp.getgrgid(gid).gr_name}:x:{gid}:\n"
    except KeyError:
        return f"user:x:{gid}:\n"


def variables(environment: Mapping[str, str], path: str, tree: Tree) -> dict[str, str]:
    """`environment` without what belongs to the machine; path: the target's own PATH."""
    names = [name for name in environment if name not in _MACHINES and not name.startswith("XBUILD_")]
    kept = {name: environment[name] for name in names}
    for name in [name for name in kept if name == "LANG" or name.startswith("LC_")]:
        if kept[name] not in _LOCALES and not _has_locale(tree, kept[name]):
            kept[name] = "C.UTF-8"
    if (shell := kept.get("SHELL")) and tree.real_path(shell) is None:
        kept["SHELL"] = "/bin/sh"
    return {**kept, "PATH": path}


def _has_locale(tree: Tree, name: str) -> bool:
    return any(tree.find(f"/usr/lib/locale/{file}") for file in (name, "locale-archive"))
