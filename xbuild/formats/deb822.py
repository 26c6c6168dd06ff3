"""Debian's control files (deb822(5)): paragraphs of fields, also where they are signed in the clear."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

Fields = Mapping[str, str]
"""A paragraph. Values are without white space around them; further lines keep the blank that they begin with."""

_SIGNED = "-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE = "-----BEGIN PGP SIGNATURE-----"
_FIELD = re.compile(r"([^\s:#-][^\s:]*)[ \t]*:(.*)", re.DOTALL)


def is_signed(text: str) -> bool:
    """Whether it begins as a text that is signed in the clear (RFC 9580, 7)."""
    return text.lstrip().startswith(_SIGNED)


def unsigned(text: str) -> str:
    """What is signed, without the signature; a text that is not signed as it is. Nothing is verified.

    Raises ValueError if a signature is begun and not there.
    """
    if not is_signed(text):
        return text
    body = text.lstrip().replace("\r\n", "\n").partition("\n\n")[2]
    signed, mark, _ = body.partition(f"\n{_SIGNATURE}")
    if not mark:
        raise ValueError("its signature is cut off")
    return re.sub(r"^- ", "", signed, flags=re.MULTILINE) + "\n"


def paragraphs(text: str) -> Iterator[Fields]:
    """All paragraphs of a text. Raises ValueError, with the number of the line, for what is none."""
    fields: dict[str, str] = {}
    last = ""
    # Only this ends a line: others of Unicode's stand in descriptions.
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if not last:
                raise ValueError(f"line {number}: it continues no field")
            fields[last] += f"\n{line.rstrip()}"
        else:
            found = _FIELD.fullmatch(line)
            if found is None:
                raise ValueError(f"line {number}: no field: {line[:60]!r}")
            last = found[1]
            if last in fields:
                raise ValueError(f"line {number}: a second field {last}")
            fields[last] = found[2].strip()
    if fields:
        yield fields


def paragraph(text: str) -> Fields:
    """The only paragraph of a text. Raises ValueError if there is none, or more than one."""
    found = list(paragraphs(text))
    if len(found) != 1:
        raise ValueError(f"{len(found)} paragraphs, and not one")
    return found[0]


def without_epoch(version: str) -> str:
    """The version of a package as names of files have it: 1:2.3-4 is 2.3-4."""
    return re.sub(r"^[0-9]+:", "", version)
