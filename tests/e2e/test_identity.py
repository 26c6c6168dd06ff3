"""The same bytes, whether native tools stand in or not: artifacts, objects and libraries."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePath
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild, unpacked

pytestmark = pytest.mark.e2e

TRIPLET = "arm-linux-gnueabihf"
TOOLS = {"as", "ld", "ld.bfd", "ar", "ranlib", "cc1", "cc1plus", "collect2", "lto1", "lto-wrapper"}
DRIVERS = {"gcc-14", "g++-14", "cpp-14"}


def emulated_count(manifest: dict[str, Any], names: set[str]) -> int:
    """How often programs of these names ran emulated, by whatever name of theirs they were called."""
    real = {PurePath(path).name.removeprefix(f"{TRIPLET}-"): count for path, count in manifest["ran-emulated"].items()}
    return sum(count for name, count in real.items() if name in names)


def objects(tree: Path) -> dict[str, str]:
    """The sha256 of each object and static library below `tree`."""
    files = [path for path in tree.rglob("*") if path.suffix in (".o", ".a", ".lo") and path.is_file()]
    return {str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def manifest(result: dict[str, Any]) -> Any:
    """The manifest of a result."""
    return json.loads(Path(result["manifest"]).read_text())


def compare(xbuild: Xbuild, recipe: str) -> tuple[Any, Any]:
    """Build in both modes, compare every byte; give both manifests."""
    results, trees = [], []
    for mode in ("substituted", "emulated"):
        results.append(xbuild.build(recipe, "--keep", "--mode", mode))
        trees.append(objects(xbuild.place(recipe, mode) / "build"))
    artifacts = [unpacked(result["artifact"]) for result in results]
    assert len(trees[0]) > 0
    assert trees[0] == trees[1]
    assert artifacts[0] == artifacts[1]
    assert [result["mode"] for result in results] == ["substituted", "emulated"]
    native, emulated = (manifest(result) for result in results)
    assert (native["mode"], emulated["mode"]) == ("substituted", "emulated")
    # Without this, two times the same mode would pass.
    assert (emulated["ran-native"], emulated["twins"]) == ({}, [])
    assert emulated_count(emulated, TOOLS) > 0
    assert emulated_count(emulated, DRIVERS) > 0
    return native, emulated


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["zlib", "lua"])
def test_a_real_project(xbuild: Xbuild, recipe: str) -> None:
    native, emulated = compare(xbuild, recipe)
    ran = set(native["ran-native"])
    assert {f"/usr/bin/{TRIPLET}-as", f"/usr/bin/{TRIPLET}-gcc-14", "/usr/bin/dash", "/usr/bin/make"} <= ran
    assert f"/usr/libexec/gcc/{TRIPLET}/14/cc1" in ran
    assert ran == {twin["path"] for twin in native["twins"] if twin["ran"]}
    assert emulated_count(native, TOOLS) == 0
    # zlib's configure asks two questions, among them `gcc -v`, which the target's own driver answers; lua asks none.
    assert emulated_count(native, DRIVERS) == (2 if recipe == "zlib" else 0)
    assert sum(native["ran-emulated"].values()) < sum(emulated["ran-emulated"].values()) / 20


# Link-time optimization writes the compiler's own words into objects: a 64-bit one for a 32-bit target gives wrong
# floating constants without a complaint. The names of the sections are random without -frandom-seed.
_FLOATS = """
#include <math.h>
#include <stdio.h>
double scale(double x);
static const double table[] = {6.383, 0.1, 1e-300, 1.0 / 3.0, 3.14159265358979323846, 1e300};
int main(void)
{
    double sum = 0;
    for (unsigned i = 0; i < sizeof table / sizeof *table - 1; i++)
        sum += scale(table[i]);
    printf("%.17g %a %zu\\n", sum, sum, sizeof(void *));
    return 0;
}
"""
_SCALE = "double scale(double x) { return x * 1.144 + 0.25; }\n"
# ((6.383 + 0.1 + 1e-300 + 1/3 + pi) * 1.144 + 5 * 0.25), summed term by term in double precision.
_TERMS = (6.383, 0.1, 1e-300, 1.0 / 3.0, 3.14159265358979323846)
_LTO_SAYS = sum(term * 1.144 + 0.25 for term in _TERMS)

_CXX = """
#include <algorithm>
#include <iostream>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>
template <typename T> T total(const std::vector<T> &values)
{
    return std::accumulate(values.begin(), values.end(), T());
}
int main()
{
    std::vector<int> numbers(10);
    std::iota(numbers.begin(), numbers.end(), 1);
    std::map<std::string, int> names{{"one", 1}, {"two", 2}};
    try {
        names.at("three");
    } catch (const std::out_of_range &) {
        std::cout << total(numbers) << " " << names["two"] << " " << __FILE__ << std::endl;
    }
    return 0;
}
"""
_MAKEFILE = """
CFLAGS = -g -O2
CXXFLAGS = -g -O2
all: numbers lto native.o plain.o
numbers: numbers.o
\t$(CXX) $(CXXFLAGS) -o $@ $^
lto: floats.o scale.o
\t$(CC) $(CFLAGS) -flto -o $@ $^ -lm
floats.o scale.o: %.o: %.c
\t$(CC) $(CFLAGS) -flto -frandom-seed=$@ -c -o $@ $<
native.o: scale.c
\t$(CC) $(CFLAGS) -march=native -c -o $@ $<
plain.o: scale.c
\t$(CC) $(CFLAGS) -g3 -DWHERE='"/proc/self/exe"' -c -o $@ $<
\tar rcs libplain.a plain.o
install:
\tinstall -D numbers $(DESTDIR)/usr/bin/numbers
\tinstall -D lto $(DESTDIR)/usr/bin/lto
\tinstall -D -m 644 libplain.a $(DESTDIR)/usr/lib/libplain.a
"""


def test_c_and_cxx_and_link_time_optimization(xbuild: Xbuild) -> None:
    outputs = [
        {"path": "usr/bin/numbers", "kind": "executable", "run": [], "prints": "55 2 numbers.cpp"},
        {"path": "usr/bin/lto", "kind": "executable", "run": [], "prints": f"{_LTO_SAYS:.17g} {_shown(_LTO_SAYS)} 4"},
        {"path": "usr/lib/libplain.a", "kind": "static-library"},
    ]
    files = {"numbers.cpp": _CXX, "floats.c": _FLOATS, "scale.c": _SCALE, "Makefile": _MAKEFILE}
    path = xbuild.recipe("mixed", files=files, outputs=outputs)
    # The preset's own phases: the recipe's have shell text in their places.
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(("  compile:", "  install:"))))
    native, _ = compare(xbuild, "mixed")
    prefix = f"/usr/libexec/gcc/{TRIPLET}/14"
    assert {f"{prefix}/cc1plus", f"{prefix}/lto1", f"{prefix}/lto-wrapper"} <= set(native["ran-native"])
    # -march=native means the emulated CPU, so the target's own driver looks at it. The two others are lto-wrapper's: it
    # starts drivers with LIBRARY_PATH set, which has the target's own answer too. All of them start native compilers.
    assert (emulated_count(native, TOOLS), emulated_count(native, DRIVERS)) == (0, 3)


def _shown(value: float) -> str:
    # C's %a has no trailing zeros, Python's hex() has.
    mantissa, _, exponent = value.hex().partition("p")
    return f"{mantissa.rstrip('0')}p{exponent}"


@pytest.mark.long
@pytest.mark.parametrize("target", ["armhf", pytest.param("arm64", marks=pytest.mark.long)])
def test_twice_the_same_is_the_same(xbuild: Xbuild, target: str) -> None:
    first = xbuild.build("zlib", target=target)
    again = xbuild.build("zlib", "--from", "unpack", "--jobs", "1", target=target)
    assert (first["status"], again["status"]) == ("built", "built")
    assert first["sha256"] == again["sha256"]
