"""Mode emulated: qemu runs everything, and has run everything in the roots that it makes."""

from __future__ import annotations

from xbuild.build.modes.mode import Mode

MODE = Mode("emulated", "qemu runs all", bootstrap=False, bare=True)
