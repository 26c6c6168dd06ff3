from __future__ import annotations

from pathlib import Path

import pytest

from xbuild import paths


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
    for name in ("recipes", "toolchains", "deep/down"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "down")
    assert paths.project() == tmp_path.resolve()
    monkeypatch.chdir("/")
    assert paths.project() == paths.PACKAGE.parent
    monkeypatch.setenv("XBUILD_PROJECT", str(tmp_path / "deep"))
    assert paths.project() == tmp_path / "deep"
