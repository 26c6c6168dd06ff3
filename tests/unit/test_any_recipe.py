"""Whatever stands in a recipe: it is read, or told with file, line and column. Never another exception."""

from __future__ import annotations

import copy
import glob
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xbuild.base.errors import XbuildError
from xbuild.build.environment import assignments, phase_variables
from xbuild.model.load import load_presets, load_recipe, load_toolchain
from xbuild.model.phases import resolve_phases
from xbuild.model.recipe import Recipe
from xbuild.sources import name_of, pool_address

PROJECT = Path(__file__).parents[2]
ARMHF = load_toolchain("armhf", PROJECT)
GOOD: dict[str, Any] = {
    "schema": 1,
    "name": "sample",
    "version": "1.2",
    "summary": "s",
    "license": "MIT",
    "homepage": "https://x.test/",
    "sources": [
        {"url": "https://x.test/a-{{ version }}.tar", "mirrors": ["ftp://y.test/b"], "sha256": "a" * 64, "into": "a/b"},
        {"distribution": {"package": "zlib", "file": "z.tar", "section": "main"}, "sha256": "a" * 64, "strip": 2},
        {"pypi": "p", "version": "1", "file": "p-1.tar.gz", "sha256": "a" * 64},
        {"git": "https://x.test/r", "commit": "b" * 40, "sha256": "a" * 64},
        {"path": "own", "sha256": "a" * 64},
    ],
    "patches": [],
    "depends": {"packages": ["libx-dev"], "recipes": []},
    "build": {"preset": "autotools", "options": {"configure-args": ["-x"]}, "compile": "make", "after-install": "true"},
    "env": {"CFLAGS": "-O1"},
    "check": {"command": "true", "timeout": "5m"},
    "idle-limit": "90s",
    "outputs": [{"path": "usr/bin/{{ name }}", "kind": "executable", "run": ["-v"], "prints": "{{ version }}"}],
    "twins": {"add": ["ccache"], "remove": ["sed"]},
    "overrides": [{"targets": ["arm*"], "env": {"A": "b"}, "outputs": [{"path": "usr/lib/x"}]}],
}


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys and numbers that lead to each value in `value`."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, child in inside for place in places(child, (*at, key)))]


PLACES = [place for place in places(GOOD) if place]
ODD = [
    "http://[::1/x", "http://[::1]:99999/x", "https://", "http://" + "a" * 70 + ".test/", "//x", "a\0b", "\ud800",
    "..", "a" * 5000, "/" * 5000, "{{ 9**(9**9) }}", "{{ 'a' * 99999999999 }}", "{{ x", "{{ version.format }}",
    "https://{{ a }}" + "{{a}}" * 40 + " ", "9" * 5000 + "h", "999999h", "**x", "[", "*" * 50 + "b", "2024-13-45",
    "1:1:1", "",
]  # fmt: skip
SCALARS = st.one_of(
    st.sampled_from(ODD), st.text(max_size=20), st.integers(), st.builds(lambda: 1 << 20000), st.floats(),
    st.booleans(), st.none(), st.dates(), st.datetimes(), st.binary(max_size=5),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=5
)
UNHURRIED = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Dumper(yaml.SafeDumper):
    """Writes numbers in hexadecimal: long ones Python refuses to write in decimal."""


Dumper.add_representer(int, lambda dumper, data: dumper.represent_scalar("tag:yaml.org,2002:int", hex(data)))


def loaded(path: Path) -> Recipe | XbuildError:
    try:
        return load_recipe(str(path), ARMHF, path.parent)
    except XbuildError as error:
        return error


def read(path: Path) -> None:
    """Read the recipe `path`, and do with it what a command does before it starts anything."""
    recipe = loaded(path)
    if isinstance(recipe, XbuildError):
        assert recipe.exit_code == 2
        assert all(re.match(r".*\.yml:[0-9]+:[0-9]+: ", line, re.DOTALL) for line in recipe.details), recipe.details
        return
    for source in recipe.sources:
        name_of(source)
        if source.distribution is not None:
            pool_address("https://x.test/", source.distribution)
    for output in recipe.outputs:
        glob.glob(output.path, root_dir=path.parent, recursive=True)  # noqa: PTH207
    for phase in resolve_phases(recipe, load_presets()):
        phase.script.encode()
    assignments(phase_variables(recipe, ARMHF, 1)).encode()


@UNHURRIED
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=2), st.booleans())
def test_any_value_anywhere(tmp_path: Path, changes: list[tuple[tuple[Any, ...], Any]], plain: bool) -> None:
    recipe = copy.deepcopy(GOOD)
    for place, value in changes:
        parent = recipe
        try:
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = value
        except (LookupError, TypeError):
            # The other change has taken it away.
            continue
    (tmp_path / "sample.yml").write_text(yaml.dump(recipe, Dumper=Dumper, allow_unicode=plain), errors="surrogatepass")
    read(tmp_path / "sample.yml")


@UNHURRIED
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000), st.binary(max_size=20)), max_size=4))
def test_any_bytes_anywhere(tmp_path: Path, changes: list[tuple[int, int, bytes]]) -> None:
    data = yaml.safe_dump(GOOD, sort_keys=False).encode()
    for start, length, other in changes:
        data = data[: start % len(data)] + other + data[start % len(data) + length % 30 :]
    (tmp_path / "sample.yml").write_bytes(data)
    read(tmp_path / "sample.yml")


@pytest.mark.parametrize("odd", ODD)
def test_odd_text_anywhere(tmp_path: Path, odd: str) -> None:
    for place in PLACES:
        recipe = copy.deepcopy(GOOD)
        parent: Any = recipe
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = odd
        # JSON is YAML, and is written faster.
        (tmp_path / "sample.yml").write_text(json.dumps(recipe))
        read(tmp_path / "sample.yml")


def test_the_good_one_is_good(tmp_path: Path) -> None:
    (tmp_path / "sample.yml").write_text(yaml.safe_dump(GOOD))
    assert load_recipe(str(tmp_path / "sample.yml"), ARMHF, tmp_path).name == "sample"
