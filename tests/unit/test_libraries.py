"""Which libraries a loader would not find: all the programs here need libhalf.so.1 and nothing else."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from xbuild.binfmt.rooted import Rooted
from xbuild.formats import libraries
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ElfInfo, read_elf
from xbuild.formats.libraries import Files, missing
from xbuild.sandbox.mounts import Bind
from xbuild.session.files import View

DATA = Path(__file__).parent / "data"
LIBRARY = "libhalf.so.1"
NAMED = {"rpath": "/.xbuild/lib", "runpath": "/build/src"}
"""Directories that armhf-rpath and armhf-runpath name."""


def put(root: Path, path: str, data: str | Path = "") -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, Path):
        shutil.copy(data, place)
    else:
        place.write_text(data)


@pytest.fixture(params=["plain", "layers"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    """A root at tmp_path, asked in both ways."""
    (tmp_path / "nothing").mkdir()
    return Rooted(tmp_path) if request.param == "plain" else Tree([tmp_path / "nothing", tmp_path])


def test_where_a_library_may_lie(files: Files, tmp_path: Path) -> None:
    put(tmp_path, "/mine/program", DATA / "armhf-pie")
    lacking = [(LIBRARY, "/mine/program")]
    assert missing("/mine/program", files) == lacking
    put(tmp_path, f"/mine/libs/{LIBRARY}", DATA / LIBRARY)
    assert missing("/mine/program", files) == lacking
    assert missing("/mine/program", files, ["/nowhere", "/mine/libs"]) == []
    put(tmp_path, "/etc/ld.so.conf", "include ld.so.conf.d/*.conf\n")
    put(tmp_path, "/etc/ld.so.conf.d/mine.conf", "# mine\n/mine/libs # there\n")
    assert missing("/mine/program", files) == []
    put(tmp_path, "/etc/ld.so.conf", "# nothing\n")
    assert missing("/mine/program", files) == lacking
    put(tmp_path, f"/usr/lib/arm-linux-gnueabihf/{LIBRARY}", DATA / LIBRARY)
    assert missing("/mine/program", files) == []


def test_one_for_another_machine_does_not_count(files: Files, tmp_path: Path) -> None:
    put(tmp_path, "/program", DATA / "armhf-pie")
    put(tmp_path, f"/lib/{LIBRARY}", DATA / "arm64-static")
    assert missing("/program", files) == [(LIBRARY, "/program")]
    put(tmp_path, f"/usr/lib/{LIBRARY}", DATA / LIBRARY)
    assert missing("/program", files) == []


def test_configuration_that_names_itself(files: Files, tmp_path: Path) -> None:
    put(tmp_path, "/program", DATA / "armhf-pie")
    put(tmp_path, "/etc/ld.so.conf", "include /etc/ld.so.conf\n/libs\n")
    put(tmp_path, f"/libs/{LIBRARY}", DATA / LIBRARY)
    assert missing("/program", files) == []


@pytest.mark.parametrize("kind", ["rpath", "runpath"])
def test_the_directories_that_a_program_names(kind: str, files: Files, tmp_path: Path) -> None:
    put(tmp_path, "/program", DATA / f"armhf-{kind}")
    assert missing("/program", files) == [(LIBRARY, "/program")]
    put(tmp_path, f"{NAMED[kind]}/{LIBRARY}", DATA / LIBRARY)
    assert missing("/program", files) == []


@pytest.mark.parametrize(("kind", "found"), [("rpath", True), ("runpath", False)])
def test_an_rpath_counts_for_libraries_of_a_library(
    kind: str, found: bool, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the program in the middle taken for a library: it is what needs libhalf.so.1."""
    put(tmp_path, "/program", DATA / f"armhf-{kind}")
    put(tmp_path, f"{NAMED[kind]}/libmiddle.so", DATA / "armhf-pie")
    put(tmp_path, f"{NAMED[kind]}/{LIBRARY}", DATA / LIBRARY)
    read = read_elf

    def needs_the_middle(path: Path) -> ElfInfo:
        info = read(path)
        return info if path.name != "program" else dataclasses.replace(info, needed=("libmiddle.so",))

    monkeypatch.setattr(libraries, "read_elf", needs_the_middle)
    assert missing("/program", files) == ([] if found else [(LIBRARY, f"{NAMED[kind]}/libmiddle.so")])


def test_links_stay_in_the_root_and_binds_are_seen(tmp_path: Path) -> None:
    put(tmp_path, "/root/usr/lib/x", "")
    (tmp_path / "root/lib").symlink_to("/usr/lib")
    put(tmp_path, "/mine/program", DATA / "armhf-pie")
    view = View([tmp_path / "root"], [Bind(str(tmp_path / "mine"), "/mine")])
    assert missing("/mine/program", view) == [(LIBRARY, "/mine/program")]
    put(tmp_path, f"/root/usr/lib/arm-linux-gnueabihf/{LIBRARY}", DATA / LIBRARY)
    assert missing("/mine/program", view) == []
