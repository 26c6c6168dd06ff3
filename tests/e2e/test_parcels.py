"""A build that is packed here and made there: another path, home and store, no mirror, and the same artifact."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild
from tests.e2e.conftest import SHARED
from tests.e2e.test_moved_entries import REFUSING
from tests.e2e.test_own_projects import copied
from xbuild.build.executor import Order, unheard
from xbuild.build.executors import executor_of
from xbuild.build.modes.table import DEFAULT
from xbuild.build.parcel import pack, received, require_same, sent, unpacked
from xbuild.build.prepared import prepare
from xbuild.build.request import Request
from xbuild.cluster import parcels
from xbuild.projects import recipe_of
from xbuild.sandbox.run import remove_tree
from xbuild.store.local import Store
from xbuild.store.own import open_store
from xbuild.store.shared.shared import Shared
from xbuild.store.shared.trust import Keys

pytestmark = pytest.mark.e2e

KEPT = tuple(name for name in SHARED if name not in ("indexes", "resolved", "downloads", "locks"))
"""What of the store is there too: it takes minutes to make. Nothing that says which packages were resolved here."""
SEEN = "find . ! -name seen -printf '%P|%#m|%y|%l\\n' | LC_ALL=C sort > seen && cat one.bin readme.txt >> seen"
PATCH = "--- a/readme.txt\n+++ b/readme.txt\n@@ -1 +1 @@\n-nothing\n+something\n"


@pytest.fixture
def there(user_cache: Path, tmp_path: Path) -> Iterator[Xbuild]:
    """xbuild on another machine: nothing of the project is there."""
    store = Store(user_cache, remove_tree)
    with store.lock("e2e-parcel", describe="runs end-to-end tests"):
        path = store.scratch("e2e-parcel")
        path.mkdir()
        path.chmod(0o755)
        for name in KEPT:
            (path / name).symlink_to(user_cache / name)
        yield Xbuild(tmp_path / "elsewhere" / "place", path)
        remove_tree(path)


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared([str(tmp_path / "shared")], Keys(tmp_path / "keys"))


def crossed(here: Xbuild, there: Xbuild, shared: Shared, request: Request, patch: pytest.MonkeyPatch) -> Request:
    """The request that builds there what `request` builds here; the project is out of the way from now on."""
    patch.setenv("XBUILD_PROJECT", str(here.project))
    patch.setenv("XBUILD_CACHE", str(here.cache))
    blob = sent(pack(request, shared), shared)
    here.project.rename(here.project.with_name("gone"))
    patch.setenv("XBUILD_PROJECT", str(there.project))
    patch.setenv("XBUILD_CACHE", str(there.cache))
    patch.setenv("HOME", str(there.project.parent))
    parcel = received(blob, shared)
    again = unpacked(parcel, there.project, shared)
    require_same(parcel, again, there.project, shared)
    return again


def key_of(built: Any) -> str:
    """The artifact's key."""
    return str(json.loads(Path(built["manifest"]).read_text())["key"])


def texts(built: Any) -> bytes:
    """All that lies beside an artifact in the store, but what ran."""
    entry = Path(built["records"]).parent
    return b"".join(file.read_bytes() for file in entry.iterdir() if file.is_file())


