"""One shared store, by its URL: what may be asked of a directory, a server by sftp or https, or a bucket of S3.

fsspec knows how each is talked to. A question ends in time, whatever the other side does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

from xbuild.base.errors import UsageError
from xbuild.store.shared.records import Blob

SCHEMES: Final = ("file", "sftp", "https", "http", "s3", "memory")
READ_ONLY: Final = ("https", "http")
PART: Final = ".part-"
"""In the names of files that are being written."""

_ANSWER = 30.0
"""Seconds that any single question may take."""
_SLOWEST = 64 << 10
"""Bytes a second, on average, below which a transfer counts as stuck; 10 s of grace for the small ones."""
_GRACE = 10.0
_CHUNK = 4 << 20
_EXTRA = {"sftp": "sshfs", "https": "aiohttp", "http": "aiohttp", "s3": "s3fs"}

T = TypeVar("T")


class PlaceError(Exception):
    """A store did not do what was asked. The message names it without passwords."""


class Lie(PlaceError):
    """What came is not what the name promises."""


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` gives; TimeoutError if it takes longer. It is left alone then: nothing waits for its thread."""
    box: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            box.put((call(), None))
        except BaseException as error:
            box.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        value, error = box.get(timeout=max(seconds, 0.001))
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def shown(url: str) -> str:
    """`url` without user, password, and what stands behind `?`."""
    return re.sub(r"(?<=//)[^/?#]*@", "", re.split(r"[?#]", url, maxsplit=1)[0], count=1)


