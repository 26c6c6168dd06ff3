"""The table of twins, read back the way table.h and dispatcher.c tell."""

from __future__ import annotations

import ctypes
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base import paths
from xbuild.base.errors import XbuildError
from xbuild.dispatcher import table
from xbuild.dispatcher.table import Caching, Entry, content_digest, encode, fnv1a, install
from xbuild.model.rules import Rules

PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).map("/".__add__)
HEADER = (paths.DISPATCHER / "table.h").read_text()
C_TYPES = {"uint32_t": ctypes.c_uint32, "int64_t": ctypes.c_int64}


def c_struct(name: str) -> type[ctypes.Structure]:
    """The struct of that name in table.h."""
    found = re.search(rf"struct {name} \{{(.*?)\n\}};", re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL), re.DOTALL)
    assert found is not None
    members = [(field, C_TYPES[kind]) for kind, field in re.findall(r"(\w+)\s+(\w+);", found[1])]
    return type(name, (ctypes.Structure,), {"_fields_": members})


Head, Slot, Record = c_struct("table"), c_struct("slot"), c_struct("rules")


class Reader:
    """Finds twins as dispatcher.c does."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.head = Head.from_buffer_copy(data)

    def text(self, at: int) -> str:
        return self.data[at : self.data.index(b"\0", at)].decode()

    def texts(self, at: int) -> tuple[str, ...]:
        found: list[str] = []
        while at and self.data[at]:
            found.append(self.text(at))
            at = self.data.index(b"\0", at) + 1
        return tuple(found)

    def find(self, path: str) -> Entry | None:
        value = fnv1a(path)
        number = value & self.head.slot_mask
        while True:
            slot = Slot.from_buffer_copy(self.data, self.head.slots + number * ctypes.sizeof(Slot))
            if not slot.path:
                return None
            if slot.hash == value and self.text(slot.path) == path:
                return self.entry(slot)
            number = (number + 1) & self.head.slot_mask

    def entry(self, slot: ctypes.Structure) -> Entry:
        size = None if slot.size < 0 else slot.size
        changed = (slot.ctime_sec, slot.ctime_nsec)
        digest = self.data[slot.digest : slot.digest + 32] if slot.digest else b""
        other = self.text(slot.other) if slot.other else None
        rules, cache = self.rules(slot.rules), self.text(slot.cache) if slot.cache else None
        words = (self.text(slot.path), self.text(slot.exec), rules, size, changed, digest, other)
        return Entry(*words, cache=cache)

    def rules(self, at: int) -> Rules:
        if not at:
            return Rules()
        record = Record.from_buffer_copy(self.data, at)
        values: dict[str, Any] = {name: self.texts(getattr(record, name)) for name in Rules.model_fields}
        values["set_env"] = dict(item.split("=", 1) for item in values["set_env"])
        return Rules(**values)


def read(entries: list[Entry], *, record: bool = True) -> Reader:
    return Reader(encode(entries, near="/.xbuild", far="/far/.xbuild", record=record))


def test_constants_are_those_of_the_header() -> None:
    magic = re.search(r"TABLE_MAGIC (0x[0-9a-f]+)u", HEADER)
    size = re.search(r"TABLE_SIZE \((\d+) \* (\d+)\)", HEADER)
    assert magic is not None
    assert size is not None
    assert int(magic[1], 16) == table.MAGIC
    assert int(size[1]) * int(size[2]) == table.SIZE


@pytest.mark.parametrize(("text", "value"), [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)])
def test_fnv1a(text: str, value: int) -> None:
    # The test vectors of draft-eastlake-fnv, appendix C.
    assert fnv1a(text) == value


def test_each_rule_has_its_place_in_the_header() -> None:
    assert [name for name, *_ in Record._fields_] == list(Rules.model_fields)


def test_each_rule_does_something() -> None:
    """It is asked for by name."""
    text = "".join((paths.DISPATCHER / name).read_text() for name in ("dispatcher.c", "cached.h", "late.h"))
    assert {*re.findall(r"rules->(\w+)", text)} == {*Rules.model_fields}


def full_rules() -> Rules:
    """Rules of which each says something else."""
    values: dict[str, Any] = {name: (f"-{name}", f"*{name}") for name in Rules.model_fields}
    return Rules(**{**values, "set_env": {"B": "2=2", "A": ""}})


def test_an_entry_comes_back_whole() -> None:
    full = Entry("/usr/bin/gcc", "/.xbuild/gcc", full_rules(), 5_000_000_000, (1_700_000_000, 999_999_999), other="/o")
    plain = Entry("/usr/bin/sed", "/.xbuild/sed")
    known = Entry("/usr/bin/tar", "/.xbuild/tar", size=3, digest=content_digest(b"tar"))
    reader = read([full, plain, known])
    assert reader.find("/usr/bin/gcc") == full
    assert reader.find("/usr/bin/tar") == known
    assert reader.find("/usr/bin/sed") == plain
    assert reader.find("/usr/bin/gc") is None


def test_an_empty_file_is_not_any_file() -> None:
    assert read([Entry("/a", "/b", size=0)]).find("/a") == Entry("/a", "/b", size=0)


def test_the_header() -> None:
    reader = read([])
    assert reader.head.magic == table.MAGIC
    head = reader.head
    assert [reader.text(at) for at in (head.qemu, head.record, head.far_qemu, head.far_record)] == [
        "/.xbuild/qemu",
        "/.xbuild/record",
        "/far/.xbuild/qemu",
        "/far/.xbuild/record",
    ]
    silent = read([], record=False)
    assert (silent.head.record, silent.head.far_record) == (0, 0)
    # A twin that could not go on is written down all the same.
    for kind in (reader, silent):
        places = [kind.text(at) for at in (kind.head.marks, kind.head.far_marks)]
        assert places == ["/.xbuild/record", "/far/.xbuild/record"]
    assert silent.text(silent.head.far_qemu) == "/far/.xbuild/qemu"


def test_what_a_cache_gets_and_wants() -> None:
    caching = Caching(("CONFIG=/c", "B="), ("PATH=/usr/bin",))
    entries = [Entry("/usr/bin/gcc", "/x", cache="/.xbuild/ccache"), Entry("/usr/bin/sed", "/y")]
    reader = Reader(encode(entries, near="/a", far="/b", record=True, caching=caching))
    assert (reader.texts(reader.head.cache_env), reader.texts(reader.head.cache_given)) == (caching.env, caching.given)
    assert [reader.find(entry.path) for entry in entries] == entries
    without = read(entries)
    assert (without.head.cache_env, without.head.cache_given) == (0, 0)
    assert without.find("/usr/bin/gcc") == Entry("/usr/bin/gcc", "/x")


@pytest.mark.parametrize("name", Rules.model_fields)
def test_a_rule_alone_comes_back(name: str) -> None:
    rules = full_rules().model_copy(update={other: Rules.model_fields[other].get_default(call_default_factory=True)
                                            for other in Rules.model_fields if other != name})  # fmt: skip
    assert rules != Rules()
    assert read([Entry("/a", "/b", rules)]).find("/a") == Entry("/a", "/b", rules)


@given(st.sets(PATHS, max_size=60), st.sets(PATHS, max_size=20))
def test_just_the_paths_that_are_in_it_are_found(known: set[str], others: set[str]) -> None:
    reader = read([Entry(path, f"/.xbuild{path}", size=len(path)) for path in known])
    for path in known:
        assert reader.find(path) == Entry(path, f"/.xbuild{path}", size=len(path))
    for path in others - known:
        assert reader.find(path) is None


@given(st.permutations([Entry(f"/usr/bin/{name}", "/x") for name in "abcdef"]))
def test_the_order_of_entries_does_not_show(entries: list[Entry]) -> None:
    assert read(entries).data == read(sorted(entries, key=lambda entry: entry.path)).data


@given(st.integers(0, 300))
def test_at_most_half_of_the_slots_are_taken(count: int) -> None:
    slots = read([Entry(f"/{number}", "/x") for number in range(count)]).head.slot_mask + 1
    assert slots & (slots - 1) == 0
    assert slots > 2 * count


def test_a_list_that_many_have_is_there_once() -> None:
    rules = Rules(emulate_args=("--a-long-argument",))
    assert read([Entry(f"/{number}", "/x", rules) for number in range(9)]).data.count(b"--a-long-argument") == 1


def test_too_many_entries() -> None:
    entries = [Entry(f"/usr/bin/{number:0250}", f"/.xbuild/{number:0250}") for number in range(5000)]
    with pytest.raises(XbuildError, match=r"table of 5000 twins needs \d+ bytes; there is room for 2097152"):
        read(entries)


def elf_with_section(name: str, size: int) -> bytes:
    """An ELF file with one section of `size` 'x' besides the table of names (elf(5))."""
    names = b"\0" + name.encode() + b"\0.shstrtab\0"
    contents_at = 64
    names_at = contents_at + size
    sections_at = names_at + len(names)
    section = struct.Struct("<IIQQQQIIQQ")
    ident = b"\x7fELF\2\1\1".ljust(16, b"\0")
    head = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, sections_at, 0, 64, 56, 0, 64, 3, 2)
    sections = section.pack(*[0] * 10) + section.pack(1, 1, 2, 0, contents_at, size, 0, 0, 1, 0)
    sections += section.pack(len(name) + 2, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return head + b"x" * size + names + sections


def test_install_fills_the_section_and_nothing_else(tmp_path: Path) -> None:
    program = elf_with_section(table.SECTION, 100)
    (tmp_path / "compiled").write_bytes(program)
    install(tmp_path / "compiled", tmp_path / "made", b"table")
    made = (tmp_path / "made").read_bytes()
    assert made == program.replace(b"x" * 100, b"table".ljust(100, b"\0"))
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o755


def test_both_sides_know_the_mark_of_copies() -> None:
    mark = re.search(r'COPY_MARK "xbuild\\1"\n#define COPY_MARK_AT (\d+)', HEADER)
    assert mark
    assert int(mark[1]) == table.COPY_MARK_AT
    assert table.COPY_MARK.decode() == "xbuild\1"
    assert table.COPY_MARK_AT + len(table.COPY_MARK) == 16
