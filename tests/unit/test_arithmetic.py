"""What twins compute with; tests/e2e/probes/arithmetic.yml holds their results against the target's."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.unit.test_twins import POLICY, debian
from xbuild.model import native
from xbuild.model.load import load_toolchain
from xbuild.twins.arithmetic import fuses, imported, with_short_strtold, without_fused
from xbuild.twins.pairing import Refusal, Twin, pair

DATA = Path(__file__).parent / "data"
# What a libm does: it looks into the data of the loader, which every process has.
C = """
extern const struct { unsigned char features[0x100]; } _rtld_global_ro;
int decide(void) { for (int i = 0; i < 0x100; i++) if (_rtld_global_ro.features[i]) return 1; return 0; }
"""


def test_it_finds_nothing_special(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    library, changed = tmp_path / "libm.so", tmp_path / "libnew.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-nostdlib", "-x", "c", "-"]
    subprocess.run([*command, "-o", library], input=C.encode(), check=True)
    changed.write_bytes(without_fused(library.read_bytes()))
    ask = "import ctypes,sys; print(ctypes.CDLL(sys.argv[1]).decide())"
    said = [subprocess.run([sys.executable, "-c", ask, file], capture_output=True, check=True, text=True).stdout
            for file in (library, changed)]  # fmt: skip
    assert said == ["1\n", "0\n"]


def test_names_that_a_program_imports(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    text = b"double cbrt(double), exp(double); double own(double x) { return exp(x) + cbrt(x); }"
    subprocess.run(["gcc", "-shared", "-fPIC", "-xc", "-", "-o", tmp_path / "l.so"], input=text, check=True)
    assert imported((tmp_path / "l.so").read_bytes()) & {"cbrt", "exp", "own", "sin"} == {"cbrt", "exp"}


X86 = next(machine for machine in native.known() if machine.name == "amd64")
ARM = next(machine for machine in native.known() if machine.name == "arm64")


@pytest.mark.parametrize(
    ("machine", "processor", "traits", "same"),
    [
        (X86, {"fma", "avx2"}, ["fused"], True),
        (X86, {"fma"}, ["fused"], False),
        (X86, set(), ["fused"], False),
        (X86, set(), ["unfused"], True),
        (X86, {"fma", "avx2"}, ["unfused"], True),
        (X86, {"fma", "avx2"}, [], False),
        (ARM, set(), ["fused"], True),
        (ARM, set(), ["unfused"], False),
    ],
)
def test_whose_results_a_machine_gives(
    monkeypatch: pytest.MonkeyPatch, machine: native.Native, processor: set[str], traits: list[str], same: bool
) -> None:
    monkeypatch.setattr(native, "_processor", lambda: processor)
    assert machine.computes_as(traits) is same


def test_every_target_says_how_it_computes() -> None:
    """Else its tools that compute would run emulated everywhere, unseen."""
    for name in ("armhf", "arm64", "riscv64"):
        assert {*load_toolchain(name, Path(__file__).parents[2]).traits} & {"fused", "unfused"}, name


@pytest.mark.parametrize(("flags", "kinds"), [({"fma", "avx2"}, set()), (set(), {Refusal.ARITHMETIC})])
def test_a_twin_that_computes_needs_the_target_s_arithmetic(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: set[str], kinds: set[Refusal]
) -> None:
    monkeypatch.setattr(native, "_processor", lambda: flags)
    arm64 = load_toolchain("arm64", Path(__file__).parents[2])
    tree = debian(tmp_path, {"coreutils": ("9.7-3", {"/usr/bin/cat": "arm64-static", "/usr/bin/sort": "arm64-static"})})
    twins = [
        Twin("coreutils", f"/usr/bin/{name}", "amd64", "coreutils", "9.7-3", f"/usr/bin/{name}", computes=computes)
        for name, computes in (("cat", False), ("sort", True))
    ]
    pairs = pair(twins, tree, POLICY, arm64)
    assert {refused.kind for refused in pairs.refused} == kinds
    assert {entry.path for entry in pairs.entries} == {"/usr/bin/cat"} | ({"/usr/bin/sort"} if flags else set())


def test_another_library_is_refused() -> None:
    with pytest.raises(ValueError, match="no libm for x86-64"):
        without_fused((DATA / "armhf-pie").read_bytes())


def test_strtold_reads_as_strtod(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    text = b"double strtod(const char *s, char **e) { *e = (char *)s + 3; return 0.1; }"
    text += b"long double strtold(const char *s, char **e) { return 0.1L; }"
    old, new = tmp_path / "libold.so", tmp_path / "libnew.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-nostdlib", "-xc", "-", "-o", old], input=text, check=True)
    new.write_bytes(with_short_strtold(old.read_bytes()))
    program = tmp_path / "ask.c"
    program.write_text("""#include <stdio.h>
        long double strtold(const char *, char **);
        int main(void) { char *e = 0; printf("%d ", strtold("0.1", &e) == 0.1); printf("%s\\n", e ? e : "none"); }""")
    for library, said in ((old, "0 none\n"), (new, "1 \n")):
        subprocess.run(["gcc", "-o", tmp_path / "ask", program, library, f"-Wl,-rpath,{tmp_path}"], check=True)
        assert subprocess.run([tmp_path / "ask"], capture_output=True, text=True, check=True).stdout == said
    with pytest.raises(ValueError, match="no libc for x86-64"):
        with_short_strtold((DATA / "armhf-pie").read_bytes())


@pytest.mark.parametrize(
    ("word", "found"),
    [
        (0x1F4303C0, True),  # fmadd d0, d30, d3, d0
        (0x1F60C3DE, True),  # fnmsub d30, d30, d0, d16
        (0x4E65CC20, True),  # fmla v0.2d, v1.2d, v5.2d
        (0x4EE5CC20, True),  # fmls v0.2d, v1.2d, v5.2d
        (0x1E622820, False),  # fadd d0, d1, d2
        (0x9B020C20, False),  # madd x0, x1, x2, x3
    ],
)
def test_code_that_rounds_once(word: int, found: bool) -> None:
    data = bytearray((DATA / "arm64-static").read_bytes())
    elf = ELFFile(io.BytesIO(data))
    code = next(segment.header for segment in elf.iter_segments("PT_LOAD") if segment["p_flags"] & 1)
    nop = (0xD503201F).to_bytes(4, "little")
    data[code.p_offset + 0x100 : code.p_offset + code.p_filesz] = nop * ((code.p_filesz - 0x100) // 4)
    assert not fuses(bytes(data))
    data[code.p_offset + 0x100 : code.p_offset + 0x104] = word.to_bytes(4, "little")
    assert fuses(bytes(data)) is found