def test_a_parcel_gives_the_same_artifact_elsewhere(
    xbuild: Xbuild, there: Xbuild, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, modes and links of a tree, a single file, a patch, and a recipe that needs another one."""
    xbuild.recipe("base", build={"compile": "echo base > answer"}, outputs=[{"path": "usr/share/answer"}])
    xbuild.recipe(
        files={"readme.txt": "nothing\n", "two\nlines": "x", "-rf": "x", "naïve": "x", "deep/er/run": "#!/bin/sh\n"},
        sources=[{"path": "sources/tiny"}, {"path": "one.bin", "unpack": False}],
        patches=["own.patch"],
        depends={"recipes": ["base"]},
        build={"compile": SEEN, "install": 'install -Dm644 seen "$DESTDIR/usr/share/seen"'},
        outputs=[{"path": "usr/share/seen"}],
    )
    source = xbuild.project / "sources" / "tiny"
    (source / "deep" / "er" / "run").chmod(0o755)
    (source / os.fsdecode(b"caf\xe9")).write_text("x")
    (source / "dangling").symlink_to("../../nowhere")
    (source / "absolute").symlink_to("/usr/share/answer")
    (xbuild.project / "one.bin").write_bytes(bytes(range(256)))
    (xbuild.project / "recipes" / "own.patch").write_text(PATCH)
    here = xbuild.build("tiny")
    key = key_of(here)
    again = crossed(xbuild, there, shared, Request("tiny", "armhf"), monkeypatch)
    built = there("build", again.recipe, "--target", again.target, "--json", env=REFUSING).json
    assert (built["status"], built["sha256"]) == ("built", here["sha256"])
    assert key_of(built) == key
    assert str(xbuild.project.parent).encode() not in texts(built)


def test_a_project_without_a_recipe_travels_and_leaves_no_tree(
    xbuild: Xbuild, there: Xbuild, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is built as of an order, whose key must be the same there."""
    tree = copied("make", xbuild.project)
    here = xbuild("build", str(tree), "--target", "armhf", "--pack", "--json").json
    key = key_of(here)
    monkeypatch.setenv("XBUILD_CACHE", str(xbuild.cache))
    recipe = recipe_of(tree, open_store())
    again = crossed(xbuild, there, shared, Request(str(recipe), "armhf"), monkeypatch)
    store = open_store()
    refused = executor_of(DEFAULT, store).perform(Order(again, "0" * 64), unheard)
    assert refused.failure is not None
    assert "has another key here" in refused.failure.message
    outcome = executor_of(DEFAULT, store).perform(Order(again, key), unheard)
    assert (outcome.status, outcome.failure) == ("built", None)
    assert outcome.manifest["artifact"]["sha256"] == here["sha256"]
    assert not list((there.cache / "work").iterdir())


def test_what_a_worker_has_already_is_given_back(
    xbuild: Xbuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared store was away when it was built, or has lost what it had: no build puts it there again."""
    xbuild.recipe()
    xbuild("build", "tiny", "--target", "armhf")
    env = {"XBUILD_STORE_KEYS": str(tmp_path / "keys"), "XBUILD_STORE": str(tmp_path / "shared")}
    xbuild("store.keys", "--new", env=env)
    for name, value in {**env, "XBUILD_PROJECT": str(xbuild.project), "XBUILD_CACHE": str(xbuild.cache)}.items():
        monkeypatch.setenv(name, value)
    order = parcels.sent(Request("tiny", "armhf"), open_store(), [])
    there = parcels.laid(order, tmp_path / "place", open_store(), 1)
    shared = Shared([env["XBUILD_STORE"]], Keys(tmp_path / "keys"))
    key = prepare(Request("tiny", "armhf")).key
    assert shared.get_record("artifacts", key) is None
    there.give_back()
    record = shared.get_record("artifacts", key)
    assert record is not None
    (blob,) = record.blobs.values()
    for spoil in (Path.unlink, lambda file: os.truncate(file, 9)):
        spoil(tmp_path / "shared" / blob.name)
        there.give_back()
        assert shared.get_blob(blob, tmp_path / "got")


@pytest.mark.long
def test_what_it_needs_is_taken_as_the_sender_has_it(
    xbuild: Xbuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe that does not come out the same twice, and was built on both machines: here after another."""
    env = {"XBUILD_STORE_KEYS": str(tmp_path / "keys"), "XBUILD_STORE": str(tmp_path / "shared")}
    xbuild("store.keys", "--new", env=env)
    xbuild.recipe(build={"compile": "date +%s.%N > answer"})
    xbuild.recipe("user", depends={"recipes": ["tiny"]}, build={"compile": "cp /usr/share/answer answer"})
    xbuild("build", "tiny", "--target", "armhf", env=env)
    for name, value in {**env, "XBUILD_PROJECT": str(xbuild.project), "XBUILD_CACHE": str(xbuild.cache)}.items():
        monkeypatch.setenv(name, value)
    asked = Request("user", "armhf")
    order, wanted = parcels.sent(asked, open_store(), []), prepare(asked).key
    # From now on it is the other machine.
    xbuild("clean")
    xbuild("build", "tiny", "--target", "armhf", env={"XBUILD_STORE": ""})
    assert prepare(asked).key != wanted
    laid = parcels.laid(order, tmp_path / "place", open_store(), 1)
    xbuild(*laid.words, env={**env, **laid.env})
    laid.give_back()
    assert Shared([env["XBUILD_STORE"]], Keys(tmp_path / "keys")).get_record("artifacts", wanted) is not None
