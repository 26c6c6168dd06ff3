"""How long modules, classes and functions are. As a program (`python tests/unit/lengths.py`) the longest of xbuild/."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def lines(path: Path) -> int:
    """Of a file."""
    return len(path.read_text().splitlines())


def classes(path: Path) -> Iterator[tuple[str, int, int]]:
    """The name of each class, its lines, and how many methods it has of its own."""
    for name, node in _named(path, ast.ClassDef):
        yield name, _length(node), sum(isinstance(part, _FUNCTION) for part in node.body)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The name of each function, its class's before it, and its lines: signature and docstring included."""
    for name, node in _named(path, *_FUNCTION):
        yield name, _length(node)


def excess(lengths: Mapping[str, int], most: int, allowed: Mapping[str, str]) -> dict[str, str]:
    """What is wrong: a length above `most` without a reason in `allowed`, or a reason that is not needed."""
    wrong = {name: f"{length} lines, more than {most}" for name, length in lengths.items() if length > most}
    needless = {name: "needs no reason" for name in allowed if name not in wrong}
    return {name: fault for name, fault in wrong.items() if name not in allowed} | needless


def _named(path: Path, *kinds: type[_Named]) -> Iterator[tuple[str, _Named]]:
    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Named]]:
        for child in ast.iter_child_nodes(node):
            inner = prefix
            if isinstance(child, (ast.ClassDef, *_FUNCTION)):
                inner = f"{prefix}{child.name}."
                if isinstance(child, kinds):
                    yield inner[:-1], child
            yield from below(child, inner)

    yield from below(ast.parse(path.read_text()), "")


def _length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def main() -> None:
    """Print the three longest of each kind."""
    paths = sorted((PROJECT / "xbuild").rglob("*.py"))
    where = {path: path.relative_to(PROJECT) for path in paths}
    told = {
        "lines of modules": [(lines(path), str(where[path])) for path in paths],
        "lines of classes": [(length, f"{where[path]}: {name}") for path in paths for name, length, _ in classes(path)],
        "methods of classes": [(count, f"{where[path]}: {name}") for path in paths for name, _, count in classes(path)],
        "lines of functions": [(size, f"{where[path]}: {name}") for path in paths for name, size in functions(path)],
    }
    for kind, counted in told.items():
        print(f"{kind}:", *(f"{count:6}  {name}" for count, name in sorted(counted, reverse=True)[:3]), sep="\n")


if __name__ == "__main__":
    main()
