"""What a sandbox's file system consists of, as objects: made outside, carried as JSON, executed inside.

Standard library only, like everything that a starting sandbox loads.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from xbuild.sandbox import syscalls as sys_

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_outside: dict[str, int] = {}
"""Descriptors of what has been opened outside, by path."""


def open_outside(path: str) -> None:
    """Open `path`, so that it can be mounted by who may not reach it by its name."""
    if path not in _outside:
        _outside[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)


def close_outside() -> None:
    """Close all that was opened outside: whoever gets hold of it would be outside."""
    for descriptor in _outside.values():
        os.close(descriptor)
    _outside.clear()


def outside(path: str) -> str:
    """A name of what `path` outside is, opened by now. No mount option can be made of it but the one that is meant."""
    open_outside(path)
    return f"/proc/self/fd/{_outside[path]}"


def made_outside(path: str, uid: int) -> int:
    """A descriptor of the file `path` outside, made empty, which `uid` inside may write to and all may read.

    Root inside must own its directory.
    """
    folder, _, name = path.rpartition("/")
    open_outside(folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o644, dir_fd=_outside[folder])
    os.fchown(descriptor, uid, uid)
    os.fchmod(descriptor, 0o644)
    return descriptor


def _place(root: str, path: str, *, directory: bool) -> str:
    """The mount point `path` (absolute, as seen inside) below `root`, made if it is not there.

    Links on the way are refused: a build could have laid one that leads out of its root.
    """
    place = Path(root)
    parts = Path(path).parts[1:]
    if not path.startswith("/") or ".." in parts:
        raise OSError(f"mount point {path} is not an absolute path without `..`")
    for number, part in enumerate(parts):
        place = place / part
        if place.is_symlink():
            raise OSError(f"mount point {path}: {place} is a symbolic link")
        if not place.exists():
            if directory or number < len(parts) - 1:
                place.mkdir(mode=0o755)
            else:
                place.touch()
    return str(place)


@dataclass(frozen=True)
class Bind:
    """Show `source` (a path outside) at `target` (a path inside).

    writer: the file `source` is made anew, for this user inside to write to; see `made_outside`.
    """

    kind: ClassVar[str] = "bind"
    source: str
    target: str
    readonly: bool = False
    writer: int | None = None

    @property
    def outside(self) -> tuple[str, ...]:
        """What has to be opened outside."""
        return (self.source if self.writer is None else self.source.rpartition("/")[0],)

    def execute(self, root: str) -> None:
        """Do it, below the directory `root` that becomes the sandbox's `/`."""
        made = None if self.writer is None else made_outside(self.source, self.writer)
        source = outside(self.source) if made is None else f"/proc/self/fd/{made}"
        place = _place(root, self.target, directory=Path(source).is_dir())
        sys_.mount(source, place, None, sys_.MS_BIND | sys_.MS_REC)
        if made is not None:
            os.close(made)
        if self.readonly:
            flags = sys_.MS_REMOUNT | sys_.MS_BIND | sys_.MS_RDONLY | sys_.MS_NOSUID | sys_.MS_NODEV
            # A flag of the machine's own mount cannot be taken away in a user namespace (mount_namespaces(7)).
            flags |= sys_.MS_NOEXEC if os.statvfs(place).f_flag & os.ST_NOEXEC else 0
            sys_.mount("none", place, None, flags)

    def describe(self) -> str:
        """One line for people."""
        return f"bind {self.source} at {self.target}{' (read-only)' if self.readonly else ''}"


@dataclass(frozen=True)
class Overlay:
    """An overlay: `lowers` (paths outside, topmost first), changes going to `upper`; `work` is the kernel's own.

    Without `upper` the result is read-only; with `memory` changes go to memory and end with the sandbox.
    """

    kind: ClassVar[str] = "overlay"
    lowers: tuple[str, ...]
    upper: str | None
    work: str | None
    target: str = "/"
    memory: bool = False

    @property
    def outside(self) -> tuple[str, ...]:
        """What has to be opened outside."""
        return (*self.lowers, *(path for path in (self.upper, self.work) if path))

    def execute(self, root: str) -> None:
        """Do it, below the directory `root` that becomes the sandbox's `/`."""
        place = root if self.target == "/" else _place(root, self.target, directory=True)
        if self.memory:
            _overlay_in_memory(place, self.lowers)
            return
        if self.upper is None and len(self.lowers) == 1:
            sys_.mount(outside(self.lowers[0]), place, None, sys_.MS_BIND)
            sys_.mount("none", place, None, sys_.MS_REMOUNT | sys_.MS_BIND | sys_.MS_RDONLY)
            return
        _overlay(place, self.lowers, self.upper, self.work)

    def describe(self) -> str:
        """One line for people."""
        return f"overlay at {self.target}: {' over '.join((self.upper or 'nothing', *self.lowers))}"


