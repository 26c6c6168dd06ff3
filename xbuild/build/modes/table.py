"""The modes that there are. A new one is a module beside this one, and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.build.modes import distcc, emulated, substituted
from xbuild.build.modes.mode import Mode
from xbuild.build.modes.system import mode as system

DEFAULT = substituted.MODE

MODES: Mapping[str, Mode] = {mode.name: mode for mode in (DEFAULT, distcc.MODE, emulated.MODE, system.MODE)}


def mode_of(name: str) -> Mode:
    """The mode of this name. Raises UsageError if there is none."""
    if name not in MODES:
        raise UsageError(f"unknown mode {name!r}{did_you_mean(name, MODES)}", hint=f"modes: {', '.join(MODES)}")
    return MODES[name]
