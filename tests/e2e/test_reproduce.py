"""A package of the archive, built here and held against the archive's own, which an older toolchain has made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild

pytestmark = pytest.mark.e2e


def test_a_cause_is_found_and_kept(xbuild: Xbuild, tmp_path: Path) -> None:
    """hostname 3.25 was built when binutils laid out segments for pages of 4 KiB."""
    page = tmp_path / "page.html"
    words = ["reproduce", "hostname", "--target", "armhf", "--no-native", "--json"]
    said = xbuild(*words, "--html", str(page)).json
    (row,) = said["rows"]
    held = {deb["name"].partition("_")[0]: deb for deb in row["debs"]}
    assert row["verdicts"][held["hostname-dbgsym"]["name"]] == "not held"
    assert row["verdicts"][held["hostname"]["name"]] == "cause proved"
    (cause,) = held["hostname"]["explained"]["causes"]
    assert (cause["kind"], cause["members"]) == ("linker", ["usr/bin/hostname"])
    assert any("loaded segments: " in line for line in cause["evidence"])
    assert "another linker" in page.read_text()
    # Nothing is done twice, and the archive's file, which the report names, gives the same.
    assert xbuild(*words).json["rows"] == said["rows"]
    (other,) = (xbuild.project / "dist").rglob(f"archive/{held['hostname']['name']}")
    again = xbuild("reproduce", str(other), "--no-native", "--json").json
    assert again["rows"][0]["debs"][-1]["explained"] == held["hostname"]["explained"]
    # A file that is cut off is told.
    other.write_bytes(other.read_bytes()[:-9])
    failed = xbuild("reproduce", str(other), "--no-native", "--json", code=5).json
    assert failed["error"]["message"].startswith(f"{other}: ")
