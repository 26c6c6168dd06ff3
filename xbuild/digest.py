"""Digests: of files, and of values as canonical JSON (the keys of the store)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

KEY_VERSION = 1
"""Part of every key. Raise it when the meaning of a stored thing changes without its inputs changing."""


def canonical_json(value: Any) -> str:
    """`value` as JSON with sorted keys and without white space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def key_of(value: Any) -> str:
    """sha256, in hex, of `KEY_VERSION` and `value` as canonical JSON."""
    text = canonical_json({"key_version": KEY_VERSION, "value": value})
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256, in hex, of the contents of the file `path`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
