"""A mark on the machine's own programs that xbuild brings: beside the target's, only these run (binfmt/refusal.py)."""

from __future__ import annotations

from typing import Final

MARK: Final = b"xbuild\2"
"""Stands in what the ELF header leaves free. The kernel looks at none of that; ld.so does so in libraries."""

MARK_AT: Final = 9

REFUSAL: Final = b"Programs of this machine do not run here.\n"
"""A file that no loader knows: for a program that it is to interpret, the kernel says ENOEXEC. It is text, or the
kernel would look for a module first (search_binary_handler, fs/exec.c)."""

REFUSAL_FILE: Final = "refusal"
"""Its name in the private tree."""


def marked(program: bytes) -> bytes:
    """The ELF file `program` as one that runs all the same."""
    return program[:MARK_AT] + MARK + program[MARK_AT + len(MARK) :]
