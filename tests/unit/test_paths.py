from __future__ import annotations

import os
from pathlib import Path

import pytest

from xbuild.base import paths
from xbuild.base.errors import UsageError
from xbuild.model.load import names


def test_the_cache_is_where_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBUILD_CACHE", str(tmp_path / "not there yet"))
    assert paths.cache() == tmp_path.resolve() / "not there yet"


def test_the_cache_has_no_links_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to("disk")
    monkeypatch.setenv("XBUILD_CACHE", str(tmp_path / "home" / "cache"))
    assert paths.cache() == tmp_path.resolve() / "disk" / "cache"


def test_a_relative_cache_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XBUILD_CACHE", "cache")
    assert paths.cache() == tmp_path.resolve() / "cache"


def test_the_project_is_found_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XBUILD_PROJECT", raising=False)
    for name in ("recipes", "toolchains", "deep/down", "deep/recipes"):
        (tmp_path / name).mkdir(parents=True)
    for kind in ("recipes", "toolchains"):
        file = tmp_path / kind / "mine.yml"
        file.touch()
        monkeypatch.chdir(tmp_path / "deep" / "down")
        assert paths.project() == tmp_path.resolve()
        file.unlink()
        # Without one, what is made belongs to where the user is.
        assert paths.project() == tmp_path.resolve() / "deep" / "down"
    monkeypatch.setenv("XBUILD_PROJECT", str(tmp_path / "deep"))
    assert paths.project() == tmp_path / "deep"
    monkeypatch.setenv("XBUILD_PROJECT", "..")
    assert paths.project().samefile(tmp_path / "deep")


def test_a_project_of_a_third_person_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can make a directory `recipes` in /tmp."""
    monkeypatch.delenv("XBUILD_PROJECT", raising=False)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "zlib.yml").touch()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    owner = os.getuid() + 1
    monkeypatch.setattr(paths, "_owner", lambda path: owner if path == tmp_path.resolve() else os.getuid())
    assert paths.project() == tmp_path.resolve() / "mine"
    owner = 0
    assert paths.project() == tmp_path.resolve()


@pytest.mark.parametrize("kind", ["recipes", "toolchains"])
def test_what_editors_keep_beside_a_recipe_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.delenv("XBUILD_PROJECT", raising=False)
    inner = tmp_path / "top" / "inner"
    for place in (tmp_path / "top", inner):
        (place / kind).mkdir(parents=True)
        # Emacs's mark of a file that it has open, and what macOS writes beside one on other file systems.
        (place / kind / ".#mine.yml").symlink_to("me@machine.1:1")
        (place / kind / "._mine.yml").touch()
    own = tmp_path / "top" / kind / "mine.yml"
    own.touch()
    monkeypatch.chdir(inner)
    assert paths.project() == tmp_path / "top"
    assert names(own.parent) == ["mine"]
    assert names(inner / kind) == []


@pytest.mark.parametrize("named", ["absent", "file"])
def test_a_project_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XBUILD_PROJECT", str(tmp_path / named))
    with pytest.raises(UsageError, match=f"XBUILD_PROJECT: .*/{named} is no directory") as caught:
        paths.project()
    assert caught.value.hint


def test_a_working_directory_that_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XBUILD_PROJECT", raising=False)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="the working directory cannot be used"):
        paths.project()
    monkeypatch.undo()


def test_what_is_shipped_lies_in_the_package_or_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.shipped("recipes") == paths.checkout() / "recipes"
    package = tmp_path / "site" / "xbuild"
    (package / "recipes").mkdir(parents=True)
    monkeypatch.setattr(paths, "PACKAGE", package)
    assert paths.shipped("recipes") == package / "recipes"
    with pytest.raises(UsageError, match="is no checkout"):
        paths.checkout()
