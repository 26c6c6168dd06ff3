"""How a recipe's overrides change it: on trees, so that an error still names the line that it comes from."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from xbuild.base.yamlfile import Node

NOT_MERGED = "targets"
"""The field of an override that says when it holds, and is no change."""


def merge(base: Node, change: Node) -> Node:
    """`base` changed by `change`: lists extend, mappings merge, everything else replaces."""
    if isinstance(base.value, dict) and isinstance(change.value, dict):
        entries = dict(base.value)
        for key, child in change.value.items():
            entries[key] = merge(entries[key], child) if key in entries else child
        return replace(base, value=entries)
    if isinstance(base.value, list) and isinstance(change.value, list):
        return replace(base, value=base.value + change.value)
    return change


def holds(override: Node, target: str) -> bool:
    """Is one of the override's patterns true of the name `target`?"""
    targets = override.find("targets")
    patterns = [child.value for _, child in targets.items()] if targets else []
    return any(isinstance(pattern, str) and fnmatchcase(target, pattern) for pattern in patterns)


def resolved(recipe: Node, target: str) -> Node:
    """The tree of a recipe without `overrides`, those that hold for `target` applied in order."""
    result = replace(recipe, value={key: child for key, child in recipe.value.items() if key != "overrides"})
    overrides = recipe.find("overrides")
    for _, override in overrides.items() if overrides else ():
        if holds(override, target):
            changes = {key: child for key, child in override.value.items() if key != NOT_MERGED}
            result = merge(result, replace(override, value=changes))
    return result
