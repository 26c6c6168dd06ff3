"""Whether the compiler of a release may stand in for one of the same version from another distribution.

The version says nothing about how it was configured: Raspbian's makes code for ARMv6, Ubuntu's hardens by default. So
both are asked for what they define and for what they make of a program, and must give the same.
"""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from xbuild.base import log
from xbuild.base.digest import file_sha256, key_of
from xbuild.base.errors import CheckError, MachineError
from xbuild.build.canary.examine import SOURCE, cage
from xbuild.build.environment import WorkPlace
from xbuild.dispatcher.table import Entry
from xbuild.roots.distribution import Roots
from xbuild.sandbox.run import capture, remove_tree
from xbuild.store.local import Store

# -g0 and without .ident, which names the package. Each optimisation level has other defaults.
_ASK = """
for level in -O0 -O2; do
    cc $level -dM -E -x c /dev/null | sort
    cc $level -g0 -S -o - "$1" | grep -v '\\.ident'
    if command -v c++ > /dev/null; then c++ $level -dM -E -x c++ /dev/null | sort; fi
done
cc -o program "$1" -pthread && readelf -lW program | grep -v 0x
"""
_SHOWN = 12


def require_same(store: Store, roots: Roots, entries: Sequence[Entry], work: Path, layers: Sequence[Path]) -> None:
    """Raise CheckError if the native compilers of `entries` do otherwise than the target root's own do.

    work: directory outside that work places lie in. layers: what the build sees as `/`. Done once a root.
    """
    value = {
        "what": "compilers",
        "sources": {file.name: file_sha256(file) for file in (SOURCE, Path(__file__))},
        "root": roots.base_value(),
        "layer": layers[0].parent.name,
        "twins": roots.natives().key,
    }
    place = WorkPlace(work / f"compilers-{store.entry('canaries', key_of(value)).name}")

    def make(staging: Path) -> None:
        with log.step("compare the compiler with the root's own"):
            try:
                answers = [_answers(roots, chosen, place, layers) for chosen in ((), entries)]
            finally:
                remove_tree(place.path)
        compare_answers(*answers)
        (staging / "same.json").write_text(json.dumps(len(answers[0])))

    store.ensure("canaries", value, "the comparison of compilers", make)


def _answers(roots: Roots, entries: Sequence[Entry], place: WorkPlace, layers: Sequence[Path]) -> list[str]:
    where = cage(roots, entries, place, layers)
    shutil.copyfile(SOURCE, place.scripts / SOURCE.name)
    code, said = capture(where, ["sh", "-euc", _ASK, "sh", f"/build/run/{SOURCE.name}"])
    lines = said.decode(errors="replace").splitlines()
    if code != 0:
        raise MachineError("the compiler of the root could not be asked", details=lines[-10:])
    return lines


def compare_answers(own: Sequence[str], native: Sequence[str]) -> None:
    """Raise CheckError, with what differs, if the lines that the two compilers gave are not the same."""
    if not own:
        raise CheckError("the root's own compiler said nothing", hint="does it work with --mode emulated?")
    different = list(difflib.unified_diff(own, native, "the root's own", "the native one", lineterm="", n=0))
    if different:
        raise CheckError(
            "the native compiler has the version of the root's own, but not its defaults",
            details=[line for line in different if not line.startswith("@@")][:_SHOWN],
            hint="take `compilers` out of the recipe's `twins: {add: [...]}`: it then runs emulated",
        )
