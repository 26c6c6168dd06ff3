from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from xbuild.base.paths import BUILDER
from xbuild.build.environment import (
    FIXED_VARIABLES,
    Root,
    WorkPlace,
    assignments,
    build_directory,
    phase_variables,
    sandbox,
    variables,
)
from xbuild.build.stepfiles import StepFiles
from xbuild.model.load import load_recipe, load_toolchain
from xbuild.roots.network import names_text
from xbuild.sandbox.mounts import Bind, Mount, Overlay
from xbuild.sandbox.run import Sandbox, Service

PROJECT = Path(__file__).parents[2]
ARMHF = load_toolchain("armhf", PROJECT)
ZLIB = load_recipe("zlib", ARMHF, PROJECT)
ROOT = Root((Path("/store/upper"), Path("/store/base")), Path("/store/private"), ("registration",))
PLACE = WorkPlace(Path("/store/builds/zlib"))
COMPILE = StepFiles(2, "compile")


def test_only_what_every_build_expects_is_exported() -> None:
    recipe = ZLIB.model_copy(update={"env": {"CFLAGS": "-O1", "EMPTY": ""}})
    asked = {"SOURCE_DATE_EPOCH": "1700000000", "CFLAGS": "-O1", "EMPTY": ""}
    assert variables(recipe, 1700000000) == {**FIXED_VARIABLES, **asked}
    usual = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LC_ALL", "TZ"}
    assert set(FIXED_VARIABLES) == usual


def test_variables_of_a_phase() -> None:
    found = phase_variables(ZLIB, ARMHF, jobs=3)
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
    }
    assert wanted.items() <= found.items()
    assert all(name.startswith("OPT_") for name in set(found) - set(wanted))


def test_assignments_are_for_the_shell_alone() -> None:
    values = {"A": "it's $HOME", "B": "", "OPT_LIST": "'a b' c"}
    text = assignments(values) + 'printf "%s|" "$A" "$B" "$OPT_LIST"; env'
    said = subprocess.run(["sh", "-euc", text], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True).stdout
    assert said.startswith(b"it's $HOME||'a b' c|")
    assert b"OPT_LIST" not in said


def test_nothing_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    before = variables(ZLIB, 0)
    for name in (*before, "CC", "MAKEFLAGS", "LD_PRELOAD_OF_USER", "DISPLAY"):
        monkeypatch.setitem(os.environ, name, "the user's")
    after = variables(ZLIB, 0)
    assert after == before
    assert "the user's" not in after.values()


@pytest.mark.parametrize(("name", "directory"), [("zlib", "/build/src"), ("brotli", "/build/obj")])
def test_build_directory(name: str, directory: str) -> None:
    assert build_directory(load_recipe(name, ARMHF, PROJECT)) == directory


def binds(mounts: tuple[Mount, ...]) -> dict[str, tuple[str, bool]]:
    return {mount.target: (mount.source, mount.readonly) for mount in mounts if isinstance(mount, Bind)}


def test_sandbox_of_a_phase(tmp_path: Path) -> None:
    place = WorkPlace(tmp_path)
    place.records.mkdir()
    where = sandbox(ROOT, place, {"A": "1"}, step=COMPILE)
    first, *rest = where.mounts
    assert isinstance(first, Overlay)
    assert first.lowers == (str(tmp_path / "loopback"), "/store/upper", "/store/base")
    assert first.upper is None
    assert not any(isinstance(mount, Overlay) for mount in rest)
    found = binds(where.mounts)
    assert found["/build"] == (str(place.build), False)
    assert found["/.xbuild"] == ("/store/private", True)
    writable = {target for target, (_, readonly) in found.items() if not readonly}
    assert writable == {"/build", "/tmp", "/var/tmp", "/run", "/.xbuild/record"}
    assert found["/.xbuild/record"] == (str(place.records / "02-compile"), False)
    assert (where.record, where.accounts) == ("/.xbuild/record", place.accounts(COMPILE))
    # The record lies in the private tree, so it is mounted after that.
    assert list(found).index("/.xbuild/record") > list(found).index("/.xbuild")
    assert (where.env, where.cwd, where.network, where.locked) == ({"A": "1"}, "/build", False, True)
    assert where.uid == where.gid != 0
    assert where.registrations == ROOT.registrations


