"""A toolchain: what is to be known about one target, and the only place where that is written."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, model_validator

from xbuild.base.errors import UsageError
from xbuild.model.base import Model, Name, Package, SchemaVersion, VariableName, fault, text_like
from xbuild.model.native import Architecture, Native, Triplet

Suite = Annotated[str, *text_like(r"[a-z][a-z0-9.-]*", "the name of a distribution's suite")]
AbsolutePath = Annotated[str, *text_like(r"/\S+", "an absolute path")]

_DATE = re.compile(r"([0-9]{4})-?([01][0-9])-?([0-3][0-9])(T[0-9]{6}Z)?")

_NEEDED = 2
"""How much of what a foreign target needs is left away by a file that is for a native one alone."""


class Elf(Model):
    """What the target's ELF files look like."""

    machine: Literal["ARM", "AARCH64", "RISCV", "X86_64"] = Field(description="e_machine, without EM_")
    elf_class: Literal[32, 64] = Field(alias="class", description="Bits of a word")
    data: Literal["little", "big"] = Field(description="Byte order")
    float_abi: Literal["hard", "soft"] | None = Field(
        None, description="Float ABI, where the machine has several"
    )
    interpreter: AbsolutePath = Field(description="The dynamic loader that executables name")


class Qemu(Model):
    """The emulator of the target."""

    binary: AbsolutePath = Field(description="The user-mode emulator in the native root")
    package: Package = Field(description="The package that it comes from")


class MachineSpec(Model):
    """The whole machine that mode `system` emulates."""

    binary: AbsolutePath = Field(description="The emulator of machines, in a native root of its own")
    package: Package = Field(description="The package that it comes from")
    machine: str = Field(description="Its -machine, with devices on the virtio-mmio bus")
    cpu: str = Field(description="Its -cpu")
    console: str = Field(description="What Linux calls the machine's serial port")
    kernel_package: Package = Field(description="The distribution's package that depends on the newest kernel")
    memory: int = Field(2048, ge=256, description="Memory of the machine, in MiB")
    disk: int = Field(16384, ge=64, description="What a build can have in its directories, in MiB")
    boot_limit: int = Field(300, ge=1, description="Seconds until the machine must be ready")


class Distribution(Model):
    """What the target root is made of."""

    suite: Suite = Field(description="The distribution's release")
    components: tuple[Name, ...] = Field(("main",), description="Parts of the archive")
    packages: tuple[Package, ...] = Field((), description="What every build finds in the target root")
    snapshots: str | None = Field(
        None, description="Address of the archive as it was at a time, for `--snapshot`: `{date}` stands for it"
    )
    variant: Literal["buildd", "apt"] = Field(
        "buildd",
        description="`apt`: without compiler and make, for a target that only runs programs (`invoke run`, `shell`)",
    )


class NativeRoot(Model):
    """What a native root, of the same release, has besides the emulator and what brings the policy's tools."""

    packages: tuple[Package, ...] = Field(description="Further packages")


class Platform(Model):
    """What container images call the target (OCI image specification, "Platform Variants")."""

    architecture: Name = Field(description="GOARCH's name of the architecture")
    variant: Name | None = Field(None, description="Variant of the CPU, where the architecture has several")


class SuiteChange(Model):
    """What is otherwise for one release of the distribution."""

    qemu: Qemu = Field(description="Its emulator there")


_NOT_DECIDING: Any = {
    **dict.fromkeys(("schema_version", "summary", "platform", "suites", "policy", "system"), True),
    **dict.fromkeys(("native_root", "word_size_root"), True),
    "distribution": {"snapshots"},
}


