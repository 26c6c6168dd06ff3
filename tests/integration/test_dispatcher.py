"""The dispatcher with the real kernel, the real qemu and a real armhf root."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from tests.integration.conftest import Target
from xbuild.formats.record import Choice
from xbuild.model.rules import Rules

pytestmark = pytest.mark.integration

EXE = "/proc/./self/exe"
"""Not the way to write it with which programs are emulated, and the emulator gives an answer."""
TWINS, QEMU = "/.xbuild/amd64", "/.xbuild/qemu"


def test_a_twin_runs(target: Target) -> None:
    assert target.says("readlink", EXE) == f"{TWINS}/usr/bin/readlink"
    assert target.traced() == []
    assert [(known.path, known.verdict) for known in target.execs()] == [("/usr/bin/readlink", Choice.TWIN)]


def test_without_twins_qemu_runs_everything(emulated: Target) -> None:
    assert emulated.says("readlink", EXE) == QEMU
    assert emulated.traced() == ["/usr/bin/readlink"]


def test_absolute_path(target: Target) -> None:
    assert target.says("/usr/bin/readlink", EXE) == f"{TWINS}/usr/bin/readlink"
    assert target.says("/bin/readlink", EXE) == f"{TWINS}/usr/bin/readlink"


def test_links_to_a_program(target: Target) -> None:
    assert target.says("/bin/sh", "-c", "readlink /proc/$$/exe") == f"{TWINS}/usr/bin/dash"
    assert target.sh(f"cd /tmp; ln -s /bin/readlink a; ln -s a b; ./b {EXE}") == f"{TWINS}/usr/bin/readlink"


def test_shebang(target: Target) -> None:
    script = "printf '#!/bin/sh\\nreadlink /proc/$$/exe; echo $0 $*\\n' >/tmp/s; chmod +x /tmp/s; /tmp/s 1 2"
    assert target.sh(script).splitlines() == [f"{TWINS}/usr/bin/dash", "/tmp/s 1 2"]


def test_shebang_of_an_emulated_interpreter(target: Target) -> None:
    script = "printf '#!/usr/bin/perl\\nprint \"$0 @ARGV\\n\"' >/tmp/p; chmod +x /tmp/p; /tmp/p 'a b' ''"
    assert target.sh(script) == "/tmp/p a b "


@pytest.mark.parametrize(
    ("pattern", "words", "emulated"),
    [
        ("-v", "-v", True),
        ("-v", "-vv", False),
        ("-v", "x -v", True),
        ("-W*", "-W", True),
        ("-W*", "-Wl,x", True),
        ("-W*", "x-Wl", False),
        ("-Wl,*-M*", "-Wl,-Map=m", True),
        ("-Wl,*-M*", "-Wl,-O1,-z,-M", True),
        ("-Wl,*-M*", "-Wl,-O1", False),
        ("-Wl,*-M*", "-Wa,-M", False),
        ("*aab", "-aaab", True),
        ("*aab", "-aaba", False),
    ],
)
def test_arguments_that_ask_for_the_targets_own(
    target: Target, pattern: str, words: str, emulated: bool
) -> None:
    native = {entry.path: entry for entry in target.armhf.pairs.entries}["/usr/bin/echo"]
    entry = replace(native, rules=Rules(emulate_args=(pattern,)))
    target.armhf.roots.dispatcher([entry], target.dispatcher)
    assert target.says("echo", *words.split()) == words
    assert [known.verdict for known in target.execs()] == [Choice.ARGUMENT if emulated else Choice.TWIN]


@pytest.mark.parametrize(
    ("words", "emulated"),
    [
        ("-Da=/p/", False),
        ("-D a=/p/", False),
        ("-D a=/p/ /p/", True),
        ("-D -v", False),
        ("-Da=/p/ -v", True),
        ("x -D", False),
        ("-Ux /p/", True),
        ("x-D /p/", True),
    ],
)
def test_arguments_that_are_text_ask_nothing(target: Target, words: str, emulated: bool) -> None:
    native = {entry.path: entry for entry in target.armhf.pairs.entries}["/usr/bin/echo"]
    rules = Rules(emulate_args=("*/p/*", "-v"), text_args=("-D*",), value_options=("-D", "-U"))
    target.armhf.roots.dispatcher([replace(native, rules=rules)], target.dispatcher)
    assert target.says("echo", *words.split()) == words
    assert [known.verdict for known in target.execs()] == [Choice.ARGUMENT if emulated else Choice.TWIN]


@pytest.mark.parametrize(("words", "emulated"), [("-c x", False), ("x -S", False), ("-cx", True), ("", True)])
def test_arguments_without_which_the_targets_own_runs(target: Target, words: str, emulated: bool) -> None:
    native = {entry.path: entry for entry in target.armhf.pairs.entries}["/usr/bin/echo"]
    entry = replace(native, rules=Rules(emulate_without=("-c", "-S")))
    target.armhf.roots.dispatcher([entry], target.dispatcher)
    assert target.says("echo", *words.split()) == words
    assert [known.verdict for known in target.execs()] == [Choice.ARGUMENT if emulated else Choice.TWIN]


@pytest.mark.parametrize("copy", ["/usr/bin/cat", "/tmp/cat"])
def test_arguments_and_argv0_are_kept(target: Target, copy: str) -> None:
    target_line = f"exec -a foo {copy} /proc/self/cmdline -- -0 '' 'a b' -v"
    script = f"[ {copy} = /usr/bin/cat ] || cp /usr/bin/cat {copy}; touch -- /tmp/-0; {target_line}"
    returncode, said = target.run("bash", "-c", script)
    assert said.startswith("foo\0/proc/self/cmdline\0--\0-0\0\0a b\0-v\0")
    assert returncode == 1


def test_environment_is_kept(target: Target) -> None:
    env = {"SOURCE_DATE_EPOCH": "1", "LD_LIBRARY_PATH": "/nowhere:/usr/lib", "CPATH": "", "A": "x=y\n z"}
    plain = target.says("env", "-0", env=env).rstrip("\0").split("\0")
    assert sorted(plain) == sorted(f"{name}={value}" for name, value in target.sandbox(env).env.items())
    emulated = target.sh("cp /usr/bin/env /tmp/env; /tmp/env -0", env).rstrip("\0").split("\0")
    assert set(plain) <= set(emulated)


PRELOAD = "/usr/lib/arm-linux-gnueabihf/libm.so.6"


def test_a_preloaded_library_acts_on_every_program(target: Target) -> None:
    """It is one of the target, so no twin can load it: the target's own programs run."""
    said = target.sh(f"LD_PRELOAD={PRELOAD} sh -c 'cat /proc/self/maps; echo $LD_PRELOAD; readlink {EXE}'")
    assert "ld.so" not in said
    assert said.count(PRELOAD) > 1
    assert said.splitlines()[-2:] == [PRELOAD, QEMU]


