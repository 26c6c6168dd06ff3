"""Mode substituted: native programs stand in for those of the root."""

from __future__ import annotations

from xbuild.build.modes.mode import Mode

MODE = Mode("substituted", "native tools stand in", twins=True, bare=True)
