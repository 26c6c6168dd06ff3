"""The assembler's line tables: they show where its memory is cut into pieces, so they show its libc's sizes.

Found in bash's y.tab.o: of 235 objects the only one whose .debug_line the i386 assembler wrote otherwise than ARM's.
"""

from __future__ import annotations

import pytest

from tests.integration.conftest import Target

pytestmark = pytest.mark.integration

# 300 functions of random shape. With seed 4, an assembler that takes its own libc's sizes writes another file.
SOURCE = r"""
BEGIN {
    srand(seed)
    print "extern int g(const char *, ...); extern double h(double);"
    for (f = 0; f < 300; f++) {
        printf "static int v%d;\nint f%d(int a,double x,int*p)\n{\n  switch (a) {\n", f, f
        n = 2 + int(rand() * 14)
        for (i = 0; i < n; i++) {
            printf "  case %d:\n", i * (2 + 0 * rand())
            printf "    v%d += g(\"text %d %%d\", a, p[%d]);\n", f, int(rand() * 999), int(rand() * 99)
            if (rand() < .4) printf "    x = h(x * %f);\n", rand() * 9
            if (rand() < .5) print "    break;"
        }
        printf "  }\n  while (a-- > %d)\n    p[a] ^= (int)x + v%d;\n  return v%d;\n}\n", int(rand() * 9), f, f
    }
}
"""

SCRIPT = """
cd /tmp
awk -v seed="$SEED" "$SOURCE" > a.c
gcc -g -O2 -S a.c
assemble() { "$@" -march=armv7-a+fp -mfloat-abi=hard -meabi=5 -o a.o a.s; md5sum < a.o; }
assemble as
assemble /.xbuild/qemu /usr/bin/as
# As its package has it: ld.so, called by hand, refuses what has a mark in its header.
cp /.xbuild/i386/usr/bin/arm-linux-gnueabihf-as plain
head -c 7 /dev/zero | dd of=plain bs=1 seek=9 conv=notrunc status=none
assemble /.xbuild/i386/ld ./plain
"""


@pytest.mark.parametrize("seed", [pytest.param(3, marks=pytest.mark.long), 4])
def test_the_twin_writes_the_bytes_of_the_targets_own(target: Target, seed: int) -> None:
    twin, own, without_shim = target.sh(SCRIPT, env={"SOURCE": SOURCE, "SEED": str(seed)}).splitlines()
    assert twin == own
    # The case is one: without the shim the same program writes something else.
    assert (without_shim != own) == (seed == 4)
