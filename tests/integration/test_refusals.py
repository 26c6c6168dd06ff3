"""What the dispatcher says of files that Linux' own loader would refuse, and what of its own no program may feel."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import ENV, Armhf, Target
from xbuild.base import paths
from xbuild.formats.record import Choice, read
from xbuild.model.rules import Rules
from xbuild.sandbox.run import capture, give_tree, remove_tree
from xbuild.twins.privatetree import run_native

pytestmark = pytest.mark.integration

TEXTS = {
    "ENOENT": (127, "No such file or directory"),
    "EACCES": (126, "Permission denied"),
    "ENOEXEC": (126, "Exec format error"),
    "ELIBBAD": (126, "Accessing a corrupted shared library"),
    "EIO": (126, "Input/output error"),
}


def program(
    loader: bytes | None, *, wide: bool = False, size: int | None = None, count: int = 1, length: int | None = None
) -> bytes:
    """An ARM program with one program header, by its loader. size, count: of the headers, as the file says."""
    head, each, machine = (64, 56, 183) if wide else (52, 32, 40)
    words = (2, machine, 1, 0x10000, head, 0, 0, head, size or each, count, 0, 0, 0)
    form = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
    data = b"\x7fELF" + bytes([1 + wide, 1, 1]) + bytes(9) + struct.pack(form, *words)
    text = loader or b""
    kind, long, place = 3 if loader is not None else 6, len(text) if length is None else length, head + each
    if wide:
        data += struct.pack("<IIQQQQQQ", kind, 4, place, place, place, long, long, 1)
    else:
        data += struct.pack("<IIIIIIII", kind, place, place, place, long, long, 4, 1)
    return data + text


ODD = {
    "missing": (program(b"/no/such/ld.so\0"), "ENOENT"),
    "missing-directory": (program(b"/etc/passwd/ld.so\0"), "Not a directory"),
    "unterminated": (program(b"/no/such/ld.so"), "ENOEXEC"),
    "empty": (program(b"\0"), "ENOEXEC"),
    "too-long": (program(b"/" * 4096 + b"\0"), "ENOEXEC"),
    "directory": (program(b"/etc\0"), "EACCES"),
    "not-executable": (program(b"/etc/passwd\0"), "EACCES"),
    "script": (program(b"/usr/bin/ldd\0"), "ELIBBAD"),
    "other-machine": (program(b"/tmp/odd/other\0"), "ELIBBAD"),
    "cut-loader": (program(b"/lib/ld-linux-armhf.so.3\0")[:-5], "EIO"),
    "loader-beyond-the-end": (program(b"/lib\0", length=4000), "EIO"),
    "cut-header": (program(None)[:40], "ENOEXEC"),
    "cut-headers": (program(None)[:60], "ENOEXEC"),
    "no-headers": (program(None, count=0), "ENOEXEC"),
    "many-headers": (program(None, count=65535), "ENOEXEC"),
    "wrong-size": (program(None, size=56), "ENOEXEC"),
}


def put(target: Target, path: str, data: bytes) -> None:
    """Write a file of the root, which only root inside may."""
    target.sh(f"perl -e 'print pack(q(H*), shift)' {data.hex()} > {path}")


@pytest.mark.parametrize("name", ODD)
def test_what_linux_would_refuse(target: Target, name: str) -> None:
    data, error = ODD[name]
    script = 'mkdir /tmp/odd; cp /odd /tmp/odd/it; cp /other /tmp/odd/; chmod 755 /tmp/odd/*; cd /tmp/odd; exec ./it'
    put(target, "/odd", data)
    put(target, "/other", program(None, wide=True))
    code, text = TEXTS.get(error, (126, error))
    returncode, said = target.run("sh", "-euc", script)
    last = said.splitlines()[-1].partition(", its loader")[0]
    assert (returncode, last) == (code, f"xbuild: cannot run ./it: {text}")


def test_good_ones_run(target: Target) -> None:
    """Static and dynamic ones, and where the loader is only to be found by qemu's own prefix."""
    script = """
    cd /tmp; echo 'int main(void) { return 7; }' > a.c; gcc -o a a.c; gcc -static -o b a.c;
    gcc -o d a.c -Wl,--dynamic-linker=/nowhere/ld.so
    for name in a b d; do code=0; ./$name || code=$?; echo $name $code; done 2>/dev/null
    mkdir -p p/nowhere; cp /lib/ld-linux-armhf.so.3 p/nowhere/ld.so; code=0
    QEMU_LD_PREFIX=/tmp/p ./d || code=$?; echo $code
    """
    assert target.sh(script).split() == ["a", "7", "b", "7", "d", "127", "7"]


