"""A libc without limits on the address space; tests/integration/test_refusals.py tries it with shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from xbuild.twins.limits import without_address_limits

DATA = Path(__file__).parent / "data"
C = """
#include <errno.h>
struct rlimit { unsigned long soft, hard; };
__attribute__((visibility("default"))) int setrlimit(int resource, const struct rlimit *limit)
{
    return resource * 100 + (int)limit->soft;
}
__attribute__((visibility("default"), alias("setrlimit"))) int setrlimit64(int resource, const struct rlimit *limit);
"""
ASK = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
limit = (ctypes.c_ulong * 2)(7, 7)
print([getattr(library, name)(number, limit) for name in ("setrlimit", "setrlimit64") for number in range(12)])
"""


def test_two_limits_are_not_set_and_all_others_are(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    library, changed = tmp_path / "libold.so", tmp_path / "libnew.so"
    flags = ["-shared", "-fPIC", "-O1", "-nostdlib", "-Wl,-z,separate-code"]
    subprocess.run(["gcc", *flags, "-o", library, "-x", "c", "-"], input=C.encode(), check=True)
    changed.write_bytes(without_address_limits(library.read_bytes()))
    assert changed.stat().st_size == library.stat().st_size
    said = [
        subprocess.run([sys.executable, "-c", ASK, file], capture_output=True, check=True).stdout.decode()
        for file in (library, changed)
    ]
    numbers = [number * 100 + 7 for number in range(12)]
    assert said[0] == f"{numbers * 2}\n"
    assert said[1] == f"{[0 if number in (207, 907) else number for number in numbers] * 2}\n"


@pytest.mark.parametrize("name", ["amd64-static", "armhf.o", "armhf-pie"])
def test_another_library_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no code is known|no setrlimit"):
        without_address_limits((DATA / name).read_bytes())


def test_a_library_that_is_full_is_refused(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    library = tmp_path / "lib.so"
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-Wl,-z,separate-code", "-o", str(library), "-x", "c", "-"]
    subprocess.run(command, input=C.encode(), check=True)
    data = bytearray(library.read_bytes())
    with library.open("rb") as stream:
        segments = [segment.header for segment in ELFFile(stream).iter_segments("PT_LOAD")]
    code = next(header for header in segments if header.p_flags & 1)
    end = code.p_offset + code.p_filesz
    data[end : -(-end // 4096) * 4096] = b"\xcc" * (-end % 4096)
    with pytest.raises(ValueError, match="no room"):
        without_address_limits(bytes(data))
