"""A build elsewhere by entries that were carried there: another store, without a package mirror."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild
from xbuild.sandbox.run import remove_tree
from xbuild.store.carry import TRAVELLING
from xbuild.store.local import Store

pytestmark = pytest.mark.e2e

REFUSING = {"XBUILD_MIRROR": "http://127.0.0.1:9/debian"}
"""The port `discard`, where nobody listens."""


@pytest.fixture
def elsewhere(user_cache: Path, project: Path) -> Iterator[Xbuild]:
    """xbuild for the same project, with an empty store at another path."""
    store = Store(user_cache, remove_tree)
    with store.lock("e2e-moved", describe="runs end-to-end tests"):
        path = store.scratch("e2e-moved") / "far" / "away"
        path.mkdir(parents=True)
        for place in (path, *path.parents[:2]):
            place.chmod(0o755)
        yield Xbuild(project, path)
        remove_tree(path.parents[1])


def manifest(store: Path) -> Any:
    (file,) = store.glob("artifacts/*/*.manifest.json")
    return json.loads(file.read_text())


@pytest.mark.long
def test_a_build_by_moved_entries_is_the_same(xbuild: Xbuild, elsewhere: Xbuild, tmp_path: Path) -> None:
    script = "cc --version > answer; pkg-config --version >> answer"
    xbuild.recipe(depends={"packages": ["pkgconf"]}, build={"compile": script})
    begun = time.time()
    here = xbuild.build("tiny")
    told = xbuild("store.ls", "--json").json["entries"]
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun))
    wanted = [one["name"] for one in told if one["used"] >= since and one["kind"] in TRAVELLING]
    names = [name for name in wanted if not name.startswith("artifacts/")]
    assert {name.partition("/")[0] for name in names} >= {"roots", "layers", "twins"}
    made = manifest(xbuild.cache)
    file = tmp_path / "entries"
    xbuild("store.pack", ",".join(names), "--output", str(file))
    taken = elsewhere("store.unpack", str(file), "--json").json["entries"]
    assert sorted(one["name"] for one in taken) == sorted(names)
    again = tmp_path / "again"
    elsewhere("store.pack", ",".join(names), "--output", str(again))
    assert again.stat().st_size == file.stat().st_size
    assert again.read_bytes() == file.read_bytes()
    shutil.rmtree(xbuild.project / "dist")
    there = elsewhere("build", "tiny", "--target", "armhf", "--json", env=REFUSING).json
    assert there["sha256"] == here["sha256"]
    moved = manifest(elsewhere.cache)
    assert moved["key"] == made["key"]
    assert moved["ran-emulated"] == made["ran-emulated"]
    assert moved["ran-native"] == made["ran-native"]
    assert [twin for twin in moved["twins"] if twin["ran"]] == [twin for twin in made["twins"] if twin["ran"]]
    assert any(twin["ran"] for twin in moved["twins"])
    verified = elsewhere("store.verify", "--json").json
    assert [one for one in verified["entries"] if one["faults"]] == []
