"""The dispatcher with the real kernel, the real qemu and a real armhf root."""

from __future__ import annotations

import pytest
from conftest import Target

from xbuild.record import Verdict

pytestmark = pytest.mark.integration

EXE = "/proc/self/exe"
TWINS = "/.xbuild/amd64"


def test_a_twin_runs(target: Target) -> None:
    assert target.says("readlink", EXE) == f"{TWINS}/usr/bin/readlink"
    assert target.traced() == []
    assert [(known.path, known.verdict) for known in target.execs()] == [("/usr/bin/readlink", Verdict.TWIN)]


def test_without_twins_qemu_runs_everything(emulated: Target) -> None:
    assert emulated.says("readlink", EXE) == "/usr/bin/readlink"
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
MAPS = "cp /usr/bin/cat /tmp/cat; /tmp/cat /proc/self/maps"


def test_preloads_are_parked_before_twins_and_given_back(target: Target) -> None:
    said = target.sh(MAPS, {"LD_PRELOAD": PRELOAD})
    assert "ld.so" not in said
    assert PRELOAD in said
    assert PRELOAD not in target.sh(MAPS)


def test_a_preload_set_by_a_twin_reaches_target_programs(target: Target) -> None:
    assert PRELOAD in target.sh(f"cp /usr/bin/cat /tmp/cat; LD_PRELOAD={PRELOAD} env /tmp/cat /proc/self/maps")


def test_the_latest_preload_wins(target: Target) -> None:
    later = "/usr/lib/arm-linux-gnueabihf/libdl.so.2"
    for words in (f"LD_PRELOAD={later} XB_PRELOAD={PRELOAD}", f"XB_PRELOAD={PRELOAD} LD_PRELOAD={later}"):
        said = target.sh(f"cp /usr/bin/env /tmp/env; env -i {words} /usr/bin/env /tmp/env")
        assert said == f"LD_PRELOAD={later}"
    script = f"cp /usr/bin/cat /tmp/cat; export LD_PRELOAD={later}; env /tmp/cat /proc/self/maps"
    said = target.sh(script, {"LD_PRELOAD": PRELOAD})
    assert later in said
    assert PRELOAD not in said


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
    assert target.sh(f"{change.replace('{}', path)}; readlink {EXE}") == path
    assert "/usr/bin/readlink" in target.traced()


def test_an_overwritten_program_is_what_was_written(target: Target) -> None:
    assert target.sh(f"cp /usr/bin/readlink /usr/bin/sed; sed {EXE}") == "/usr/bin/sed"
    # The change lasts in the upper directory, beyond this sandbox.
    assert target.says("sed", EXE) == "/usr/bin/sed"


def test_something_mounted_over_a_program_is_what_runs(target: Target) -> None:
    assert target.sh(f"mount --bind /usr/bin/readlink /usr/bin/sed; sed {EXE}") == "/usr/bin/sed"


def test_a_copy_elsewhere_is_emulated(target: Target) -> None:
    assert target.sh(f"cp -p /usr/bin/readlink /tmp/; /tmp/readlink {EXE}") == "/tmp/readlink"


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


def test_a_chroot_without_proc_is_told_about(target: Target) -> None:
    returncode, said = target.run("sh", "-euc", CHROOT + "chroot /c /bin/true")
    assert (returncode, said) == (126, "xbuild: cannot start qemu for /bin/true\n")


def test_a_chroot_with_the_same_files_but_without_twins(target: Target) -> None:
    script = f"mkdir /c; mount --bind / /c; mount --bind /proc /c/proc; chroot /c /bin/readlink {EXE}"
    assert target.sh(script) == "/usr/bin/readlink"


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
    assert target.says("hidden", EXE) == "/usr/bin/hidden"
    # What qemu-user cannot read it cannot run: a known difference from the kernel, told and not silent.
    returncode, said = target.run("hidden", EXE, uid=1000)
    assert returncode == 1
    assert "/usr/bin/hidden: Permission denied" in said


def test_the_builder_can_do_all_that(target: Target) -> None:
    assert target.says("readlink", EXE, uid=1000) == f"{TWINS}/usr/bin/readlink"
    assert target.sh(f"cp /usr/bin/readlink /tmp/; /tmp/readlink {EXE}", uid=1000) == "/tmp/readlink"
    assert target.traced() == ["/tmp/readlink"]


def test_nothing_can_be_written_below_the_private_directory(target: Target) -> None:
    returncode, said = target.run("touch", "/.xbuild/amd64/x")
    assert returncode == 1
    assert "Read-only file system" in said
