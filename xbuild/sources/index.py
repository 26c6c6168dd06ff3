"""Sdists of Python projects, from the package indexes that pip is set to use.

pip itself would run build code of a sdist to learn its name, so only its settings are asked.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import urllib.parse
from html.parser import HTMLParser

from xbuild.base import process
from xbuild.base.errors import MachineError
from xbuild.sources.download import Failure, basename, opened, read_in_parts, shown

# PEP 691 (JSON) first, PEP 503 (HTML) for indexes that only know that.
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_PAGE_LIMIT = 64 << 20
"""Bytes; the longest pages of large projects have a few MiB."""
# pip's order of precedence: the environment, then the command's own section, then the general one.
_SECTIONS = (":env:", "download", "install", "global")


def configured_indexes() -> list[str]:
    """The indexes that pip would ask, in order: its setting index-url or its default, then the extra ones.

    Raises MachineError if this Python has no pip to ask.
    """
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    listing = process.run([*pip, "config", "list"], capture=True, check=False)
    if listing.returncode != 0:
        hint = "install pip for it, or set an index"
        raise MachineError(f"{sys.executable} has no pip that tells its package index", hint=hint)
    settings: dict[str, str] = {}
    for line in listing.stdout.decode(errors="replace").splitlines():
        name, _, value = line.partition("=")
        settings[name] = str(ast.literal_eval(value)) if value[:1] in "'\"" else value
    main = _setting(settings, "index-url") or _default_index(pip)
    return [main, *_setting(settings, "extra-index-url").split()]


def _setting(settings: dict[str, str], name: str) -> str:
    return next((settings[f"{part}.{name}"] for part in _SECTIONS if f"{part}.{name}" in settings), "")


def _default_index(pip: list[str]) -> str:
    # pip's help is the one public place where it says its default.
    wide = {**os.environ, "COLUMNS": "200"}
    text = process.run([*pip, "download", "--help"], env=wide, capture=True).stdout.decode(errors="replace")
    found = re.search(r"--index-url.*?\(default\s+(\S+?)\)", text, re.DOTALL)
    if found is None:
        hint = "pip config set global.index-url URL"
        raise MachineError("pip does not tell its default package index", hint=hint)
    return found[1]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _normalised(name: str) -> str:
    # PEP 503. Of a file name too: a project's sdists are called foo-bar-1.0 and, since PEP 625, foo_bar-1.0.
    return re.sub(r"[-_.]+", "-", name).lower()


def _links(page: bytes, content_type: str) -> list[str]:
    if "json" in content_type:
        return [str(file["url"]) for file in json.loads(page)["files"]]
    parser = _Links()
    parser.feed(page.decode(errors="replace"))
    return parser.found


def find_sdist(index: str, project: str, file: str) -> str:
    """The address of `file` among the files of `project` in `index` (the address of a simple index).

    Raises Failure if the index cannot be read or does not have the file.
    """
    page_address = f"{index.rstrip('/')}/{_normalised(project)}/"
    if page_address.startswith("file:"):
        page_address += "index.html"
    with opened(page_address, {"Accept": _ACCEPT}) as (answer, headers, address):
        page = b"".join(read_in_parts(answer, page_address, _PAGE_LIMIT))
        content_type = headers.get("Content-Type", "")
    try:
        links = _links(page, content_type)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Failure(shown(page_address), f"not a page of a package index: {error}") from error
    exact = [link for link in links if basename(link) == file]
    similar = [link for link in links if _normalised(basename(link)) == _normalised(file)]
    for link in (*exact, *similar):
        try:
            return _with_login(urllib.parse.urljoin(address, link), page_address)
        except ValueError as error:
            raise Failure(shown(page_address), f"names {link!r}: {error}") from error
    raise Failure(shown(page_address), f"has no {file}")


def _with_login(address: str, index: str) -> str:
    # The index's login holds for files on the same server, as for pip.
    login, at, server = urllib.parse.urlsplit(index).netloc.rpartition("@")
    parts = urllib.parse.urlsplit(address)
    if at and parts.netloc == server:
        parts = parts._replace(netloc=f"{login}@{server}")
    return urllib.parse.urlunsplit(parts._replace(fragment=""))