def test_an_empty_preload_is_none(target: Target) -> None:
    assert target.says("readlink", EXE, env={"LD_PRELOAD": ""}) == f"{TWINS}/usr/bin/readlink"


def test_questions_to_the_loader_are_for_the_targets_own(target: Target) -> None:
    assert "/.xbuild" not in target.sh("LD_TRACE_LOADED_OBJECTS=1 ls; LD_DEBUG=libs true 2>&1; LD_SHOW_AUXV=1 true")


@pytest.mark.parametrize(
    "change",
    [
        "touch {}",
        "chmod 755 {}",
        "cp -p {} /tmp/r; cp -p /tmp/r {}",
        "cp -p {} /tmp/r; rm {}; mv /tmp/r {}",
        "mv {} /usr/bin/moved; mv /usr/bin/moved {}",
        "ln {} /usr/bin/second",
    ],
)
def test_a_file_that_the_build_changed_is_emulated(target: Target, change: str) -> None:
    path = "/usr/bin/readlink"
    assert target.sh(f"{change.replace('{}', path)}; readlink {EXE}") == QEMU
    assert path in target.traced()


def test_an_overwritten_program_is_what_was_written(target: Target) -> None:
    assert target.sh(f"cp /usr/bin/readlink /usr/bin/sed; sed {EXE}") == QEMU
    # The change lasts in the upper directory, beyond this sandbox.
    assert target.says("sed", EXE) == QEMU


def test_something_mounted_over_a_program_is_what_runs(target: Target) -> None:
    assert target.sh(f"mount --bind /usr/bin/readlink /usr/bin/sed; sed {EXE}") == QEMU


def test_a_copy_elsewhere_is_emulated(target: Target) -> None:
    assert target.sh(f"cp -p /usr/bin/readlink /tmp/; /tmp/readlink {EXE}") == QEMU


