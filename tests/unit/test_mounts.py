from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.sandbox import mounts
from xbuild.sandbox import syscalls as sys_
from xbuild.sandbox.mounts import Bind, Devices, Mount, Overlay, Proc, Text, Tmpfs, from_json, to_json

PATHS = st.text(min_size=1).map("/".__add__)
LAYERS = st.lists(PATHS, min_size=1).map(tuple)
MOUNTS = st.one_of(
    st.builds(Bind, PATHS, PATHS, st.booleans()),
    st.builds(Overlay, LAYERS, st.none() | PATHS, st.none() | PATHS, PATHS, st.booleans()),
    st.builds(Text, PATHS, st.text(st.characters(max_codepoint=255))),
    st.builds(Tmpfs, PATHS, st.sampled_from(["0755", "1777"])),
    st.builds(Proc, PATHS),
    st.builds(Devices, PATHS),
)
Call = tuple[str, str, str | None, int, str]


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What is given to mount(2), which is not called."""
    calls: list[Call] = []

    def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str = "") -> None:
        calls.append((source, target, kind, flags, options))

    monkeypatch.setattr(sys_, "mount", mount)
    return calls


@given(MOUNTS)
def test_json_round_trip(mount: Mount) -> None:
    assert from_json(json.loads(json.dumps(to_json(mount)))) == mount


@given(MOUNTS)
def test_all_describe_themselves(mount: Mount) -> None:
    assert mount.target in mount.describe()


def test_bind_makes_its_mount_point(tmp_path: Path, mounted: list[Call]) -> None:
    source, root = tmp_path / "source", tmp_path / "root"
    source.mkdir()
    root.mkdir()
    (source / "file").touch()
    Bind(str(source), "/a/b").execute(str(root))
    Bind(str(source / "file"), "/a/c/file", readonly=True).execute(str(root))
    assert (root / "a/b").is_dir()
    assert (root / "a/c/file").is_file()
    assert [call[:2] for call in mounted[:2]] == [
        (str(source), str(root / "a/b")),
        (str(source / "file"), str(root / "a/c/file")),
    ]
    assert mounted[2][3] & sys_.MS_RDONLY
    assert mounted[2][3] & sys_.MS_REMOUNT
    assert len(mounted) == 3


@pytest.mark.parametrize("target", ["/link", "/link/below", "/dangling/x", "/d/link"])
def test_links_are_refused(tmp_path: Path, mounted: list[Call], target: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "d").mkdir(parents=True)
    outside.mkdir()
    for place in (root / "link", root / "d/link"):
        place.symlink_to(outside)
    (root / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match=rf"mount point {target}: .* is a symbolic link"):
        Tmpfs(target).execute(str(root))
    assert mounted == []
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("target", ["/../out", "/a/../../out", "relative"])
def test_nothing_is_mounted_outside_the_root(tmp_path: Path, mounted: list[Call], target: str) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(OSError, match=re.escape(target)):
        Tmpfs(target).execute(str(tmp_path / "root"))
    assert mounted == []
    assert {path.name for path in tmp_path.iterdir()} == {"root"}


def test_overlay_options(mounted: list[Call]) -> None:
    Overlay(("/high", "/lo:w,er\\"), "/up,per", "/work").execute("/root")
    source, target, kind, _, options = mounted[0]
    assert (source, target, kind) == ("overlay", "/root", "overlay")
    expected = "lowerdir=/high:/lo\\:w\\,er\\\\,upperdir=/up\\,per,workdir=/work,"
    assert options.startswith(expected)
    assert set(options.removeprefix(expected).split(",")) == {"userxattr", "index=off", "xino=off", "metacopy=off"}


def test_overlays_without_upper(mounted: list[Call]) -> None:
    Overlay(("/one",), None, None).execute("/root")
    assert [call[2] for call in mounted] == [None, None]
    assert mounted[1][3] & sys_.MS_RDONLY
    mounted.clear()
    Overlay(("/one", "/two"), None, None).execute("/root")
    assert "upperdir" not in mounted[0][4]


@given(st.lists(st.text(st.sampled_from("a/:,\\ "), min_size=1), min_size=1, max_size=4))
def test_escaped_paths_come_apart_again(paths: list[str]) -> None:
    option = ":".join(mounts._escape(path) for path in paths)
    found = re.findall(r"(?:\\.|[^:\\])+", option)
    assert [re.sub(r"\\(.)", r"\1", part) for part in found] == paths
    assert re.search(r"(?<!\\)(?:\\\\)*,", option) is None


def test_a_text_replaces_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "etc/localtime").symlink_to(tmp_path / "outside")
    for _ in range(2):
        Text("/etc/localtime", "TZif\xff\0").execute(str(tmp_path))
        Text("/new/resolv.conf", "nameserver 192.0.2.1\n").execute(str(tmp_path))
    assert (tmp_path / "etc/localtime").read_bytes() == b"TZif\xff\0"
    assert (tmp_path / "new/resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    assert (tmp_path / "outside").read_text() == "mine"


def test_an_overlay_in_memory(tmp_path: Path, mounted: list[Call]) -> None:
    Overlay(("/lower",), None, None, memory=True).execute(str(tmp_path))
    (_, place, kind, *_), (_, over, _, _, options), (_, covered, _, flags, _) = mounted
    assert (place, kind, over) == (str(tmp_path), "tmpfs", str(tmp_path))
    assert f"lowerdir=/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work,userxattr" in options
    # By its descriptor: by its path it would be what covers it.
    assert covered.startswith("/proc/self/fd/")
    assert flags == sys_.MS_UNBINDABLE
