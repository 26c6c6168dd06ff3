"""A build on a second machine, that is with a second store, by what the first one has put into a shared one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild
from xbuild.sandbox.run import remove_tree
from xbuild.store.local import Store

pytestmark = pytest.mark.e2e


@pytest.fixture
def elsewhere(user_cache: Path, project: Path) -> Iterator[Xbuild]:
    """xbuild for the same project, with an empty store at another path."""
    store = Store(user_cache, remove_tree)
    with store.lock("e2e-shared", describe="runs end-to-end tests"):
        path = store.scratch("e2e-shared") / "away"
        path.mkdir(parents=True)
        for place in (path, path.parent):
            place.chmod(0o755)
        yield Xbuild(project, path)
        remove_tree(path.parent)


def test_the_second_machine_builds_nothing(xbuild: Xbuild, elsewhere: Xbuild, tmp_path: Path) -> None:
    env = {"XBUILD_STORE_KEYS": str(tmp_path / "keys"), "XBUILD_STORE": str(tmp_path / "shared")}
    xbuild("store.keys", "--new", "--name", "here", env=env)
    xbuild.recipe()
    words = ("build", "tiny", "--target", "armhf", "--json")
    here = xbuild(*words, env=env).json
    xbuild("store.push", "resolved", env=env)
    # Nothing can be had elsewhere: nobody listens at the port `discard`.
    there = elsewhere(*words, env={**env, "XBUILD_MIRROR": "http://127.0.0.1:9/debian"}).json
    assert (there["sha256"], there["status"]) == (here["sha256"], "up-to-date")
    assert {"roots", "layers", "twins", "work"}.isdisjoint(path.name for path in elsewhere.cache.iterdir())
    (told,) = xbuild("store.ls", "--json", "--store", env["XBUILD_STORE"], env=env).json["shared"]
    assert {one["kind"] for one in told["records"]} >= {"artifacts", "resolved"}
