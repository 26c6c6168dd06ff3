"""A change to the list of include directories that is compiled into gcc's compilers proper."""

from __future__ import annotations

import io
import struct

from xbuild.base.errors import MachineError
from xbuild.formats.elf import elf_file

# struct default_include (gcc/cppdefault.h): two pointers, the second one to the component's name; then these four
# members: cplusplus, cxx_aware, add_sysroot, multilib (1: plus the multilib's directory, 2: the multiarch one).
_LOCAL_MULTIARCH = bytes([0, 1, 1, 2])
_LOCAL_PLAIN = bytes([0, 1, 1, 0])
_FIXED_MULTIARCH = bytes([0, 0, 0, 2])
_CXX_MULTILIB = bytes([1, 1, 0, 1])
_CXX_PLAIN = bytes([1, 1, 0, 0])
_LIBCXX = bytes([2, 1, 0, 0])
_PLAIN = bytes([0, 0, 0, 0])


class _Table:
    """The entries of a program's table that name a given directory."""

    def __init__(self, program: bytes) -> None:
        self.data = bytearray(program)
        elf = elf_file(io.BytesIO(program))
        self._loads = [
            (load["p_offset"], load["p_vaddr"], load["p_filesz"]) for load in elf.iter_segments("PT_LOAD")
        ]
        self._pointer = struct.Struct("<Q" if elf.elfclass == 64 else "<I")
        self.entry_size = 24 if elf.elfclass == 64 else 12
        self.flags_at = 2 * self._pointer.size

    def flags(self, entry: int) -> bytes:
        return bytes(self.data[entry + self.flags_at : entry + self.flags_at + 4])

    def find(self, directory: str, flags: bytes) -> int:
        """The offset of the entry for `directory` with these flags. Raises MachineError if there is none."""
        place = self.data.find(b"\0" + directory.encode() + b"\0") + 1
        for offset, address, size in self._loads:
            if place > 0 and offset <= place < offset + size:
                wanted = self._pointer.pack(address + place - offset)
                entry = self.data.find(wanted)
                while entry >= 0 and self.flags(entry) != flags:
                    entry = self.data.find(wanted, entry + 1)
                if entry >= 0:
                    return entry
        raise MachineError(f"the compiler's table of include directories has no known entry for {directory}")


def as_native(program: bytes, cxx_directory: str) -> bytes:
    """The cross compiler proper `program` (cc1, cc1plus) made to search for headers as a native one does.

    gcc/cppdefault.cc leaves /usr/local/include out of a cross compiler, but Debian's have its multiarch variant. The
    entry goes where a native compiler has it, after that variant. It takes the place of the multiarch variant of the
    fixed headers, which Debian's gcc does not have; gcc 12, whose table has none, gives up the directory that counts
    with -stdlib=libc++ only. cxx_directory: the target's own C++ headers; Debian's native compilers write that path in
    its shortest form, so the `/.` of the default multilib must not be added to it.
    Raises MachineError if the table is not as told here.
    """
    table = _Table(program)
    size = table.entry_size
    local = table.find("/usr/local/include", _LOCAL_MULTIARCH)
    around = [table.flags(local + number * size) for number in (-2, -1, 1)]
    if around == [_LIBCXX, _PLAIN, _PLAIN]:
        table.data[local - 2 * size : local] = table.data[local - size : local + size]
        local -= size
    elif around[-1] != _FIXED_MULTIARCH:
        raise MachineError("the compiler's table of include directories is not the known one: is this another gcc?")
    following = local + size
    table.data[following : following + table.flags_at + 4] = (
        table.data[local : local + table.flags_at] + _LOCAL_PLAIN
    )
    cxx = table.find(cxx_directory, _CXX_MULTILIB) + table.flags_at
    table.data[cxx : cxx + 4] = _CXX_PLAIN
    return bytes(table.data)
