"""What to do about a program that does not run, and which entry comes nearest to taking it."""

from __future__ import annotations

from xbuild.base.errors import called
from xbuild.base.process import show
from xbuild.binfmt import architectures
from xbuild.binfmt.answer import Answer, Comparison
from xbuild.binfmt.kernel import MOUNT_POINT, State

_HINTS: dict[str, str] = {
    "not-executable": "chmod +x {file}",
    "noexec": "copy it to a file system that is not mounted noexec (`findmnt -T {file}` shows the mount)",
    "script-line-ends": "remove the carriage returns: sed -i 's/\\r$//' {file}",
    "byte-order-mark": "remove the mark: sed -i '1s/^\\xef\\xbb\\xbf//' {file}",
    "no-interpreter-line": "write `#!/bin/sh`, or what it is for, as its first line",
    "truncated": "get the file again: it was cut off when it was copied or downloaded",
    "broken": "get the file again, or build it again",
    "entry-disabled": f"as root: echo 1 > {MOUNT_POINT}/NAME",
    "binfmt-disabled": f"as root: echo 1 > {MOUNT_POINT}/status",
    "interpreter-missing": "register the interpreter with the flag F, or put a static one at that path in the root",
    "interpreter-loader-missing": "register a static interpreter: a dynamic one needs its libraries in every root, "
    "with F too",
    "flag-p-missing": "register it with the flag P, or the plain emulator",
    "library": "start a program that uses it",
    "not-a-program": "link it into a program first",
    "script-interpreter-missing": "install what the first line names, or correct it",
    "library-missing": "install the package with that library, in the root that the program runs in",
    "loop": "an interpreter must in the end be a native program",
    "wrong-entry": "the mask of that entry is too wide: `binfmt.render` shows the right one",
}


def hints_for(answer: Answer, architecture: str | None) -> list[str]:
    """What to do next, by the cause of the answer; architecture: of the file."""
    names = [comparison.entry.name for comparison in answer.comparisons]
    hint = _HINTS.get(answer.cause, "").format(file=answer.file).replace("NAME", names[0] if names else "NAME")
    found = [hint] if hint else []
    if answer.cause == "loader-missing":
        found.append("install the C library that the program was linked with, or give the root that has it by --root")
    emulate = {"no-entry", "binfmt-absent", "entries-not-visible", "loader-missing"}
    facts = architectures.known().get(architecture or "")
    if facts is not None and facts.debian and answer.cause in emulate:
        found.append(f"once, with an entry of its own: invoke run --target {facts.debian[0]} -- {show([answer.file])}")
    if facts is not None and answer.cause in ("no-entry", "binfmt-absent"):
        found.append(f"for the whole machine, as root: invoke binfmt.install {architecture} --system")
    return [called(hint) for hint in found]


def near(answer: Answer, state: State, start: bytes, called: str) -> None:
    """Add to `answer` the entries that would take the file if they counted, else the one that differs least."""
    instance = state.effective
    if instance is None:
        return
    fitting = [entry for entry in instance.entries if entry.takes(start, called)]
    if fitting:
        answer.comparisons += [Comparison(entry, start) for entry in fitting if entry.kind == "M"][:1]
        return
    magics = [Comparison(entry, start) for entry in instance.entries if entry.kind == "M"]
    if not magics:
        return
    different = {id(one): [item for item in one.each() if not item[5]] for one in magics}
    least = min(magics, key=lambda one: len(different[id(one)]))
    # Beyond some bytes it is another kind of file altogether.
    if len(different[id(least)]) <= 6 and len(different[id(least)]) < len(least.entry.magic):
        names = dict.fromkeys(item[1] for item in different[id(least)])
        disabled = "" if least.entry.enabled else ", which is disabled,"
        answer.notes.append(f"the entry {least.entry.name}{disabled} comes nearest; different: {', '.join(names)}")
        answer.comparisons.append(least)