class Place:
    """The store at `url`. Nothing is asked before it must be."""

    def __init__(self, url: str) -> None:
        address = "://" in url or url.startswith("file:")
        self.shown = shown(url) if address else url
        hint = f"a directory, or an address that begins with {', '.join(SCHEMES[:-1])}"
        try:
            # In the path of a directory nothing has a meaning of its own.
            parts = urlsplit(url if address else f"file://{quote(os.fsencode(Path(url).absolute()))}")
            _ = parts.port
        except ValueError:
            # Its words may have a part of a password.
            raise UsageError(f"{self.shown} is no address of a shared store", hint=hint) from None
        if parts.scheme not in SCHEMES:
            raise UsageError(f"{self.shown} is no address of a shared store", hint=hint)
        self.writable = parts.scheme not in READ_ONLY
        self._parts = parts
        self._known: tuple[Any, str] | None = None

    def _system(self) -> tuple[Any, str]:
        """fsspec's file system, and where the store begins in it."""
        if self._known is None:
            # Only here: it takes long to load.
            from xbuild.store.shared.systems import opened

            self._known = opened(self._parts)
        return self._known

    def disconnect(self) -> None:
        """What is asked next goes over a new connection."""
        self._known = None

    def _asked(self, call: Callable[[Any, str], T], seconds: float | None = None) -> T:
        """What `call` gives of file system and base. Raises FileNotFoundError, and PlaceError for any other fault."""
        try:
            return _within(seconds or _ANSWER, lambda: call(*self._system()))
        except FileNotFoundError:
            raise
        except ImportError as error:
            message = f"{self.shown} needs the Python package {_EXTRA.get(self._parts.scheme, 'fsspec')}"
            raise PlaceError(f"{message}: in a checkout of xbuild, pip install '.[store]'") from error
        except Exception as error:
            raise PlaceError(f"{self.shown}: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        text = re.sub(r"(?<=//)[^/\s?#]*@", "", re.sub(r"\?\S+", "", text))
        if self._parts.password:
            for secret in (self._parts.password, unquote(self._parts.password)):
                text = text.replace(secret, "...")
        return text[:300]

    def read(self, name: str, most: int) -> bytes | None:
        """The file `name`, of at most `most` bytes; None if there is none. Raises PlaceError, Lie for a larger one."""

        def call(system: Any, base: str) -> bytes:
            with _reading(system, f"{base}/{name}") as stream:
                return bytes(_filled(stream, most + 1))

        try:
            data = self._asked(call)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(data) > most:
            raise Lie(f"{self.shown}: {name} has more than {most} bytes")
        return data

    def fetch(self, blob: Blob, stream: IO[bytes]) -> bool:
        """Write the blob to `stream`; False if it is not there. Raises Lie if it is another one, or cut; PlaceError.

        OSError is of `stream` alone.
        """
        end = time.monotonic() + _GRACE + _ANSWER + blob.size / _SLOWEST
        digest, done = hashlib.sha256(), 0
        try:
            source = self._asked(lambda system, base: _reading(system, f"{base}/{blob.name}"))
        except FileNotFoundError:
            return False
        try:
            # Not much more than is promised, whatever comes.
            while done <= blob.size and (chunk := self._asked(lambda *_: source.read(_CHUNK))):
                self._require_before(end)
                done += len(chunk)
                digest.update(chunk)
                stream.write(chunk)
        except FileNotFoundError:
            return False
        finally:
            with contextlib.suppress(PlaceError):
                self._asked(lambda *_: source.close(), _GRACE)
        if done != blob.size or digest.hexdigest() != blob.sha256:
            raise Lie(f"{self.shown}: {blob.name} is cut, or was changed")
        return True

    def _require_before(self, end: float) -> None:
        if time.monotonic() > end:
            raise PlaceError(f"{self.shown}: less than {_SLOWEST >> 10} KiB a second")

    def size(self, name: str) -> int | None:
        """Bytes of the file `name`; None if there is none. Raises PlaceError."""
        try:
            return self._asked(lambda system, base: _length(system, f"{base}/{name}"))
        except FileNotFoundError:
            return None

    def changed(self, name: str) -> datetime | None:
        """When the file `name` was written; None if it is not there, or nobody knows. Raises PlaceError."""
        try:
            facts = self._asked(lambda system, base: system.info(f"{base}/{name}"))
        except FileNotFoundError:
            return None
        when = next((facts[word] for word in ("mtime", "LastModified", "created") if facts.get(word)), None)
        if isinstance(when, datetime):
            return when if when.tzinfo else when.replace(tzinfo=UTC)
        return datetime.fromtimestamp(when, UTC) if isinstance(when, (int, float)) else None

    def write(self, name: str, source: IO[bytes], size: int) -> None:
        """Make the file `name` of `size` bytes, whole or not at all; what is there is replaced. Raises PlaceError."""
        end = time.monotonic() + _GRACE + _ANSWER + size / _SLOWEST
        part = f"{name}{PART}{secrets.token_hex(4)}"
        # S3 shows an object when all of it has come; a rename there would be a copy. It has no directories.
        renamed = self._parts.scheme in ("file", "sftp")
        place = part if renamed else name
        try:
            if renamed:
                self._asked(lambda system, base: system.makedirs(f"{base}/{name}".rpartition("/")[0], exist_ok=True))
            target = self._asked(lambda system, base: system.open(f"{base}/{place}", "wb"))
            while chunk := source.read(_CHUNK):
                self._require_before(end)
                self._asked(lambda *_, data=chunk: target.write(data))
            self._asked(lambda *_: target.close())
            if renamed:
                self._asked(lambda system, base: _rename(system, f"{base}/{part}", f"{base}/{name}"))
        except FileNotFoundError as error:
            raise PlaceError(f"{self.shown}: it is gone") from error
        except PlaceError:
            if renamed:
                with contextlib.suppress(PlaceError, FileNotFoundError):
                    self._asked(lambda system, base: system.rm_file(f"{base}/{part}"), _GRACE)
            raise

    def remove(self, name: str) -> None:
        """Remove the file `name`; nothing is done if it is not there. Raises PlaceError."""
        with contextlib.suppress(FileNotFoundError):
            self._asked(lambda system, base: system.rm_file(f"{base}/{name}"))

    def names(self, folder: str) -> Iterator[tuple[str, int]]:
        """All files below `folder`: name and size. Raises PlaceError, also where nothing can be listed."""

        def call(system: Any, base: str) -> list[tuple[str, int]]:
            found = system.find(f"{base}/{folder}", detail=True)
            start = len(base.strip("/")) + 1
            return [(path.lstrip("/")[start:], int(facts["size"] or 0)) for path, facts in found.items()]

        with contextlib.suppress(FileNotFoundError):
            yield from sorted(self._asked(call, 10 * _ANSWER))


def _reading(system: Any, path: str) -> Any:
    # As it comes, without a cache: it is read once, from beginning to end. fsspec asks a web server for a file's size
    # first, if none is given, and takes any fault then for a file that is not there.
    return system.open(path, "rb", **({"block_size": 0, "size": 1} if "http" in system.protocol else {}))


def _length(system: Any, path: str) -> int | None:
    if "http" not in system.protocol:
        return int(system.info(path)["size"])
    with _reading(system, path) as stream:
        length = stream.r.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _filled(stream: Any, most: int) -> bytearray:
    data = bytearray()
    while len(data) < most and (chunk := stream.read(most - len(data))):
        data += chunk
    return data


def _rename(system: Any, old: str, new: str) -> None:
    # Both fsspec's own for directories and sshfs rename, over what is there.
    system.mv(old, new)
