"""What a linter can say about our files, said as tests."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path.relative_to(PROJECT)
    for pattern in ("xbuild/**/*.py", "xbuild/**/*.[ch]", "tests/**/*.py", "tasks.py")
    for path in PROJECT.glob(pattern)
)
MAX_FILE = 400
"""Lines; a file must be shorter. Functions may have MAX_FUNCTION lines, signature and docstring included."""
MAX_FUNCTION = 40


def run_tool(name: str, *arguments: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    run_tool("ruff", "check", "--quiet", "xbuild", "tests")


def test_mypy() -> None:
    run_tool("mypy")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_are_short(path: Path) -> None:
    assert len((PROJECT / path).read_text().splitlines()) < MAX_FILE


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] == "xbuild" and p.suffix == ".py"], ids=str)
def test_functions_fit_on_a_screen(path: Path) -> None:
    tree = ast.parse((PROJECT / path).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION} == {}