def _overlay_in_memory(place: str, lowers: tuple[str, ...]) -> None:
    """An overlay whose upper directory lies in memory, in a file system at `place` that it then covers."""
    sys_.mount("tmpfs", place, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0755")
    for name in ("upper", "work"):
        Path(place, name).mkdir(mode=0o755)
    covered = os.open(place, os.O_PATH | os.O_DIRECTORY)
    try:
        _overlay(place, lowers, f"{place}/upper", f"{place}/work")
        # A directory that holds `place` may be shown inside the new root: without the new root once more in it.
        sys_.mount("none", f"/proc/self/fd/{covered}", None, sys_.MS_UNBINDABLE)
    finally:
        os.close(covered)


def _overlay(place: str, lowers: tuple[str, ...], upper: str | None, work: str | None) -> None:
    # userxattr: without it an unprivileged overlay cannot mark a deleted lower directory (EIO). index=off: an
    # upper directory may be mounted again after a crash. xino=off: inode numbers are those of the real files.
    options = ["lowerdir=" + ":".join(outside(lower) for lower in lowers)]
    if upper is not None and work is not None:
        options += [f"upperdir={outside(upper)}", f"workdir={outside(work)}"]
    options += ["userxattr", "index=off", "xino=off", "metacopy=off"]
    sys_.mount("overlay", place, "overlay", sys_.MS_NODEV, ",".join(options))


@dataclass(frozen=True)
class Text:
    """A small file at `target` with these contents, each character a byte; what is there is replaced.

    It is for a root that is writable. In one whose files have owners that are unknown inside it cannot be written, and
    then is not there.
    """

    kind: ClassVar[str] = "text"
    target: str
    text: str

    def execute(self, root: str) -> None:
        """Do it, below the directory `root` that becomes the sandbox's `/`."""
        place = Path(root, self.target.lstrip("/"))
        with contextlib.suppress(FileNotFoundError):
            # Of a link the link itself, wherever it leads.
            try:
                place.unlink()
            except OSError as error:
                if error.errno in (errno.EOVERFLOW, errno.EPERM):
                    return
                raise
        try:
            Path(_place(root, self.target, directory=False)).write_bytes(self.text.encode("latin-1"))
        except OSError as error:
            if error.errno not in (errno.EOVERFLOW, errno.EPERM):
                raise

    def describe(self) -> str:
        """One line for people."""
        return f"{self.target}: {len(self.text)} bytes"


@dataclass(frozen=True)
class Tmpfs:
    """An empty file system in memory at `target`; `mode` in octal, as text."""

    kind: ClassVar[str] = "tmpfs"
    target: str
    mode: str = "0755"

    def execute(self, root: str) -> None:
        """Do it, below the directory `root` that becomes the sandbox's `/`."""
        place = _place(root, self.target, directory=True)
        sys_.mount("tmpfs", place, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, f"mode={self.mode}")

    def describe(self) -> str:
        """One line for people."""
        return f"tmpfs at {self.target}"


@dataclass(frozen=True)
class Proc:
    """/proc of the sandbox's own pid namespace."""

    kind: ClassVar[str] = "proc"
    target: str = "/proc"

    def execute(self, root: str) -> None:
        """Do it, below the directory `root` that becomes the sandbox's `/`."""
        place = _place(root, self.target, directory=True)
        sys_.mount("proc", place, "proc", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)

    def describe(self) -> str:
        """One line for people."""
        return f"proc at {self.target}"


@dataclass(frozen=True)
class Devices:
    """A minimal /dev: the harmless devices, pseudo terminals of its own, and shared memory."""

    kind: ClassVar[str] = "devices"
    target: str = "/dev"

    def execute(self, root: str) -> None:
        """Do it, below the directory `root` that becomes the sandbox's `/`."""
        place = Path(_place(root, self.target, directory=True))
        sys_.mount("tmpfs", str(place), "tmpfs", sys_.MS_NOSUID, "mode=0755")
        for name in _DEVICES:
            (place / name).touch()
            sys_.mount(f"/dev/{name}", str(place / name), None, sys_.MS_BIND)
        (place / "pts").mkdir()
        sys_.mount("devpts", str(place / "pts"), "devpts", sys_.MS_NOSUID, "newinstance,ptmxmode=0666,mode=620")
        (place / "shm").mkdir()
        sys_.mount("tmpfs", str(place / "shm"), "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=1777")
        for name, link in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")):
            (place / name).symlink_to(link)
        for name, link in (("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")):
            (place / name).symlink_to(link)

    def describe(self) -> str:
        """One line for people."""
        return f"devices at {self.target}: {' '.join(_DEVICES)} pts shm"


Mount = Bind | Overlay | Text | Tmpfs | Proc | Devices
_KINDS: dict[str, type[Mount]] = {kind.kind: kind for kind in (Bind, Overlay, Text, Tmpfs, Proc, Devices)}


def to_json(mount: Mount) -> dict[str, Any]:
    """`mount` as JSON."""
    return {"kind": mount.kind, **asdict(mount)}


def from_json(value: dict[str, Any]) -> Mount:
    """The inverse of `to_json`."""
    fields: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
    kind: Any = _KINDS[fields.pop("kind")]
    mount: Mount = kind(**fields)
    return mount
