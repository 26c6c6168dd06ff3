"""Mode system: what it adds to a build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xbuild.build.environment import Machine
from xbuild.build.modes.mode import Mode, Site, Thing
from xbuild.build.modes.system.machine import EmulatedMachine
from xbuild.build.modes.system.parts import KIND, Parts
from xbuild.roots import staging
from xbuild.roots.distribution import Roots


@dataclass(frozen=True)
class System(Mode):
    """A whole emulated machine."""

    def things(self, roots: Roots) -> list[Thing]:
        """The emulator and the kernel."""
        parts = Parts(roots)
        return [
            ("emulator of machines", "roots", parts.emulator_value()),
            (f"kernel for {roots.toolchain.name}", KIND, parts.kernel_value()),
        ]

    def inputs(self, roots: Roots, servers: Sequence[str]) -> dict[str, Any]:  # noqa: ARG002
        """The machine, its emulator and its kernel."""
        return Parts(roots).inputs()

    def machine(self, site: Site) -> Machine:
        """The machine, which boots anew for every command. Raises UsageError if the target has none."""
        return machine(site)


def machine(site: Site, *, keep: bool = True) -> EmulatedMachine:
    """The emulated machine whose root is that of `site`; its parts are made if they are not there.

    keep: what is done in it changes the build tree. Raises UsageError if the target has no machine.
    """
    roots = site.roots
    parts = Parts(roots)
    value = roots.layer_value(site.packages) if site.packages else roots.base_value()
    if site.staged:
        # What is laid over the root, and how.
        value = {**value, "artifacts": list(site.staged), "staging": staging.makers()}
    disk = parts.disk(site.layers, value)
    return EmulatedMachine(parts.system, parts.emulator(), parts.kernel(), disk, jobs=site.jobs, keep=keep)


_UNRECORDED = "in an emulated machine the target's own kernel starts all programs"

# What canaries try is what it does without.
MODE = System("system", "a whole emulated machine", unrecorded=_UNRECORDED, canaries=False, whole=True)
