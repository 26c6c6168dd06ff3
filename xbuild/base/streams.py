"""The three streams that every program expects to have open."""

from __future__ import annotations

import os
import sys


def open_streams() -> None:
    """Give each of the three streams that is closed a file: the next one that is opened would get its number.

    Nothing comes from stdin, what goes to stderr is lost, and whoever writes to stdout is told (EBADF).
    """
    for number, name, mode in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free; children have it too.
            os.set_inheritable(os.open(os.devnull, mode), True)
            how = "r" if number == 0 else "w"
            stream = open(number, how, errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