@pytest.mark.parametrize("name", ["bash", "dash", "env", "make", "find", "perl"])
def test_who_starts_one_sees_it_fail(target: Target, name: str) -> None:
    put(target, "/odd", ODD["missing"][0])
    lines = {
        "bash": "bash -c /odd", "dash": "dash -c /odd", "env": "env /odd",
        "perl": "perl -e 'exit(system(\"/odd\") >> 8)'",
        "make": "printf 'all:;/odd\\n' | make -f -", "find": "find /odd -exec {} ';'",
    }  # fmt: skip
    returncode, said = target.run("sh", "-c", f"chmod 755 /odd; {lines[name]}")
    assert returncode == {"make": 2, "find": 0}.get(name, 127)
    assert "/odd: No such file or directory, its loader /no/such/ld.so" in said


BLOCK = 512
"""Bytes of which ulimit -f of dash counts."""


@pytest.mark.parametrize("limit", [0, 1, 1000])
def test_a_limit_on_file_sizes_is_not_for_the_record(target: Target, limit: int) -> None:
    """It ended the program that was to start by SIGXFSZ."""
    script = f"ulimit -f {limit}; i=0; while [ $i -lt 20 ]; do i=$((i + 1)); /usr/bin/true; done; exit 5"
    default = "$SIG{XFSZ} = 'DEFAULT'; exec @ARGV"
    assert target.run("perl", "-e", default, "sh", "-euc", script) == (5, "")
    record = target.place / "record"
    found = read(record)
    assert found.whole is (limit == 1000)
    assert found.counts["/usr/bin/dash", Choice.TWIN] == 1
    assert (found.counts.get(("/usr/bin/true", Choice.TWIN), 0) == 20) is (limit == 1000)
    assert limit == 1000 or record.stat().st_size <= max(BLOCK * limit, 2 * 16 + len("/usr/bin/perl/usr/bin/dash"))


@pytest.mark.parametrize("disposition", ["DEFAULT", "IGNORE"])
def test_programs_find_the_signal_as_it_was(target: Target, disposition: str) -> None:
    change = f"$SIG{{XFSZ}} = '{disposition}'; exec 'sh', '-c', 'ulimit -f 100; exec cat /proc/./self/status'"
    said = target.says("perl", "-e", change)
    ignored = int(next(line for line in said.splitlines() if line.startswith("SigIgn")).split()[1], 16)
    assert bool(ignored >> 24 & 1) is (disposition == "IGNORE")


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("option", ["-v", "-d"])
def test_programs_start_under_a_limit_on_memory(target: Target, emulated: Target, shell: str, option: str) -> None:
    """As under an emulated shell, whose emulator does not set such a limit."""
    script = f"ulimit {option} 300000; ulimit {option}; perl -e 'print 7'; ulimit -n 50; ulimit -n"
    assert target.says(shell, "-c", script).split() == ["unlimited", "750"]
    assert emulated.says(shell, "-c", script).split() == ["unlimited", "750"]


