"""Sources that are trees: a git commit, a directory of the project. Each becomes a deterministic tar file."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from xbuild import process
from xbuild.digest import file_sha256
from xbuild.errors import PhaseError, SourceError
from xbuild.sources.download import shown

_VERSION_CONTROL = (".git", ".hg", ".svn")
_TREE_TIME = 315532800
"""1980-01-01 00:00 UTC, the mtime of all files of a path tree: the earliest that zip archives can hold."""
# What git sets for the hooks and commands it runs, and what would lead us into that other repository.
_GIT_REPOSITORY = (
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
)
# Below 1000 bytes/s for 20 s counts as dead, as for downloads; and git must not stop to ask for a password.
_GIT_FETCH = {"GIT_TERMINAL_PROMPT": "0", "GIT_HTTP_LOW_SPEED_LIMIT": "1000", "GIT_HTTP_LOW_SPEED_TIME": "20"}
_GIT_OWN = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}


def archive_commit(repository: str, commit: str, target: Path) -> None:
    """Write `git archive --format=tar` of `commit` (40 hex digits) of `repository` to `target`.

    Submodules are not in it. Raises SourceError if the commit cannot be had.
    """
    # Named as the target is, so that whoever sweeps up after a killed process finds both.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.stem}.") as directory:
        git = ["git", "--git-dir", directory]
        users = {name: value for name, value in os.environ.items() if name not in _GIT_REPOSITORY}
        # What the user set (attributes, line endings, tar.umask) would change the bytes of the archive.
        own = {name: value for name, value in users.items() if not name.startswith("GIT_")}
        own |= _GIT_OWN | {"HOME": directory, "XDG_CONFIG_HOME": directory}
        process.run([*git, "init", "--bare", "--quiet"], env=own, capture=True)
        environment = users | _GIT_FETCH
        fetch = [*git, "fetch", "--quiet", "--no-write-fetch-head"]
        try:
            one = [*fetch, "--depth=1", "--", repository, commit]
            if process.run(one, env=environment, capture=True, check=False).returncode != 0:
                # Some servers give only what has a name: then all names.
                every = [*fetch, "--tags", "--", repository, "+refs/heads/*:refs/heads/*"]
                process.run(every, env=environment, capture=True)
            archive = [*git, "archive", "--format=tar", f"--output={target}", commit]
            process.run(archive, env=own, capture=True)
        except PhaseError as error:
            lines = [line.replace(repository, shown(repository)) for line in error.details]
            hint = "check the network and that the repository has the commit"
            message = f"{shown(repository)}: cannot get commit {commit}"
            raise SourceError(message, details=lines, hint=hint) from error


def _files(top: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of each file and link below `top`, sorted by the bytes of the name.

    Version control's own directories are left out: they change without the tree changing.
    """
    found = []
    for directory, directories, files in os.walk(top, onerror=_unreadable):
        directories[:] = [name for name in directories if name not in _VERSION_CONTROL]
        links = [name for name in directories if Path(directory, name).is_symlink()]
        for name in (*files, *links):
            path = Path(directory, name)
            # A worktree's and a submodule's .git is a file.
            if name not in _VERSION_CONTROL:
                found.append((path.relative_to(top).as_posix(), path))
    return iter(sorted(found, key=lambda pair: os.fsencode(pair[0])))


def _unreadable(error: OSError) -> None:
    raise SourceError(f"{error.filename}: {error.strerror}") from error


def _special(path: Path) -> SourceError:
    return SourceError(f"{path}: neither a file nor a directory nor a link", hint="remove it from the source")


def tree_digest(path: Path) -> str:
    """sha256, in hex, of what the directory `path` holds: names, contents, executable bits, link targets.

    One record a file, sorted by name: the name, `f` or `x` (executable) and the sha256 in hex of the
    contents, or the name, `l` and the link's target; each part ends with a zero byte. Empty directories,
    owners and times do not count.
    """
    digest = hashlib.sha256()
    for name, file in _files(path):
        status = file.lstat()
        if stat.S_ISLNK(status.st_mode):
            kind, content = b"l", os.fsencode(file.readlink())
        elif stat.S_ISREG(status.st_mode):
            kind, content = (b"x" if status.st_mode & stat.S_IXUSR else b"f"), file_sha256(file).encode()
        else:
            raise _special(file)
        digest.update(b"\0".join((os.fsencode(name), kind, content, b"")))
    return digest.hexdigest()


def archive_tree(path: Path, target: Path) -> None:
    """Write the directory `path` as a tar file to `target`; trees of equal `tree_digest` give equal bytes."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, file in _files(path):
            status = file.lstat()
            member = tarfile.TarInfo(name)
            member.mtime = _TREE_TIME
            member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
            if stat.S_ISLNK(status.st_mode):
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, os.fspath(file.readlink()), 0o777
                archive.addfile(member)
            elif stat.S_ISREG(status.st_mode):
                member.size = status.st_size
                with file.open("rb") as stream:
                    archive.addfile(member, stream)
            else:
                raise _special(file)
