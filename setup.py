"""What pyproject.toml cannot say: recipes, toolchains and schemas stand beside the package, and go into it."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PARTS = (
    "xbuild", "recipes", "toolchains", "docs", "tests", ".ci", "pyproject.toml", "setup.py", "MANIFEST.in", "tasks.py",
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "PKG-INFO",
)  # fmt: skip
DATA = ("recipes", "toolchains", "docs/schema")


class BuildWithData(build_py):
    """The package with `DATA` in it; an editable one finds them beside it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in DATA:
                shutil.copytree(name, Path(self.build_lib, "xbuild", name), dirs_exist_ok=True)


def build_in_a_copy() -> None:
    """setuptools writes beside the sources: a read-only checkout has no place, and old modules would stay in the next
    wheel."""
    place = tempfile.mkdtemp(prefix="xbuild-build-")
    atexit.register(shutil.rmtree, place)
    for name in filter(os.path.exists, PARTS):
        if Path(name).is_dir():
            shutil.copytree(name, Path(place, name), ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(name, place)
    for directory, _, _ in os.walk(place):
        Path(directory).chmod(0o755)
    os.chdir(place)


if "editable_wheel" not in sys.argv:
    build_in_a_copy()
setup(cmdclass={"build_py": BuildWithData})
