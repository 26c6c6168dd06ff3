"""A package index of wheels, as files that any web server, or `pip install --index-url file://...`, can give."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xbuild.base.digest import file_sha256
from xbuild.base.errors import UsageError
from xbuild.formats.wheel import SUFFIX, WheelError, name_of, opened
from xbuild.store.local import writing_below

_FILES, _SIMPLE = "files", "simple"
_VERSION = "1.1"
"""Of the simple repository API."""
_PAGE = (
    '<!DOCTYPE html>\n<html><head><meta name="pypi:repository-version" content="{version}">'
    "<title>{title}</title></head><body>\n{links}</body></html>\n"
)


def add(folder: Path, wheels: Iterable[Path]) -> list[str]:
    """Add wheels to the index in `folder`, which is made if it is not there; give the projects that it then has.

    The files lie in `files/`; `simple/` has a page a project (PEP 503), and the same as `index.json` (PEP 691) for
    servers that can be told to give that. A wheel of the same name is replaced. Raises UsageError if `folder` is
    something else.
    """
    files = folder / _FILES
    if folder.exists() and any(folder.iterdir()) and not files.is_dir():
        raise UsageError(f"{folder} is not empty, and no index", hint="name a new directory")
    with writing_below(folder):
        files.mkdir(parents=True, exist_ok=True)
        for wheel in wheels:
            if wheel.resolve() != (files / wheel.name).resolve():
                _copy(wheel, files / wheel.name)
        known: dict[str, list[dict[str, Any]]] = {}
        for file in sorted(files.glob(f"*{SUFFIX}")):
            known.setdefault(name_of(file.name).project, []).append(_described(file))
        for project, entries in known.items():
            _write_project(folder / _SIMPLE / project, project, entries)
        links = "".join(f'<a href="{project}/">{project}</a><br>\n' for project in sorted(known))
        _write(folder / _SIMPLE / "index.html", _PAGE.format(version=_VERSION, title="index", links=links))
        listing = {"meta": {"api-version": _VERSION}, "projects": [{"name": name} for name in sorted(known)]}
        _write(folder / _SIMPLE / "index.json", json.dumps(listing, indent=1) + "\n")
    return sorted(known)


def _described(file: Path) -> dict[str, Any]:
    """As PEP 691 has a file; its metadata lies beside it (PEP 658), so that pip need not fetch the wheel to see it."""
    try:
        with opened(file, label=file.name) as wheel:
            metadata = wheel.text("METADATA")
            python = next(iter(wheel.field("Requires-Python")), "")
    except WheelError as error:
        raise UsageError(f"{file}: {error.reason}", hint="remove it from the index") from error
    beside = file.with_name(f"{file.name}.metadata")
    _write(beside, metadata)
    digest = {"sha256": file_sha256(beside)}
    return {
        "filename": file.name,
        "url": f"../../{_FILES}/{file.name}",
        "hashes": {"sha256": file_sha256(file)},
        "size": file.stat().st_size,
        **({"requires-python": python} if python else {}),
        "core-metadata": digest,
    }


def _write_project(folder: Path, project: str, entries: list[dict[str, Any]]) -> None:
    links = []
    for entry in entries:
        python, sha256 = entry.get("requires-python", ""), entry["hashes"]["sha256"]
        more = f' data-requires-python="{html.escape(python)}"' if python else ""
        more += f' data-core-metadata="sha256={entry["core-metadata"]["sha256"]}"'
        links.append(f'<a href="{html.escape(entry["url"])}#sha256={sha256}"{more}>{entry["filename"]}</a><br>\n')
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "index.html", _PAGE.format(version=_VERSION, title=project, links="".join(links)))
    versions = sorted({name_of(entry["filename"]).version for entry in entries})
    value = {"meta": {"api-version": _VERSION}, "name": project, "versions": versions, "files": entries}
    _write(folder / "index.json", json.dumps(value, indent=1) + "\n")


def _copy(source: Path, destination: Path) -> None:
    beside = destination.with_name(f".{destination.name}.new")
    shutil.copyfile(source, beside)
    beside.replace(destination)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)
