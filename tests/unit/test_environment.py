from __future__ import annotations

import os
from pathlib import Path

import pytest

from xbuild.environment import Root, WorkPlace, build_directory, fixed_variables, sandbox, variables
from xbuild.model.load import load_recipe, load_toolchain
from xbuild.paths import BUILDER
from xbuild.sandbox.mounts import Bind, Mount, Overlay
from xbuild.sandbox.run import Sandbox, Service

PROJECT = Path(__file__).parents[2]
ARMHF = load_toolchain("armhf", PROJECT)
ZLIB = load_recipe("zlib", ARMHF, PROJECT)
ROOT = Root((Path("/store/upper"), Path("/store/base")), Path("/store/private"), ("registration",))
PLACE = WorkPlace(Path("/store/builds/zlib"))


def test_variables_of_a_recipe() -> None:
    recipe = ZLIB.model_copy(update={"env": {"CFLAGS": "-O1", "EMPTY": ""}})
    found = variables(recipe, ARMHF, epoch=1700000000, jobs=3)
    wanted = {
        "NAME": "zlib",
        "VERSION": "1.3.1",
        "TARGET": "armhf",
        "TARGET_TRIPLET": "arm-linux-gnueabihf",
        "PREFIX": "/usr",
        "LIBDIR": "/usr/lib/arm-linux-gnueabihf",
        "DESTDIR": "/build/dest",
        "SRCDIR": "/build/src",
        "BUILDDIR": "/build/src",
        "JOBS": "3",
        "SOURCE_DATE_EPOCH": "1700000000",
        "CFLAGS": "-O1",
        "EMPTY": "",
    }
    assert wanted.items() <= found.items()
    others = set(found) - set(wanted) - set(fixed_variables(ARMHF))
    assert all(name.startswith("OPT_") for name in others)


def test_nothing_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    before = variables(ZLIB, ARMHF, epoch=0, jobs=1)
    for name in (*before, "CC", "MAKEFLAGS", "LD_PRELOAD_OF_USER", "DISPLAY"):
        monkeypatch.setitem(os.environ, name, "the user's")
    after = variables(ZLIB, ARMHF, epoch=0, jobs=1)
    assert after == before
    assert "the user's" not in after.values()


def test_fixed_variables() -> None:
    found = fixed_variables(ARMHF)
    assert (found["LC_ALL"], found["TZ"], found["HOME"]) == ("C.UTF-8", "UTC", "/build")
    assert ARMHF.identity.items() <= found.items()
    other = fixed_variables(load_toolchain("arm64", PROJECT))
    assert {name for name in found if found[name] != other[name]} == {"HOSTTYPE", "OSTYPE", "MACHTYPE", "MAKE_HOST"}


@pytest.mark.parametrize(("name", "directory"), [("zlib", "/build/src"), ("brotli", "/build/obj")])
def test_build_directory(name: str, directory: str) -> None:
    assert build_directory(load_recipe(name, ARMHF, PROJECT)) == directory


def binds(mounts: tuple[Mount, ...]) -> dict[str, tuple[str, bool]]:
    return {mount.target: (mount.source, mount.readonly) for mount in mounts if isinstance(mount, Bind)}


def test_sandbox_of_a_phase(tmp_path: Path) -> None:
    place = WorkPlace(tmp_path)
    place.records.mkdir()
    where = sandbox(ROOT, place, {"A": "1"}, step="02-compile")
    first, *rest = where.mounts
    assert isinstance(first, Overlay)
    assert first.lowers == ("/store/upper", "/store/base")
    assert first.upper is None
    assert not any(isinstance(mount, Overlay) for mount in rest)
    found = binds(where.mounts)
    assert found["/build"] == (str(place.build), False)
    assert found["/.xbuild"] == ("/store/private", True)
    writable = {target for target, (_, readonly) in found.items() if not readonly}
    assert writable == {"/build", "/tmp", "/var/tmp", "/run", "/.xbuild/record"}
    assert found["/.xbuild/record"] == (str(place.records / "02-compile"), False)
    assert (where.record, where.accounts) == ("/.xbuild/record", place.accounts("02-compile"))
    # The record lies in the private tree, so it is mounted after that.
    assert list(found).index("/.xbuild/record") > list(found).index("/.xbuild")
    assert (where.env, where.cwd, where.network, where.locked) == ({"A": "1"}, "/build", False, True)
    assert where.uid == where.gid != 0
    assert where.registrations == ROOT.registrations


def test_sandbox_with_something_laid_over_the_root() -> None:
    overlay = sandbox(ROOT, PLACE, {}, over=[PLACE.dest]).mounts[0]
    assert isinstance(overlay, Overlay)
    assert overlay.lowers == ("/store/builds/zlib/build/dest", "/store/upper", "/store/base")


def test_sandbox_with_the_network() -> None:
    # The root is read-only: it could not be given a place to mount a file on.
    where = sandbox(ROOT, PLACE, {}, network=True)
    assert binds(where.mounts) == binds(sandbox(ROOT, PLACE, {}).mounts)
    overlay = where.mounts[0]
    assert isinstance(overlay, Overlay)
    assert overlay.lowers == ("/store/builds/zlib/network", "/store/upper", "/store/base")
    assert where.network


def test_only_the_builder_writes_into_a_record() -> None:
    root = Root((Path("/store/base"),), Path("/store/private"), ("line",))
    where = sandbox(root, PLACE, {}, step="00-a")
    assert Bind(str(PLACE.record("00-a")), "/.xbuild/record", writer=BUILDER) in where.mounts


def test_only_phases_are_recorded_and_only_without_network_served() -> None:
    service = Service(Sandbox(), ("true",), 1, Path("/log"))
    root = Root((Path("/store/base"),), Path("/store/private"), ("line",), service)
    plain = sandbox(root, PLACE, {})
    assert (plain.record, plain.accounts, plain.service) == (None, None, service)
    assert "/.xbuild/record" not in binds(plain.mounts)
    assert sandbox(root, PLACE, {}, network=True).service is None


def test_sandbox_of_a_native_target_has_nothing_private() -> None:
    where = sandbox(Root((Path("/store/base"),), None, ()), PLACE, {}, step="02-compile")
    assert (where.record, where.accounts) == (None, None)
    found = binds(where.mounts)
    assert not [target for target in found if target.startswith("/.xbuild")]
