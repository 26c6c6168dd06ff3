"""Twins of programs that wheels bring: of one version, for the right machines, known to the policy."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.unit.wheelfiles import wheel
from xbuild.build.wheelpairs import Sides, Wheels, pair, same_version
from xbuild.dispatcher.table import content_digest
from xbuild.formats.debian import Tree
from xbuild.formats.elf import read_elf
from xbuild.model.load import load_policy, load_toolchain
from xbuild.model.native import here
from xbuild.twins.pairing import Pairs, Refusal, Twin

DATA = Path(__file__).parent / "data"
ARMHF = load_toolchain("armhf", Path(__file__).parents[2])
FOLDER = "/build/obj/env"
ARM, OWN = "py3-none-manylinux_2_31_armv7l", f"py3-none-manylinux_2_12_{here().uname_machine}"
STATIC = f"{here().name}-static"
TWINS = [Twin(name, f"/usr/bin/{name}", here().name, name, "1", "") for name in ("dash", "ninja", "cmake", "patchelf")]
TWINS += [Twin("binutils", "/usr/bin/as", here().name, "binutils", "1", "")]
"""Programs of the native root."""


def held(name: str) -> bytes:
    return (DATA / name).read_bytes()


def paired(
    tmp_path: Path,
    target: dict[str, bytes],
    native: dict[str, bytes],
    removed: Collection[str] = (),
    name: str = "ninja",
) -> Wheels:
    one = wheel(tmp_path, f"{name}-1.11.1.4-{ARM}.whl", target)
    other = wheel(tmp_path, f"{name}-1.11.1.4-{OWN}.whl", native)
    policy = load_policy(ARMHF)
    assert policy is not None
    words = (policy, ARMHF, Tree([tmp_path / "root"]), tmp_path / "private", TWINS, tmp_path / "scratch")
    sides = Sides(*words, removed)
    return pair(one, other, FOLDER, sides)


@pytest.mark.parametrize(
    ("native", "same"),
    [
        (f"ninja-1.11.1.4-{OWN}.whl", True),
        (f"Ninja-1.11.1.4-{OWN}.whl", True),
        (f"ninja-1.11.1.3-{OWN}.whl", False),
        (f"ninja-1.11.1.4-1-{OWN}.whl", False),
        (f"cmake-1.11.1.4-{OWN}.whl", False),
        ("ninja-1.11.1.4-py3-none-any.whl", False),
        ("ninja-1.11.1.4-py3-none-manylinux_2_31_riscv64.whl", False),
        ("ninja.tar.gz", False),
    ],
)
def test_an_exact_version_for_this_machine(native: str, same: bool) -> None:
    assert same_version(f"ninja-1.11.1.4-{ARM}.whl", native) is same


def test_programs_where_pip_puts_them(tmp_path: Path) -> None:
    data = "ninja-1.11.1.4.data"
    target, native = held("armhf-static"), held(STATIC)
    files = {f"{data}/scripts/ninja": 1, f"{data}/data/bin/patchelf": 1, "ninja/data/bin/ninja": 1, "ninja/ninja": 1,
             f"{data}/scripts/as": 1, f"{data}/scripts/unheard-of": 1, f"{data}/headers/bin/ninja": 1}  # fmt: skip
    text = {f"{data}/scripts/dash": b"#!python\n"}
    found = paired(tmp_path, {**dict.fromkeys(files, target), **text}, {**dict.fromkeys(files, native), **text})
    paths = [f"{FOLDER}/bin/ninja", f"{FOLDER}/bin/patchelf", f"{FOLDER}/ninja/data/bin/ninja"]
    assert ([one.entry.path for one in found.stands], found.refused) == (paths, ())
    entry = found.stands[0].entry
    assert entry.program == f"/.xbuild/layer{FOLDER}/bin/ninja"
    # Only for what the wheel has, and not for what a build puts in its place.
    assert (entry.size, entry.digest) == (len(target), content_digest(target))
    pairs = found.together(Pairs((), (), ()))
    assert len(pairs.entries) == len(pairs.twins) == 3
    assert pairs.without({paths[0]}).entries == pairs.entries[1:]
    found.lay(tmp_path / "layer")
    laid = tmp_path / f"layer{FOLDER}/bin/ninja"
    assert read_elf(laid).machine == here().elf_machine
    assert laid.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("program", "target", "native", "removed", "kind", "reason"),
    [
        ("ninja", "armhf-static", None, (), Refusal.UNFIT, "has no bin/ninja"),
        ("ninja", "armhf-static", "arm64-static", (), Refusal.UNFIT, "for this machine has one for AARCH64"),
        ("ninja", "arm64-static", STATIC, (), Refusal.UNFIT, "target's wheel has one for AARCH64"),
        ("cmake", "armhf-static", STATIC, (), Refusal.UNFIT, "linked statically"),
        ("ninja", "armhf-static", STATIC, ("ninja",), Refusal.REMOVED, "taken away"),
        ("ninja", "armhf-static", STATIC, (f"{FOLDER}/bin/ninja",), Refusal.REMOVED, "taken away"),
        ("ninja", "armhf-static", "text", (), Refusal.UNFIT, "ELF"),
    ],
)
def test_what_has_no_twin(
    tmp_path: Path, program: str, target: str, native: str | None, removed: Collection[str], kind: Refusal, reason: str
) -> None:
    member = f"ninja-1.11.1.4.data/scripts/{program}"
    other = {} if native is None else {member: b"text" if native == "text" else held(native)}
    found = paired(tmp_path, {member: held(target)}, other, removed)
    (refused,) = found.refused
    assert (found.stands, refused.path, refused.kind) == ((), f"{FOLDER}/bin/{program}", kind)
    assert reason in refused.reason


@pytest.mark.skipif(here().name != "amd64", reason="the program is for x86-64")
def test_libraries_come_along_or_there_is_no_twin(tmp_path: Path) -> None:
    """cmake is linked to libraries as the machine's python is: those of the native root count, never the machine's."""
    program = shutil.which("sleep")
    assert program is not None
    member, native = "cmake-1.11.1.4.data/scripts/cmake", Path(program).read_bytes()
    words = ({member: held("armhf-static")}, {member: native})
    (refused,) = paired(tmp_path, *words, name="cmake").refused
    assert "which the native root does not have" in refused.reason
    folder = tmp_path / f"root/usr/lib/{here().triplet}"
    folder.mkdir(parents=True)
    for name in ("libc.so.6", "ld-linux-x86-64.so.2"):
        shutil.copy(Path(f"/usr/lib/{here().triplet}", name), folder / name)
    (stand,) = paired(tmp_path, *words, name="cmake").stands
    assert set(stand.files) == {f"{FOLDER[1:]}/bin/cmake", "lib/libc.so.6", "lib/ld-linux-x86-64.so.2"}
    assert read_elf(stand.files[f"{FOLDER[1:]}/bin/cmake"]).interpreter == f"/.xbuild/{here().name}/lds"
    # What lies in the private tree is there already.
    own = tmp_path / f"private/{here().name}/lib"
    own.mkdir(parents=True)
    (own / "libc.so.6").touch()
    (stand,) = paired(tmp_path, *words, name="cmake").stands
    assert set(stand.files) == {f"{FOLDER[1:]}/bin/cmake", "lib/ld-linux-x86-64.so.2"}
