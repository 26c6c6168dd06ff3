"""This machine's wheels beside those that a build requires: which there are, and whether they can stand in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xbuild.base import log
from xbuild.base.errors import MachineError, SourceError
from xbuild.build import wheelmodules
from xbuild.formats.wheel import WheelError
from xbuild.model.native import here
from xbuild.model.policy import Policy
from xbuild.model.source import Source
from xbuild.roots.distribution import Roots
from xbuild.sources import FetchContext, fetch
from xbuild.wheels.known import known
from xbuild.wheels.require import Finder, Found


@dataclass(frozen=True)
class Beside:
    """Finds them for one target. finder: for its python."""

    finder: Finder
    roots: Roots

    def of(self, found: Found) -> tuple[Found, Found | None]:
        """The wheel that a build takes where `found` fits, and this machine's that stands in for it.

        The first one is another than `found` where that is for any machine: compiled modules are faster. Raises
        MachineError if no index answers for a program; modules only make it faster.
        """
        if found.name in known().programs:
            return found, self.finder.native(found)
        toolchain, policy = self.roots.toolchain, self.roots.policy
        same = toolchain.elf.elf_class == here().elf_class
        if toolchain.native or policy is None or not known().modules_of(found.name, same_width=same):
            return found, None
        try:
            compiled = self.finder.compiled(found)
            native = self.finder.native(compiled) if compiled else None
            if compiled and native and self._fits(compiled, native, policy):
                return compiled, native
        except (SourceError, MachineError, WheelError) as error:
            log.detail(f"this machine's wheel of {found.name} {found.version} does not stand in: {error.message}")
        return found, None

    def _fits(self, compiled: Found, native: Found, policy: Policy) -> bool:
        files = (self._file(compiled), self._file(native))
        reason = wheelmodules.why_none(*files, policy, self.roots.toolchain)
        if reason is not None:
            log.detail(f"{native.file} does not stand in for {compiled.file}: {reason}")
        return reason is None

    def _file(self, found: Found) -> Path:
        if found.path:
            return Path(found.path)
        return fetch(Source.model_validate(found.source), FetchContext(self.finder.store, lambda: (), Path("/")))