class Toolchain(Model):
    """One target; as `on` gives it, it is what the machine needs of it."""

    schema_version: SchemaVersion = Field(alias="schema", description="Version of this format")
    name: Name = Field(description="Name of the target, and of the file")
    summary: str = Field(description="One line about the target")
    triplet: Triplet = Field(description="The distribution's multiarch triplet")
    architecture: Architecture = Field(description="The distribution's name of the architecture")
    elf: Elf = Field(description="What its ELF files look like")
    qemu: Qemu | None = Field(None, description="Its emulator, where the machine is another one")
    system: MachineSpec | None = Field(None, description="Its emulator of a whole machine, for mode `system`")
    distribution: Distribution = Field(description="What its root is made of")
    native_root: NativeRoot | None = Field(None, description="What its native root has besides")
    word_size_root: NativeRoot | None = Field(
        None, description="What the further root has besides, whose programs have the target's word size"
    )
    traits: tuple[Name, ...] = Field(
        (), description="What is special about the distribution's tools for it; a policy says what follows (`further`)"
    )
    inexact: tuple[VariableName, ...] = Field(
        (),
        description="Functions of its C library whose results no native library has to the last bit: a twin that can "
        "begin again emulated does so where it calls one, another that needs one is none",
    )
    multiarch: StrictBool = Field(True, description="Libraries lie in /usr/lib/TRIPLET, else in /usr/lib")
    identity: dict[VariableName, str] = Field(
        description="What variables of bash and make say of the machine: native twins are changed to say it too"
    )
    uname_machine: str = Field(description="What `uname -m` says")
    platform: Platform | None = Field(None, description="What container images call it; needed for `export`")
    suites: dict[Suite, SuiteChange] = Field({}, description="What is otherwise for other releases")
    policy: Name | None = Field(None, description="Which tools get twins: a file in xbuild/policies")

    @model_validator(mode="after")
    def _emulation(self) -> Self:
        missing = self._missing()
        if missing and (len(missing) < _NEEDED or self.system or self.native_root or self.word_size_root):
            raise fault("toolchain", f"a target that is not native needs {', '.join(missing)}")
        return self

    def _missing(self) -> list[str]:
        needed = {"qemu": self.qemu, "policy": self.policy}
        return [name for name, value in needed.items() if value is None]

    def deciding(self) -> dict[str, Any]:
        """What of it can decide about the bytes of a build or a twin, as JSON.

        Packages, the policy and the machine of mode `system` have parts of keys of their own.
        """
        return self.model_dump(mode="json", by_alias=True, exclude=_NOT_DECIDING)

    @property
    def native(self) -> bool:
        """Whether it is the machine itself: nothing is emulated, there are no twins."""
        return self.qemu is None

    @property
    def package_triplet(self) -> str:
        """The triplet in names of packages, which have no underscore (Debian Policy 5.6.1)."""
        return self.triplet.replace("_", "-")

    def on(self, native: Native | None) -> Toolchain:
        """This toolchain as it is on a machine: without emulator and native roots, if it is that machine's own.

        native: None for a machine that xbuild does not run on. Raises UsageError if it lacks what it needs there.
        """
        if native is not None and native.name == self.architecture:
            return self.model_copy(update=dict.fromkeys(("qemu", "system", "native_root", "word_size_root", "policy")))
        if missing := self._missing():
            raise UsageError(
                f"the target {self.name} is not this machine's own, so it needs {', '.join(missing)}",
                hint=f"add them to toolchains/{self.name}.yml",
            )
        return self

    @property
    def library_directory(self) -> str:
        """Where libraries are installed, and those of the root lie."""
        return f"/usr/lib/{self.triplet}" if self.multiarch else "/usr/lib"

    @property
    def builds(self) -> bool:
        """Whether its root has what every build takes for granted."""
        return self.distribution.variant == "buildd" or "build-essential" in self.distribution.packages

    def snapshot(self, date: str, archive: str | None) -> str:
        """The address of the distribution's archive as it was at `date`, a day or a time. Raises UsageError.

        archive: with `{date}` in it, before the toolchain's own.
        """
        match = _DATE.fullmatch(date)
        if match is None:
            hint = "for example 2026-01-31, or 20260131T120000Z"
            raise UsageError(f"--snapshot must be a day, or a time in UTC, not {date!r}", hint=hint)
        archive = archive or self.distribution.snapshots
        if archive is None or "{date}" not in archive:
            hint = "set XBUILD_SNAPSHOTS to the address of the distribution's archive of snapshots, with {date} in it"
            raise UsageError("no archive of snapshots is known", hint=hint)
        day, time = "".join(match.group(1, 2, 3)), match[4] or "T000000Z"
        return archive.replace("{date}", f"{day}{time}").rstrip("/")

    def with_suite(self, suite: str) -> Toolchain:
        """This toolchain for another release of the distribution."""
        update: dict[str, object] = {"distribution": self.distribution.model_copy(update={"suite": suite})}
        if self.qemu is not None and suite in self.suites:
            update["qemu"] = self.suites[suite].qemu
        return self.model_copy(update=update)
