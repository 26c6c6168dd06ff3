"""How the kernel is told which program runs which files (Linux: admin-guide/binfmt-misc.rst), and what it was told."""

from __future__ import annotations

from xbuild.binfmt.architectures import magic_mask
from xbuild.binfmt.entry import MAX_REGISTRATION, Entry, registration

__all__ = ["MAX_REGISTRATION", "Entry", "magic_mask", "registration"]
