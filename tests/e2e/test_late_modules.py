"""Native tools that are asked for modules and plugins of the target that have no native partner."""

from __future__ import annotations

from typing import Any

import pytest
from command_line import Xbuild, unpacked

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
    "package/__init__.py": "NAMES = {'a', 'b', 'c'} | frozenset('xyz')\n",
    "package/part.py": "def is_one(x):\n    return x in {'a', 'b', 'c', 1, 2.5}\n",
}
_COMPILE = """
for name in plugin object; do gcc -shared -fPIC -o $name.so $name.c; done
gcc -c half.c
{
ld @with
make -f Makefile.object
echo one > lines; gawk -i inplace '{ print toupper($0) }' lines; cat lines
gawk -l ordchr 'BEGIN { print ord("A") }'
python3 -c 'import package.part, sys; sys.stdout.write("whole\\n")'
rm -r package/__pycache__
python3 -c 'import package.part, _ctypes, sys; print(sys.maxsize, package.part.is_one("c"))'
python3 -c 'import os, sys; os.execv(sys.executable, [sys.executable, "-c", "import _ctypes, sys; print(sys.maxsize)"])'
} > answer 2>&1
"""
_INSTALL = """
install -D -m 644 answer "$DESTDIR/usr/share/answer"
install -m 644 package/__pycache__/*.pyc "$DESTDIR/usr/share"
"""
_ANSWER = f"""\
the plugin was loaded
the object was loaded
all
ONE
65
whole
{2**31 - 1} True
{2**31 - 1}
"""


def test_they_begin_again_emulated_and_the_build_does_not(xbuild: Xbuild) -> None:
    script = f"{_COMPILE}diff answer - <<'END'\n{_ANSWER}END\n"
    depends = {"packages": ["gawk", "python3"]}
    xbuild.recipe(files=_FILES, build={"compile": script, "install": _INSTALL}, depends=depends)
    made = xbuild.build("tiny")
    trace: Any = xbuild("trace", "tiny", "--target", "armhf", "--phase", "compile", "--json").json
    counted = {one["program"]: (one["native"]["execs"], one["emulated"]["execs"]) for one in trace["programs"]}
    # gcc has linked two libraries; python3 begins again twice, without a new build for what it had cached.
    assert counted["/usr/bin/arm-linux-gnueabihf-ld.bfd"] == (2, 1)
    assert counted["/usr/bin/make"] == (0, 1)
    assert counted["/usr/bin/gawk"] == (2, 0)
    assert counted["/usr/bin/python3.13"] == (2, 2)
    assert "emulated-late" not in made["manifest"]
    emulated = xbuild.build("tiny", "--mode", "emulated")
    assert unpacked(emulated["artifact"]) == unpacked(made["artifact"])
