"""The oracle is QEMU's own script: see tests/unit/data/README.md."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.enums import ENUM_E_MACHINE

from xbuild.binfmt import MAX_REGISTRATION, magic_mask, registration
from xbuild.errors import MachineError

DATA = Path(__file__).parent / "data"
ORACLE: dict[str, dict[str, Any]] = json.loads((DATA / "binfmt_table.json").read_text())["arches"]


@dataclass(frozen=True)
class Identity:
    machine: str
    elf_class: int
    data: str
    float_abi: str | None = None
    interpreter: str = "/lib/ld.so"


ARM = Identity("ARM", 32, "little", "hard")


def matches(identity: Identity, data: bytes) -> bool:
    """What the kernel does (fs/binfmt_misc.c, search_binfmt_handler)."""
    magic, mask = magic_mask(identity)
    return all((byte ^ wanted) & bits == 0 for byte, wanted, bits in zip(data, magic, mask, strict=False))


@pytest.mark.parametrize("arch", ORACLE)
def test_equals_qemus_table(arch: str) -> None:
    entry = ORACLE[arch]
    numbers = {number: name for name, number in ENUM_E_MACHINE.items() if name.startswith("EM_")}
    identity = Identity(
        machine=numbers[entry["e_machine"]].removeprefix("EM_"),
        elf_class={1: 32, 2: 64}[entry["ei_class"]],
        data={1: "little", 2: "big"}[entry["ei_data"]],
    )
    magic, mask = magic_mask(identity)
    assert (magic.hex(), mask.hex()) == (entry["magic"], entry["mask"])
    line = registration(arch, magic, mask, "/usr/bin/qemu", "FPO")
    assert line == f":{arch}:M::{entry['magic_escaped']}:{entry['mask_escaped']}:/usr/bin/qemu:FPO"


def test_the_table_holds_the_targets() -> None:
    assert {"arm", "armeb", "aarch64", "aarch64_be"} <= set(ORACLE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("armhf-static", True),
        ("armhf-pie", True),
        ("libhalf.so.1", True),
        ("armhf.o", False),
        ("arm64-static", False),
        ("amd64-static", False),
    ],
)
def test_matches_real_files(name: str, expected: bool) -> None:
    data = (DATA / name).read_bytes()
    assert matches(ARM, data) is expected
    # Static glibc programs carry OSABI 3.
    assert matches(ARM, data[:7] + b"\x03" + data[8:]) is expected


def test_unknown_machine() -> None:
    with pytest.raises(ValueError, match="unknown ELF machine 'ARMADILLO'"):
        magic_mask(replace(ARM, machine="ARMADILLO"))


@pytest.mark.parametrize("name", ["", ".", "..", "register", "status", "a/b", "a:b", "a\nb"])
def test_bad_name(name: str) -> None:
    with pytest.raises(ValueError, match="not a name for a binfmt_misc entry"):
        registration(name, *magic_mask(ARM), "/x", "F")


def test_bad_mask_and_flags() -> None:
    magic, mask = magic_mask(ARM)
    with pytest.raises(ValueError, match="mask has 19 bytes, magic 20"):
        registration("arm", magic, mask[:-1], "/x", "F")
    with pytest.raises(ValueError, match="flags are letters of POCF, not 'FX'"):
        registration("arm", magic, mask, "/x", "FX")


@pytest.mark.parametrize("path", ["/home/a:b/x", "/home/a\nb/x", "/" + "x" * MAX_REGISTRATION])
def test_path_that_the_kernel_refuses(path: str) -> None:
    with pytest.raises(MachineError) as caught:
        registration("arm", *magic_mask(ARM), path, "F")
    assert "XBUILD_CACHE" in (caught.value.hint or "")


def test_longest_line_that_fits() -> None:
    rest = len(registration("arm", *magic_mask(ARM), "/", "F"))
    path = "/" + "x" * (MAX_REGISTRATION - rest)
    assert len(registration("arm", *magic_mask(ARM), path, "F")) == MAX_REGISTRATION
    with pytest.raises(MachineError, match="takes 1920 bytes, this registration has 1921"):
        registration("arm", *magic_mask(ARM), path + "x", "F")
