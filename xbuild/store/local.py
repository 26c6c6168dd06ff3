"""The store: everything xbuild made and may use again, each thing under the key of its inputs.

A finished entry is a directory with a `key.json`, which holds the key and the JSON value that the key is the
digest of. It is made below `tmp/` and renamed into its place, under a lock of its own: whoever finds it may
trust it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

from xbuild.base import log, process
from xbuild.base.digest import (
    CONTENTS,
    SUMS,
    canonical_json,
    key_of,
    read_sealed,
    sealed,
    small_files,
    write_sums,
)
from xbuild.base.errors import DiskFullError, MachineError, called
from xbuild.sandbox import idmap
from xbuild.store.ownership import check_own, spoilt

IN_USE = "in-use"
"""The lock that whoever works with roots, layers and twins holds shared, and whoever removes them alone."""

KINDS = (
    "downloads", "indexes", "resolved", "roots", "imported", "layers", "twins", "canaries", "sessions", "machines",
    "artifacts", "reproduced", "taught", "work",
)  # fmt: skip
LAYOUT = 2
"""Part of the values that roots, and all that is made from them, have their keys from. Raise it when what is in them
has other owners: no xbuild then takes what another one made for its own."""

_WITH_LAYOUT = ("roots", "layers", "twins", "canaries", "sessions", "machines")
# In the values of roots, and of what is made from them, before these were named by what they hold.
_ASKED_FOR = re.compile(r'"suite":"[^"]*",("variant":"[^"]*",)?"what":"(target root|native root|emulator of machines)"')
_KEY_FILE = "key.json"
_LARGE = ("artifacts",)
"""Kinds whose entries are looked through by who hands them out."""
_NAME_DIGITS = 20
"""Hex digits of a key in names: 80 bits, and the whole key is compared."""
# https://bford.info/cachedir/: backup programs leave out a directory that has this file with this first line.
_TAG = "CACHEDIR.TAG"
_OTHER_PARTS = ("locks", "tmp", "mnt", "kept", "names", "debs", "digests", "projects", "runs", "wheels", "ccache")
_CACHEDIR_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# xbuild can make all of this anew.\n"
_ANOTHER_PLACE = "name a directory that you can write to by XBUILD_CACHE"
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP)
_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)


@contextlib.contextmanager
def writing_below(path: Path) -> Iterator[None]:
    """Turn `no space left` (or quota) inside the block into a DiskFullError that says how much `path` has.

    So with what may not be written there, though it is the caller's own place.
    """
    try:
        yield
    except OSError as error:
        named = isinstance(error.filename, str) and Path(error.filename).is_relative_to(path)
        if named and error.errno in _REFUSED:
            message, hint = f"cannot use {error.filename}: {error.strerror}", f"is {path} yours, and writable?"
            raise MachineError(message, hint=hint) from error
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        existing = next(place for place in (path, *path.parents) if place.exists())
        free = shutil.disk_usage(existing).free >> 20
        message, hint = f"disk full: {path} has {free} MiB free", "free some space, or run: invoke clean"
        raise DiskFullError(message, details=[str(error)], hint=hint) from error


def _own_ids() -> set[int]:
    # Root's store belongs to the user that root has inside.
    return {os.geteuid(), idmap.find().root[0]} if os.geteuid() == 0 else {os.geteuid()}


def _make_closed(place: Path) -> None:
    """Make the directory `place` if it is not there, and close it to all but the caller and root inside."""
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    if place.is_symlink() or place.stat().st_uid not in _own_ids():
        return
    if stat.S_IMODE(place.stat().st_mode) != 0o700:
        place.chmod(0o700)
    idmap.own(place)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_of(kind: str, name: str) -> str:
    """The name of the lock of the entry KIND/`name`, or of a work place: whoever makes or removes it holds it."""
    return name if kind == "work" else f"{kind}-{name}"


class Store:
    """The store below `root`; nothing is written before it is needed.

    remove_tree: removes a directory with all below it, also what belongs to subordinate users if entries hold
    such files. record: writes down in a new entry, in its file `CONTENTS`, what is in it.
    """

    def __init__(
        self,
        root: Path,
        remove_tree: Callable[[Path], None] = shutil.rmtree,
        record: Callable[[Path], None] | None = None,
    ) -> None:
        self.root = root
        self._remove_tree = remove_tree
        self._record = record
        self._told = False

    def secure(self, named: Path) -> None:
        """Close the store to other users, if it is there.

        named: the path that its user gave for it, whose links are not followed yet. Raises MachineError if another
        user could have a hand in it, or if it is no store.
        """
        check_own(named, _own_ids())
        if not self.root.is_dir():
            return
        try:
            names = {path.name for path in self.root.iterdir()}
        except OSError as error:
            raise MachineError(f"cannot read {self.root}: {error.strerror}", hint=_ANOTHER_PLACE) from error
        if _TAG not in names and not names <= {*KINDS, *_OTHER_PARTS}:
            message = f"{self.root} holds other things than a store of xbuild's"
            raise MachineError(message, hint="name an empty directory, or a new one, by XBUILD_CACHE")
        if names:
            _make_closed(self.root)

    def directory(self, name: str) -> Path:
        """The directory `name` of the store, made if it is not there; MachineError if it cannot be made."""
        path = self.root / name
        with writing_below(self.root):
            try:
                self.root.parent.mkdir(parents=True, exist_ok=True)
                for place in (self.root, path):
                    _make_closed(place)
                tag = self.root / _TAG
                if not tag.exists():
                    tag.write_text(_CACHEDIR_TAG)
            except OSError as error:
                if error.errno not in _CANNOT_WRITE:
                    raise
                raise MachineError(f"cannot make {path}: {error.strerror}", hint=_ANOTHER_PLACE) from error
        return path

    def entry(self, kind: str, key: str) -> Path:
        """Where the entry of `key` (64 hex digits) is or would be."""
        if kind not in KINDS:
            raise ValueError(f"no such kind of entry: {kind}")
        return self.root / kind / key[:_NAME_DIGITS]

    def get(self, kind: str, key: str) -> Path | None:
        """The finished entry of `key`; None if it is absent or its key.json does not prove it finished."""
        path = self.entry(kind, key)
        record = _read_record(path)
        finished = record is not None and record["key"] == key
        if not finished or (kind not in _LARGE and spoilt(kind, path)):
            return None
        self._stamp(kind, path.name)
        return path

    def _stamp(self, kind: str, name: str) -> None:
        # The time of an entry's lock is when it was handed out last: nothing in the entry changes by that.
        with contextlib.suppress(OSError):
            path = self.root / "locks" / f"{lock_of(kind, name)}.lock"
            # One that was copied here has none yet.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.utime(descriptor)
            finally:
                os.close(descriptor)

    def used(self, kind: str, name: str) -> float:
        """When the entry KIND/`name` was handed out last, or made; in seconds since 1970."""
        times = []
        for place in (self.root / "locks" / f"{lock_of(kind, name)}.lock", self.root / kind / name / _KEY_FILE):
            with contextlib.suppress(OSError):
                times.append(place.stat().st_mtime)
        return max(times, default=0.0)

    def value(self, kind: str, key: str) -> Any:
        """The JSON value that the finished entry of `key` was made from; None if there is no such entry."""
        path = self.get(kind, key)
        record = _read_record(path) if path else None
        return None if record is None else record["value"]

    def finished(self, kind: str) -> list[tuple[Path, str, Any]]:
        """Path, key and value of every finished entry of `kind`, the newest first."""
        found = []
        for path in self.entry(kind, "").iterdir() if self.entry(kind, "").is_dir() else ():
            record = _read_record(path)
            if record is not None and path == self.entry(kind, record["key"]):
                found.append(((path / _KEY_FILE).stat().st_mtime_ns, path, record["key"], record["value"]))
        found.sort(key=lambda item: (-item[0], item[2]))
        return [(path, key, value) for _, path, key, value in found]

    def older(self, kind: str) -> list[str]:
        """The keys of entries of `kind` that are not used: made with another LAYOUT, or other names of roots."""
        mark = f'"layout":{LAYOUT}'
        texts = [(key, canonical_json(value)) for _, key, value in self.finished(kind)]
        return [key for key, text in texts if mark not in text or _ASKED_FOR.search(text)]

    def remove_older(self, spare: Container[str]) -> None:
        """Remove what `older` knows, but for entries named in `spare`, and for imported ones: the user has the source.

        Nobody may use the store meanwhile.
        """
        for kind in _WITH_LAYOUT:
            for key in self.older(kind):
                if key[:_NAME_DIGITS] not in spare:
                    self.remove(kind, key)

    def _tell_older(self, kind: str) -> None:
        if not self._told and kind in _WITH_LAYOUT and self.older(kind):
            self._told = True
            remedy = called("`invoke clean` removes it")
            log.info(f"{self.root} holds what another xbuild has made, which is not used; {remedy}")

    @contextlib.contextmanager
    def lock(
        self, name: str, *, wait: bool = True, describe: str = "", shared: bool = False
    ) -> Iterator[None]:
        """Hold the lock `name` for the block; the kernel releases it when the process dies, however it dies.

        shared: others may hold it shared at the same time.
        describe: what its holder does ("makes the root of armhf"). Raises MachineError if another xbuild
        holds it and not `wait`.
        """
        path = self.directory("locks") / f"{name}.lock"
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        other = f"another xbuild that {describe or f'holds the lock {name}'}"
        with writing_below(self.root):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if os.fstat(descriptor).st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
        try:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if not wait:
                    raise MachineError(f"there is {other}", hint="wait for it, or end it") from error
                log.info(f"waiting for {other}")
                fcntl.flock(descriptor, kind)
            yield
        finally:
            # Closing releases it. The file stays: else two processes could hold two files of one name.
            os.close(descriptor)

    def in_use(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock IN_USE with others: nothing that the caller stands on is removed in the block."""
        return self.lock(IN_USE, shared=True, describe="cleans the store")

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Hold it alone, to remove. Raises MachineError if anybody works with the store."""
        return self.lock(IN_USE, wait=False, describe="builds")

    def scratch(self, lock: str) -> Path:
        """A path below `tmp/` that nothing has; `sweep` removes what is there once the lock `lock` is free.

        It is new each time: what a killed maker's orphans still write must not come into the next one's.
        """
        return self.directory("tmp") / f"{lock}.{secrets.token_hex(4)}"

    def discard(self, path: Path) -> None:
        """Remove `path`, a file or a whole directory; nothing is done if it is not there."""
        if path.is_dir() and not path.is_symlink():
            self._remove_tree(path)
        else:
            path.unlink(missing_ok=True)

    def _set_aside(self, path: Path, lock: str) -> None:
        # By a rename first: a removal that is cut short must not leave a part that looks finished.
        if path.exists() or path.is_symlink():
            aside = self.scratch(lock)
            path.rename(aside)
            self.discard(aside)

    def ensure(self, kind: str, key_value: Any, describe: str, make: Callable[[Path], None]) -> Path:
        """The finished entry of the key of `key_value`, made by `make(staging)` if it is not there.

        staging: an empty directory (mode 0755) to fill. describe: what it is ("the root of armhf").
        Only one process makes an entry, the others wait. What `make` raises passes, and leaves nothing.
        """
        key = key_of(key_value)
        if found := self.get(kind, key):
            return found
        lock = lock_of(kind, key[:_NAME_DIGITS])
        with self.lock(lock, describe=f"makes {describe}"):
            if found := self.get(kind, key):
                return found
            self._tell_older(kind)
            if _read_record(place := self.entry(kind, key)) and (fault := spoilt(kind, place)):
                log.warn(f"{describe} in the store is not as it was made ({fault}), and is made anew")
            self.discard_scratch_of(lock)
            staging = self.scratch(lock)
            try:
                with writing_below(self.root):
                    staging.mkdir()
                    # Whatever the umask: subordinate users must be able to look into it.
                    staging.chmod(0o755)
                    make(staging)
                    self._finish(staging, kind, key, key_value)
            except BaseException:
                self.discard(staging)
                raise
            return self.entry(kind, key)

    def _finish(self, staging: Path, kind: str, key: str, value: Any) -> None:
        if not (staging / SUMS).exists() and (small := list(small_files(staging))):
            write_sums(staging, small)
        if self._record and not (staging / CONTENTS).exists():
            self._record(staging)
        # The key goes in last and after a sync: after a power cut too, it is there only if all the rest is.
        process.run(["sync", "--file-system", staging])
        with (staging / _KEY_FILE).open("w", encoding="utf-8") as stream:
            stream.write(sealed(value))
            stream.flush()
            os.fsync(stream.fileno())
        _sync_directory(staging)
        place = self.entry(kind, key)
        self.directory(kind)
        self._set_aside(place, lock_of(kind, place.name))
        staging.rename(place)
        _sync_directory(place.parent)

    def remove(self, kind: str, key: str) -> None:
        """Remove the entry of `key`, finished or not; waits for one who makes it."""
        lock = lock_of(kind, key[:_NAME_DIGITS])
        with self.lock(lock, describe=f"makes {self.entry(kind, key)}"):
            self._set_aside(self.entry(kind, key), lock)

    def clear(self, kind: str, spare: Container[str] = ()) -> None:
        """Remove all entries of `kind` but those named in `spare`; for `work`, what no build holds at the moment.

        Raises MachineError if its directory is a link: what is behind it may be anything.
        """
        if self.entry(kind, "").is_symlink():
            raise MachineError(f"{self.entry(kind, '')} is a link, and nothing is removed behind it", hint="remove it")
        for path in sorted(self.entry(kind, "").iterdir()):
            if path.name not in spare:
                self.clear_one(kind, path.name)

    def clear_one(self, kind: str, name: str) -> bool:
        """Remove what lies at KIND/`name`, finished or not, unless somebody holds its lock; gives if it is gone."""
        lock = lock_of(kind, name)
        try:
            with self.lock(lock, wait=False):
                self._set_aside(self.root / kind / name, lock)
        except MachineError:
            return False
        return True

    def discard_scratch_of(self, lock: str) -> None:
        """Remove what a killed process left that held `lock`, which the caller holds."""
        for path in self.directory("tmp").glob(f"{lock}.*"):
            self.discard(path)

    def sweep(self) -> None:
        """Remove what killed processes left below `tmp/`: all whose lock is free."""
        tmp = self.root / "tmp"
        names = {path.name.rpartition(".")[0] for path in tmp.iterdir()} if tmp.is_dir() else set()
        for name in sorted(names):
            # A held lock means that its maker is at work: its files are not stale.
            with contextlib.suppress(MachineError), self.lock(name, wait=False):
                self.discard_scratch_of(name)


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        value = read_sealed(path / _KEY_FILE)
        return {"key": key_of(value), "value": value}
    except (OSError, ValueError):
        return None
