"""Which packages the native roots have, by the policy's tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xbuild.base import paths
from xbuild.base.yamlfile import load_model
from xbuild.model import native as machines
from xbuild.model.load import load_toolchain
from xbuild.model.nativeroot import native_packages
from xbuild.model.policy import Policy, Tool
from xbuild.model.toolchain import NativeRoot, Toolchain

CHECKOUT = Path(__file__).parents[2]
POLICY = load_model(paths.POLICIES / "default.yml", Policy)

COMMON = {
    "bc", "bison", "brotli", "bzip2", "ccache", "chrpath", "cmake", "cpio", "dc", "distcc", "dos2unix", "dwz", "ed",
    "file", "flex", "g++", "gawk", "gcc", "gettext", "gettext-base", "gperf", "groff-base", "libxml2-utils", "lz4",
    "lzip", "m4", "make", "ncurses-bin", "ninja-build", "patch", "patchelf", "perl", "pigz", "pkgconf-bin", "python3",
    "rsync", "time", "unzip", "xsltproc", "xxd", "xz-utils", "zip", "zstd",
}  # fmt: skip
WIDE = {"bc", "dc", "distcc", "dwz", "m4"}
ARM = {"gcc-arm-linux-gnueabihf", "g++-arm-linux-gnueabihf"}
ARM64 = {"gcc-aarch64-linux-gnu", "g++-aarch64-linux-gnu"}
AMD64 = {"gcc-x86-64-linux-gnu", "g++-x86-64-linux-gnu"}


@pytest.fixture
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of this machine, by what `uname -m` says."""
    monkeypatch.setattr("platform.machine", lambda: request.param)
    return machines.here().name


def toolchain(name: str, suite: str = "trixie") -> Toolchain:
    return load_toolchain(name, CHECKOUT).with_suite(suite)


@pytest.mark.parametrize(
    ("machine", "target", "suite", "own"),
    [
        ("x86_64", "armhf", "trixie", {"qemu-user", *ARM}),
        ("x86_64", "armhf", "bookworm", {"qemu-user-static", *ARM}),
        ("x86_64", "arm64", "trixie", {"qemu-user", *ARM64}),
        ("x86_64", "arm64", "bookworm", {"qemu-user-static", *ARM64}),
        ("x86_64", "riscv64", "trixie", {"qemu-user", *ARM}),
        ("aarch64", "armhf", "trixie", {"qemu-user", *ARM}),
        ("aarch64", "armhf", "bookworm", {"qemu-user-static", *ARM}),
        ("aarch64", "amd64", "trixie", {"qemu-user", *AMD64}),
        ("aarch64", "amd64", "bookworm", {"qemu-user-static", *AMD64}),
        ("aarch64", "riscv64", "trixie", {"qemu-user", *ARM}),
    ],
    indirect=["machine"],
)
def test_the_machines_own_root(machine: str, target: str, suite: str, own: set[str]) -> None:
    """Roots in stores are named by these lists."""
    assert native_packages(POLICY, toolchain(target, suite), machine) == sorted({*COMMON, *own})


@pytest.mark.parametrize(
    ("machine", "packages"),
    [("x86_64", {*WIDE, "g++-arm-linux-gnueabihf"}), ("aarch64", {*WIDE, "g++"})],
    indirect=["machine"],
)
@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
@pytest.mark.usefixtures("machine")
def test_the_root_of_the_other_width(packages: set[str], suite: str) -> None:
    """On 64-bit ARM its compiler is the target's own."""
    assert machines.here().architectures(64) == [machines.here().name]
    partner = machines.here().architectures(32)[-1]
    assert native_packages(POLICY, toolchain("armhf", suite), partner) == sorted(packages)


def with_tool(**fields: Any) -> Policy:
    tool = Tool.model_validate({"packages": ["ragel"], **fields})
    return POLICY.model_copy(update={"tools": {**POLICY.tools, "ragel": tool}})


@pytest.mark.parametrize(
    ("fields", "more", "by_width"),
    [
        ({}, {"ragel"}, set()),
        ({"width": "target"}, {"ragel"}, {"ragel"}),
        ({"target-width-args": ["-x"]}, {"ragel"}, {"ragel"}),
        ({"further": [{"trait": "x", "target-width-args": ["-x"]}]}, {"ragel"}, {"ragel"}),
        ({"native-packages": []}, set(), set()),
        ({"native-packages": ["ragel-{triplet}", "x"]}, {"ragel-arm-linux-gnueabihf", "x"}, set()),
        ({"packages": ["sed"]}, set(), set()),
    ],
)
@pytest.mark.parametrize("machine", ["x86_64"], indirect=True)
def test_a_tool_brings_its_packages(machine: str, fields: dict[str, Any], more: set[str], by_width: set[str]) -> None:
    for architecture, wanted in ((machine, more), ("i386", by_width)):
        plain = native_packages(POLICY, toolchain("armhf"), architecture)
        found = native_packages(with_tool(**fields), toolchain("armhf"), architecture)
        assert (set(found) - set(plain), set(plain) - set(found)) == (wanted, set())


@pytest.mark.parametrize("machine", ["x86_64"], indirect=True)
def test_what_a_toolchain_adds(machine: str) -> None:
    update = {"native_root": NativeRoot(packages=("gfortran",)), "word_size_root": NativeRoot(packages=("gold",))}
    changed = toolchain("armhf").model_copy(update=update)
    assert "gfortran" in native_packages(POLICY, changed, machine)
    assert native_packages(POLICY, changed, "i386") == sorted({*WIDE, "g++-arm-linux-gnueabihf", "gold"})


@pytest.mark.parametrize("machine", ["x86_64"], indirect=True)
def test_a_target_that_comes_to_build_gets_its_compilers(machine: str) -> None:
    riscv64 = toolchain("riscv64")
    distribution = riscv64.distribution.model_copy(update={"packages": ("build-essential",)})
    found = native_packages(POLICY, riscv64.model_copy(update={"distribution": distribution}), machine)
    assert {"gcc-riscv64-linux-gnu", "g++-riscv64-linux-gnu"} <= set(found)
