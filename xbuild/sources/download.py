"""One file from one address."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import re
import shutil
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from xbuild.base import log
from xbuild.sources.access import Access, AccessError

if TYPE_CHECKING:
    from email.message import Message
    from urllib.request import Request

_TIMEOUT = 20.0
"""Seconds without an answer or a byte after which an address counts as dead."""
_TRIES = 2
_PAUSE = 0.5
"""Seconds between two tries."""
_CHUNK = 1 << 18
_SLOWEST = 1000
"""Bytes a second, on average over _TIMEOUT, below which an address counts as dead: git's limit here too."""
_MOST = 16 << 30
"""Bytes of one file. The largest source packages of Debian have some 2 GB."""
_LEFT = 256 << 20
"""Bytes of the disk that no download takes."""
_SCHEMES = ("http", "https", "ftp", "file")
_AGENT = "xbuild"


class Failure(Exception):
    """Why an address gave nothing.

    address: as it may be shown. unreachable: there was no answer at all. wrong: a file came, but not the one
    that was named. passing: another try may help.
    """

    def __init__(
        self,
        address: str,
        reason: str,
        *,
        unreachable: bool = False,
        wrong: bool = False,
        passing: bool = False,
    ) -> None:
        super().__init__(f"{address}: {reason}")
        self.address = address
        self.reason = reason
        self.unreachable = unreachable
        self.wrong = wrong
        self.passing = passing


def shown(address: str) -> str:
    """`address` without a user name and password, for messages."""
    return re.sub(r"(?<=//)[^/?#]*@", "", address, count=1)


def basename(address: str) -> str:
    """The file name at the end of `address`."""
    path = re.sub(r"^[^/?#]*//[^/?#]*", "", re.split(r"[?#]", address, maxsplit=1)[0])
    return urllib.parse.unquote(path).rstrip("/").rpartition("/")[2]


def _request(address: str, headers: dict[str, str]) -> Request:
    from urllib.request import Request

    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in _SCHEMES:
        reason = f"its scheme is not one of {', '.join(_SCHEMES)}"
        raise Failure(shown(address), reason)
    if parts.scheme == "file":
        # A fifo would be waited for, and a device may give bytes without end.
        place = Path(urllib.parse.unquote(parts.path))
        if place.exists() and not place.is_file():
            raise Failure(shown(address), "not a file")
    path, query = (urllib.parse.quote(part, safe="/%:@!$&'()*+,;=~?") for part in (parts.path, parts.query))
    bare = shown(urllib.parse.urlunsplit(parts._replace(path=path, query=query, fragment="")))
    request = Request(bare)
    request.add_header("User-Agent", _AGENT)
    for name, value in headers.items():
        request.add_header(name, value)
    if parts.username is not None:
        # Unredirected: a redirect to another machine must not carry the password there.
        login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    return request


@contextlib.contextmanager
def opened(
    address: str, headers: dict[str, str], access: Access | None = None
) -> Iterator[tuple[IO[bytes], Message, str]]:
    """What answers at `address`: its bytes, its headers, and the address after redirects. access: None: as it comes.

    Raises Failure for what goes wrong there or while the block reads; other errors of the block pass.
    """
    # Only here: they take long to load.
    import http.client
    import ssl
    import urllib.error
    import urllib.request

    where = shown(address)
    try:
        open_ = access.opener().open if access else urllib.request.urlopen
        with open_(_request(address, headers), timeout=_TIMEOUT) as answer:
            yield answer, answer.headers, answer.url
    except AccessError as error:
        raise Failure(where, str(error)) from error
    except urllib.error.HTTPError as error:
        error.close()
        raise Failure(where, f"HTTP {error.code} {error.reason}", passing=error.code >= 500) from error
    except urllib.error.URLError as error:
        missing = isinstance(error.reason, FileNotFoundError | IsADirectoryError)
        reason = "no such file" if missing else str(error.reason)
        raise Failure(where, reason, unreachable=not missing, passing=not missing) from error
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        reason = str(error) or type(error).__name__
        raise Failure(where, reason, unreachable=True, passing=True) from error
    except ValueError as error:
        # Of an address that was found on the way, or a name of a machine that cannot be one.
        raise Failure(where, f"not an address: {error}") from error


def read_in_parts(answer: IO[bytes], address: str, most: int) -> Iterator[bytes]:
    """What `answer`, opened at `address`, gives, as it comes.

    Raises Failure if it is more than `most` bytes, or so slow that it may never end.
    """
    done, since, before = 0, time.monotonic(), 0
    # What is there, not as much as was asked for: a server can take its time over that.
    while chunk := getattr(answer, "read1", answer.read)(_CHUNK):
        done += len(chunk)
        if done > most:
            raise Failure(shown(address), f"more than {most} bytes came, and no end of them")
        yield chunk
        if (now := time.monotonic()) > since + _TIMEOUT:
            if done - before < _SLOWEST * (now - since):
                raise Failure(shown(address), f"less than {_SLOWEST} bytes a second", unreachable=True, passing=True)
            since, before = now, done


def download_file(address: str, target: Path, sha256: str, access: Access | None = None) -> None:
    """Write what is at `address` to `target`, for the caller to rename. On Failure `target` is gone."""
    for attempt in range(1, _TRIES + 1):
        try:
            _attempt(address, target, sha256, access)
            return
        except Failure as failure:
            target.unlink(missing_ok=True)
            if not failure.passing or attempt == _TRIES:
                raise
            log.detail(f"{failure.address}: {failure.reason}; once more")
            time.sleep(_PAUSE)


def _attempt(address: str, target: Path, sha256: str, access: Access | None) -> None:
    digest = hashlib.sha256()
    with opened(address, {}, access) as (answer, headers, _), target.open("wb") as stream:
        length = headers.get("Content-Length", "")
        total = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        # Of the disk, so much is left to others.
        room = max(0, shutil.disk_usage(target.parent).free - _LEFT)
        if room < (total or 0) <= _MOST:
            raise OSError(errno.ENOSPC, f"{shown(address)}: {total} bytes, and there is room for {room}")
        most = min(_MOST, room)
        if (total or 0) > most:
            raise Failure(shown(address), f"has {total} bytes, and there is room for {most}")
        with log.progress(basename(address), total) as transfer:
            for chunk in read_in_parts(answer, address, most):
                stream.write(chunk)
                digest.update(chunk)
                transfer.advance(len(chunk))
            # http.client ends a cut answer like a complete one when it is read in parts.
            if total is not None and transfer.done != total:
                reason = f"the connection was cut after {transfer.done} of {total} bytes"
                raise Failure(shown(address), reason, passing=True)
    if digest.hexdigest() != sha256:
        reason = f"wrong sha256: the recipe names {sha256}, this is {digest.hexdigest()}"
        raise Failure(shown(address), reason, wrong=True)
