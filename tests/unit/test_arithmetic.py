"""A libm without variants for the processor; tests/integration holds its functions against the target's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xbuild.twins.arithmetic import without_fused

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


def test_another_library_is_refused() -> None:
    with pytest.raises(ValueError, match="no libm for x86-64"):
        without_fused((Path(__file__).parent / "data/armhf-pie").read_bytes())
