from __future__ import annotations

import json
import re
from collections.abc import Iterator
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
    st.builds(Bind, PATHS, PATHS, st.booleans(), st.none() | st.integers(0, 65535)),
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


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    mounts.close_outside()


def made(path: Path) -> Path:
    path.mkdir()
    return path


def named(path: Path) -> str:
    """How mount(2) is told of `path`."""
    return mounts.outside(str(path))


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
        (named(source), str(root / "a/b")),
        (named(source / "file"), str(root / "a/c/file")),
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


def test_overlay_options(tmp_path: Path, mounted: list[Call]) -> None:
    # No letter of a path can be taken for one of the options'.
    high, low, upper, work = (made(tmp_path / name) for name in ("high", "lo:w,er\\", "up,per\udcff\n", "é '\""))
    Overlay((str(high), str(low)), str(upper), str(work)).execute("/root")
    source, target, kind, _, options = mounted[0]
    assert (source, target, kind) == ("overlay", "/root", "overlay")
    expected = f"lowerdir={named(high)}:{named(low)},upperdir={named(upper)},workdir={named(work)},"
    assert options.startswith(expected)
    assert set(options.removeprefix(expected).split(",")) == {"userxattr", "index=off", "xino=off", "metacopy=off"}


def test_overlays_without_upper(tmp_path: Path, mounted: list[Call]) -> None:
    one, two = str(made(tmp_path / "one")), str(made(tmp_path / "two"))
    Overlay((one,), None, None).execute("/root")
    assert [call[2] for call in mounted] == [None, None]
    assert mounted[1][3] & sys_.MS_RDONLY
    mounted.clear()
    Overlay((one, two), None, None).execute("/root")
    assert "upperdir" not in mounted[0][4]


def test_what_was_opened_outside_is_closed(tmp_path: Path) -> None:
    name = mounts.outside(str(tmp_path))
    assert Path(name).samefile(tmp_path)
    mounts.close_outside()
    assert not Path(name).exists()


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
    lower = made(tmp_path / "lower")
    Overlay((str(lower),), None, None, memory=True).execute(str(tmp_path))
    (_, place, kind, *_), (_, over, _, _, options), (_, covered, _, flags, _) = mounted
    assert (place, kind, over) == (str(tmp_path), "tmpfs", str(tmp_path))
    upper, work = (named(tmp_path / name) for name in ("upper", "work"))
    assert f"lowerdir={named(lower)},upperdir={upper},workdir={work},userxattr" in options
    # By its descriptor: by its path it would be what covers it.
    assert covered.startswith("/proc/self/fd/")
    assert flags == sys_.MS_UNBINDABLE
