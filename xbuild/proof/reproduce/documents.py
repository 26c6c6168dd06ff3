"""What debhelper leaves out of changelogs: entries of years ago (dh_installchangelogs(1)). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

from xbuild.proof.compare.contents import readable

_DOCUMENT: Final = re.compile(r"(?P<place>usr/share/doc/[^/]+/)(?P<name>changelog|NEWS)[^/]*")
_MARK: Final = "# Older entries have been removed from this changelog."
_DATE: Final = re.compile(r"^ -- .*?>  (.*)$", re.MULTILINE)

Reader = Callable[[str], bytes]


def left_out(path: str, theirs: Reader, ours: Reader) -> str | None:
    """How ours lacks old entries of a changelog, or of news, and nothing else differs; None where it is not so.

    News go that are older than all that is left of the changelog. theirs, ours: give a member, or KeyError.
    """
    match = _DOCUMENT.fullmatch(path)
    old, new = _text(path, theirs), _text(path, ours)
    if match is None or old is None:
        return None
    kept, mark, _ = (new or "").partition(_MARK)
    if not old.startswith(kept.rstrip("\n")):
        return None
    gone = len(_DATE.findall(old)) - len(_DATE.findall(kept))
    if match["name"] == "NEWS":
        names = [f"{match['place']}{name}" for name in ("changelog.Debian.gz", "changelog.gz")]
        known = next((text for name in names if (text := _text(name, ours))), "")
        dropped, dates = _dates(old[len(kept.rstrip("\n")) :]), _dates(known)
        mark = _MARK if _MARK in known and dropped and dates and max(dropped) < min(dates) else ""
    return f"oldest entries left out here: {gone}" if mark and gone > 0 else None


def _text(path: str, read: Reader) -> str | None:
    try:
        return readable(read(path)).decode(errors="replace")
    except KeyError:
        return None


def _dates(text: str) -> list[float]:
    """When the entries were written, in seconds since 1970; [] if one does not say so."""
    try:
        return [parsedate_to_datetime(date).timestamp() for date in _DATE.findall(text)]
    except (ValueError, TypeError):
        return []
