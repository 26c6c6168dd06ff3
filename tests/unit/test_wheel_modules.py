"""Modules that wheels bring, for native interpreters: of wheels that are alike but for these, all of them or none."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from elftools.elf.elffile import ELFFile

from tests.unit.wheelfiles import wheel
from xbuild.build.wheelmodules import pair, why_none
from xbuild.build.wheelpairs import Sides, Wheels
from xbuild.dispatcher.table import content_digest
from xbuild.formats.debian import Tree
from xbuild.model.load import load_policy, load_toolchain
from xbuild.model.native import here
from xbuild.twins.pairing import Pairs, Refusal

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parents[2]
ARMHF = load_toolchain("armhf", ROOT)
FOLDER = "/build/obj/env"
ARM, OWN = "cp313-cp313-manylinux_2_31_armv7l", f"cp313-cp313-manylinux_2_17_{here().uname_machine}"
THERE, HERE = f".cpython-313-{ARMHF.triplet}.so", f".cpython-313-{here().triplet}.so"


def held(name: str) -> bytes:
    return (DATA / name).read_bytes()


def stub(architecture: str) -> bytes:
    """An ELF file: a module, as far as is looked at."""
    return held(f"{architecture}-static")


PLAIN = {"yaml/__init__.py": b"x = 1\n", "yaml/dist-packages/data": b"\0"}
TARGET = {**PLAIN, f"yaml/_yaml{THERE}": stub("armhf"), "yaml/_more.abi3.so": stub("armhf")}
NATIVE = {**PLAIN, f"yaml/_yaml{HERE}": stub(here().name), "yaml/_more.abi3.so": stub(here().name)}


class Both:
    """A target's and a native wheel, in a directory."""

    policy: ClassVar = load_policy(ARMHF)

    def __init__(self, place: Path, target: Mapping[str, bytes], native: Mapping[str, bytes], own: str = OWN) -> None:
        self.place = place
        made = (wheel(place, f"yaml-6-{ARM}.whl", target), wheel(place, f"yaml-6-{own}.whl", native))
        # Where they were fetched to, their names are others.
        self.files = tuple(file.rename(place / f"sha256-{number}") for number, file in enumerate(made))

    def paired(self, removed: Collection[str] = ()) -> Wheels:
        assert self.policy is not None
        tree, private = Tree([self.place / "root"]), self.place / "private"
        one, other = self.files
        return pair(one, other, FOLDER, Sides(self.policy, ARMHF, tree, private, (), self.place / "scratch", removed))

    def why(self) -> str | None:
        assert self.policy is not None
        one, other = self.files
        return why_none(one, other, self.policy, ARMHF)


def test_modules_of_wheels_that_are_alike(tmp_path: Path) -> None:
    both = Both(tmp_path, TARGET, NATIVE)
    assert both.why() is None
    found = both.paired()
    paths = [f"{FOLDER}/yaml/_yaml{THERE}", f"{FOLDER}/yaml/_more.abi3.so"]
    assert ([one.entry.path for one in found.stands], found.refused) == (paths, ())
    entry = found.stands[0].entry
    # Never executed; and only for what the wheel has, not for what a build puts in its place.
    assert (entry.module, entry.program) == (True, f"/.xbuild/layer{paths[0]}")
    assert (entry.size, entry.digest) == (len(stub("armhf")), content_digest(stub("armhf")))
    pairs = found.together(Pairs((), (), ()))
    assert ((pairs.twins, pairs.entries), len(pairs.modules)) == (((), ()), 2)
    found.lay(tmp_path / "layer")
    assert (tmp_path / f"layer{paths[0]}").read_bytes() == stub(here().name)
    # What is no module is the target's alone.
    assert not (tmp_path / f"layer{FOLDER}/yaml/__init__.py").exists()


def changed(files: Mapping[str, bytes], **more: bytes | None) -> dict[str, bytes]:
    """The files with others; without those that are None. `_` for what has no room in a name."""
    return {name: data for name, data in {**files, **more}.items() if data is not None}


