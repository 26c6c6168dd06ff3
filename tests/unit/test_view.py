"""How roots are seen: the whole list of mounts, in its order, of all that looks into one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xbuild.base.paths import BUILDER, PACKAGE
from xbuild.build.environment import Root, WorkPlace, sandbox
from xbuild.build.stepfiles import StepFiles
from xbuild.model.load import load_toolchain
from xbuild.roots.imported.view import Workshop
from xbuild.roots.making import Foreign, Making
from xbuild.sandbox.mounts import Bind, Devices, Mount, Overlay, Proc, Text, Tmpfs
from xbuild.sandbox.view import TMP, RootView, laid
from xbuild.session.personal import CERTIFICATES, OTHERS
from xbuild.session.run import seen_by_user
from xbuild.session.shell import with_changes
from xbuild.store.local import Store
from xbuild.twins.privatetree import tool_sandbox

PRIVATE, DISPATCHER = Path("/store/private"), Path("/store/dispatcher")
BASE, UPPER, CPUINFO = Path("/store/base"), Path("/store/upper"), Path("/store/cpuinfo")
FULL = RootView(
    (UPPER, BASE),
    Path("/store/changes"),
    names=Path("/store/names"),
    settings=(Text("/etc/hosts", ""),),
    empty=(TMP,),
    shown=(Bind("/home", "/home"), Bind("/proc", "/proc/1"), laid([BASE], "/tmp/base")),
    private=PRIVATE,
    dispatcher=DISPATCHER,
    cpuinfo=CPUINFO,
    record=Path("/store/record"),
    writer=BUILDER,
)
OURS: tuple[Mount, ...] = (
    Proc(),
    Bind("/store/private", "/.xbuild", readonly=True),
    Bind("/store/dispatcher", "/.xbuild/dispatch", readonly=True),
    Bind("/store/cpuinfo", "/proc/cpuinfo", readonly=True),
)


def hidden(mounts: tuple[Mount, ...]) -> list[str]:
    """What a later mount covers."""
    targets = [mount.target for mount in mounts]
    return [
        target
        for number, target in enumerate(targets)
        if any(target == later or target.startswith(f"{later.rstrip('/')}/") for later in targets[number + 1 :])
    ]


def test_all_that_a_view_can_have() -> None:
    assert FULL.mounts() == (
        Overlay(("/store/names", "/store/upper", "/store/base"), "/store/changes/upper", "/store/changes/work"),
        Text("/etc/hosts", ""),
        Devices(),
        Tmpfs("/tmp", "1777"),
        Bind("/home", "/home"),
        Bind("/proc", "/proc/1"),
        Overlay(("/store/base",), None, None, "/tmp/base"),
        *OURS,
        Bind("/store/record", "/.xbuild/record", writer=BUILDER),
    )


def test_nothing_hides_what_is_ours() -> None:
    # What somebody shows below /proc is hidden by ours, never the other way round.
    assert hidden(FULL.mounts()) == ["/proc/1"]
    assert hidden(FULL.mounts("/somewhere")) == ["/somewhere/proc/1"]


def test_a_native_layer_lies_in_the_private_tree() -> None:
    mounts = replace(FULL, layer=Path("/store/layer")).mounts()
    assert mounts[-4] == Bind("/store/layer", "/.xbuild/layer", readonly=True)
    assert (mounts[:-4], mounts[-3:]) == (FULL.mounts()[:-3], FULL.mounts()[-3:])
    assert "/.xbuild" not in hidden(mounts)


def test_nothing_is_seen_unless_it_is_asked_for() -> None:
    assert RootView((BASE,), proc=False, devices=False).mounts() == (laid([BASE], "/"),)
    assert RootView((BASE,)).mounts() == (laid([BASE], "/"), Devices(), Proc())
    assert RootView((BASE,), memory=True).mounts()[0] == Overlay(("/store/base",), None, None, memory=True)
    assert RootView().mounts()[0] == Tmpfs("/")


def test_at_another_place_it_is_the_same() -> None:
    plain, moved = FULL.mounts(), FULL.mounts("/store/merged")
    assert moved[0].target == "/store/merged"
    assert [mount.target for mount in moved[1:]] == [f"/store/merged{mount.target}" for mount in plain[1:]]
    assert [replace(mount, target="") for mount in moved] == [replace(mount, target="") for mount in plain]


def test_a_build(tmp_path: Path) -> None:
    place = WorkPlace(tmp_path)
    place.records.mkdir()
    place.cpuinfo.touch()
    root = Root((UPPER, BASE), PRIVATE, (), dispatcher=DISPATCHER)
    assert sandbox(root, place, {}, over=[place.dest], step=StepFiles(2, "compile")).mounts == (
        Overlay((f"{tmp_path}/loopback", f"{tmp_path}/build/dest", "/store/upper", "/store/base"), None, None),
        Devices(),
        Bind(f"{tmp_path}/build", "/build"),
        Bind(f"{tmp_path}/build/dest", "/build/dest", readonly=True),
        Bind(f"{tmp_path}/scratch/tmp", "/tmp"),
        Bind(f"{tmp_path}/scratch/var-tmp", "/var/tmp"),
        Bind(f"{tmp_path}/scratch/run", "/run"),
        *OURS[:3],
        Bind(f"{tmp_path}/cpuinfo", "/proc/cpuinfo", readonly=True),
        Bind(f"{tmp_path}/records/02-compile", "/.xbuild/record", writer=BUILDER),
    )


@pytest.mark.parametrize(
    "named",
    [{}, {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}, {"SSL_CERT_DIR": "/etc/ssl/certs"}],
    ids=lambda named: "".join(named) or "none",
)
def test_a_program_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, str]) -> None:
    for name in (*CERTIFICATES, *OTHERS):
        monkeypatch.delenv(name, raising=False)
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "etc").mkdir()
    own = RootView((tmp_path,), private=PRIVATE, dispatcher=DISPATCHER, cpuinfo=CPUINFO)
    view, tree = seen_by_user(own, None)
    first, *rest = view.mounts()
    assert first == Overlay((str(tmp_path),), None, None, memory=True)
    # The machine's devices, and no file system of the root's own hides what is his.
    assert not any(isinstance(mount, Devices | Tmpfs) for mount in rest)
    assert Bind("/dev", "/dev") in rest
    assert tuple(rest[-4:]) == OURS
    assert hidden(view.mounts()) == []
    assert list(view.shown) == sorted(tree.binds, key=list(view.shown).index)


def test_a_whole_system(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    own = RootView((BASE,), names=UPPER, private=PRIVATE, dispatcher=DISPATCHER, cpuinfo=CPUINFO)
    assert with_changes(own, Path("/kept"), [tmp_path / "link"]).mounts() == (
        Overlay(("/store/upper", "/store/base"), "/kept/upper", "/kept/work"),
        Devices(),
        Tmpfs("/tmp", "1777"),
        Tmpfs("/run"),
        Bind(f"{tmp_path}/real", f"{tmp_path}/link"),
        *OURS,
    )


@pytest.mark.parametrize("private", [PRIVATE, None])
def test_an_apt_run(tmp_path: Path, private: Path | None) -> None:
    told = []

    def hook(destination: Path, view: str) -> tuple[tuple[str, ...], Path]:
        told.append((destination, view))
        return ("line",), DISPATCHER

    foreign = Foreign(private, hook) if private else None
    making = Making(Store(tmp_path), tmp_path, load_toolchain("armhf", PACKAGE.parent), foreign)
    lines, view = making.seen((BASE,), "/where")
    assert (lines, told) == ((("line",), [(tmp_path / "dispatcher", "/where")]) if private else ((), []))
    assert view.mounts("/m") == (
        Overlay(("/store/base",), f"{tmp_path}/upper", f"{tmp_path}/work", "/m"),
        Devices("/m/dev"),
        Tmpfs("/m/tmp", "1777"),
        # A bind, root inside could mount anew with the right to write.
        *([laid([PRIVATE, tmp_path / "nothing"], "/m/.xbuild")] if private else []),
        Proc("/m/proc"),
        *([replace(OURS[2], target=f"/m{OURS[2].target}")] if private else []),
        *([Bind(f"{tmp_path}/record", "/m/.xbuild/record")] if private else []),
    )


def test_a_tool_of_the_native_root() -> None:
    shown = Bind("/somewhere", "/tmp/somewhere")
    where = tool_sandbox(BASE, (shown,), {})
    assert where.mounts == (laid([BASE], "/"), Devices(), Tmpfs("/tmp", "1777"), shown, Proc())


def test_where_an_imported_root_is_made(tmp_path: Path) -> None:
    mounts = Workshop(tmp_path, "it").sandbox(tmp_path / "it.tar").mounts
    assert mounts[0] == Tmpfs("/")
    assert not any(isinstance(mount, Proc) for mount in mounts)
    writable = [mount.target for mount in mounts if isinstance(mount, Bind) and not mount.readonly]
    assert writable == ["/scratch", "/tree"]
    assert mounts[-1] == Bind(f"{tmp_path}/it.tar", "/source", readonly=True)
    assert hidden(mounts) == []
