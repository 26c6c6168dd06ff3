"""What a shared store holds: blobs, named by their sha256, and small records, named by kind and key.

All that a record says is inside what is signed, also where it stands: one that was copied under another key says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from xbuild.base.digest import canonical_json
from xbuild.store.local import LAYOUT

FORMAT: Final = 1
LARGEST: Final = 1 << 20
"""Bytes of a record with its signature."""

_WORD = re.compile(r"[a-z][a-z0-9-]{0,30}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_FIELDS = {"format", "layout", "kind", "key", "made", "blobs", "facts"}


class Invalid(Exception):
    """It is no record, or not the one that was asked for; the message says why."""


@dataclass(frozen=True)
class Blob:
    """Some bytes. sha256: in hex; size: how many."""

    sha256: str
    size: int

    @property
    def name(self) -> str:
        """Where it lies in a store."""
        return f"blobs/{self.sha256[:2]}/{self.sha256}"


@dataclass(frozen=True)
class Record:
    """What is known of a key. blobs: by what each is; facts: JSON, small.

    made, signer: when it was written, and by whom, as one reads it; writing sets both.
    """

    blobs: Mapping[str, Blob] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    made: datetime | None = None
    signer: str = ""


def folder_of(kind: str, key: str) -> str:
    """Where the records of a key lie in a store, one a signer. Raises ValueError for what cannot be such words."""
    if not _WORD.fullmatch(kind) or not _DIGEST.fullmatch(key):
        raise ValueError(f"no kind and key of a record: {kind!r}, {key!r}")
    return f"records/{kind}/{key[:2]}/{key}"


def signed_text(kind: str, key: str, record: Record, made: datetime) -> str:
    """What is signed: the record, and where it stands, of this layout."""
    blobs = {name: [blob.sha256, blob.size] for name, blob in record.blobs.items()}
    told = {"format": FORMAT, "layout": LAYOUT, "kind": kind, "key": key, "made": made.strftime(_TIME)}
    return canonical_json({**told, "blobs": blobs, "facts": dict(record.facts)})


def wrapped(text: str, signature: str) -> bytes:
    """The file of a record."""
    return canonical_json({"record": text, "signature": signature}).encode()


def unwrapped(data: bytes) -> tuple[str, str]:
    """Text and signature, from a record's file. Raises Invalid."""
    told = _parsed(data)
    if set(told) != {"record", "signature"} or not all(isinstance(word, str) for word in told.values()):
        raise Invalid("it is no record")
    return told["record"], told["signature"]


def parsed(text: str, kind: str, key: str, signer: str) -> Record:
    """The record in `text`, whose signature is `signer`'s. Raises Invalid if it is not of this kind and key."""
    told = _parsed(text.encode())
    if set(told) != _FIELDS:
        raise Invalid("it is no record of this xbuild's")
    if (told["format"], told["layout"]) != (FORMAT, LAYOUT):
        raise Invalid(f"it is of format {told['format']}, layout {told['layout']}; here it is {FORMAT}, {LAYOUT}")
    if (told["kind"], told["key"]) != (kind, key):
        raise Invalid(f"it was signed for {str(told['kind'])[:30]}/{str(told['key'])[:20]}")
    if not isinstance(told["blobs"], dict) or not isinstance(told["facts"], dict):
        raise Invalid("it is no record of this xbuild's")
    blobs = {name: _blob(word) for name, word in told["blobs"].items()}
    return Record(blobs, told["facts"], made_of(told), signer)


def made_in(text: str) -> datetime:
    """When the record in `text` says that it was written. Raises Invalid."""
    return made_of(_parsed(text.encode()))


def made_of(told: Mapping[str, Any]) -> datetime:
    """As `made_in`, from the parsed record."""
    try:
        return datetime.strptime(told["made"], _TIME).replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid("it does not say when it was made") from error


def _blob(word: Any) -> Blob:
    match word:
        case [str(digest), int(size)] if _DIGEST.fullmatch(digest) and size >= 0:
            return Blob(digest, size)
    raise Invalid("it is no record of this xbuild's")


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        told = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise Invalid("it is cut, or no record") from error
    if not isinstance(told, dict):
        raise Invalid("it is no record")
    return told
