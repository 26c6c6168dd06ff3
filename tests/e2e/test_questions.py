"""What a build can ask about the machine that it believes to be on: the same answer in both modes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command_line import Xbuild

pytestmark = pytest.mark.e2e

# By target: how it calls itself.
TRIPLETS = {"armhf": "arm-linux-gnueabihf", "arm64": "aarch64-linux-gnu"}
MACHINES = {"armhf": "armv7l", "arm64": "aarch64"}

# Of -v only the list of directories: the driver's temporary files have names of their own each time.
_INCLUDES = "LC_ALL=C {} -v -E -x {} - < /dev/null 2>&1 | sed -n '/search starts here/,/End of search/p'"
QUESTIONS = {
    "uname -m": "uname -m",
    "uname -a": "uname -a",
    "arch": "arch",
    "dpkg": "dpkg --print-architecture; dpkg-architecture -q DEB_BUILD_GNU_TYPE",
    "dumpmachine": "gcc -dumpmachine; g++ -dumpmachine; cc -dumpversion",
    "search directories": "gcc -print-search-dirs",
    "programs and files": "for f in as ld cc1 collect2 crt1.o libgcc.a libstdc++.so; do "
    "gcc -print-prog-name=$f; gcc -print-file-name=$f; done",
    "multiarch": "gcc -print-multiarch; gcc -print-sysroot; gcc -print-libgcc-file-name",
    "C includes": _INCLUDES.format("gcc", "c"),
    "C++ includes": _INCLUDES.format("g++", "c++"),
    "macros": "echo | gcc -dM -E - | sort; echo | g++ -x c++ -O2 -dM -E - | sort",
    "native CPU": "echo | gcc -march=native -dM -E - | sort",
    "version": "for p in gcc as ld make bash sed tar dpkg-deb; do $p --version; done; "
    "ld -V; make -v; bash --help | head -1",
    "specs": "gcc -dumpspecs",
    "linker": "ld --verbose; ld --print-output-format",
    "make": "make -p -f /dev/null 2> /dev/null | grep -E '^(MAKE_HOST|MAKE_VERSION|MAKE_COMMAND|CC|SHELL)'",
    "bash": 'bash -c \'echo "$MACHTYPE $HOSTTYPE $OSTYPE $BASH_VERSION"\'',
    "perl": "perl -V:archname; perl -V:longsize; perl -e 'use POSIX; print join q( ), POSIX::uname(), qq(\\n)'",
    "word size": "getconf LONG_BIT; getconf PAGESIZE; echo 'int main(void) { return sizeof(long); }' > /tmp/s.c; "
    "gcc -o /tmp/s /tmp/s.c; /tmp/s || echo $?; rm /tmp/s.c /tmp/s",
    "CPU": "grep -c . /proc/cpuinfo > /dev/null && echo yes; sed -n 1,3p /proc/version",
    "loader": "ldd /bin/sh | sed 's/ (0x.*//'; readlink -f /bin/sh /usr/bin/cc /usr/bin/awk",
    "tools of the compiler": "gcc -### -c -x c /dev/null 2>&1 | grep -o '/[^ ]*/cc1'; gcc -print-prog-name=lto1",
    "config.guess": "/usr/share/misc/config.guess",
}


@pytest.mark.parametrize("target", ["armhf", "arm64"])
def test_the_answers_are_the_same(xbuild: Xbuild, target: str) -> None:
    xbuild.recipe(depends={"packages": ["autotools-dev"]})
    script = "".join(f"echo; echo '=== {name}'; {command};\n" for name, command in QUESTIONS.items())
    answers = []
    for mode in ("substituted", "emulated"):
        said = xbuild("shell", "tiny", "--target", target, "--mode", mode, "--", script)
        sections = said.out.split("\n=== ")[1:]
        answers.append({section.partition("\n")[0]: section.partition("\n")[2] for section in sections})
    native, emulated = answers
    assert set(native) == set(QUESTIONS)
    assert {name for name, answer in native.items() if not answer.strip()} == set()
    assert native == emulated
    assert native["uname -m"].strip() == MACHINES[target]
    assert native["dumpmachine"].split()[:2] == [TRIPLETS[target]] * 2
    assert f"/usr/include/{TRIPLETS[target]}\n" in native["C includes"]
    assert native["bash"].split()[1] in ("arm", "aarch64")
    assert native["make"].count("MAKE_HOST = ") == 1
    guess = native["config.guess"].strip()
    assert guess.split("-")[0] == MACHINES[target]


def test_both_modes_are_what_they_say(xbuild: Xbuild) -> None:
    """The comparison above is worth something only if the shell's own tools differ."""
    modes = ("substituted", "emulated")
    said = [xbuild("shell", "--mode", mode, "--", "readlink /proc/self/exe").out for mode in modes]
    assert said == ["/.xbuild/amd64/usr/bin/readlink\n", "/usr/bin/readlink\n"]


_FIND = r"""
find / -xdev -type f -print0 2> /dev/null | perl -0ne '
    chomp; $all++; next unless open(F, "<", $_);
    next unless read(F, $head, 20) == 20 && substr($head, 0, 4) eq "\x7fELF";
    $elf++; $machine = unpack("v", substr($head, 18, 2));
    print "$_\n" if ($machine == 3 || $machine == 62) && !m{^/\.xbuild/};
    END { print "$all files, $elf ELF\n" }'
"""


def test_no_x86_file_can_be_found(xbuild: Xbuild) -> None:
    lines = xbuild("shell", "--target", "armhf", "--", _FIND).out.splitlines()
    assert len(lines) == 1, lines
    files, elf = (int(word) for word in lines[0].split() if word.isdigit())
    assert files > 3000
    assert elf > 300


def test_no_x86_file_is_in_the_layers(xbuild: Xbuild, user_cache: Path) -> None:
    """The same, seen from outside, where the files of all target roots and layers lie."""
    xbuild("shell", "--target", "armhf", "--", "true")
    foreign = [entry for kind in ("roots", "layers") for entry in (user_cache / kind).iterdir() if _is_arm(entry)]
    assert foreign != []
    for entry in foreign:
        found = _elf_files(next(entry / name for name in ("root", "upper") if (entry / name).is_dir()))
        assert found != [] or "base" in json.loads((entry / "key.json").read_text())["value"], entry
        assert [path for machine, path in found if machine in (3, 62)] == []


def _is_arm(entry: Path) -> bool:
    value = json.loads((entry / "key.json").read_text())["value"]
    root = value.get("base", value)
    return root["what"] == "target root" and root["architecture"] in TRIPLETS


def _elf_files(directory: Path) -> list[tuple[int, str]]:
    """ELF machine and path of every ELF file that can be read."""
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            try:
                if path.is_symlink() or not path.is_file():
                    continue
                with path.open("rb") as stream:
                    head = stream.read(20)
            except OSError:
                continue
            if head[:4] == b"\x7fELF":
                found.append((int.from_bytes(head[18:20], "little"), str(path)))
    return found