def test_a_program_has_the_stack_that_a_native_shell_gave_it(target: Target) -> None:
    dive = "int dive(int n) { volatile char room[1024]; room[0] = n; return n ? dive(n - 1) + room[0] : 0; }"
    script = f"echo '{dive} int main(void) {{ dive(55999); }}' > /a.c; gcc -w -O0 -o /a /a.c"
    target.sh(f"{script}; ulimit -s 65536; /a")
    assert target.run("sh", "-c", "ulimit -s 8192; exec /a")[0] in (139, -11)


PRELOAD = "/etc/ld.so.preload"


@pytest.mark.parametrize(
    ("text", "native"),
    [
        ("/usr/local/lib/libpre.so", False),
        ("# one\n\n  /nowhere/libx.so:/usr/local/lib/libpre.so # two", False),
        ("libpre.so", False),
        ("/usr/$LIB/libpre.so", False),
        ("", True),
        ("# /usr/local/lib/libpre.so", True),
        ("#\n#", True),
        ("/nowhere/libx.so /nowhere/liby.so\n", True),
        ("/usr/lib/arm-linux-gnueabihf/libarmmem-${PLATFORM}.so\n", True),
        ("/usr/lib/arm-linux-gnueabihf/libarmmem-$PLATFORM.so /usr/local/lib/libpre.so", False),
        ("#" * 5000, False),
    ],
)
def test_a_library_for_every_program_of_the_root(target: Target, text: str, native: bool) -> None:
    target.sh(f"cp /usr/lib/arm-linux-gnueabihf/libm.so.6 /usr/local/lib/libpre.so; printf '%s' '{text}' > {PRELOAD}")
    before = len(target.execs())
    assert target.says("sh", "-c", "/usr/bin/true; echo done 2>&1").endswith("done")
    verdicts = {known.verdict for known in target.execs()[before:]}
    assert verdicts == {Choice.TWIN if native else Choice.PRELOADED}


def test_a_library_for_every_program_acts(target: Target) -> None:
    script = f"""
    printf '%s\\n' 'unsigned getuid(void) {{ return 4711; }}' 'unsigned geteuid(void) {{ return 4711; }}' > /tmp/p.c
    gcc -shared -fPIC -o /usr/local/lib/libpre.so /tmp/p.c; echo /usr/local/lib/libpre.so > {PRELOAD}
    id -u; bash -c 'echo $UID'; printf 'all:;@echo $(shell id -u)\\n' | make -s -f -
    """
    assert target.sh(script).split() == ["4711"] * 3


@pytest.mark.parametrize(
    ("words", "emulated"),
    [
        ("-Wl,-O1", False),
        ("-Wl,-O1,-rpath,/a,--as-needed", False),
        ("-Wl,--as-needed", False),
        ("-Wl,-rpath,a-Map", False),
        ("-Wl,", False),
        ("-Wl,-Map=m", True),
        ("-Wl,--Map,m", True),
        ("-Wl,-O1,-Map=m", True),
        ("-Wl,-O1,--dependency-file=d", True),
        ("-Wl,@words", True),
        ("-Wl,-rpathological", True),
        ("-Xlinker -O1", False),
        ("-Xlinker -rpath -Xlinker /a", False),
        ("-Xlinker -Map -Xlinker m", True),
        ("-Xlinker", False),
        ("-Map=m", False),
    ],
)
def test_words_for_the_linker(target: Target, words: str, emulated: bool) -> None:
    native = {entry.path: entry for entry in target.armhf.pairs.entries}["/usr/bin/echo"]
    entry = replace(native, rules=Rules(linker_words=("-O*", "-rpath", "-rpath=*", "-as-needed")))
    target.armhf.roots.dispatcher([entry], target.dispatcher)
    assert target.says("echo", *words.split()) == words
    assert [known.verdict for known in target.execs()] == [Choice.ARGUMENT if emulated else Choice.TWIN]


