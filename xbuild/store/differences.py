"""What differs between the inputs of two things, in lines for a person."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from xbuild.base.digest import canonical_json


def diff_values(old: Any, new: Any) -> list[str]:
    """What differs between two JSON values, in lines: `recipe.version: '1' -> '2'`, `packages: + libfoo`.

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
        if name not in new:
            yield f"{below}: - {_show(old[name])}"
        elif name not in old:
            yield f"{below}: + {_show(new[name])}"
        else:
            yield from _differences(below, old[name], new[name])


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
