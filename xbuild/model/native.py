"""The native machine: what is to be known about the one that xbuild runs on, and the only place that asks for it."""

from __future__ import annotations

import platform
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from xbuild.base import paths
from xbuild.base.errors import MachineError
from xbuild.base.yamlfile import load_model
from xbuild.model.base import Model, Name, SchemaVersion, VariableName, text_like

Architecture = Literal["armhf", "arm64", "riscv64", "amd64", "i386"]
"""Names of the distribution's architectures."""

Triplet = Annotated[str, *text_like(r"[a-z0-9_]+(-[a-z0-9_]+)+", "a triplet such as arm-linux-gnueabihf")]


class Width(Model):
    """Programs of one word size that the machine runs by itself."""

    name: Architecture = Field(description="The distribution's name of the architecture")
    summary: str = Field(description="What people call it")
    triplet: Triplet = Field(description="The distribution's multiarch triplet")
    elf_machine: str = Field(description="e_machine of its programs, without EM_")
    elf_class: Literal[32, 64] = Field(alias="class", description="Bits of a word")
    compiler: str = Field(description="The command that compiles for it, in the native root of the machine's own width")


class Partner(Width):
    """The other word size, which not every machine runs."""

    remedy: str = Field(description="What to do where such programs do not run")


class Fused(Model):
    """Multiplying and adding with one rounding, by which last digits of a mathematical library's results differ."""

    flags: tuple[str, ...] = Field(description="What a processor that can says in /proc/cpuinfo; none: each one can")
    functions: tuple[str, ...] = Field(description="Functions of the C library that use it where it is there")


class Native(Width):
    """One kind of machine that xbuild runs on."""

    schema_version: SchemaVersion = Field(alias="schema", description="Version of this format")
    uname_machine: Name = Field(description="What `uname -m` says")
    identity: dict[VariableName, str] = Field(description="What bash and make were compiled to say about the machine")
    partner: Partner = Field(description="The other word size")
    fused: Fused = Field(description="Fused multiply-add")

    def width(self, name: str) -> Width:
        """That of the distribution's architecture `name`, which must be one of the two."""
        return next(width for width in (self, self.partner) if width.name == name)

    def facts(self) -> dict[str, Any]:
        """What of it decides about the private tree: all but words for people."""
        wordy: dict[str, Any] = {"summary": True, "partner": {"summary", "remedy"}}
        return self.model_dump(mode="json", by_alias=True, exclude=wordy)

    def architectures(self, elf_class: int) -> list[str]:
        """Those of the native roots for a target with words of `elf_class` bits; the last one has that word size."""
        return [self.name] if elf_class == self.elf_class else [self.name, self.partner.name]

    @property
    def widths(self) -> dict[str, int]:
        """The architectures that twins come in, and their word sizes in bits."""
        return {self.name: self.elf_class, self.partner.name: self.partner.elf_class}

    def computes_as(self, traits: Collection[str]) -> bool:
        """Whether its C library can give the results of a target's of these traits: `fused`, `unfused`.

        Where a flag tells whether a processor can, the library can be made to do without (twins/arithmetic.py).
        """
        if "fused" in traits:
            return {*self.fused.flags} <= _processor()
        return "unfused" in traits and bool(self.fused.flags)

    def filled(self, text: str) -> str:
        """`text` of a policy with `{native-triplet}` and, for the names of `identity`, `{native-NAME}` filled in."""
        for name, value in {"triplet": self.triplet, **self.identity}.items():
            text = text.replace(f"{{native-{name}}}", value)
        return text


@cache
def _processor() -> frozenset[str]:
    """All words of /proc/cpuinfo about the first processor."""
    first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
    return frozenset(first.split())


@cache
def known() -> tuple[Native, ...]:
    """All kinds of machines that xbuild runs on."""
    return tuple(load_model(path, Native) for path in sorted(paths.NATIVES.glob("*.yml")))


def find(machine: str | None = None) -> Native | None:
    """The kind of a machine; None if xbuild does not run on it. machine: as `uname -m` says it; None: this one."""
    wanted = platform.machine() if machine is None else machine
    return next((native for native in known() if native.uname_machine == wanted), None)


def here() -> Native:
    """The kind of this machine. Raises MachineError if xbuild does not run on it."""
    native = find()
    if native is None:
        raise MachineError(f"{platform.machine()}: xbuild does not run on such a machine", hint=supported())
    return native


def supported() -> str:
    """On what xbuild runs, as an advice."""
    return f"use a machine that is {' or '.join(native.summary for native in known())}"
