"""The oracle is QEMU's own script: see tests/unit/data/README.md."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from xbuild.base.errors import MachineError, UsageError
from xbuild.base.yamlfile import load_model
from xbuild.binfmt import MAX_REGISTRATION, Entry, architectures, magic_mask, registration
from xbuild.binfmt.entry import register_line
from xbuild.binfmt.render import for_architecture, render
from xbuild.model.architectures import Architectures

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
    """But for the bytes of e_ident behind EI_VERSION, of which Linux (fs/binfmt_elf.c) looks at none."""
    wanted = ORACLE[arch]
    mask = bytes.fromhex(wanted["mask"])
    mask = mask[:7] + bytes(9) + mask[16:]
    entry = for_architecture(arch, interpreter="/usr/bin/qemu")
    assert (entry.magic.hex(), entry.mask) == (wanted["magic"], mask)
    rendered = render(entry)
    escaped_mask = "".join(f"\\x{byte:02x}" for byte in mask)
    assert rendered.register == f":qemu-{arch}:M::{wanted['magic_escaped']}:{escaped_mask}:/usr/bin/qemu:FPO"
    assert (rendered.as_json()["magic"], rendered.as_json()["mask"]) == (wanted["magic"], mask.hex())
    assert entry.architecture == arch


@pytest.mark.parametrize("arch", sorted(set(ORACLE) - {"microblaze"}))
@pytest.mark.parametrize("marked", [b"\x03", b"\x61", b"\0AI\x02", b"\0\x01", b"\0" * 8 + b"\xff"])
def test_what_no_kernel_looks_at_is_free(arch: str, marked: bytes) -> None:
    start = bytearray(bytes.fromhex(ORACLE[arch]["magic"].ljust(128, "0")))
    start[7 : 7 + len(marked)] = marked
    entry = for_architecture(arch, interpreter="/q")
    assert entry.takes(bytes(start), "")
    assert architectures.of_file(bytes(start)) == arch
    start[18] ^= 0x80
    assert not entry.takes(bytes(start), "")


def test_all_of_qemus_architectures() -> None:
    assert len(ORACLE) == 34
    assert set(architectures.known()) == set(ORACLE)
    assert {facts.machine for facts in architectures.known().values()} == {
        entry["e_machine"] for entry in ORACLE.values()
    }


@pytest.mark.parametrize("arch", sorted(set(ORACLE) - {"microblaze"}))
def test_takes_programs_and_libraries_of_its_own_only(arch: str) -> None:
    facts = architectures.known()[arch]
    order = "<" if facts.data == "little" else ">"
    entries = {name: for_architecture(name, interpreter="/q") for name in architectures.known()}
    for kind, takes in ((1, False), (2, True), (3, True), (4, False)):
        start = bytearray(bytes.fromhex(ORACLE[arch]["magic"].ljust(128, "0")))
        struct.pack_into(f"{order}H", start, 16, kind)
        taken = {name for name, entry in entries.items() if entry.takes(bytes(start), "")}
        assert taken <= {arch}
        assert (arch in taken) is takes
        assert architectures.of_file(bytes(start)) == arch


def test_identities_of_targets_find_their_exceptions() -> None:
    assert magic_mask(Identity("PPC64", 64, "little"))[1][16:].hex() == ORACLE["ppc64le"]["mask"][32:]
    assert magic_mask(Identity("X86_64", 64, "little"))[1][:7].hex() == ORACLE["x86_64"]["mask"][:14]


def test_an_architecture_that_the_facts_lack_follows_the_general_rule() -> None:
    magic, mask = magic_mask(Identity("VAX", 32, "little"))
    assert (magic[18:], mask[18:], mask[7]) == (b"\x4b\0", b"\xff\xff", 0)


@pytest.mark.parametrize(
    ("word", "arch"),
    [("armhf", "arm"), ("armel", "arm"), ("arm64", "aarch64"), ("amd64", "x86_64"), ("ppc64el", "ppc64le")],
)
def test_names_of_the_distribution(word: str, arch: str) -> None:
    assert architectures.find(word)[0] == arch


def test_unknown_architecture() -> None:
    with pytest.raises(UsageError, match="unknown architecture 'armhv'; did you mean 'armhf'"):
        architectures.find("armhv")


def test_an_architecture_needs_no_code(tmp_path: Path) -> None:
    text = architectures.FACTS.read_text() + "  vax: {machine: 75, class: 32, data: little}\n"
    (tmp_path / "facts.yml").write_text(text)
    facts = load_model(tmp_path / "facts.yml", Architectures).architectures["vax"]
    assert architectures.compared(facts) == magic_mask(Identity("VAX", 32, "little"))


def test_no_mask_where_all_bits_count() -> None:
    line = registration("jar", b"PK\x03\x04", b"\xff" * 4, "/usr/bin/jexec", "")
    assert line == ":jar:M::\\x50\\x4b\\x03\\x04::/usr/bin/jexec:"


def test_extension() -> None:
    entry = Entry("py", "E", "/usr/bin/python3", extension="py")
    assert render(entry).register == ":py:E::py::/usr/bin/python3:"
    assert entry.takes(b"", "/a/b.py")
    assert not entry.takes(b"", "/a/b.pyc")
    assert not entry.takes(b"", "/a/py")


def test_flags_are_explained_set_or_not() -> None:
    said = render(for_architecture("arm", flags="F")).explanation
    assert [line.partition(":")[0] for line in said] == ["F", "no P", "no O", "no C"]


def test_notes() -> None:
    odd = render(Entry("x", "M", "/nowhere/qemu-arm-binfmt-P", "FC", magic=b"\x7fELF" + bytes(16), mask=b"\xff" * 20))
    text = "\n".join(odd.notes)
    wanted = ("with F the kernel refuses", "needs the flag P", "every setuid program", "byte 7", "AppImages")
    assert [said for said in wanted if said not in text] == []


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
def test_path_that_no_file_of_settings_can_hold(path: str) -> None:
    with pytest.raises(MachineError) as caught:
        register_line(Entry("arm", "M", path, "F", magic=b"x", mask=b"\xff"))
    assert "XBUILD_CACHE" in (caught.value.hint or "")


@pytest.mark.parametrize("path", ["/a:b", "/a\nb", "/\x01:\x02\n", "/\u00e9", "/\udcff"])
def test_any_path_can_be_registered(path: str) -> None:
    line = registration("arm", *magic_mask(ARM), path, "F").encode("latin-1")
    assert line[0] not in os.fsencode(path)
    assert line.split(line[:1])[-2:] == [os.fsencode(path), b"F"]


def test_longest_line_that_fits() -> None:
    rest = len(registration("arm", *magic_mask(ARM), "/", "F"))
    path = "/" + "x" * (MAX_REGISTRATION - rest)
    assert len(registration("arm", *magic_mask(ARM), path, "F")) == MAX_REGISTRATION
    with pytest.raises(MachineError, match="takes 1920 bytes, this registration has 1921"):
        registration("arm", *magic_mask(ARM), path + "x", "F")
