"""Looks at the program that a user wants to run, and says what stands in the way before the kernel says it worse."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xbuild.base.errors import UsageError
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ELF_MAGIC, ElfError, ElfInfo, Identity, read_elf
from xbuild.model.native import here
from xbuild.model.toolchain import Toolchain

_KINDS = {"REL": "an object file: it has to be linked first", "CORE": "a core dump"}
_FIRST_LINE = 256
"""How much of a script's first line the kernel reads (BINPRM_BUF_SIZE in <linux/binfmts.h>)."""


@dataclass(frozen=True)
class Found:
    """What a word of the command line means. path: on the machine; None: a program of the target root.

    info: None for a script, whose interpreter (the first line's words) is `interpreter`.
    """

    word: str
    path: Path | None
    info: ElfInfo | None = None
    interpreter: tuple[str, ...] = ()


def look(word: str) -> Found:
    """What the program `word` is, as far as the machine knows. Raises UsageError if it can be run by nobody."""
    path = Path(word)
    if "/" not in word or not (path.exists() or path.is_symlink()):
        return Found(word, None)
    if not path.exists():
        raise UsageError(f"{word} is a link to {path.readlink()}, which is not there")
    if path.is_dir():
        raise UsageError(f"{word} is a directory", hint="name a program in it")
    if not path.is_file():
        raise UsageError(f"{word} is no regular file")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{word} cannot be read", hint="the emulator has to read a program to run it")
    if not os.access(path, os.X_OK):
        raise UsageError(f"{word} is not executable", hint=f"chmod +x {word}")
    path = Path(os.path.abspath(path))  # noqa: PTH100  (links stay: the program may go by its name)
    with path.open("rb") as stream:
        start = stream.read(_FIRST_LINE)
    if start.startswith(b"#!"):
        words = start[2:].partition(b"\n")[0].decode(errors="replace").split(None, 1)
        if not words:
            raise UsageError(f"{word} is a script that names no interpreter in its first line")
        return Found(word, path, None, tuple(piece.strip() for piece in words))
    if not start:
        raise UsageError(f"{word} is an empty file")
    if not start.startswith(ELF_MAGIC):
        raise UsageError(f"{word} is neither an ELF file nor a script with `#!` in its first line")
    return Found(word, path, _program(word, path))


def _program(word: str, path: Path) -> ElfInfo:
    try:
        info = read_elf(path)
    except ElfError as error:
        raise UsageError(f"{word} is a {error.reason}", hint="was it copied or downloaded whole?") from error
    size = path.stat().st_size
    if info.end > size:
        message = f"{word} is cut short: it has {size} bytes, its segments need {info.end}"
        raise UsageError(message, hint="was it copied or downloaded whole?")
    if info.e_type in _KINDS:
        raise UsageError(f"{word} is {_KINDS[info.e_type]}")
    if not info.entry:
        raise UsageError(f"{word} is a shared library, not a program")
    return info


def fits(info: ElfInfo, identity: Identity) -> bool:
    """Is it a program for such a target? The float ABI does not count: it shows in the loader that it asks for."""
    return (info.machine, info.elf_class, info.data) == (identity.machine, identity.elf_class, identity.data)


def choose(found: Found, toolchains: Iterable[Toolchain]) -> Toolchain:
    """The target that runs it, where the user has named none: the first one for what is no ELF file.

    Of several with the same machine the one whose loader it asks for. Raises UsageError if no target runs it.
    """
    fitting, others = [], []
    for toolchain in toolchains:
        others.append(toolchain)
        if found.info is None:
            return toolchain
        if fits(found.info, toolchain.elf) and not toolchain.native:
            if found.info.interpreter in (None, toolchain.elf.interpreter):
                return toolchain
            fitting.append(toolchain)
    if fitting or found.info is None:
        return fitting[0]
    raise _foreign(found, found.info, others)


def check_machine(
    found: Found, info: ElfInfo, toolchain: Toolchain, all_of_them: Callable[[], Iterable[Toolchain]]
) -> None:
    """Raise UsageError if the ELF file, which is `info`, is not for the target `toolchain`.

    all_of_them: gives all targets, of which one may be the right one.
    """
    if not fits(info, toolchain.elf):
        raise _foreign(found, info, list(all_of_them()), toolchain.name)


def check(found: Found, toolchain: Toolchain, view: Tree) -> None:
    """Raise UsageError if the target, in which the files of `view` are seen, lacks what the program needs to start."""
    target = toolchain.name
    if found.info is not None:
        loader = found.info.interpreter
        if loader and view.real_path(loader) is None:
            raise UsageError(
                f"{found.word} needs the loader {loader}, which the root of {target} does not have",
                details=_about_loader(loader, toolchain),
                hint="--sysroot DIR names a directory with the libraries that it was made for",
            )
    elif found.interpreter and view.real_path(found.interpreter[0]) is None:
        raise UsageError(
            f"{found.word} is a script for {found.interpreter[0]}, which the root of {target} does not have",
            hint=_install(target, PurePosixPath(found.interpreter[0]).name),
        )
    elif found.path is None:
        _check_inside(found.word, target, view)


def _check_inside(word: str, target: str, view: Tree) -> None:
    """A program of the target root, by its path or by its name in PATH."""
    if "/" in word:
        if view.real_path(str(Path(os.path.abspath(word)))) is None:  # noqa: PTH100
            raise UsageError(f"there is no {word}, neither here nor in the root of {target}")
        return
    if not any(view.real_path(f"{folder}/{word}") for folder in search_path(view)):
        hint = f"for the file here: ./{word}" if Path(word).exists() else _install(target, "PACKAGE")
        raise UsageError(f"the root of {target} has no program {word!r}", hint=hint)


def search_path(view: Tree) -> list[str]:
    """PATH of a user in the root."""
    folders = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"]
    return [folder for folder in folders if view.real_path(folder)] or folders


def _install(target: str, package: str) -> str:
    return (
        f"in `invoke shell --target {target} --keep NAME`: apt-get update && apt-get install {package}; "
        f"then `invoke run --target {target} --keep NAME -- ...`"
    )


def _foreign(found: Found, info: ElfInfo, toolchains: Sequence[Toolchain], target: str | None = None) -> UsageError:
    machine = here()
    own_kinds = {width.elf_machine: width.summary for width in (machine, machine.partner)}
    what = f"{found.word} is a program for {own_kinds.get(info.machine, f'{info.machine}, {info.elf_class} bits')}"
    own = f", not for {target}" if target else ""
    if info.machine in own_kinds:
        name = found.path.name if found.path else ""
        hint = f"run it as it is; for the program {name!r} of the target root leave out its directory: -- {name}"
        return UsageError(f"{what}, as this machine is{own}", hint=hint)
    others = [toolchain.name for toolchain in toolchains if fits(info, toolchain.elf)]
    if others:
        return UsageError(what + own, hint=" or ".join(f"--target {name}" for name in others) + " runs it")
    endian = f", {info.data} endian" if info.data == "big" else ""
    names = ", ".join(toolchain.name for toolchain in toolchains)
    return UsageError(f"{what}{endian}{own}; no target runs that", hint=f"targets: {names}")


def _about_loader(loader: str, toolchain: Toolchain) -> list[str]:
    if "musl" in loader:
        return ["it was made for musl, not for the GNU C library of this root; Debian has it as package `musl`"]
    if loader == "/lib/ld-linux.so.3" and toolchain.elf.float_abi == "hard":
        return ["it was made for the soft-float ABI (Debian's armel), the root is hard-float"]
    return []
