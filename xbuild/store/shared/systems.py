"""fsspec's file systems, with what we ask of each: timeouts, known keys of machines, nothing kept in memory."""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote

import fsspec

_CONNECT: Final = 10
"""Seconds."""
_SILENT: Final = 20
"""Seconds without a byte."""


def opened(parts: SplitResult) -> tuple[Any, str]:
    """The file system of an address, and where the store begins in it. Raises ImportError, and whatever fsspec does."""
    scheme = parts.scheme
    if scheme == "sftp":
        return _sftp(parts), unquote(parts.path).rstrip("/")
    if scheme == "s3":
        return _s3(parts), f"{parts.netloc}{unquote(parts.path)}".rstrip("/")
    if scheme in ("https", "http"):
        return _http(), parts._replace(query="", fragment="").geturl().rstrip("/")
    # A directory may have a name that is no text.
    place = f"{parts.netloc}{unquote(parts.path, errors='surrogateescape')}"
    return fsspec.filesystem(scheme, skip_instance_cache=True), place.rstrip("/")


def _sftp(parts: SplitResult) -> Any:
    from sshfs import SSHFileSystem

    # Without this word sshfs takes any key of the machine, as fsspec's own class for sftp does; with it asyncssh wants
    # one that the user's known_hosts has. It heeds ~/.ssh/config.
    words: dict[str, Any] = {"host": parts.hostname, "known_hosts": ()}
    words |= {"connect_timeout": _CONNECT, "login_timeout": _CONNECT, "keepalive_interval": _CONNECT}
    if parts.port:
        words["port"] = parts.port
    if parts.username:
        words["username"] = unquote(parts.username)
    if parts.password:
        words["password"] = unquote(parts.password)
    return SSHFileSystem(skip_instance_cache=True, **words)


def _http() -> Any:
    import aiohttp

    async def client(**words: Any) -> Any:
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENT)
        # aiohttp's own is made when it is loaded; the proxies and the netrc of the user are heeded as elsewhere.
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
        return aiohttp.ClientSession(timeout=limits, connector=connector, trust_env=True, **words)

    return fsspec.filesystem("https", get_client=client, use_listings_cache=False, skip_instance_cache=True)


def _s3(parts: SplitResult) -> Any:
    limits = {"connect_timeout": _CONNECT, "read_timeout": _SILENT, "retries": {"max_attempts": 2}}
    asked = parse_qs(parts.query)
    words: dict[str, Any] = {"endpoint_url": asked["endpoint"][0]} if "endpoint" in asked else {}
    return fsspec.filesystem(
        "s3", config_kwargs=limits, use_listings_cache=False, skip_instance_cache=True, **words
    )
