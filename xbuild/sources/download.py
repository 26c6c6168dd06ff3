"""One file from one address."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import IO

from xbuild import log

_TIMEOUT = 20.0
"""Seconds without an answer or a byte after which an address counts as dead."""
_TRIES = 2
_PAUSE = 0.5
"""Seconds between two tries."""
_CHUNK = 1 << 18
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
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def basename(address: str) -> str:
    """The file name at the end of `address`."""
    return urllib.parse.unquote(urllib.parse.urlsplit(address).path).rstrip("/").rpartition("/")[2]


def _request(address: str, headers: dict[str, str]) -> urllib.request.Request:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in _SCHEMES:
        reason = f"its scheme is not one of {', '.join(_SCHEMES)}"
        raise Failure(shown(address), reason)
    path, query = (urllib.parse.quote(part, safe="/%:@!$&'()*+,;=~?") for part in (parts.path, parts.query))
    bare = shown(urllib.parse.urlunsplit(parts._replace(path=path, query=query, fragment="")))
    request = urllib.request.Request(bare)
    request.add_header("User-Agent", _AGENT)
    for name, value in headers.items():
        request.add_header(name, value)
    if parts.username is not None:
        # Unredirected: a redirect to another machine must not carry the password there.
        login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    return request


@contextlib.contextmanager
def opened(address: str, headers: dict[str, str]) -> Iterator[tuple[IO[bytes], Message, str]]:
    """What answers at `address`: its bytes, its headers, and the address after redirects.

    Raises Failure for what goes wrong there or while the block reads; other errors of the block pass.
    """
    where = shown(address)
    try:
        with urllib.request.urlopen(_request(address, headers), timeout=_TIMEOUT) as answer:
            yield answer, answer.headers, answer.url
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


def download_file(address: str, target: Path, sha256: str) -> None:
    """Write what is at `address` to `target`, for the caller to rename. On Failure `target` is gone."""
    for attempt in range(1, _TRIES + 1):
        try:
            _attempt(address, target, sha256)
            return
        except Failure as failure:
            target.unlink(missing_ok=True)
            if not failure.passing or attempt == _TRIES:
                raise
            log.detail(f"{failure.address}: {failure.reason}; once more")
            time.sleep(_PAUSE)


def _attempt(address: str, target: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with opened(address, {}) as (answer, headers, _), target.open("wb") as stream:
        length = headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        with log.progress(basename(address), total) as transfer:
            while chunk := answer.read(_CHUNK):
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
