"""Builds in a root that the user brought: one of musl and busybox, made by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.command_line import CHECKOUT, Xbuild
from tests.e2e.test_full_disk import on_a_small_disk
from xbuild.base import paths
from xbuild.base.yamlfile import load_model
from xbuild.model.load import load_toolchain
from xbuild.model.policy import Policy
from xbuild.roots.distribution import Roots
from xbuild.store.own import open_store

pytestmark = pytest.mark.e2e

APPLETS = "sh cat chmod cp echo env head id install ls mkdir sort timeout tr uname"


@pytest.fixture(scope="session")
def musl(user_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Musl's loader and busybox, from Debian's packages for armhf: what a small Alpine is made of."""
    policy = load_model(paths.POLICIES / "default.yml", Policy)
    layers = Roots(open_store(), load_toolchain("armhf", CHECKOUT), policy).layers(["busybox-static", "musl"])
    path = tmp_path_factory.mktemp("musl")
    for name in ("bin", "lib", "etc"):
        (path / name).mkdir()
    shutil.copy(layers[0] / "usr/lib/ld-musl-armhf.so.1", path / "lib")
    shutil.copy(layers[0] / "usr/bin/busybox", path / "bin")
    for name in APPLETS.split():
        (path / "bin" / name).symlink_to("busybox")
    (path / "etc/os-release").write_text('ID=alpine\nPRETTY_NAME="Musl by hand"\n')
    return path


@pytest.mark.long
def test_a_build_in_a_musl_root(xbuild: Xbuild, musl: Path) -> None:
    imported = xbuild("root.import", "small", str(musl), "--json").json
    assert imported["targets"] == ["armhf"]
    assert imported["facts"]["libc"] == "musl"
    xbuild.recipe(
        root="small",
        depends={"packages": ["libz-dev"]},
        build={"compile": "uname -m > answer; echo $TARGET_TRIPLET >> answer"},
    )
    said = xbuild("build", "tiny", "--target", "armhf", "--json")
    manifest = json.loads(Path(said.json["manifest"]).read_text())
    assert (manifest["pairing"], manifest["twins"]) == ("none", [])
    assert (manifest["root"]["name"], manifest["root"]["sha256"]) == ("small", imported["sha256"])
    assert "no apt" in said.err
    assert said.json["artifact"].endswith(f"tiny-1-armhf-root-{imported['sha256'][:10]}.tar.zst")
    assert xbuild.build("tiny")["status"] == "up-to-date"
    # The same root by another name is the same input; another root is not.
    xbuild("root.import", "again", str(musl))
    assert xbuild.build("tiny", "--root", "again")["status"] == "up-to-date"
    assert xbuild("check", "tiny", "--target", "armhf", "--root", "again", "--json").json["faults"] == []
    (musl / "etc/more").touch()
    xbuild("root.import", "small", str(musl), "--replace")
    why = xbuild("why", "tiny", "--target", "armhf").out
    assert "contents.imported.sha256" in why
    assert "armv7l" in xbuild("shell", "--target", "armhf", "--root", "small", "--", "uname", "-m").out
    assert "AARCH64" in xbuild("build", "tiny", "--target", "arm64", code=2).err
    xbuild("root.remove", "again")
    assert [root["name"] for root in xbuild("root.list", "--json").json["imported"]] == ["small"]
    assert "there is no root 'again'" in xbuild.fails("tiny", "--root", "again", code=2)
    xbuild("root.remove", "small")


def test_an_import_that_fills_the_disk(xbuild: Xbuild, musl: Path, tmp_path: Path) -> None:
    big = tmp_path / "big"
    shutil.copytree(musl, big, symlinks=True)
    with (big / "filler").open("wb") as stream:
        stream.truncate(100 << 20)
    script = f'"$@" root.import big "{big}" || echo "code $?"; ls "$XBUILD_CACHE/tmp"; "$@" root.list'
    said = on_a_small_disk(xbuild, tmp_path, script)
    assert "error: disk full: " in said, said
    assert "code 4" in said
    # Nothing lies about between the code and the list.
    assert said.partition("code 4\n")[2].startswith("nothing is imported"), said
