"""Probes: questions that a build can ask about where it runs. In all modes they must have the same answers.

A probe is a shell script in probes/*.yml. `known` gives the reason why its answer differs all the same from that of
mode emulated, for all targets or by target; `machine` why it differs from that of mode system. `plant` names the
planted fault, see planted.py, that must make it differ; a known difference needs none.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.command_line import Xbuild
from xbuild.formats.record import Record, read

PROBES = Path(__file__).with_name("probes")
TARGETS = ("armhf", "arm64")
PACKAGES = (
    *("autotools-dev", "bc", "bison", "brotli", "bzip2", "chrpath", "cmake", "cpio", "dc"),
    *("device-tree-compiler", "dos2unix", "dwz", "ed", "fakeroot", "file", "flex", "gawk", "gettext", "git"),
    *("gperf", "groff-base", "libgio-2.0-dev-bin", "libglib2.0-bin", "libxml2-utils", "lz4", "lzip", "m4"),
    *("meson", "ninja-build", "patch", "patchelf", "pigz", "pkgconf", "python3-pip", "re2c", "rsync", "swig", "unzip"),
    *("xsltproc", "xxd", "xz-utils", "zip", "zstd"),
)

_MARK = "=== probe "
# The names of gcc's temporary files are random, and so are the numbers of processes. The emulator tells of a signal
# that ends a program; the kernel does not. A phase's script has a name by which the shell complains.
_RANDOM = (
    (re.compile(r"/tmp/cc[A-Za-z0-9]{6}"), "/tmp/ccXXXXXX"),
    (re.compile(r"/tmp/Gm[A-Za-z0-9]{6}"), "/tmp/GmXXXXXX"),
    (re.compile(r"line \d+: +\d+ (?=[A-Z])"), "line: "),
    (re.compile(r"^/build/run/[^:]*(?=: \d+: eval: )", re.MULTILINE), "sh"),
    (re.compile(r"^qemu: uncaught target signal .*\n", re.MULTILINE), ""),
)
# What many probes compile and link is made once. Each probe has an empty directory, whose path is the same in all runs,
# and no input. No program is started for that: under the emulator the first 20 ms of each are for nothing. A shell
# before any build has another time of the sources than a phase.
_BEGIN = f"""
export SOURCE_DATE_EPOCH=86400
mkdir -p /tmp/made/l /tmp/made/k
cd /tmp/made
echo 'int f(void) {{ return 7; }}' > f.c
echo 'int f(void); int g(void) {{ return f(); }}' > g.c
echo 'int f(void); int main(void) {{ return f(); }}' > mf.c
echo 'int g(void); int main(void) {{ return g(); }}' > mg.c
echo 'int main(void) {{ return 0; }}' > m.c
gcc -shared -fPIC -o l/libf.so f.c
gcc -shared -fPIC -o k/libg.so g.c -Ll -lf
gcc -c mf.c mg.c m.c
probe() {{
    printf '\\n{_MARK}%s\\n' "$1"
    mkdir /tmp/$2
    (cd /tmp/$2; eval "$3") < /dev/null 2>&1 || :
}}
"""


@dataclass(frozen=True)
class Probe:
    """A question. directory: where it is asked, below /tmp. known, machine, plant: by target; see above."""

    name: str
    directory: str
    script: str
    known: dict[str, str]
    machine: dict[str, str]
    plant: dict[str, str]


def probes() -> Iterator[Probe]:
    """All of them, in the order of the files."""
    for path in sorted(PROBES.glob("*.yml")):
        for number, (name, fields) in enumerate(yaml.safe_load(path.read_text()).items()):
            by_target = (_by_target(fields.get(key)) for key in ("known", "machine", "plant"))
            yield Probe(name, f"{path.stem}-{number}", fields["script"], *by_target)


def _by_target(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    return dict(value) if isinstance(value, dict) else dict.fromkeys(TARGETS, value)


def script(wanted: Sequence[Probe]) -> str:
    """Shell text that asks all of `wanted`."""
    words = ((probe.name, probe.directory, probe.script) for probe in wanted)
    # Some are of gigabytes where nothing is; a machine hands all of it over.
    end = "cd /\nrm -rf " + " ".join(f"/tmp/{probe.directory}" for probe in wanted)
    return _BEGIN + "".join(f"probe {shlex.join(line)}\n" for line in words) + f"{end}\n"


def answers(said: str) -> dict[str, str]:
    """What the shell text of `script` said, by the probe's name, without what is random."""
    for pattern, plain in _RANDOM:
        said = pattern.sub(plain, said)
    sections = said.split(f"\n{_MARK}")[1:]
    return {name: answer for name, _, answer in (section.partition("\n") for section in sections)}


def recipe(xbuild: Xbuild, name: str, wanted: Sequence[Probe]) -> None:
    """Write a recipe that has what the probes need. Its compile phase asks all of `wanted`."""
    files = {"ask.sh": script(wanted)}
    # Under -e, as all phases, and with its variables.
    compile = "(. ./ask.sh); echo 42 > answer"
    xbuild.recipe(name, files=files, build={"compile": compile}, depends={"packages": list(PACKAGES)})


def built(xbuild: Xbuild, name: str, target: str, mode: str) -> tuple[dict[str, str], Record]:
    """What the probes of the recipe `name` said in its compile phase, and the record of its execs."""
    records = Path(xbuild.build(name, "--mode", mode, target=target)["records"])
    log = next(records.with_name("logs").glob("*-compile.log"))
    return answers(log.read_text(errors="replace")), read(records / log.stem)
