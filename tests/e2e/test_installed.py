"""An xbuild that is installed, not a checkout: sdist and wheel hold all of it, and it builds from anywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import CHECKOUT
from xbuild.base.process import show

_IGNORED = shutil.ignore_patterns(".git", ".venv", "dist", "__pycache__", "*.egg-info", ".*_cache")


def ran(*command: str | Path, cwd: Path, code: int = 0, **more: str) -> str:
    """What a command says that must end with `code`; nothing of this Python or project is told to it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XBUILD_", "VIRTUAL_"))}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **more}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, f"{show(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not re.fullmatch(r"\..*_cache", path.name))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was made from it."""
    place = tmp_path_factory.mktemp("built")
    before = listing(CHECKOUT)
    ran(sys.executable, "-m", "build", "--outdir", place, CHECKOUT, cwd=place)
    # What lies beside the sources would be in the next wheel, as the modules of yesterday.
    assert listing(CHECKOUT) == before
    return place


@pytest.fixture(scope="module")
def program(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`xbuild` in a venv of its own, whose path has a blank, and which its user cannot write to."""
    venv = tmp_path_factory.mktemp("a venv") / "of its own"
    ran(sys.executable, "-m", "venv", venv, cwd=built)
    ran(venv / "bin/pip", "install", next(built.glob("*.whl")), cwd=built)
    ran("chmod", "-R", "a-w", venv, cwd=built)
    yield venv / "bin/xbuild"
    ran("chmod", "-R", "u+w", venv, cwd=built)


def ours(*names: str) -> set[str]:
    """The files below these directories of the checkout."""
    found = (path for name in names for path in (CHECKOUT / name).rglob("*") if path.is_file())
    return {str(path.relative_to(CHECKOUT)) for path in found if "__pycache__" not in path.parts}


def test_sdist_and_wheel_hold_everything(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        packed = set(wheel.namelist())
    data = {f"xbuild/{name}" for name in ours("recipes", "toolchains", "docs/schema")}
    assert {name for name in packed if ".dist-info/" not in name} == ours("xbuild") | data
    assert any(name.endswith("/LICENSE") for name in packed)
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        unpacked = {name.partition("/")[2] for name in sdist.getnames()}
    assert unpacked >= ours("xbuild", "recipes", "toolchains", "docs", "tests", ".ci")
    assert unpacked >= {"tasks.py", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"}


@pytest.mark.long
def test_it_builds_from_an_empty_directory(program: Path, cache: Path, tmp_path: Path) -> None:
    said = ran(program, "build", "zlib", "--target", "armhf", "--from", "unpack", cwd=tmp_path, XBUILD_CACHE=str(cache))
    assert "compile" in said
    assert [path.name for path in sorted((tmp_path / "dist").iterdir())] == [
        "zlib-1.3.1-armhf.manifest.json",
        "zlib-1.3.1-armhf.tar.zst",
    ]


def test_it_answers_anywhere(program: Path, cache: Path, tmp_path: Path) -> None:
    said = ran(program, "list", cwd=tmp_path)
    assert re.search(r"^zlib +1\.3\.1 +xbuild ", said, re.MULTILINE)
    (tmp_path / "recipes").mkdir()
    text = (CHECKOUT / "recipes/zlib.yml").read_text()
    (tmp_path / "recipes/zlib.yml").write_text(text.replace('"1.3.1"', '"9"'))
    said = ran(program, "list", cwd=tmp_path)
    assert re.search(r"^zlib +9 +project ", said, re.MULTILINE)
    assert re.search(r"^armhf +xbuild ", said, re.MULTILINE)
    assert "is no directory" in ran(program, "list", cwd=tmp_path, code=2, XBUILD_PROJECT="/nonexistent")
    for command in ("test", "lint", "reference"):
        assert "is no checkout" in ran(program, command, cwd=tmp_path, code=2)
    # Commands in hints are those that its user can give, here.
    said = ran(program, "log", "lua", cwd=tmp_path, code=2, XBUILD_CACHE=str(cache / "none"))
    assert f"hint: {show([program])} build lua --target armhf" in said
    assert re.fullmatch(r"xbuild \d+\.\d+\.\d+\n", ran(program, "--version", cwd=tmp_path))


@pytest.mark.long
def test_a_read_only_checkout_can_be_installed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(CHECKOUT, source, ignore=_IGNORED)
    ran("chmod", "-R", "a-w", source, cwd=tmp_path)
    ran(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, source, cwd=tmp_path)
    ran("chmod", "-R", "u+w", source, cwd=tmp_path)
    assert len(list(tmp_path.glob("xbuild-*.whl"))) == 1
