"""An entry by which programs of the machine itself do not run, as they would not on the target."""

from __future__ import annotations

from xbuild.binfmt import architectures
from xbuild.binfmt.entry import registration

_COMPARED = slice(11, 16)
"""Of the place of the mark (dispatcher/own.py): AppImages have something of their own in the bytes 8 to 10."""


def refusal(architecture: str, interpreter: str) -> str:
    """The line for this architecture's programs, but for those that are marked.

    architecture: the distribution's name of it. interpreter: the path of a file that no loader knows.
    """
    name, facts = architectures.find(architecture)
    magic, mask = (bytearray(part) for part in architectures.compared(facts))
    size = _COMPARED.stop - _COMPARED.start
    magic[_COMPARED], mask[_COMPARED] = bytes(size), b"\xff" * size
    return registration(f"no-{name}", bytes(magic), bytes(mask), interpreter, "F")
