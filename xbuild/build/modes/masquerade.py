"""What stands in for the compilers in mode distcc: it decides which calls are given to distcc, and which stay here.

distcc(1) sends a server the preprocessed text, and gets back one file: what `-o` names. It knows only a few of the
options by which gcc writes or reads other files; with the rest they would be missing, and nobody would say so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from xbuild.sandbox.run import remove_tree

CLIENT = "/usr/bin/distcc"
KEPT = "(kept here)"
"""Begins what the log of distcc's client says of a call that was not given to it."""

# From "Overall Options", "Developer Options", "Instrumentation Options" and "Optimize Options" of gcc 14's manual, and
# gcc/common.opt. To keep a call here is never wrong, only slow; so a family of options stays as a whole.
_KEPT = (
    # Files beside the object: temporary ones, dumps, prototypes, reports.
    *("-save-temps*", "-fstack-usage", "-fcallgraph-info*", "-d?*", "-fdump*", "-aux-info*", "-gsplit-dwarf", "-time*"),
    *("-fopt-info*=*", "-fsave-optimization-record", "-fdiagnostics-format=*", "-fdiagnostics-*-output=*"),
    # Notes and counts of profiles: written, read, or under the name of the object.
    *("-coverage", "-f*profile*", "-f*coverage*", "-fbranch-probabilities"),
    # What else is read: modules, plugins, tools and words of the build's own.
    *("-fmodule*", "-fplugin*", "-iplugindir*", "-wrapper", "-Xpreprocessor", "-B*", "-specs*", "@*"),
    # The assembler's own files, and its listings, which tell the names of files. distcc knows some of the spellings.
    *("-Wa,-a*", "-Wa,*,-a*", "-Wa,*--[Ml]*", "-Wa,*@*", "-Wa,*-o*", "-Xassembler"),
    # What the whole of the compiler tells; CMake searches it for directories.
    *("-v", "-[#]##", "-Q", "-ftime-*", "-fmem-report*", "-fstats", "-fdbg-cnt*"),
    # The command line itself, as the object has it, or compiled for a second time; no object at all.
    *("-frecord-gcc-switches", "-fverbose-asm", "-fcompare-debug*", "-fsyntax-only"),
    # What debug information has of macros and directories is lost on the way.
    *("-g3", "-ggdb3", "-fno-working-directory"),
)
# The second spellings of options, `--coverage`, `--dump=a`, `--for-assembler`: distcc knows none of them.
_LONG = "--*"
_GIVEN = ("--param", "--param=*", "--std=*", "--sysroot=*")

# PATH as distcc leaves it to the compilers that it starts: without what stands in for them.
_SCRIPT = """#!/bin/sh
name=${{0##*/}}
PATH=${{PATH##*{folder}:}}
PATH=${{PATH%{folder}}}
kept=${{COMPILER_PATH:+COMPILER_PATH}}${{GCC_EXEC_PREFIX:+GCC_EXEC_PREFIX}}${{_DISTCC_SAFEGUARD:+distcc}}
for word; do
    case $word in
    {given}) ;;
    {kept}) kept=$word; break ;;
    esac
done
[ "$kept" ] || exec {folder}/.client/"$name" "$@"
[ ! "$DISTCC_LOG" ] || {{ echo "distcc[$$] {mark} $kept: $name $*" >> "$DISTCC_LOG"; }} 2> /dev/null
exec "$name" "$@"
"""


def lay(folder: Path, inside: str, names: Iterable[str]) -> None:
    """Lay what stands in for compilers of these names into the directory `folder`, which is `inside` in the sandbox."""
    text = _SCRIPT.format(folder=inside, given="|".join(_GIVEN), kept="|".join((*_KEPT, _LONG)), mark=KEPT)
    clients = folder / ".client"
    # A phase that ran as root may have laid anything there, also a link that leads out.
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.geteuid()):
        remove_tree(folder)
    for path in (folder, clients):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    for name in names:
        stand_in, client = folder / name, clients / name
        if not client.is_symlink():
            client.symlink_to(CLIENT)
            # An older xbuild has laid a link there.
            stand_in.unlink(missing_ok=True)
            stand_in.write_text(text)
            stand_in.chmod(0o755)
