"""Paths as a process sees them whose root is another directory: what execve(2) would say when it opens a file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

_MAX_LINKS = 40
"""Symbolic links on the way of one path (path_resolution(7))."""


@dataclass(frozen=True)
class Found:
    """What stands behind a path. inside: the path without links, as seen in the root; outside: where it lies.

    fault: the errno of opening it for execution, 0 if that works. reason: why, in words. code: of the cause.
    """

    inside: str
    outside: Path
    fault: int = 0
    reason: str = ""
    code: str = ""


@dataclass(frozen=True)
class Rooted:
    """A directory whose files are seen as its root (`libraries.Files`)."""

    root: Path

    def located(self, path: str) -> tuple[str, Path] | None:
        """The path without links, and where that lies outside; None if it cannot be reached."""
        resolved = _resolve(path, self.root)
        return None if resolved.fault or not resolved.outside.exists() else (resolved.inside, resolved.outside)

    def names(self, folder: str) -> list[str]:
        """What lies in a directory; nothing, if there is none that can be read."""
        place = self.located(folder)
        with contextlib.suppress(OSError):
            return [path.name for path in place[1].iterdir()] if place else []
        return []


def find(path: str, root: Path) -> Found:
    """What `path`, absolute inside `root`, leads to, and whether a program there may be started by us."""
    resolved = _resolve(path, root)
    return resolved if resolved.fault else _may_execute(resolved)


def exists(path: str, root: Path) -> Path | None:
    """The file at `path`, absolute inside `root`; None if there is none or it cannot be reached."""
    place = Rooted(root).located(path)
    return place[1] if place else None


def _resolve(path: str, root: Path) -> Found:
    todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
    done: list[str] = []
    links = 0
    came_by = ""
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
            continue
        here = root.joinpath(*done, part)
        inside = "/" + "/".join([*done, part])
        try:
            mode = here.lstat().st_mode
        except OSError as error:
            return _not_reached(inside, here, error.errno or 0, came_by)
        if stat.S_ISLNK(mode):
            links += 1
            if links > _MAX_LINKS:
                text = f"more than {_MAX_LINKS} symbolic links, or a circle"
                return Found(path, here, errno.ELOOP, text, "link-loop")
            aim = str(here.readlink())
            came_by = f"{inside} is a link to {aim}"
            todo += [piece for piece in aim.split("/") if piece not in ("", ".")][::-1]
            done = [] if aim.startswith("/") else done
            continue
        done.append(part)
    return Found("/" + "/".join(done), root.joinpath(*done))


def _not_reached(inside: str, here: Path, number: int, came_by: str) -> Found:
    by_link = f" ({came_by})" if came_by else ""
    if number == errno.ENOENT:
        code = "dangling-link" if came_by else "no-such-file"
        return Found(inside, here, number, f"{inside} is not there{by_link}", code)
    if number == errno.EACCES:
        text = f"you may not search a directory on the way to {inside}{by_link}"
        return Found(inside, here, number, text, "no-permission")
    return Found(inside, here, number, f"{inside}: {os.strerror(number)}{by_link}", "no-such-file")


def _may_execute(found: Found) -> Found:
    mode = found.outside.stat().st_mode

    def refused(reason: str, code: str) -> Found:
        return Found(found.inside, found.outside, errno.EACCES, reason, code)

    if stat.S_ISDIR(mode):
        return refused(f"{found.inside} is a directory", "directory")
    if not stat.S_ISREG(mode):
        return refused(f"{found.inside} is no regular file", "not-a-file")
    with contextlib.suppress(OSError):
        if os.statvfs(found.outside).f_flag & os.ST_NOEXEC:
            return refused(f"{found.inside} lies on a file system that is mounted noexec", "noexec")
    if not mode & 0o111:
        return refused(f"{found.inside} is not executable: its mode is {stat.S_IMODE(mode):04o}", "not-executable")
    if not os.access(found.outside, os.X_OK, effective_ids=True):
        text = f"{found.inside} may not be executed by you: its mode is {stat.S_IMODE(mode):04o}"
        return refused(text, "no-permission")
    return found
