"""The generated pages of the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from xbuild.cli.namespace import namespace
from xbuild.cli.reference import pages

PAGES = pages(namespace)
PUBLISHED = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_published_pages_are_current(name: str) -> None:
    assert (PUBLISHED / name).read_text() == PAGES[name], "write them again: invoke reference"


def test_every_command_is_there() -> None:
    for name in namespace.task_names:
        assert f"\n## {name}\n" in PAGES["commands.md"]


def test_options_and_defaults() -> None:
    page = PAGES["commands.md"]
    what = "name of a file in recipes/, the path of one, or the directory of a project"
    assert f"| `recipe` | {what} | required |" in page
    assert "| `--from` | begin with this phase, in the build tree as it is |  |" in page
    assert "| `--target` | target, such as armhf, arm64, amd64 (a file in toolchains/) | `armhf` |" in page
    assert "\n    invoke build [RECIPE]\n" in page
    assert "| `--no-publish` | put no copy of the artifact into dist/ |  |" in page


def test_keys_kinds_and_marks() -> None:
    page = PAGES["files.md"]
    assert "| `name` (required) | string | Name of the project, and of the file |" in page
    assert "| `sources` (required) | list of Source |" in page
    assert "| `env` | mapping to string |" in page


def test_rows_of_tables_have_as_many_cells_as_their_heads() -> None:
    for page in PAGES.values():
        rows = [line for line in page.splitlines() if line.startswith("| ")]
        assert {line.replace("\\|", "").count("|") for line in rows} == {4}
