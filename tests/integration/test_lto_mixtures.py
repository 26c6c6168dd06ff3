"""Link-time optimization across native and emulated steps: every mixture computes what is right.

LTO byte code holds words of the compiler's own size. What a 64-bit compiler has written, a 32-bit one misreads without
a complaint, and wrong floating constants are the first to show.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from pathlib import Path

import pytest

from tests.integration.conftest import Armhf, Target, load_target, make_target
from xbuild.dispatcher.table import Entry

pytestmark = pytest.mark.integration

CONSTANTS = (6.383, 0.1, 1e-300, -1.0 / 3.0, 3.141592653589793, 1e300)
LIBRARY = "double scale(double x) { return x * 1.5; }\nfloat half(float x) { return x * 0.5f; }\n"
MAIN = """
#include <cstdio>
#include <cstdint>
extern double scale(double x);
extern float half(float x);
static const double table[] = {TABLE};
static const int64_t wide = INT64_C(0x123456789abcdef);
int main()
{
    for (double value : table)
        std::printf("%.17g ", scale(value));
    std::printf("%.9g %lld\\n", (double)half(6.383f), (long long)(wide + 1));
}
""".replace("TABLE", ", ".join(map(repr, CONSTANTS)))
# The same in C.
MAIN_C = (
    MAIN.replace("<cstdio>", "<stdio.h>")
    .replace("<cstdint>", "<stdint.h>")
    .replace("std::", "")
    .replace("int main()", "int main(void)")
    .replace("for (double value : table)", "for (unsigned i = 0; i < sizeof table / sizeof *table; i++)")
    .replace("scale(value)", "scale(table[i])")
)
_SINGLE = struct.unpack("<f", struct.pack("<f", 6.383))[0]
RIGHT = " ".join(f"{value * 1.5:.17g}" for value in CONSTANTS) + f" {_SINGLE / 2:.9g} {0x123456789ABCDEF + 1}"

COMPILE = "-O2 -flto -ffp-contract=off -frandom-seed=1"
VARIANTS = {
    "objects": "$CC $COMPILE -c main.$X -o $D/main.o; $CC $COMPILE -c scale.$X -o $D/scale.o",
    "fat objects": "$CC $COMPILE -ffat-lto-objects -c main.$X -o $D/main.o;"
    "$CC $COMPILE -ffat-lto-objects -c scale.$X -o $D/scale.o",
    "static library": "$CC $COMPILE -c main.$X -o $D/main.o; $CC $COMPILE -c scale.$X -o $D/s.o;"
    "rm -f $D/scale.o; gcc-ar rcs $D/scale.o $D/s.o; gcc-nm $D/scale.o | grep -q scale",
}
LINK = "$CC -O2 -flto -ffp-contract=off $M/main.o $S/scale.o -o it && ./it"
LINK_PLAIN = "$CC -fno-lto $M/main.o $S/scale.o -o it && ./it"


@dataclass
class Workshop:
    """One directory that persists from step to step, each with the twins that it is given."""

    target: Target

    def run(self, entries: Sequence[Entry], script: str, **variables: str) -> str:
        """What the script says, with these twins."""
        self.target.armhf.roots.dispatcher(entries, self.target.dispatcher)
        return self.target.sh(f"cd /root; {script}", {"COMPILE": COMPILE, **variables})

    @property
    def modes(self) -> dict[str, Sequence[Entry]]:
        """Twins by where a step runs."""
        return {"native": self.target.armhf.pairs.table, "emulated": ()}


@pytest.fixture(scope="module", params=["armhf", pytest.param("arm64", marks=pytest.mark.long)])
def known(request: pytest.FixtureRequest, runnable: None) -> Armhf:
    """A target, with what is native behind it."""
    return load_target(request.param)


def prepared(target: Armhf, place: Path, language: str) -> Workshop:
    """A workshop with the sources."""
    shop = Workshop(make_target(target, place, ()))
    main, library = (MAIN, LIBRARY) if language == "cc" else (MAIN_C, LIBRARY)
    shop.run(
        (),
        'mkdir -p native emulated; printf %s "$A" > "main.$X"; printf %s "$B" > "scale.$X"',
        A=main,
        B=library,
        X=language,
    )
    return shop


CASES = [
    pytest.param(language, variant, marks=() if (language == "cc") == (variant == "fat objects") else pytest.mark.long)
    for language, variant in product(("c", "cc"), VARIANTS)
]


@pytest.mark.parametrize(("language", "variant"), CASES)
def test_every_mixture_computes_the_same(known: Armhf, place: Path, language: str, variant: str) -> None:
    shop = prepared(known, place, language)
    compiler = {"c": "gcc", "cc": "g++"}[language]
    for mode, entries in shop.modes.items():
        shop.run(entries, f"{VARIANTS[variant]}; sha256sum {mode}/main.o", CC=compiler, X=language, D=mode)
    assert shop.run((), "cmp native/main.o emulated/main.o && cmp native/scale.o emulated/scale.o") == ""
    # The objects are equal, byte by byte, so further mixtures of them would be the same links again.
    for (main, library), (mode, entries) in product(permutations(shop.modes), shop.modes.items()):
        said = shop.run(entries, LINK, CC=compiler, M=main, S=library)
        assert said == RIGHT, f"main.o is {main}, scale.o is {library}, linked {mode}"
    if variant == "fat objects":
        assert shop.run(shop.modes["native"], LINK_PLAIN, CC=compiler, M="native", S="emulated") == RIGHT


def test_a_compiler_of_the_wrong_width_computes_what_is_wrong(armhf: Armhf, place: Path) -> None:
    """The test of the test: without the rule that -flto asks for the twin of the target's width."""
    shop = prepared(armhf, place, "c")
    wide = [replace(entry, other=None) for entry in shop.modes["native"]]
    assert wide != list(shop.modes["native"])
    shop.run(wide, VARIANTS["objects"], CC="gcc", X="c", D="native")
    said = shop.run((), LINK, CC="gcc", M="native", S="native")
    assert said != RIGHT
    assert len(said.split()) == len(RIGHT.split())
