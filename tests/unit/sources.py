"""Our own source files as syntax trees, each read once for all tests that look at them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = PROJECT / "xbuild"

Nodes = tuple[ast.AST, ...]


@cache
def modules() -> tuple[Path, ...]:
    """The files of the package."""
    return tuple(sorted(PACKAGE.rglob("*.py")))


@cache
def nodes_of(path: Path) -> Nodes:
    """All nodes of a file in the order of `ast.walk`, the module first; nobody may change them."""
    return nodes_in(path.read_text())


def nodes_in(text: str) -> Nodes:
    """The same of a text."""
    return tuple(ast.walk(ast.parse(text)))


def strings(path: Path) -> Iterator[ast.JoinedStr | ast.Constant]:
    """The strings of a file, without docstrings and the parts of other strings."""
    inner: set[ast.AST] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.JoinedStr):
            inner.update(part for value in node.values for part in ast.walk(value))
            yield node
        elif isinstance(node, ast.Expr):
            inner.add(node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            yield node
