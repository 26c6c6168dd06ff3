"""Entries of debian/changelog (deb-changelog(5))."""

from __future__ import annotations

import re

from xbuild.base.errors import UsageError

_TOP = re.compile(r"^(?P<name>\S+) \((?P<version>[^)]+)\) (?P<suites>[^;]+);(?P<more>.*)$", re.MULTILINE)
_TRAILER = re.compile(r"^ -- (?P<maintainer>.*>)  (?P<date>.+)$", re.MULTILINE)
_ASKED = re.compile(r"(?P<number>[1-9][0-9]{0,5})(?::\s*(?P<reason>.+))?", re.DOTALL)
_HINT = "a number (1), a number and a reason (1: Rebuild with libfoo2), or the whole entry of debian/changelog"


def version_of(entry: str) -> str:
    """The version of an entry, with its epoch; "" if it has none."""
    top = _TOP.search(entry)
    return top["version"] if top else ""


def rebuilt(changelog: str, asked: str, architecture: str) -> str:
    """The entry of a rebuild without changes, for the top of `changelog`, as sbuild(1) writes it.

    asked: the number of the rebuild, with a reason behind a colon or without; or the whole entry. It is dated as the
    entry below is, so that it is the same on any day. Raises UsageError.
    """
    if _TOP.match(asked.lstrip("\n")) and _TRAILER.search(asked):
        return asked.strip("\n")
    top, trailer, wanted = _TOP.search(changelog), _TRAILER.search(changelog), _ASKED.fullmatch(asked.strip())
    if wanted is None:
        raise UsageError(f"--binnmu {asked.splitlines()[0] if asked else ''!r} is no rebuild", hint=_HINT)
    if top is None or trailer is None:
        raise UsageError("debian/changelog of the source cannot be read", hint="--binnmu takes a whole entry, too")
    reason = " ".join((wanted["reason"] or "Rebuild").split())
    return "\n".join(
        [
            f"{top['name']} ({top['version']}+b{wanted['number']}) {top['suites']}; urgency=low, binary-only=yes",
            "",
            f"  * Binary-only non-maintainer upload for {architecture}; no source changes.",
            f"  * {reason}",
            "",
            f" -- {trailer['maintainer']}  {trailer['date']}",
        ]
    )
