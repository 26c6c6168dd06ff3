"""Words and files that are wrong: the message says what, where, and what was probably meant."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.e2e.command_line import CHECKOUT, Xbuild

pytestmark = pytest.mark.e2e

# Each: what to replace in the recipe, by what, and what the message has after the file's name.
_TYPOS = {
    "unknown field": ("summary:", "sumary:", r":\d+:1: sumary: unknown field; did you mean 'summary'\?"),
    "unquoted version": ("version: '1'", "version: 3.1", r":3:\d+: version: must be quoted"),
    "duplicate key": ("license: MIT", "license: MIT\nlicense: MIT", r":\d+:1: .*license"),
    "bad sha256": ("sha256: ", "sha256: zz", r":\d+:\d+: sources\.0\.sha256: "),
    "unknown preset": ("preset: make", "preset: mak", r":\d+:\d+: build\.preset: .*did you mean 'make'\?"),
    "both added and taken away": (
        "license: MIT",
        "license: MIT\ntwins: {add: [m4], remove: [m4]}",
        r":\d+:\d+: twins: in both 'add' and 'remove': m4",
    ),
    "no YAML": ("license: MIT", "license: [MIT", r":\d+:\d+: "),
}


@pytest.mark.parametrize("typo", _TYPOS)
def test_a_typo_in_a_recipe(xbuild: Xbuild, typo: str) -> None:
    old, new, expected = _TYPOS[typo]
    path = xbuild.recipe()
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    said = xbuild.fails("tiny", code=2)
    assert re.search(rf"tiny\.yml{expected}", said), said
    assert not xbuild.place().exists()


def test_an_unknown_recipe(xbuild: Xbuild) -> None:
    assert "did you mean 'python'?" in xbuild.fails("pyton", code=2)


def test_an_unknown_target(xbuild: Xbuild) -> None:
    assert "did you mean 'armhf'?" in xbuild("build", "zlib", "--target", "armfh", code=2).err


def test_an_unknown_mode(xbuild: Xbuild) -> None:
    assert "did you mean 'emulated'?" in xbuild.fails("zlib", "--mode", "emulate", code=2)


def test_the_installed_program(xbuild: Xbuild) -> None:
    program = Path(sys.executable).with_name("xbuild")
    if not program.exists():
        pytest.skip("xbuild is not installed beside this Python")

    def said(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *words], env=xbuild.environment(), cwd="/", capture_output=True, text=True)

    listed = said("list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert '"armhf"' in listed.stdout
    wrong = said("bulid", "zlib")
    assert wrong.returncode == 2
    assert "did you mean 'build'?" in wrong.stderr
    assert said("build", "zlib", "--target", "armfh").returncode == 2


def _archive(xbuild: Xbuild, path: Path) -> str:
    xbuild.recipe()
    with tarfile.open(path, "w") as tar:
        tar.add(xbuild.project / "sources" / "tiny", "tiny-1")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_source_from_an_address(xbuild: Xbuild, tmp_path: Path) -> None:
    archive = tmp_path / "tiny-1.tar"
    digest = _archive(xbuild, archive)
    xbuild.recipe(sources=[{"url": archive.as_uri(), "sha256": digest}])
    assert xbuild.build("tiny")["status"] == "built"
    # From now on the address is not needed.
    archive.unlink()
    assert xbuild.build("tiny", "--from", "unpack")["status"] == "built"


def test_a_source_with_a_wrong_checksum(xbuild: Xbuild, tmp_path: Path) -> None:
    archive = tmp_path / "tiny-1.tar"
    digest, wrong = _archive(xbuild, archive), hashlib.sha256(b"something else").hexdigest()
    xbuild.recipe(sources=[{"url": archive.as_uri(), "sha256": wrong}])
    said = xbuild.fails("tiny", code=3)
    assert wrong in said
    assert digest in said
    assert archive.as_uri() in said
    for value in (digest, wrong):
        assert not (xbuild.cache / "downloads" / f"sha256-{value}").exists()
    assert list((xbuild.cache / "tmp").glob("download-*")) == []


def test_a_tree_with_a_wrong_checksum(xbuild: Xbuild) -> None:
    path = xbuild.recipe()
    right = re.search(r"[0-9a-f]{64}", path.read_text())
    assert right
    path.write_text(path.read_text().replace(right[0], "f" * 64))
    said = xbuild.fails("tiny", code=2)
    assert right[0] in said
    assert "f" * 64 in said


def test_a_damaged_download_is_fetched_again(xbuild: Xbuild, tmp_path: Path) -> None:
    archive = tmp_path / "tiny-1.tar"
    digest = _archive(xbuild, archive)
    xbuild.recipe(sources=[{"url": archive.as_uri(), "sha256": digest}])
    xbuild.build("tiny")
    kept = xbuild.cache / "downloads" / f"sha256-{digest}"
    kept.write_bytes(kept.read_bytes()[:100])
    said = xbuild("build", "tiny", "--from", "unpack").err
    assert "is damaged" in said
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == digest


def test_a_source_that_cannot_be_reached(xbuild: Xbuild) -> None:
    # Port 9 (discard) of this machine: nothing listens there.
    digest = hashlib.sha256(b"never fetched").hexdigest()
    address = "http://127.0.0.1:9/tiny-1.tar"
    xbuild.recipe(sources=[{"url": address, "sha256": digest}])
    said = xbuild.fails("tiny", code=4)
    assert address in said
    assert "hint: check the network" in said


def test_the_schema_of_this_checkout_knows_the_recipes() -> None:
    for path in (CHECKOUT / "recipes").glob("*.yml"):
        assert path.read_text().startswith("# yaml-language-server: $schema=../docs/schema/recipe.json\n"), path
