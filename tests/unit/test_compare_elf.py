"""Which differences of ELF files and archives are differences of code and data."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from xbuild.formats.elf import section_location
from xbuild.proof.compare.contents import compare_contents, text_difference
from xbuild.proof.compare.verdict import Found, Verdict, families, worst

DATA = Path(__file__).with_name("data")

# <elf.h>
PROGBITS, SYMTAB, STRTAB, NOBITS, REL, GROUP = 1, 2, 3, 8, 9, 17
WRITE, ALLOC, EXEC, INFO_LINK, IN_GROUP = 1, 2, 4, 0x40, 0x200
GLOBAL, FUNC = 0x10, 0x02


@dataclass(frozen=True)
class Section:
    """A section; link and info by name or number."""

    name: str
    type: int = PROGBITS
    flags: int = 0
    data: bytes = b""
    link: str = ""
    info: str | int = 0
    entsize: int = 0
    size: int | None = None


@dataclass(frozen=True)
class Symbol:
    """A symbol; section: its name, "" for an undefined one."""

    name: str
    section: str = ""
    value: int = 0
    info: int = GLOBAL | FUNC


TEXT = Section(".text", flags=ALLOC | EXEC, data=bytes(range(16)))
BSS = Section(".bss", NOBITS, ALLOC | WRITE, size=8)
LINES = Section(".debug_line", data=b"line program")
STACK = Section(".note.GNU-stack")
SYMBOLS = (Symbol("$a", ".text", 0, 0), Symbol(".LC0", ".text", 4, 0), Symbol("half", ".text"), Symbol("puts"))


def relocations(*entries: tuple[int, int]) -> Section:
    """.rel.text: offset and number of symbol each."""
    data = b"".join(struct.pack("<II", offset, number << 8 | 28) for offset, number in entries)
    return Section(".rel.text", REL, INFO_LINK, data, ".symtab", ".text", 8)


def elf(*sections: Section, symbols: tuple[Symbol, ...] = SYMBOLS, program: bool = False) -> bytes:
    """A 32-bit ARM object, or a program with one segment over all sections before the first one not loaded."""
    every = [Section("", 0), *sections, *_tables(sections, symbols)]
    names = [section.name for section in every]
    headed = 52 + (32 if program else 0)
    strings, offsets = b"\0", {}
    for name in dict.fromkeys(names):
        offsets[name] = len(strings)
        strings += name.encode() + b"\0"
    every[-1] = replace(every[-1], data=strings)
    body, headers, loaded = b"", b"", headed
    for section in every:
        place = headed + len(body)
        body += section.data
        loaded = headed + len(body) if section.flags & ALLOC else loaded
        info = names.index(section.info) if isinstance(section.info, str) else section.info
        link = names.index(section.link) if section.link else 0
        size = len(section.data) if section.size is None else section.size
        headers += struct.pack(
            "<10I", offsets[section.name], section.type, section.flags, 0, place, size, link, info, 1, section.entsize
        )
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    count = int(program)
    head = struct.pack("<HHIIIIIHHHHHH", 2 if program else 1, 40, 1, 0, 52 * count, headed + len(body), 0x5000000, 52,
                       32 * count, count, 40, len(every), len(every) - 1)  # fmt: skip
    segment = struct.pack("<8I", 1, 0, 0, 0, loaded, loaded, 5, 4) if program else b""
    return ident + head + segment + body + headers


def _tables(sections: tuple[Section, ...], symbols: tuple[Symbol, ...]) -> list[Section]:
    names = ["", *(section.name for section in sections)]
    strings, data = b"\0", bytes(16)
    for symbol in symbols:
        data += struct.pack("<IIIBBH", len(strings), symbol.value, 0, symbol.info, 0, names.index(symbol.section))
        strings += symbol.name.encode() + b"\0"
    local = 1 + sum(symbol.info < GLOBAL for symbol in symbols)
    return [
        Section(".symtab", SYMTAB, 0, data, ".strtab", local, 16),
        Section(".strtab", STRTAB, 0, strings),
        Section(".shstrtab", STRTAB),
    ]


PLAIN = elf(TEXT, relocations((4, 3)), BSS, LINES, STACK)


def verdict(other: bytes, one: bytes = PLAIN) -> tuple[Verdict, tuple[str, ...]]:
    """What is said, the same in both directions."""
    found, reverse = compare_contents(one, other), compare_contents(other, one)
    assert (found.verdict, set(found.sections)) == (reverse.verdict, set(reverse.sections))
    return found.verdict, found.sections


def test_equal_files_are_identical() -> None:
    assert compare_contents(PLAIN, bytes(PLAIN)) == Found(Verdict.IDENTICAL)


def test_only_debug_information_differs() -> None:
    other = elf(TEXT, relocations((4, 3)), BSS, Section(".debug_line", data=b"longer line program"), STACK)
    assert verdict(other) == (Verdict.SAME, (".debug_line",))


def test_code_differs_and_comes_first() -> None:
    other = elf(replace(TEXT, data=bytes(16)), relocations((4, 3)), BSS, replace(LINES, data=b"another prog"), STACK)
    assert verdict(other) == (Verdict.DIFFERENT, (".text", ".debug_line"))


def test_size_of_zeroed_data_differs() -> None:
    other = elf(TEXT, relocations((4, 3)), replace(BSS, size=12), LINES, STACK)
    assert verdict(other) == (Verdict.DIFFERENT, (".bss",))


def test_a_relocation_to_another_symbol() -> None:
    assert verdict(elf(TEXT, relocations((4, 4)), BSS, LINES, STACK)) == (Verdict.DIFFERENT, (".rel.text",))


def test_the_same_relocation_to_what_another_symbol_table_calls_otherwise() -> None:
    swapped = (*SYMBOLS[:2], SYMBOLS[3], SYMBOLS[2])
    found, sections = verdict(elf(TEXT, relocations((4, 3)), BSS, LINES, STACK, symbols=swapped))
    assert found is Verdict.DIFFERENT
    assert sections[0] == ".rel.text"


def test_numbers_that_shift_mean_nothing() -> None:
    # One more section before the others, one more local symbol: all numbers change, no meaning does.
    symbols = (Symbol(".Lextra", ".text", 8, 0), *SYMBOLS)
    other = elf(Section(".debug_extra", data=b"x"), TEXT, relocations((4, 4)), BSS, LINES, STACK, symbols=symbols)
    found, sections = verdict(other)
    assert found is Verdict.SAME
    assert ".debug_extra" in sections
    assert ".rel.text" not in sections


def test_another_name_of_a_local_symbol_means_nothing() -> None:
    symbols = (SYMBOLS[0], Symbol(".LC1", ".text", 4, 0), *SYMBOLS[2:])
    other = elf(TEXT, relocations((4, 2)), BSS, LINES, STACK, symbols=symbols)
    assert verdict(other, elf(TEXT, relocations((4, 2)), BSS, LINES, STACK)) == (Verdict.SAME, (".strtab",))


@pytest.mark.parametrize(
    "symbols",
    [
        (*SYMBOLS[:2], Symbol("third", ".text"), SYMBOLS[3]),
        (*SYMBOLS[:2], Symbol("half", ".text", 2), SYMBOLS[3]),
        (*SYMBOLS[:2], Symbol("half", ".text", 0, 0x22), SYMBOLS[3]),
        (*SYMBOLS[:2], Symbol("half", ".bss"), SYMBOLS[3]),
        SYMBOLS[:3],
        (Symbol("$t", ".text", 0, 0), *SYMBOLS[1:]),
    ],
    ids=["name", "value", "weak", "section", "missing", "instruction set"],
)
def test_symbols_for_the_linker_are_code(symbols: tuple[Symbol, ...]) -> None:
    one, other = elf(TEXT, BSS), elf(TEXT, BSS, symbols=symbols)
    found, sections = verdict(other, one)
    assert (found, sections[0]) == (Verdict.DIFFERENT, "symbols")


def test_words_for_link_time_optimization_are_code() -> None:
    def words(name: str, data: bytes) -> bytes:
        return elf(TEXT, Section(f".gnu.lto_{name}", flags=0x80000000, data=data))

    assert verdict(words("main.1a2b", b"x"), words("main.1a2b", b"y")) == (Verdict.DIFFERENT, (".gnu.lto_main.1a2b",))
    found, sections = verdict(words("main.1a2b", b"x"), words("main.3c4d", b"x"))
    assert (found, families(sections)[0]) == (Verdict.DIFFERENT, ".gnu.lto_*")


def test_the_right_to_execute_the_stack_is_code() -> None:
    executable = elf(TEXT, relocations((4, 3)), BSS, LINES, replace(STACK, flags=EXEC))
    assert verdict(executable) == (Verdict.DIFFERENT, (".note.GNU-stack",))
    assert verdict(elf(TEXT, STACK), elf(TEXT))[0] is Verdict.DIFFERENT


def test_section_groups() -> None:
    def grouped(member: str, before: bytes = b"", number: int = 3) -> bytes:
        part = Section(".text.x", flags=ALLOC | EXEC | IN_GROUP, data=b"code")
        macros = Section(".debug_macro", flags=IN_GROUP, data=before)
        words = struct.pack("<II", 1, {".debug_macro": 1, ".text.x": 3}[member])
        return elf(macros, Section(".group", GROUP, 0, words, ".symtab", number, 4), part, TEXT)

    assert verdict(grouped(".text.x", b"a"), grouped(".text.x", b"b")) == (Verdict.SAME, (".debug_macro",))
    # Another signature keeps or drops the section together with others.
    assert verdict(grouped(".text.x"), grouped(".text.x", number=4)) == (Verdict.DIFFERENT, (".group",))
    assert verdict(grouped(".debug_macro"), grouped(".debug_macro", number=4)) == (Verdict.SAME, (".group",))


def test_a_group_more_does_not_shift_the_others() -> None:
    def group(number: int, member: int) -> Section:
        return Section(".group", GROUP, 0, struct.pack("<II", 1, member), ".symtab", number, 4)

    found, sections = verdict(elf(LINES, group(4, 1), group(3, 4), TEXT), elf(LINES, group(3, 3), TEXT))
    assert (found, set(sections)) == (Verdict.SAME, {".group", ".symtab"})


def test_the_order_of_sections() -> None:
    data = Section(".data", flags=ALLOC | WRITE, data=b"data")
    assert verdict(elf(TEXT, data), elf(data, TEXT))[1][0] == "order of sections"


def test_another_machine_and_another_width() -> None:
    other = bytearray(PLAIN)
    other[18] = 3
    assert verdict(bytes(other)) == (Verdict.DIFFERENT, ("ELF header",))
    wide, narrow = (DATA / "arm64.o").read_bytes(), (DATA / "armhf.o").read_bytes()
    assert compare_contents(wide, narrow).verdict is Verdict.DIFFERENT


def test_program_headers() -> None:
    one = elf(TEXT, LINES, program=True)
    other = bytearray(one)
    other[52 + 24] = 7
    assert verdict(bytes(other), one) == (Verdict.DIFFERENT, ("program headers",))


def test_a_program_with_more_debug_information_is_the_same_program() -> None:
    # Its section headers move, and where they are stands in the mapped ELF header.
    more = replace(LINES, data=bytes(100))
    assert verdict(elf(TEXT, LINES, program=True), elf(TEXT, more, program=True)) == (Verdict.SAME, (".debug_line",))


def test_mapped_bytes_that_no_section_has() -> None:
    one = bytearray(elf(replace(TEXT, data=bytes(16)), TEXT, program=True))
    # Take the first .text out of all sections: its bytes stay mapped.
    headers = struct.unpack_from("<I", one, 32)[0]
    struct.pack_into("<II", one, headers + 40 + 16, 52 + 32, 0)
    other = bytearray(one)
    other[52 + 32] = 1
    assert verdict(bytes(other), bytes(one)) == (Verdict.DIFFERENT, ("mapped bytes outside of sections",))


def test_symbols_of_a_program_are_not_code() -> None:
    one, other = elf(TEXT, program=True), elf(TEXT, symbols=SYMBOLS[:3], program=True)
    assert verdict(other, one) == (Verdict.SAME, (".symtab", ".strtab"))


def test_the_build_id_is_said_about_the_code() -> None:
    file = DATA / "armhf-pie"
    place, size = section_location(file, ".note.gnu.build-id")
    other = bytearray(file.read_bytes())
    other[place + size - 1] ^= 1
    assert verdict(bytes(other), file.read_bytes()) == (Verdict.SAME, (".note.gnu.build-id",))


@pytest.mark.parametrize(("section", "expected"), [(".text", Verdict.DIFFERENT), (".comment", Verdict.SAME)])
def test_a_compiler_s_own_object(section: str, expected: Verdict) -> None:
    file = DATA / "armhf.o"
    place, _ = section_location(file, section)
    other = bytearray(file.read_bytes())
    other[place] ^= 1
    assert verdict(bytes(other), file.read_bytes()) == (expected, (section,))


@pytest.mark.parametrize("name", ["armhf-pie", "armhf.o", "arm64.o", "libhalf.so.1"])
def test_whatever_byte_differs_it_is_told(name: str) -> None:
    data = (DATA / name).read_bytes()
    for place in range(4, len(data), 149):
        other = bytearray(data)
        other[place] ^= 0x55
        found = compare_contents(data, bytes(other))
        assert found.verdict in (Verdict.SAME, Verdict.DIFFERENT)
        assert found.sections


@pytest.mark.parametrize("broken", [PLAIN[:40], b"\x7fELF", PLAIN[:-100]])
def test_a_broken_file_is_different(broken: bytes) -> None:
    assert verdict(broken) == (Verdict.DIFFERENT, ("broken ELF file",))


def test_other_files_differ_by_their_contents() -> None:
    assert verdict(b"one", b"two") == (Verdict.DIFFERENT, ("contents",))
    assert verdict(PLAIN, b"text") == (Verdict.DIFFERENT, ("contents",))


def archive(*members: tuple[str, bytes], date: int = 0, index: bytes = b"") -> bytes:
    """An ar archive."""
    table = struct.pack(">II", 1, 76) + index + b"\0" if index else b""
    found = b"!<arch>\n"
    for name, data in ([("/", table)] if index else []) + [(f"{name}/", data) for name, data in members]:
        found += f"{name:<16}{date:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return found


LINED = elf(TEXT, relocations((4, 3)), BSS, replace(LINES, data=b"other lines."), STACK)
CODED = elf(replace(TEXT, data=bytes(16)), relocations((4, 3)), BSS, LINES, STACK)


def test_the_worst_member_counts() -> None:
    one = archive(("a.o", PLAIN), ("b.o", PLAIN), ("c.o", PLAIN))
    assert verdict(archive(("a.o", PLAIN), ("b.o", LINED), ("c.o", PLAIN)), one) == (Verdict.SAME, (".debug_line",))
    found = compare_contents(one, archive(("a.o", PLAIN), ("b.o", LINED), ("c.o", CODED)))
    assert (found.verdict, found.sections) == (Verdict.DIFFERENT, (".debug_line", ".text"))
    assert [(name, member.verdict) for name, member in found.members] == [
        ("b.o", Verdict.SAME),
        ("c.o", Verdict.DIFFERENT),
    ]


def test_members_of_one_name_are_told_apart() -> None:
    one, other = archive(("a.o", PLAIN), ("a.o", LINED)), archive(("a.o", PLAIN), ("a.o", CODED))
    assert verdict(other, one)[0] is Verdict.DIFFERENT
    assert [name for name, _ in compare_contents(one, other).members] == ["a.o"]
    assert verdict(archive(("a.o", LINED), ("a.o", PLAIN)), one) == (Verdict.SAME, (".debug_line",))


def test_the_order_and_the_list_of_members() -> None:
    one = archive(("a.o", PLAIN), ("b.o", LINED))
    assert verdict(archive(("b.o", LINED), ("a.o", PLAIN)), one) == (Verdict.DIFFERENT, ("order of members",))
    assert verdict(archive(("a.o", PLAIN)), one) == (Verdict.DIFFERENT, ("list of members",))


def test_dates_of_members_are_no_code() -> None:
    one, other = archive(("a.o", PLAIN), date=1), archive(("a.o", PLAIN), date=2)
    assert verdict(other, one) == (Verdict.SAME, ("headers of members",))


def test_the_symbol_index_finds_members() -> None:
    one, other = archive(("a.o", PLAIN), index=b"half"), archive(("a.o", PLAIN), index=b"third")
    assert verdict(other, one) == (Verdict.DIFFERENT, ("symbol index",))


def test_a_real_archive() -> None:
    data = (DATA / "armhf.a").read_bytes()
    place = data.index((DATA / "armhf.o").read_bytes())
    text, _ = section_location(DATA / "armhf.o", ".text")
    other = bytearray(data)
    other[place + text] ^= 1
    found = compare_contents(data, bytes(other))
    assert (found.verdict, found.members[0][0]) == (Verdict.DIFFERENT, "armhf.o")
    assert verdict(data[:-10], data) == (Verdict.DIFFERENT, ("broken archive",))


def test_the_worst_verdict() -> None:
    assert worst([]) is Verdict.IDENTICAL
    assert worst([Verdict.SAME, Verdict.DIFFERENT, Verdict.ONLY, Verdict.IDENTICAL]) is Verdict.DIFFERENT


def test_families_of_sections() -> None:
    functions = (".text.main", ".rela.text._Z1fv", ".text._Z1fv", ".rodata.str1.4", ".ARM.exidx.text.main")
    short = (".text", ".text.*", ".rela.text.*", ".rodata.*", ".ARM.exidx.text.*", ".debug_line")
    assert families((".text", *functions, ".debug_line")) == short


def test_differing_lines_of_texts() -> None:
    lines = text_difference(b"a\nb\nc\n", b"a\nx\nc\n", ("substituted", "emulated"))
    assert lines == ["--- substituted", "+++ emulated", "@@ -1,3 +1,3 @@", " a", "-b", "+x", " c"]
    long = text_difference(b"a\n" * 99, b"b\n" * 99, ("one", "two"), most=9)
    assert (len(long), long[-1]) == (10, "... and more")
    assert text_difference(b"\0", b"a", ("one", "two")) == text_difference(b"\xff", b"a", ("one", "two")) == []
