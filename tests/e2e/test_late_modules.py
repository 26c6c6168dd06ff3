"""Native tools that are asked for modules and plugins of the target that have no native partner."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.command_line import Xbuild, unpacked

pytestmark = pytest.mark.e2e

_PLUGIN = """\
#include <stdio.h>
struct item { int tag; void *value; };
int onload(struct item *items) { return fprintf(stderr, "the plugin was loaded\\n") < 0 || !items->tag; }
"""
_OBJECT = """\
#include <stdio.h>
int plugin_is_GPL_compatible;
int object_gmk_setup(void) { return printf("the object was loaded\\n"), fflush(stdout), 1; }
"""
_FILES = {
    "plugin.c": _PLUGIN,
    "object.c": _OBJECT,
    "half.c": "int half(int x) { return x / 2; }\n",
    "with": "-r -o r.o -plugin ./plugin.so half.o\n",
    "Makefile.object": "load ./object.so\nall:; @echo all\n",
}
_PLUGINS = """
for name in plugin object; do gcc -shared -fPIC -o $name.so $name.c; done
gcc -c half.c
{
ld @with
make -f Makefile.object
echo one > lines; gawk -i inplace '{ print toupper($0) }' lines; cat lines
gawk -l ordchr 'BEGIN { print ord("A") }'
} > answer 2>&1
diff answer - <<'END'
the plugin was loaded
the object was loaded
all
ONE
65
END
"""
_PACKAGE = {
    "package/__init__.py": "NAMES = {'a', 'b', 'c'} | frozenset('xyz')\n",
    "package/part.py": "def is_one(x):\n    return x in {'a', 'b', 'c', 1, 2.5}\n",
}
# What has no partner is imported behind what is cached; and by a program that the interpreter becomes.
_CACHES = """
python3 -c 'import package.part, sys; sys.stdout.write("whole\\n")' > answer
rm -r package/__pycache__
python3 -c 'import package.part, _ctypes; print(package.part.is_one("c"))' >> answer
python3 -c 'import os, sys; os.execv(sys.executable, [sys.executable, "-c", "import _ctypes; print(7)"])' >> answer
diff answer - <<'END'
whole
True
7
END
"""
_INSTALL = """
install -D -m 644 answer "$DESTDIR/usr/share/answer"
install -m 644 package/__pycache__/*.pyc "$DESTDIR/usr/share"
"""


def programs(xbuild: Xbuild, target: str) -> dict[str, tuple[int, int]]:
    """By program: native and emulated execs of the compile phase."""
    trace: Any = xbuild("trace", "tiny", "--target", target, "--phase", "compile", "--json").json
    return {one["program"]: (one["native"]["execs"], one["emulated"]["execs"]) for one in trace["programs"]}


def test_plugins_and_objects_of_the_build_s_own(xbuild: Xbuild) -> None:
    """Tools of either word size begin again emulated; the build does not."""
    xbuild.recipe(files=_FILES, build={"compile": _PLUGINS}, depends={"packages": ["gawk"]})
    made = xbuild.build("tiny")
    counted = programs(xbuild, "armhf")
    # gcc has linked two libraries, and the phase's own make is none of these.
    assert counted["/usr/bin/arm-linux-gnueabihf-ld.bfd"] == (2, 1)
    assert counted["/usr/bin/make"] == (0, 1)
    assert counted["/usr/bin/gawk"] == (2, 0)
    assert "emulated-late" not in made["manifest"]


@pytest.mark.long
def test_caches_that_were_written_before_are_no_effect(xbuild: Xbuild) -> None:
    build = {"compile": _CACHES, "install": _INSTALL}
    xbuild.recipe(files=_PACKAGE, build=build, depends={"packages": ["python3"]})
    made = xbuild.build("tiny", target="arm64")
    # The last one is executed twice: by the shell, and by itself.
    assert programs(xbuild, "arm64")["/usr/bin/python3.13"] == (2, 2)
    assert "emulated-late" not in made["manifest"]
    emulated = xbuild.build("tiny", "--mode", "emulated", target="arm64")
    assert unpacked(emulated["artifact"]) == unpacked(made["artifact"])