@pytest.mark.parametrize(
    ("target", "native", "reason"),
    [
        ({}, {"yaml/__init__.py": b"x = 2\n"}, "another yaml/__init__.py"),
        ({}, {"yaml/other.py": b""}, "another yaml/other.py"),
        ({"yaml/other.py": b""}, {}, "another yaml/other.py"),
        ({}, {f"yaml/_yaml{HERE}": None}, "lacks it"),
        ({}, {f"yaml/_third{HERE}": stub(here().name)}, "another yaml/_third"),
        ({"yaml/plain.so": stub("armhf")}, {"yaml/plain.so": stub(here().name)}, "no module that may be native"),
        ({f"_cffi_backend{THERE}": stub("armhf")}, {f"_cffi_backend{HERE}": stub(here().name)}, "may be native"),
        ({f"numpy/core/x{THERE}": stub("armhf")}, {f"numpy/core/x{HERE}": stub(here().name)}, "may be native"),
        ({"yaml.libs/libyaml-12.so.2": stub("armhf")}, {}, "another yaml.libs/libyaml-12.so.2"),
        ({"yaml/lib.so.2": stub("armhf")}, {"yaml/lib.so.2": stub(here().name)}, "another yaml/lib.so.2"),
    ],
)
def test_where_anything_else_differs_there_is_none(
    tmp_path: Path, target: Mapping[str, bytes | None], native: Mapping[str, bytes | None], reason: str
) -> None:
    both = Both(tmp_path, changed(TARGET, **target), changed(NATIVE, **native))
    found = both.paired()
    assert found.stands == ()
    # All of them, and so the interpreter begins again emulated with the first one.
    assert {one.path for one in found.refused} >= {f"{FOLDER}/yaml/_yaml{THERE}", f"{FOLDER}/yaml/_more.abi3.so"}
    assert {reason in one.reason for one in found.refused} == {True}
    assert reason in str(both.why())


def test_what_wheels_say_of_themselves_may_differ(tmp_path: Path) -> None:
    more = {"yaml-6.dist-info/sboms/x.json": b"x86", "yaml-6.data/purelib/yaml/p.py": b"y"}
    assert Both(tmp_path, changed(TARGET, **{"yaml/p.py": b"y"}), changed(NATIVE, **more)).why() is None


@pytest.mark.parametrize("own", ["cp312-cp312", "cp39-abi3", "cp313-cp313t"])
def test_another_abi(tmp_path: Path, own: str) -> None:
    both = Both(tmp_path, TARGET, NATIVE, f"{own}-manylinux_2_17_{here().uname_machine}")
    assert {one.kind for one in both.paired().refused} == {Refusal.UNFIT}
    assert "another python" in str(both.why())


@pytest.mark.parametrize(
    ("target", "native", "removed", "kind"),
    [
        ("arm64", here().name, (), Refusal.UNFIT),
        ("armhf", "arm64", (), Refusal.UNFIT),
        ("armhf", here().name, ("python3-modules",), Refusal.REMOVED),
        ("armhf", here().name, ("_more.abi3.so",), Refusal.REMOVED),
    ],
)
def test_one_that_may_not_be_takes_all_along(
    tmp_path: Path, target: str, native: str, removed: Collection[str], kind: Refusal
) -> None:
    name = "yaml/_more.abi3.so"
    both = Both(tmp_path, changed(TARGET, **{name: stub(target)}), changed(NATIVE, **{name: stub(native)}))
    found = both.paired(removed)
    assert found.stands == ()
    assert [one.kind for one in found.refused] == [kind] * 2


def test_a_wheel_without_modules(tmp_path: Path) -> None:
    both = Both(tmp_path, PLAIN, {**PLAIN, "more": b""})
    assert both.paired() == Wheels()
    assert both.why() == "it has no compiled modules"


@pytest.mark.parametrize("fused", [True, False])
def test_code_that_rounds_otherwise(tmp_path: Path, fused: bool) -> None:
    """64-bit ARM's multiplies and adds with one rounding."""
    arm64 = load_toolchain("arm64", ROOT)
    policy = load_policy(arm64)
    assert policy is not None
    data = bytearray(stub("arm64"))
    elf = ELFFile(io.BytesIO(data))
    code = next(segment.header for segment in elf.iter_segments("PT_LOAD") if segment["p_flags"] & 1)
    word = 0x1F4303C0 if fused else 0x1E622820  # fmadd d0, d30, d3, d0; fadd d0, d1, d2
    count = (code.p_filesz - 0x100) // 4
    data[code.p_offset + 0x100 : code.p_offset + 0x100 + 4 * count] = word.to_bytes(4, "little") * count
    name = f"yaml.cpython-313-{arm64.triplet}.so"
    target = wheel(tmp_path, "yaml-6-cp313-cp313-manylinux_2_17_aarch64.whl", {name: bytes(data)})
    native = wheel(tmp_path, f"yaml-6-{OWN}.whl", {f"yaml{HERE}": stub(here().name)})
    reason = why_none(target, native, policy, arm64)
    assert (reason is not None and "rounds" in reason) is fused