def test_deleted_programs_are_gone(target: Target) -> None:
    assert target.run("sh", "-c", "rm /usr/bin/sed; sed --version")[0] == 127
    assert target.run("sed", "--version")[0] == 127


CHROOT = """
mkdir -p /c/lib /c/bin /c/proc
cp /usr/bin/cat /usr/bin/true /c/bin/
cp -L /lib/ld-linux-armhf.so.3 /lib/arm-linux-gnueabihf/libc.so.6 /c/lib/
"""


def test_a_chroot_that_the_build_made(target: Target) -> None:
    said = target.sh(CHROOT + "mount --bind /proc /c/proc; chroot /c /bin/cat /proc/self/cmdline")
    assert said == "/bin/cat\0/proc/self/cmdline\0"


NO_PATH = {
    "no /proc": "chroot /c /bin/sh -c '/bin/cat /etc/issue; exec /bin/cat /etc/issue'",
    "another process 1": "unshare --pid --fork --mount-proc=/c/proc chroot /c /bin/sh -c '/bin/cat /etc/issue'",
    "pivot_root": "unshare --mount sh -euc 'mount --bind /c /c; cd /c; mkdir -p old; pivot_root . old; "
    "exec /bin/cat /etc/issue'",
    "a chroot in a chroot": "mkdir /c/d; cp -a /c/bin /c/lib /c/etc /c/d/; cp /usr/sbin/chroot /c/bin/; "
    "chroot /c /bin/chroot /d /bin/cat /etc/issue",
    "unshare --root": "unshare --root=/c /bin/cat /etc/issue",
}


@pytest.mark.parametrize("where", NO_PATH)
def test_where_no_path_leads_to_the_emulator(target: Target, where: str) -> None:
    """The kernel has it open for copies of programs; see copied.h. What is started gathers no descriptors by it."""
    start = CHROOT + "cp /usr/bin/dash /c/bin/sh; mkdir -p /c/etc; echo here > /c/etc/issue; "
    assert set(target.sh(start + NO_PATH[where]).splitlines()) == {"here"}


def test_native_compilers_convert_character_sets(target: Target) -> None:
    script = r"""cd /tmp; printf 'const char text[] = "\344";' > a.c; gcc -finput-charset=ISO-8859-1 -S -o - a.c"""
    assert r'"\303\244' in target.sh(script)


def test_copies_do_not_gather(target: Target) -> None:
    program = "int main(int c, char **v) { int n = 0; for (int i = 0; i < 2000; i++) n += fcntl(i, 1) >= 0; "
    program += 'if (c < 9) { v[c] = "x"; v[c + 1] = 0; execv("/p", v); } printf("%d\\n", n); }'
    lines = "#include <fcntl.h>", "#include <stdio.h>", "#include <unistd.h>", program
    script = f"cd /tmp; printf '%s\\n' {shlex.join(lines)} > p.c; "
    script += "gcc -w -static -o p p.c; mkdir /c; cp p /c/p; chroot /c /p 1 2 3 4 3<&- "
    assert target.sh(script) == "4"


def test_a_chroot_with_the_same_files_but_without_twins(target: Target) -> None:
    script = f"mkdir /c; mount --bind / /c; mount --bind /proc /c/proc; chroot /c /bin/readlink {EXE}"
    assert target.sh(script) == QEMU


