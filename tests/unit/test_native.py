"""The native machine as data: what is asked of it on x86-64, on 64-bit ARM, and on any other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from xbuild.base import paths
from xbuild.base.errors import MachineError
from xbuild.base.yamlfile import load_model
from xbuild.build.modes import distcc
from xbuild.build.plan import Action
from xbuild.build.prepared import prepare
from xbuild.build.request import Request
from xbuild.build.standing import actions, facts
from xbuild.doctor import machine
from xbuild.formats.debian import Tree
from xbuild.formats.elf import read_elf
from xbuild.model import native
from xbuild.model.load import load_toolchain
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain
from xbuild.roots.distribution import Roots
from xbuild.store.local import Store
from xbuild.twins import privatetree
from xbuild.twins.pairing import Twin, entries, fill

CHECKOUT = Path(__file__).parents[2]
POLICY = load_model(paths.POLICIES / "default.yml", Policy)


@pytest.fixture
def on_arm64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")


def toolchain(name: str) -> Toolchain:
    return load_toolchain(name, CHECKOUT)


def test_the_machine_is_found_by_what_uname_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for uname, name, partner in (("x86_64", "amd64", "i386"), ("aarch64", "arm64", "armhf")):
        monkeypatch.setattr("platform.machine", lambda uname=uname: uname)
        found = native.here()
        assert (found.name, found.partner.name) == (name, partner)
        assert found.widths == {name: 64, partner: 32}
        assert found.width(partner) is found.partner
        assert machine.architecture().status == "ok"


def test_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert native.find() is None
    with pytest.raises(MachineError, match="riscv64: xbuild does not run") as caught:
        native.here()
    assert caught.value.hint == "use a machine that is x86-64 or 64-bit ARM"
    # The doctor must still be able to say so.
    assert not toolchain("amd64").native
    assert machine.architecture().status == "fail"


@pytest.mark.usefixtures("on_arm64")
def test_what_is_native_on_arm64() -> None:
    assert {name: toolchain(name).native for name in ("amd64", "arm64", "armhf", "riscv64")} == {
        "amd64": False, "arm64": True, "armhf": False, "riscv64": False,
    }  # fmt: skip
    arm64 = toolchain("arm64")
    assert (arm64.qemu, arm64.system, arm64.native_root, arm64.policy) == (None, None, None, None)
    amd64 = toolchain("amd64")
    assert amd64.qemu is not None
    assert amd64.qemu.binary == "/usr/bin/qemu-x86_64"


@pytest.mark.usefixtures("on_arm64")
def test_the_roots_on_arm64(tmp_path: Path) -> None:
    store = Store(tmp_path)
    amd64, armhf = (Roots(store, toolchain(name), POLICY) for name in ("amd64", "armhf"))
    assert amd64.native_architectures() == ["arm64"]
    assert armhf.native_architectures() == ["arm64", "armhf"]
    assert amd64.native_value("arm64")["architecture"] == "arm64"
    assert "gcc-x86-64-linux-gnu" in amd64.native_value("arm64")["packages"]
    assert set(armhf.native_value("armhf")["packages"]) == {"bc", "dc", "distcc", "dwz", "g++", "m4"}
    assert amd64.machine_value(["qemu-system-x86"])["architecture"] == "arm64"
    (line,) = amd64.registrations(Path("/d"))
    assert line.startswith(r":qemu-x86_64:M::\x7f\x45\x4c\x46\x02\x01\x01")
    assert Roots(store, toolchain("arm64"), None).registrations(Path("/d")) == ()
    trees = {name: tmp_path / name for name in ("arm64", "armhf")}
    assert distcc.tree_for(toolchain("armhf"), trees) == tmp_path / "armhf"
    assert distcc.tree_for(toolchain("amd64"), trees) == tmp_path / "arm64"


def test_the_private_tree_has_another_key_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = []
    for uname in ("x86_64", "aarch64"):
        monkeypatch.setattr("platform.machine", lambda uname=uname: uname)
        values.append(Roots(Store(tmp_path), toolchain("riscv64"), POLICY).private_value())
    assert values[0]["machine"] != values[1]["machine"]
    assert values[0]["roots"] != values[1]["roots"]


@pytest.mark.usefixtures("on_arm64")
def test_pairs_for_amd64_on_arm64() -> None:
    cc1 = "/usr/libexec/gcc/x86_64-linux-gnu/14/cc1"
    known = [
        Twin("sed", "/usr/bin/sed", "arm64", "sed", "4.9", "/usr/bin/sed"),
        Twin("cc1", cc1, "arm64", "cpp-14-x86-64-linux-gnu", "14.2.0-19", "x"),
        Twin("ld", "/usr/bin/x86_64-linux-gnu-ld.bfd", "arm64", "binutils-x86-64-linux-gnu", "2.44-3", "y"),
    ]
    found = {path: entry.program for path, (_, entry) in entries(known, POLICY, toolchain("amd64")).items()}
    assert found == {twin.target_path: f"/.xbuild/arm64{twin.target_path}" for twin in known}


@pytest.mark.usefixtures("on_arm64")
def test_pairs_for_armhf_on_arm64() -> None:
    ld, cc1 = "/usr/bin/arm-linux-gnueabihf-ld.bfd", "/usr/libexec/gcc/arm-linux-gnueabihf/14/cc1"
    known = [Twin(tool, path, name, tool, "1", path)
             for tool, path in (("ld", ld), ("cc1", cc1)) for name in ("arm64", "armhf")]  # fmt: skip
    chosen = {path: entry for path, (_, entry) in entries(known, POLICY, toolchain("armhf")).items()}
    assert chosen[ld].program == f"/.xbuild/armhf{ld}"
    assert chosen[cc1].program == f"/.xbuild/arm64{cc1}"
    assert chosen[cc1].other == f"/.xbuild/armhf{cc1}"


@pytest.mark.usefixtures("on_arm64")
@pytest.mark.parametrize(
    ("tool", "path", "expected"),
    [
        ("cc1", "/usr/libexec/gcc-cross/x86_64-linux-gnu/14/cc1", "/usr/libexec/gcc/x86_64-linux-gnu/14/cc1"),
        ("collect2", "/usr/libexec/gcc/aarch64-linux-gnu/14/collect2", "/usr/libexec/gcc/x86_64-linux-gnu/14/collect2"),
        ("collect2", "/usr/libexec/gcc/x86_64-linux-gnu/14/collect2", None),
        ("gcc", "/usr/bin/x86_64-linux-gnu-g++-14", "/usr/bin/x86_64-linux-gnu-g++-14"),
        ("gcc", "/usr/bin/aarch64-linux-gnu-gcc-14", None),
    ],
)
def test_where_native_files_stand_for_amd64(tool: str, path: str, expected: str | None) -> None:
    assert POLICY.tools[tool].target_path(path, "package", "x86_64-linux-gnu") == expected


@pytest.mark.usefixtures("on_arm64")
def test_where_the_partners_own_compiler_stands() -> None:
    path = "/usr/libexec/gcc/arm-linux-gnueabihf/14/lto1"
    assert POLICY.tools["lto1"].target_path(path, "cpp-14", "arm-linux-gnueabihf") == path


@pytest.mark.usefixtures("on_arm64")
def test_the_strings_of_native_programs() -> None:
    words = {fill(old, toolchain("amd64"), "/usr/bin/bash"): fill(new, toolchain("amd64"), "/usr/bin/bash")
             for old, new in POLICY.tools["bash"].moved_strings.items()}  # fmt: skip
    assert words == {
        "aarch64-unknown-linux-gnu": "x86_64-pc-linux-gnu", "aarch64": "x86_64", "linux-gnu": "linux-gnu",
    }  # fmt: skip


@pytest.mark.usefixtures("on_arm64")
def test_the_partners_own_compiler_keeps_its_table(tmp_path: Path) -> None:
    path = "/usr/libexec/gcc/arm-linux-gnueabihf/14/cc1"
    place = tmp_path / path.lstrip("/")
    place.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "data/armhf-pie", place)
    own = Twin("cc1", path, "armhf", "cpp-14", "14.2.0-19", path)
    made = privatetree.program(Tree([tmp_path]), own, POLICY, toolchain("armhf"))
    assert read_elf(made).interpreter == "/.xbuild/armhf/ld"
    with pytest.raises(MachineError, match="table of include directories"):
        privatetree.program(Tree([tmp_path]), replace(own, architecture="arm64"), POLICY, toolchain("armhf"))


LOADER = b"".join(b"\0" + word for word in (
    b"/lib/aarch64-linux-gnu/", b"/usr/lib/aarch64-linux-gnu/", b"/etc/ld.so.cache", b"/etc/ld.so.preload", b"",
))  # fmt: skip


def test_the_loader_has_room_for_our_paths() -> None:
    made = privatetree.patched_loader(LOADER, "arm64", "aarch64-linux-gnu", "shp")
    assert len(made) == len(LOADER)
    assert made.count(b"\0/.xbuild/") == 4


def planned(request: Request, store: Store) -> list[Action]:
    """What a build would do."""
    build = prepare(request, store)
    return actions(build, facts(build))


@pytest.mark.usefixtures("on_arm64")
def test_a_plan_on_arm64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBUILD_PROJECT", str(CHECKOUT))
    store = Store(tmp_path)
    names = [action.name for action in planned(Request("zlib", "amd64"), store)]
    assert [name for name in names if name.startswith("native root")] == ["native root arm64"]
    own = [action.name for action in planned(Request("zlib", "arm64"), store)]
    assert not [name for name in own if "native root" in name or name == "twins"]
