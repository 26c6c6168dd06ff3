"""What is to be known about an architecture so that binfmt_misc can tell its programs from all others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from xbuild.model.base import Model, Name, SchemaVersion

Bits = Annotated[StrictInt, Field(ge=0, le=0xFFFFFFFF)]

HeaderField = Literal["data", "version", "type", "machine", "file-version", "flags"]
"""Fields of an ELF header, in their order in the file (<elf.h>: e_ident[5], [6], e_type, e_machine,
e_version, e_flags)."""


class Comparison(Model):
    """How one field of the header is compared, where the general rule does not hold."""

    value: Bits | None = Field(None, description="What the field must be; by default what the other facts say")
    mask: Bits = Field(description="Which bits of it count; all other files' bits are free")


class Architecture(Model):
    """One architecture, as an emulator has it."""

    machine: Annotated[StrictInt, Field(ge=1, le=0xFFFF)] = Field(description="e_machine (<elf.h>, EM_...)")
    elf_class: Literal[32, 64] = Field(alias="class", description="Bits of a word")
    data: Literal["little", "big"] = Field(description="Byte order")
    debian: tuple[Name, ...] = Field((), description="Names of the distribution's architectures that it runs")
    uname: tuple[str, ...] = Field((), description="What `uname -m` says on machines that run it without emulation")
    exceptions: dict[HeaderField, Comparison] = Field(
        {}, description="Fields of the header that are not compared by the general rule"
    )
    note: str | None = Field(None, description="What a user should know about this entry")


class Architectures(Model):
    """All architectures, by the name that QEMU's user-mode emulator for them has."""

    schema_version: SchemaVersion = Field(alias="schema", description="Version of this format")
    architectures: dict[Name, Architecture] = Field(description="By name; where two fit a file, the first one counts")
