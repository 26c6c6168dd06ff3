"""Sdists of Python projects, from the package indexes that pip is set to use.

pip itself would run build code of a sdist to learn its name, so only its settings are asked.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import sys
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xbuild.base import process
from xbuild.base.errors import MachineError
from xbuild.sources.access import Access
from xbuild.sources.download import Failure, basename, opened, read_in_parts, shown

# PEP 691 (JSON) first, PEP 503 (HTML) for indexes that only know that.
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_PAGE_LIMIT = 64 << 20
"""Bytes; the longest pages of large projects have a few MiB."""
# pip's order of precedence: the environment, then the command's own section, then the general one.
_SECTIONS = (":env:", "download", "install", "global")
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
_HEEDED = re.compile("PIP_|HOME$|XDG_CONFIG|VIRTUAL_ENV$")
"""Variables that decide what its settings are."""
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def configured_indexes() -> list[str]:
    """The indexes that pip would ask, in order: its setting index-url or its default, then the extra ones.

    Raises MachineError if this Python has no pip to ask.
    """
    settings = _settings()
    main = _setting(settings, "index-url") or _default_index()
    return [main, *_setting(settings, "extra-index-url").split()]


def configured_directories() -> list[Path]:
    """The directories of this machine that pip would look for files in, beside indexes (its setting find-links)."""
    words = _setting(_settings(), "find-links").split()
    plain = [urllib.parse.unquote(word.removeprefix("file://")) for word in words]
    return [Path(word) for word in plain if Path(word).is_dir()]


def configured_access() -> Access | None:
    """How pip would reach its indexes: its settings cert, client-cert, trusted-host and proxy; None without any."""
    settings = _settings()
    trusted = tuple(_setting(settings, "trusted-host").split())
    found = Access(_certificates(settings), _setting(settings, "client-cert"), trusted, _setting(settings, "proxy"))
    return found if found != Access() else None


def _certificates(settings: Mapping[str, str]) -> str:
    # As requests, by which pip reaches them: these variables count where the setting is not there.
    named = [_setting(settings, "cert"), *(os.environ.get(name, "") for name in _BUNDLES)]
    return next(filter(None, named), "")


def _settings() -> dict[str, str]:
    """What `pip config list` tells, which takes its time: so once for an environment."""
    return _settings_of(tuple(sorted((name, value) for name, value in os.environ.items() if _HEEDED.match(name))))


@functools.cache
def _settings_of(_environment: tuple[tuple[str, str], ...]) -> dict[str, str]:
    listing = process.run([*_PIP, "config", "list"], capture=True, check=False)
    if listing.returncode != 0:
        hint = "install pip for it, or set an index"
        raise MachineError(f"{sys.executable} has no pip that tells its package index", hint=hint)
    settings: dict[str, str] = {}
    for line in listing.stdout.decode(errors="replace").splitlines():
        name, _, value = line.partition("=")
        settings[name] = str(ast.literal_eval(value)) if value[:1] in "'\"" else value
    return settings


def _setting(settings: Mapping[str, str], name: str) -> str:
    return next((settings[f"{part}.{name}"] for part in _SECTIONS if f"{part}.{name}" in settings), "")


def _default_index() -> str:
    # pip's help is the one public place where it says its default.
    wide = {**os.environ, "COLUMNS": "200"}
    text = process.run([*_PIP, "download", "--help"], env=wide, capture=True).stdout.decode(errors="replace")
    found = re.search(r"--index-url.*?\(default\s+(\S+?)\)", text, re.DOTALL)
    if found is None:
        hint = "pip config set global.index-url URL"
        raise MachineError("pip does not tell its default package index", hint=hint)
    return found[1]


@dataclass(frozen=True)
class IndexFile:
    """A file of a project in an index. sha256: None where the index has none. requires_python: a version specifier, or
    empty. yanked: whether its author has taken it back (PEP 592).
    """

    name: str
    address: str
    sha256: str | None = None
    requires_python: str = ""
    yanked: bool = False


def _normalised(name: str) -> str:
    # PEP 503. Of a file name too: a project's sdists are called foo-bar-1.0 and, since PEP 625, foo_bar-1.0.
    return re.sub(r"[-_.]+", "-", name).lower()


def _links(page: bytes, content_type: str) -> list[IndexFile]:
    if "json" in content_type:
        return [_of_json(file) for file in json.loads(page)["files"]]
    # Only here: it takes long to load.
    from html.parser import HTMLParser

    found: list[IndexFile] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            known = dict(attrs)
            link = known.get("href")
            if tag == "a" and link:
                digest = re.search(r"#sha256=([0-9a-f]{64})", link)
                python = known.get("data-requires-python") or ""
                yanked = "data-yanked" in known
                found.append(IndexFile(basename(link), link, digest[1] if digest else None, python, yanked))

    Links().feed(page.decode(errors="replace"))
    return found


def _of_json(file: Mapping[str, Any]) -> IndexFile:
    address, sha256 = str(file["url"]), (file.get("hashes") or {}).get("sha256")
    yanked = bool(file.get("yanked"))
    return IndexFile(basename(address), address, sha256, str(file.get("requires-python") or ""), yanked)


def files_of(index: str, project: str) -> list[IndexFile]:
    """The files of `project` in `index` (the address of a simple index), with whole addresses.

    Raises Failure if the index cannot be read or does not know the project.
    """
    page_address = f"{index.rstrip('/')}/{_normalised(project)}/"
    if page_address.startswith("file:"):
        page_address += "index.html"
    with opened(page_address, {"Accept": _ACCEPT}, configured_access()) as (answer, headers, address):
        page = b"".join(read_in_parts(answer, page_address, _PAGE_LIMIT))
        content_type, length = headers.get("Content-Type", ""), headers.get("Content-Length", "")
    # A page of HTML that was cut would only lack its newest versions.
    if re.fullmatch(r"[0-9]{1,18}", length) and int(length) != len(page):
        reason = f"the connection was cut after {len(page)} of {length} bytes"
        raise Failure(shown(page_address), reason, passing=True)
    try:
        links = _links(page, content_type)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Failure(shown(page_address), f"not a page of a package index: {error}") from error
    found = []
    for link in links:
        try:
            whole = _with_login(urllib.parse.urljoin(address, link.address), page_address)
        except ValueError as error:
            raise Failure(shown(page_address), f"names {link.address!r}: {error}") from error
        found.append(replace(link, address=whole))
    return found


def find_sdist(index: str, project: str, file: str) -> str:
    """The address of `file` among the files of `project` in `index` (the address of a simple index).

    Raises Failure if the index cannot be read or does not have the file.
    """
    links = files_of(index, project)
    exact = [link for link in links if link.name == file]
    similar = [link for link in links if _normalised(link.name) == _normalised(file)]
    for link in (*exact, *similar):
        return link.address
    raise Failure(shown(f"{index.rstrip('/')}/{_normalised(project)}/"), f"has no {file}")


def _with_login(address: str, index: str) -> str:
    # The index's login holds for files on the same server, as for pip.
    login, at, server = urllib.parse.urlsplit(index).netloc.rpartition("@")
    parts = urllib.parse.urlsplit(address)
    if at and parts.netloc == server:
        parts = parts._replace(netloc=f"{login}@{server}")
    return urllib.parse.urlunsplit(parts._replace(fragment=""))