def test_a_registered_dispatcher_is_not_written_over(target: Target) -> None:
    before = target.dispatcher.stat().st_ino
    with target.dispatcher.open("rb") as stream:
        target.armhf.roots.dispatcher([], target.dispatcher)
        assert os.fstat(stream.fileno()).st_size == target.dispatcher.stat().st_size
        assert before != target.dispatcher.stat().st_ino
    assert [path.name for path in target.place.iterdir() if "dispatcher" in path.name] == ["dispatcher"]


SEARCHES = r"""
mkdir -p $ORIGIN/own
echo 'int answer(void) { return 42; }' | $CC -shared -fPIC -Wl,-soname,libown.so -o $ORIGIN/own/libown.so -x c -
cat > a.c <<'END'
#include <dlfcn.h>
#include <stdio.h>
int main(void)
{
    void *library = dlopen("libown.so", RTLD_NOW);
    if (!library)
        puts(dlerror());
    return library ? ((int (*)(void))dlsym(library, "answer"))() : 1;
}
END
$CC -o a a.c -Wl,--enable-new-dtags,-rpath,$ORIGIN/own
$CC $FLAGS -nostdlib -shared -fPIC -DMACHINE='"armv7l"' -DPRIVATE='"/nowhere"' -o shim.so shim.c
code=0; LD_PRELOAD=$PWD/shim.so ./a || code=$?
[ "$code" = 42 ]
cat > b.c <<'END'
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
extern ssize_t __readlink_chk(const char *, char *, size_t, size_t);
extern ssize_t __readlinkat_chk(int, const char *, char *, size_t, size_t);
int main(void)
{
    static const char exe[] = "/proc/self/exe";
    char text[5][4096] = {{0}};
    readlink(exe, text[0], 4095);
    __readlink_chk(exe, text[1], 4095, 4096);
    readlinkat(AT_FDCWD, exe, text[2], 4095);
    __readlinkat_chk(AT_FDCWD, exe, text[3], 4095, 4096);
    strcpy(text[4], canonicalize_file_name(exe));
    for (int i = 0; i < 5; i++)
        puts(text[i]);
}
END
mkdir -p /tmp/private/usr/bin
$CC -D_GNU_SOURCE -O0 -o /tmp/private/usr/bin/env b.c
$CC $FLAGS -nostdlib -shared -fPIC -DMACHINE='"armv7l"' -DPRIVATE='"/tmp/private"' -o shim2.so shim.c
LD_PRELOAD=$PWD/shim2.so /tmp/private/usr/bin/env > said
[ "$(sort -u said)" = /usr/bin/env ] || { cat said; exit 1; }
"""
FLAGS = (
    "-std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables "
    '-DLAYER="/none" -DTRIPLET="arm-linux-gnueabihf" -DNATIVE_TRIPLET="x86_64-linux-gnu"'
)


@pytest.fixture
def bench(armhf: Armhf) -> Iterator[Path]:
    """A directory to compile the shim in."""
    folder = Path(tempfile.mkdtemp(prefix="xbuild-test-"))
    folder.chmod(0o755)
    (folder / "private").mkdir()
    for source in paths.DISPATCHER.glob("*.[ch]"):
        shutil.copy(source, folder)
    give_tree(0, [folder])
    yield folder
    remove_tree(folder)


@pytest.mark.parametrize("compiler", ["gcc"])
def test_the_shim_answers_and_searches_as_if_it_were_not_there(armhf: Armhf, bench: Path, compiler: str) -> None:
    """dlopen by the caller's RUNPATH; all ways to ask for /proc/self/exe."""
    run_native(armhf.natives.trees["amd64"], bench, SEARCHES, {"CC": compiler, "FLAGS": FLAGS, "ORIGIN": "/xbuild"})


def test_environment_of_a_program_that_is_refused(target: Target) -> None:
    """The message goes to stderr, nothing to stdout."""
    put(target, "/odd", ODD["missing"][0])
    returncode, said = capture(target.sandbox(ENV), ("sh", "-c", "chmod 755 /odd; /odd 2>/dev/null"))
    assert (returncode, said) == (127, b"")
