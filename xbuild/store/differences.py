"""What differs between the inputs of two things, in lines for a person."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from xbuild.base.digest import canonical_json

_PACKAGE = re.compile(r"(\S+) ([a-z0-9]+) ([0-9a-f]{64})")
"""A package by its name: version, architecture, sha256."""


def diff_values(old: Any, new: Any) -> list[str]:
    """What differs between two JSON values, in lines: `recipe.version: '1' -> '2'`, `packages: + libfoo`; of packages
    of a root `zlib1g 1:1.3-1 -> 1:1.3-2 in the target root`.

    Empty exactly if both have the same key.
    """
    return list(_differences("", old, new))


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if canonical_json(old) == canonical_json(new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _mapping_differences(path, old, new)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_differences(path, old, new)
    elif isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        # The first two lines name files, and those of "@@" places.
        for line in list(difflib.unified_diff(old.split("\n"), new.split("\n"), lineterm="", n=0))[2:]:
            if line[0] in "+-":
                yield f"{path or 'value'}: {line[0]} {line[1:]}"
    else:
        yield f"{path or 'value'}: {_show(old)} -> {_show(new)}"


def _mapping_differences(path: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        below = f"{path}.{name}" if path else name
        before, after = _package(old.get(name)), _package(new.get(name))
        if (before or after) and (before or name not in old) and (after or name not in new):
            if old.get(name) != new.get(name):
                yield _package_difference(name, path.rpartition(".")[2], before, after)
        elif name not in new:
            yield f"{below}: - {_show(old[name])}"
        elif name not in old:
            yield f"{below}: + {_show(new[name])}"
        else:
            yield from _differences(below, old[name], new[name])


def _package(value: Any) -> re.Match[str] | None:
    return _PACKAGE.fullmatch(value) if isinstance(value, str) else None


def _package_difference(name: str, where: str, old: re.Match[str] | None, new: re.Match[str] | None) -> str:
    if old is None or new is None:
        known = old or new
        assert known is not None
        return f"{name} {known[1]} {'is new in' if old is None else 'is gone from'} the {where}"
    if old[1] != new[1]:
        return f"{name} {old[1]} -> {new[1]} in the {where}"
    if old[2] != new[2]:
        return f"{name} {old[1]} of {old[2]} -> {new[2]} in the {where}"
    return f"{name} {old[1]} in the {where} is another file of the same version: sha256 {old[3][:12]} -> {new[3][:12]}"


def _list_differences(path: str, old: list[Any], new: list[Any]) -> Iterator[str]:
    if len(old) == len(new) and any(isinstance(item, (dict, list)) for item in old + new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{index}]", *pair)
        return
    # Most lists are sets of names: what came and what went says more than what stands where now.
    before, after = Counter(map(_item, old)), Counter(map(_item, new))
    name = path or "value"
    yield from (f"{name}: - {item}" for item in (before - after).elements())
    yield from (f"{name}: + {item}" for item in (after - before).elements())
    if before == after:
        yield f"{name}: order: {', '.join(map(_item, old))} -> {', '.join(map(_item, new))}"


def _item(value: Any) -> str:
    # Bare only if it cannot be taken for another value: the name true is not the truth value.
    bare = isinstance(value, str) and value.isprintable() and value == value.strip() and "," not in value
    if not bare or not value or value[0] in "'\"":
        return _show(value)
    try:
        json.loads(value)
    except ValueError:
        return str(value)
    return _show(value)


def _show(value: Any) -> str:
    return repr(value) if isinstance(value, str) else canonical_json(value)
