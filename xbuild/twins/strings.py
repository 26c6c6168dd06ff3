"""Strings compiled into a program that are replaced by longer ones, for which there may be no room in their places."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Container, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from xbuild.formats.elf import elf_file

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile


_NONE: Final[Mapping[str, str]] = {}
_PAGE = 4096
# lea disp32(%rip), REG (Intel SDM, volume 2, "LEA", "ModR/M Byte"): REX.W with or without REX.R, 8d, mod 00, r/m 101.
_LEA = re.compile(rb"[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]", re.DOTALL)
# mov imm32, REG, of 32 bits, with or without REX.B; or sign-extended to 64 bits (Intel SDM, "MOV", B8+rd, C7 /0).
_MOV = re.compile(rb"[\xb8-\xbf]|[\x48\x49]\xc7[\xc0-\xc7]", re.DOTALL)
# R_X86_64_RELATIVE, R_AARCH64_RELATIVE (the psABIs).
_RELATIVE = {"EM_X86_64": 8, "EM_AARCH64": 1027}
_NEAR = 24
"""Bytes of code before a reference within which the other arguments of the same call are made ready."""
_ALIGNMENT = 8
"""What gcc aligns strings to on 64-bit ARM (DATA_ALIGNMENT in its aarch64.h)."""


def moved(
    program: bytes,
    strings: Mapping[str, str],
    counted: Mapping[str, str] = _NONE,
    optional: Container[str] = frozenset(),
) -> bytes:
    """The program with all its references to C strings made ones to others: `strings`, old to new.

    The new ones are put where a read-only segment ends, into what the last page of it has left. Code of 64-bit ARM
    makes an address of a page and an offset, and the page may serve other addresses too: there the new ones take the
    room of the old ones in the same page, so that only offsets change. A string may be the end of another one, as
    linkers share them. counted: such strings with whose references the code has their lengths too. optional: those that
    need not be there. Raises ValueError if there is no room, a string without a reference or a length, or another
    machine.
    """
    elf = elf_file(io.BytesIO(program))
    kinds: dict[str, type[_Image]] = {"EM_X86_64": _Image, "EM_AARCH64": _ArmImage}
    if elf["e_machine"] not in kinds:
        raise ValueError(f"it is not known how a program for {elf['e_machine']} refers to strings")
    kind = kinds[elf["e_machine"]]
    image = (_FixedImage if elf["e_type"] == "ET_EXEC" and kind is _Image else kind)(program, elf)
    strings = {**strings, **counted}
    absent = {old for old in strings if not image.referred(image.addresses(old))}
    if missing := [old for old in strings if old in absent and old not in optional]:
        raise ValueError(f"the program does not refer to {', '.join(map(repr, missing))}")
    for old, new in counted.items():
        image.count(old, len(new.encode()))
    image.move({old: new for old, new in strings.items() if old not in absent})
    return bytes(image.data)


class _Image:
    """A program for x86-64."""

    def __init__(self, program: bytes, elf: ELFFile) -> None:
        self.data = bytearray(program)
        self._loads = [segment.header for segment in elf.iter_segments("PT_LOAD")]
        section = elf.get_section_by_name(".rela.dyn")
        self._relocations = [(section["sh_offset"], section["sh_size"])] if section else []
        self._relative = _RELATIVE[elf["e_machine"]]
        last = max((load for load in self._loads if not load.p_flags & 2), key=lambda load: load.p_vaddr)
        self._shift = last.p_vaddr - last.p_offset
        self._free = last.p_offset + last.p_filesz
        self._end = -(-self._free // _PAGE) * _PAGE

    def addresses(self, text: str) -> set[int]:
        """Where the C string `text` is in memory."""
        found = (match.start() for match in re.finditer(re.escape(text.encode() + b"\0"), self.data))
        return {address for offset in found if (address := self._address(offset)) is not None}

    def _address(self, offset: int) -> int | None:
        for load in self._loads:
            if load.p_offset <= offset < load.p_offset + load.p_filesz:
                return int(offset - load.p_offset + load.p_vaddr)
        return None

    def _code(self) -> Iterator[tuple[int, int, int]]:
        """What can be executed: where it begins and ends in the file, and the difference to its place in memory."""
        for load in self._loads:
            if load.p_flags & 1:
                yield load.p_offset, load.p_offset + load.p_filesz, load.p_vaddr - load.p_offset

    def referred(self, wanted: set[int]) -> bool:
        """Is there a reference to one of these addresses?"""
        return any(True for _ in self._in_code(wanted)) or any(True for _ in self._in_data(wanted))

    def count(self, old: str, length: int) -> None:
        """Change the length that the code has of the C string `old` near each reference to it."""
        wanted = self.addresses(old)
        if any(True for _ in self._in_data(wanted)):
            raise ValueError(f"data refer to {old!r}, and where its length is cannot be told")
        for at, _ in self._in_code(wanted):
            # mov imm32, REG (Intel SDM, volume 2, "MOV", opcodes B8+rd), among what is made ready for the same call.
            near = [at - 3 - back for back in range(5, _NEAR) if self._counts(at - 3 - back, len(old.encode()))]
            if not near:
                raise ValueError(f"no length beside a reference to {old!r}")
            struct.pack_into("<I", self.data, near[0] + 1, length)

    def _counts(self, place: int, length: int) -> bool:
        return 0xB8 <= self.data[place] <= 0xBF and struct.unpack_from("<I", self.data, place + 1)[0] == length

    def move(self, strings: Mapping[str, str]) -> None:
        """Put the new strings somewhere, and change all references to the old ones."""
        for old, new in strings.items():
            wanted = self.addresses(old)
            found = [*self._in_code(wanted)], [*self._in_data(wanted)]
            if not (found[0] or found[1]):
                raise ValueError(f"nothing refers to {old!r} any more")
            used = [address for address in wanted if self.referred({address})]
            if len(used) == 1 and self._fits(used[0], old, new):
                continue
            address = self.put(new)
            for at, base in found[0]:
                self._refer(at, base, address)
            for at in found[1]:
                struct.pack_into("<q", self.data, at, address)

    def _in_code(self, wanted: set[int]) -> Iterator[tuple[int, int]]:
        """Where the distance to one of the addresses stands in an instruction, and from where it is counted."""
        for start, end, shift in self._code():
            for match in _LEA.finditer(self.data, start, end - 4):
                base = match.end() + 4 + shift
                if base + struct.unpack_from("<i", self.data, match.end())[0] in wanted:
                    yield match.end(), base

    def _in_data(self, wanted: set[int]) -> Iterator[int]:
        # struct Elf64_Rela (<elf.h>): where, kind, and what to add to the program's base: the address.
        for offset, size in self._relocations:
            for at in range(offset, offset + size, 24):
                _, kind, address = struct.unpack_from("<QQq", self.data, at)
                if kind == self._relative and address in wanted:
                    yield at + 16

    def _refer(self, at: int, base: int, address: int) -> None:
        struct.pack_into("<i", self.data, at, address - base)

    def put(self, text: str) -> int:
        """Put the C string `text` into the free room; give its address."""
        raw = text.encode() + b"\0"
        place = self._free
        if place + len(raw) > self._end or any(self.data[place : place + len(raw)]):
            raise ValueError(f"no room for {text!r}")
        self.data[place : place + len(raw)] = raw
        self._free += len(raw)
        return int(place + self._shift)

    def _fits(self, address: int, old: str, new: str) -> bool:
        """Put `new` in the place of `old`, if there is room, and nothing else refers to the end of `old`."""
        room = self._room(address, old)
        if not room or address + len(new.encode()) >= room[1] or self.referred({*range(room[0] + 1, room[1])}):
            return False
        place = self._offset(address)
        self.data[place : place + room[1] - room[0]] = new.encode().ljust(room[1] - room[0], b"\0")
        return True

    def _offset(self, address: int) -> int:
        return next(int(load.p_offset + address - load.p_vaddr) for load in self._loads
                    if load.p_vaddr <= address < load.p_vaddr + load.p_filesz)  # fmt: skip

    def _room(self, address: int, text: str) -> list[int] | None:
        """From where to where the string reaches with the zeros behind it; None if it is the end of another one."""
        place = self._offset(address)
        if self.data[place - 1] != 0:
            return None
        end = address + len(text) + 1
        while end % _ALIGNMENT and not self.data[place + end - address]:
            end += 1
        return [address, end]


class _FixedImage(_Image):
    """A program for x86-64 that is always at the same place, so that addresses stand in it as they are."""

    def _in_code(self, wanted: set[int]) -> Iterator[tuple[int, int]]:
        """As above; base 0: the instruction has the address itself."""
        yield from super()._in_code(wanted)
        for start, end, _ in self._code():
            for match in _MOV.finditer(self.data, start, end - 4):
                if struct.unpack_from("<I", self.data, match.end())[0] in wanted:
                    yield match.end(), 0

    def _in_data(self, wanted: set[int]) -> Iterator[int]:
        """Pointers are aligned, and never in code."""
        for load in self._loads:
            if not load.p_flags & 1:
                words = struct.unpack_from(f"<{load.p_filesz // 8}Q", self.data, load.p_offset)
                yield from (load.p_offset + 8 * number for number, word in enumerate(words) if word in wanted)


class _ArmImage(_Image):
    """A program for 64-bit ARM (instructions by the Arm Architecture Reference Manual, C4.1, "A64 encoding")."""

    def count(self, old: str, length: int) -> None:
        """As for x86-64, but not told yet how."""
        del length
        raise ValueError(f"where the length of {old!r} is cannot be told for this machine")

    def move(self, strings: Mapping[str, str]) -> None:
        """As for x86-64. All of the old ones make room before the first new one is put."""
        old = {text: self.addresses(text) for text in strings}
        everything = set().union(*old.values())
        code = {text: [*self._in_code(known)] for text, known in old.items()}
        data = {text: [*self._in_data(known)] for text, known in old.items()}
        rooms = [room for text, known in old.items() for address in known if (room := self._room(address, text))]
        self._empty(rooms, everything)
        placed: list[tuple[int, str]] = []
        for text, new in strings.items():
            for at, address in code[text]:
                where = _there(placed, new, address // _PAGE)
                if where is None:
                    where = self._fill(rooms, new, address // _PAGE)
                    placed.append((where, new))
                (word,) = struct.unpack_from("<I", self.data, at)
                struct.pack_into("<I", self.data, at, word & ~(0xFFF << 10) | (where % _PAGE) << 10)
            if data[text]:
                where = self.put(new)
                for at in data[text]:
                    struct.pack_into("<q", self.data, at, where)

    def _empty(self, rooms: list[list[int]], everything: set[int]) -> None:
        """Raise ValueError if something else in the rooms is referred to, such as the empty string at an end."""
        for start, end in rooms:
            if self.referred({*range(start, end)} - everything):
                raise ValueError("the place of a string is shared with another one")

    def _fill(self, rooms: list[list[int]], text: str, page: int) -> int:
        raw = text.encode() + b"\0"
        for room in rooms:
            start, end = room
            if start // _PAGE == page == (start + len(raw) - 1) // _PAGE and start + len(raw) <= end:
                place = self._offset(start)
                self.data[place : place + len(raw)] = raw
                room[0] += len(raw)
                return start
        raise ValueError(f"no room for {text!r}")

    def _in_code(self, wanted: set[int]) -> Iterator[tuple[int, int]]:
        """The offsets of the instructions ADD that make one of the addresses of a page, and which address."""
        for start, end, shift in self._code():
            pages: dict[int, int] = {}
            first = -(-start // 4) * 4
            words = struct.unpack_from(f"<{(end - first) // 4}I", self.data, first)
            for at, word in zip(range(first, end, 4), words, strict=False):
                if word & 0x9F000000 == 0x90000000:  # ADRP
                    distance = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
                    distance -= (distance & 1 << 20) << 1
                    pages[word & 31] = (at + shift) // _PAGE + distance
                    continue
                if word & 0xFFC00000 == 0x91000000 and (word >> 5 & 31) in pages:  # ADD, 64 bits, of a number
                    address = pages[word >> 5 & 31] * _PAGE + (word >> 10 & 0xFFF)
                    if address in wanted:
                        yield at, address
                for register in _written(word):
                    pages.pop(register, None)


def _there(placed: list[tuple[int, str]], text: str, page: int) -> int | None:
    """Where `text` is in that page, as the end of one that was put there."""
    for start, known in placed:
        address = start + len(known) - len(text)
        if known.endswith(text) and address // _PAGE == page:
            return address
    return None


def _written(word: int) -> Iterator[int]:
    """The registers that an instruction changes, as far as a later one must not be taken for one that uses a page.

    What an epilogue restores from the stack does not count: behind it there may be other parts of the same function.
    """
    group = word >> 25 & 15
    if group in (0b1000, 0b1001, 0b0101, 0b1101):  # data processing
        yield word & 31
    elif word & 0xFC000000 == 0x94000000 or word & 0xFFFFFC1F == 0xD63F0000:  # BL, BLR: what a call need not keep
        yield from range(19)
    elif group & 0b0101 == 0b0100 and not word & 1 << 26 and (word >> 5 & 31) != 31:  # loads and stores, not of SIMD
        pair = word >> 27 & 7 == 0b101
        if word & (1 << 22 if pair else 3 << 22):
            yield word & 31
            if pair:
                yield word >> 10 & 31
