"""What is no number in a native program: as on ARM, whatever the program does about signals.

The two C programs begin as twins do, by the loader that brings the shim. What they compute is held against what they
compute emulated; what they see of signals against the same program without the shim, since that is Linux's own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import Target, load_target, make_target
from xbuild.base import paths
from xbuild.model.native import here
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.run import capture
from xbuild.twins.privatetree import LATE_LOADER, PLAIN_LOADER, WORKPLACE, tool_sandbox

pytestmark = pytest.mark.integration

NUMBERS, SIGNALS = (Path(__file__).with_name(name).read_text() for name in ("numbers.c", "sigfpe.c"))
COMPILE = "gcc -O2 -D_FORTIFY_SOURCE=2 -fno-builtin -ffp-contract=off"


def compiler(target: Target) -> str:
    return f"{COMPILE} -DTARGET_64" if target.armhf.toolchain.elf.elf_class == 64 else COMPILE


def native(target: Target, source: str, loader: str) -> list[str]:
    """What the program says that is compiled natively and begins by this loader of the private tree."""
    natives, place = target.armhf.natives, target.place / "native"
    place.mkdir(exist_ok=True)
    (place / "a.c").write_text(source)
    shown = (Bind(str(place), WORKPLACE), Bind(str(natives.private), paths.PRIVATE, readonly=True))
    path = f"{paths.PRIVATE}/amd64/{loader}"
    script = f"cd /tmp; {compiler(target)} -Wl,--dynamic-linker={path} -o a {WORKPLACE}/a.c -lm; exec timeout 60 ./a"
    code, said = capture(tool_sandbox(natives.trees["amd64"], shown, {}), ["sh", "-euc", script])
    assert code == 0, said.decode()
    return said.decode().splitlines()


def emulated(target: Target, source: str) -> list[str]:
    script = f'cd /tmp; printf %s "$SOURCE" > a.c; {compiler(target)} -o a a.c -lm; exec timeout 60 ./a'
    return target.sh(script, env={"SOURCE": source}).splitlines()


@pytest.mark.parametrize("name", ["armhf", "arm64"])
def test_all_operations_with_all_odd_numbers(name: str, runnable: None, place: Path) -> None:
    known = load_target(name)
    if not here().computes_as(known.toolchain.traits):
        pytest.skip("no processor for twins that compute")
    target = make_target(known, place, known.pairs.table)
    arm = emulated(target, NUMBERS)
    ours, plain = (native(target, NUMBERS, loader) for loader in (LATE_LOADER, PLAIN_LOADER))
    assert len(arm) > 20_000
    assert [pair for pair in zip(arm, ours, strict=True) if pair[0] != pair[1]] == []
    # Operations of each kind have a case that x86-64 has otherwise.
    odd = {line.split()[0] for line, other in zip(ours, plain, strict=True) if line != other}
    assert {"double_add", "avx_div", "float_root", "doubles_mul", "float_whole", "floats_whole", "fmod", "sin"} <= odd


def test_sigfpe_is_the_programs_own(target: Target) -> None:
    ours, plain = (native(target, SIGNALS, name) for name in (LATE_LOADER, PLAIN_LOADER))
    assert ours == [line.replace("-nan", "nan") for line in plain]
    assert sum("-nan" in line for line in plain) > 10


def test_an_operation_that_is_not_known_ends_the_program(target: Target) -> None:
    """There is no emulated one to become here; never does it go on with what x86-64 gives."""
    source = """
    #include <math.h>
    #include <stdio.h>
    int main(void)
    {
        double room[2] __attribute__((aligned(16))) = {INFINITY, -INFINITY};
        __asm__ volatile("movapd %0, %%xmm1; .byte 0x66, 0x0f, 0x7c, 0xc9" : "+m"(room) :: "xmm1"); /* haddpd */
        return puts("went on");
    }
    """
    with pytest.raises(AssertionError, match="asks for, is only there for the target"):
        native(target, source, LATE_LOADER)


@pytest.mark.parametrize("way", ["ignored", "blocked"])
def test_what_begins_with_another_sigfpe_is_emulated(target: Target, way: str) -> None:
    """It would hand that on to what it starts."""
    block = "use POSIX; POSIX::sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGFPE)); exec @ARGV"
    before = {"ignored": "trap '' FPE;", "blocked": 'perl -e "$BLOCK"'}[way]
    asks = f"{before} /usr/bin/mawk 'BEGIN {{ print log(-1) }}'; {before} grep -E 'Sig(Ign|Blk)' /proc/./self/status"
    said = target.sh(asks, env={"BLOCK": block}).split()
    bits = [int(said[at], 16) >> 7 & 1 for at in (2, 4)]
    assert "/usr/bin/mawk" in target.traced()
    assert said[0] in ("nan", "+nan")
    assert bits == ([0, 1] if way == "ignored" else [1, 0])
