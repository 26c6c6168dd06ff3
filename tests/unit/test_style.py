"""What a linter can say about our files, said as tests."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.unit.lengths import PROJECT, classes, excess, functions, lines

FILES = sorted(
    path.relative_to(PROJECT)
    for pattern in ("xbuild/**/*.py", "xbuild/**/*.[ch]", "tests/**/*.py", "tasks.py")
    for path in PROJECT.glob(pattern)
)
MAX_FILE = 400
"""Lines; a file must be shorter. Functions may have MAX_FUNCTION lines, signature and docstring included."""
MAX_FUNCTION = 40
LONG_FILES: dict[str, str] = {}
"""By path: the reason why a file reads better whole than split. An entry that is no longer needed is an error."""
LONG_FUNCTIONS: dict[str, str] = {}
"""The same of functions, by `path: Class.name`."""


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


def test_mypy_reads_each_script() -> None:
    """Scripts without an ending stand in its list one by one."""
    scripts = PROJECT.glob("tests/slow/*")
    found = {path for path in scripts if path.read_text().partition("\n")[0] == "#!/usr/bin/env python3"}
    listed = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    wanted = {str(path.relative_to(PROJECT)) for path in found}
    assert wanted == {name for name in listed if "slow" in name}, "files of [tool.mypy] in pyproject.toml"


def test_files_are_short() -> None:
    assert excess({str(path): lines(PROJECT / path) for path in FILES}, MAX_FILE - 1, LONG_FILES) == {}


def test_functions_fit_on_a_screen() -> None:
    paths = [path for path in FILES if path.parts[0] == "xbuild" and path.suffix == ".py"]
    found = {f"{path}: {name}": length for path in paths for name, length in functions(PROJECT / path)}
    assert excess(found, MAX_FUNCTION, LONG_FUNCTIONS) == {}


def test_what_is_too_long_has_a_reason_and_needs_it(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text("class A:\n    def f(self):\n        a = 1\n        return a\n\n\ndef f():\n    pass\n")
    assert lines(path) == 8
    assert list(classes(path)) == [("A", 4, 1)]
    found = dict(functions(path))
    assert found == {"A.f": 3, "f": 2}
    assert set(excess(found, 2, {})) == {"A.f"}
    assert excess(found, 2, {"A.f": "a reason"}) == {}
    assert excess(found, 3, {"A.f": "a reason"}) == {"A.f": "needs no reason"}
    assert excess(found, 3, {"gone": "a reason"}) == {"gone": "needs no reason"}
