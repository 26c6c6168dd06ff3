"""The project and the cache that the end-to-end tests use.

The cache shares roots, layers, twins and downloads with the user's own, since they take minutes to make; what a test
builds, and the places it builds in, are the test's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import CHECKOUT, Xbuild
from xbuild.base import paths
from xbuild.sandbox.run import remove_tree
from xbuild.store.local import Store

SHARED = ("downloads", "indexes", "resolved", "roots", "layers", "twins", "canaries", "machines", "locks")
"""The parts of the cache that tests share with the user."""


@pytest.fixture(scope="session")
def user_cache(runnable: None) -> Path:
    """The user's own cache."""
    return paths.cache()


@pytest.fixture(scope="session")
def cache(user_cache: Path) -> Iterator[Path]:
    """A cache for all tests of this run, with everything shared that takes long to make.

    It lies in the user's, so that things can be renamed from one to the other; it has a name and a lock as all scratch
    files of the store, so that `invoke clean` removes it after a killed run, and never before.
    """
    store = Store(user_cache, remove_tree)
    for name in (*SHARED, "tmp"):
        store.directory(name)
    with store.lock("e2e", describe="runs end-to-end tests"):
        path = store.scratch("e2e")
        path.mkdir()
        path.chmod(0o755)
        for name in SHARED:
            (path / name).symlink_to(user_cache / name)
        yield path
        remove_tree(path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with our recipes and toolchains, to write into."""
    path = tmp_path / "project"
    for name in ("recipes", "toolchains"):
        shutil.copytree(CHECKOUT / name, path / name)
    return path


@pytest.fixture
def xbuild(project: Path, cache: Path) -> Iterator[Xbuild]:
    """xbuild, in a project of the test's own. What a test leaves in the cache's own parts is removed after it."""
    yield Xbuild(project, cache)
    for name in ("work", "artifacts", "taught", "ccache"):
        remove_tree(cache / name)
