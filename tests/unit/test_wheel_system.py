"""Which libraries of the system wheels need, and which packages have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.unit.test_debian import layer
from tests.unit.wheelfiles import wheel
from xbuild.formats.debian import Tree
from xbuild.wheels.system import taken

MINE = "thing-1.0-cp313-cp313-manylinux_2_31_armv7l.whl"
OTHER = "other-1.0-cp313-cp313-manylinux_2_31_armv7l.whl"
TRIPLET = "arm-linux-gnueabihf"
PROGRAM = (Path(__file__).parent / "data/armhf-pie").read_bytes()
"""It needs libhalf.so.1."""


def root(path: Path, *, library: bool) -> Tree:
    """With a package libhalf1, if there is the library: a link to a file of another name, as libraries are."""
    folder = f"/usr/lib/{TRIPLET}"
    (path / folder.lstrip("/")).mkdir(parents=True)
    names = []
    if library:
        names = [f"{folder}/libhalf.so.1", f"{folder}/libhalf.so.1.2"]
        (path / names[1].lstrip("/")).write_bytes(b"")
        (path / names[0].lstrip("/")).symlink_to("libhalf.so.1.2")
    return Tree([layer(path, {f"libhalf1:{path.name}": names})])


def never() -> Iterator[Tree]:
    raise AssertionError("looked at without need")
    yield


def test_what_a_plain_root_lacks(tmp_path: Path) -> None:
    plain, built, other = (root(tmp_path / name, library=name == "built") for name in ("plain", "built", "other"))
    mine = wheel(tmp_path, MINE, {"thing/a.so": PROGRAM})
    assert taken([mine], TRIPLET, plain, [other, built]) == {"libhalf.so.1": "libhalf1"}
    assert taken([mine], TRIPLET, plain, [other]) == {}
    # Where it is there, or another wheel brings it, nobody asks how it was built.
    assert taken([mine], TRIPLET, built, never()) == {}
    beside = wheel(tmp_path, OTHER, {"other.libs/libhalf.so.1": b""})
    assert taken([mine, beside], TRIPLET, plain, never()) == {}


def test_a_damaged_one_is_left_to_pip(tmp_path: Path) -> None:
    broken = tmp_path / MINE
    broken.write_bytes(b"PK\x03\x04 and no more")
    assert taken([broken], TRIPLET, root(tmp_path / "plain", library=False), never()) == {}