def test_root_of_a_phase_writes_where_the_builder_does_and_cannot_rename_what_we_write(tmp_path: Path) -> None:
    place = WorkPlace(tmp_path)
    place.records.mkdir()
    where = sandbox(ROOT, place, {"USER": "builder"}, step=COMPILE, as_root=True)
    found = binds(where.mounts)
    assert found["/build"] == (str(place.build), True)
    writable = {target for target, (_, readonly) in found.items() if not readonly}
    below = {"/build/src", "/build/obj", "/build/dest"}
    assert writable == {*below, "/tmp", "/var/tmp", "/run", "/.xbuild/record"}
    assert all(list(found).index(name) > list(found).index("/build") for name in below)
    assert (where.uid, where.gid, where.narrow, where.locked) == (0, 0, True, True)
    assert (where.env["USER"], where.env["LOGNAME"]) == ("root", "root")
    # What was checked is laid over the root, and changed by nobody.
    over = sandbox(ROOT, place, {}, over=[place.dest], as_root=True).mounts
    assert binds(over)["/build/dest"] == (str(place.dest), True)


def test_sandbox_with_something_laid_over_the_root() -> None:
    overlay = sandbox(ROOT, PLACE, {}, over=[PLACE.dest]).mounts[0]
    assert isinstance(overlay, Overlay)
    assert overlay.lowers == tuple(
        f"/store/{layer}" for layer in ("builds/zlib/loopback", "builds/zlib/build/dest", "upper", "base")
    )


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
    where = sandbox(root, PLACE, {}, step=StepFiles(0, "a"))
    assert Bind(str(PLACE.record(StepFiles(0, "a"))), "/.xbuild/record", writer=BUILDER) in where.mounts


def test_only_phases_are_recorded_and_only_without_network_served() -> None:
    service = Service(Sandbox(), ("true",), 1, Path("/log"))
    root = Root((Path("/store/base"),), Path("/store/private"), ("line",), service)
    plain = sandbox(root, PLACE, {})
    assert (plain.record, plain.accounts, plain.service) == (None, None, service)
    assert "/.xbuild/record" not in binds(plain.mounts)
    assert sandbox(root, PLACE, {}, network=True).service is None


def test_sandbox_of_a_native_target_has_nothing_private() -> None:
    where = sandbox(Root((Path("/store/base"),), None, ()), PLACE, {}, step=COMPILE)
    assert (where.record, where.accounts) == (None, None)
    found = binds(where.mounts)
    assert not [target for target in found if target.startswith("/.xbuild")]


def test_names_of_a_work_place(tmp_path: Path) -> None:
    place = WorkPlace(tmp_path)
    place.make()
    alone = (place.names(network=False) / "etc" / "hosts").read_text()
    assert alone == "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 xbuild\n"
    assert [path.name for path in (place.names(network=False) / "etc").iterdir()] == ["hosts"]
    wide = (place.names(network=True) / "etc" / "hosts").read_text()
    assert "localhost" in wide
    assert wide.endswith("127.0.1.1 xbuild\n")


@pytest.mark.parametrize(
    ("known", "begin"),
    [("", "127.0.0.1 localhost\n"), ("# localhost\n10.0.0.1 a", "127.0.0.1 localhost\n"), ("::1 localhost", "::1 loc")],
)
def test_localhost_always_has_an_address(known: str, begin: str) -> None:
    text = names_text("me", known)
    assert text.startswith(begin)
    assert text.endswith("\n127.0.1.1 me\n")
    assert known in text


def test_further_directories_of_a_build_can_be_written_to_by_root() -> None:
    place = WorkPlace(PLACE.path, ("reproducible-path", "src"))
    assert place.trees == ("src", "obj", "dest", "reproducible-path")
    root = Root((Path("/store/base"),), None, ())
    found = binds(sandbox(root, place, {}, as_root=True).mounts)
    assert "/build/reproducible-path" in found
    assert "/build/reproducible-path" not in binds(sandbox(root, place, {}).mounts)