@pytest.mark.parametrize("program", ["/usr/bin/true", "/usr/bin/copy"])
def test_the_longest_command_line(target: Target, program: str) -> None:
    target.sh("cp /usr/bin/true /usr/bin/copy")
    # 2 MiB, a quarter of the usual stack limit, is what execve(2) takes; strings have up to 128 KiB each.
    good, bad = 0, 22 * 100_000
    while bad - good > 4:
        middle = (good + bad) // 2
        rest = [middle % 100_000] if middle % 100_000 else []
        words = ["x" * size for size in [100_000] * (middle // 100_000) + rest]
        returncode, said = target.run(program, *words)
        if returncode == 0:
            good = middle
        else:
            assert returncode in (126, 127)
            assert "argument list too long" in said.lower()
            bad = middle
    assert good > 2_000_000


@pytest.mark.parametrize("program", ["/usr/bin/ls", "/tmp/ls"])
def test_no_descriptor_is_left_open(target: Target, program: str) -> None:
    script = f"[ {program} = /usr/bin/ls ] || cp /usr/bin/ls {program}; {program} /proc/self/fd"
    assert target.sh(script).split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("uid", [0, 1000])
def test_the_machine_is_arm(target: Target, uid: int) -> None:
    assert target.says("uname", "-m", uid=uid) == "armv7l"
    assert target.sh("arch; dpkg --print-architecture", uid=uid).split() == ["armv7l", "armhf"]
    assert target.says("perl", "-e", "print((POSIX::uname())[4])", "-MPOSIX") == "armv7l"


def test_identity_of_bash_and_make(target: Target, emulated: Target) -> None:
    script = "echo $HOSTTYPE $OSTYPE $MACHTYPE; printf 'all:;@echo $(MAKE_HOST)\\n' | make -f -"
    said = target.says("bash", "-c", script)
    assert said.split() == ["arm", "linux-gnueabihf", "arm-unknown-linux-gnueabihf", "arm-unknown-linux-gnueabihf"]
    assert said == emulated.says("bash", "-c", script)
    assert target.says("bash", "-c", "echo $HOSTTYPE", env={"HOSTTYPE": "mine"}) == "mine"


@pytest.mark.parametrize("argument", ["-print-search-dirs", "-dumpmachine", "-v", "-print-multiarch"])
def test_questions_to_the_compiler_are_for_the_targets_own(target: Target, emulated: Target, argument: str) -> None:
    assert target.says("gcc", argument) == emulated.says("gcc", argument)
    assert [path for path in target.traced() if "gcc" in path] != []


PROGRAM = "printf '#include <stdio.h>\\nint main(void) { puts(__VERSION__); return 3; }\\n' >/tmp/a.c; cd /tmp;"


def test_compiling_is_native_and_what_is_built_is_emulated(target: Target) -> None:
    returncode, _ = target.run("sh", "-euc", f"{PROGRAM} gcc -O2 a.c; ./a.out")
    assert returncode == 3
    assert target.traced() == ["/tmp/a.out"]


@pytest.mark.parametrize("flags", ["-O2 -g", "-O2 -flto", "-x c++ -lstdc++"])
def test_the_compiler_writes_the_same_bytes(target: Target, emulated: Target, flags: str) -> None:
    script = f"{PROGRAM} gcc {flags} -frandom-seed=1 a.c; sha256sum <a.out"
    assert target.sh(script) == emulated.sh(script)


@pytest.mark.parametrize("number", [1, 2, 9, 11, 15])
@pytest.mark.parametrize("program", ["/usr/bin/dash", "/tmp/dash"])
def test_signals_arrive(target: Target, program: str, number: int) -> None:
    script = f"[ {program} = /usr/bin/dash ] || cp /usr/bin/dash {program}; exec {program} -c 'kill -{number} $$'"
    assert target.run("sh", "-euc", script)[0] == -number


@pytest.mark.parametrize("code", [0, 1, 77, 255])
@pytest.mark.parametrize("program", ["/usr/bin/dash", "/tmp/dash"])
def test_exit_codes_arrive(target: Target, program: str, code: int) -> None:
    script = f"[ {program} = /usr/bin/dash ] || cp /usr/bin/dash {program}; {program} -c 'exit {code}'"
    assert target.run("sh", "-c", script) == (code, "")


def test_a_program_that_may_be_run_but_not_read(target: Target) -> None:
    target.sh("cp /usr/bin/readlink /usr/bin/hidden; chmod 0111 /usr/bin/hidden")
    assert target.says("hidden", EXE) == QEMU
    # What qemu-user cannot read it cannot run: a known difference from the kernel, told and not silent.
    returncode, said = target.run("hidden", EXE, uid=1000)
    assert returncode == 1
    assert "/usr/bin/hidden: Permission denied" in said


def test_the_builder_can_do_all_that(target: Target) -> None:
    assert target.says("readlink", EXE, uid=1000) == f"{TWINS}/usr/bin/readlink"
    assert target.sh(f"cp /usr/bin/readlink /tmp/; /tmp/readlink {EXE}", uid=1000) == QEMU
    assert target.traced() == ["/tmp/readlink"]


def test_nothing_can_be_written_below_the_private_directory(target: Target) -> None:
    returncode, said = target.run("touch", "/.xbuild/amd64/x")
    assert returncode == 1
    assert "Read-only file system" in said
