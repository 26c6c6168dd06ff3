"""Compiled modules of build dependencies: native where they are the distribution's own, the target's elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild, unpacked

pytestmark = pytest.mark.e2e

_PACKAGES = ["libsub-name-perl", "python3-markupsafe"]
_PERL = 'use Sub::Name; print subname("a::b", sub { (caller(0))[3] })->(), " $INC{q(Sub/Name.pm)}\\n"'
_PYTHON = "import markupsafe._speedups as s, markupsafe as m; print(m.escape(chr(60)), s.__file__)"
_MODULES = f"""
perl -e '{_PERL}' > answer
python3 -c '{_PYTHON}' >> answer
"""
# The same module, a copy of the build's own: no package brings it to where it lies.
_OWN = f"""
mkdir own && cp -a /usr/lib/python3/dist-packages/markupsafe own
PYTHONPATH=$PWD/own python3 -c '{_PYTHON}' >> answer
"""
# An interpreter in a program that the build has made is the target's, and so are the modules that it loads.
_EMBEDDED = """
cat > embed.c <<'END'
#include <dlfcn.h>
#include <stdlib.h>
static void *lib;
static void xs_init(void *perl)
{
    void *(*new_xs)(void *, const char *, void *, const char *) = dlsym(lib, "Perl_newXS");
    new_xs(perl, "DynaLoader::boot_DynaLoader", dlsym(lib, "boot_DynaLoader"), __FILE__);
}
int main(int argc, char **argv, char **envp)
{
    void (*start)(int *, char ***, char ***), *(*alloc)(void), (*construct)(void *);
    int (*parse)(void *, void *, int, char **, char **), (*run)(void *);
    if (!(lib = dlopen("libperl.so.5.40", RTLD_NOW | RTLD_GLOBAL)))
        return 2;
    start = dlsym(lib, "Perl_sys_init3"), alloc = dlsym(lib, "perl_alloc"), construct = dlsym(lib, "perl_construct");
    parse = dlsym(lib, "perl_parse"), run = dlsym(lib, "perl_run");
    start(&argc, &argv, &envp);
    void *perl = alloc();
    construct(perl);
    return parse(perl, (void *)xs_init, argc, argv, NULL) || run(perl);
}
END
cc -o embed embed.c
./embed -e 'use Sub::Name; $| = 1; print "embedded ", subname("a::c", sub { (caller(0))[3] })->(), "\\n"' >> answer
"""
_ANSWER = """\
a::b /usr/lib/arm-linux-gnueabihf/perl5/5.40/Sub/Name.pm
&lt; /usr/lib/python3/dist-packages/markupsafe/_speedups.cpython-313-arm-linux-gnueabihf.so
"""
_REST = """\
&lt; /build/src/own/markupsafe/_speedups.cpython-313-arm-linux-gnueabihf.so
embedded a::c
"""


def programs(xbuild: Xbuild) -> dict[str, tuple[int, int]]:
    """By program: native and emulated execs of the compile phase."""
    trace: Any = xbuild("trace", "tiny", "--target", "armhf", "--phase", "compile", "--json").json
    return {one["program"]: (one["native"]["execs"], one["emulated"]["execs"]) for one in trace["programs"]}


def inputs(made: Any) -> Any:
    """What the manifest says of packages."""
    return json.loads(Path(made["manifest"]).read_text())["inputs"]


def test_modules_of_build_dependencies(xbuild: Xbuild) -> None:
    # Which of python's scripts run natively in 32 bits is another rule.
    more: Any = {"depends": {"packages": _PACKAGES}, "twins": {"add": ["python3"]}}
    xbuild.recipe(build={"compile": f"{_MODULES}diff answer - <<'END'\n{_ANSWER}END\n"}, **more)
    made = xbuild.build("tiny")
    counted = programs(xbuild)
    assert (counted["/usr/bin/perl"], counted["/usr/bin/python3.13"]) == ((1, 0), (1, 0))
    held = inputs(made)["native layer"]
    assert {*_PACKAGES} <= held.keys()
    assert all(text.split()[1] != "all" for text in held.values())

    script = f"{_MODULES}{_OWN}{_EMBEDDED}diff answer - <<'END'\n{_ANSWER}{_REST}END\n"
    xbuild.recipe(build={"compile": script}, **more)
    made = xbuild.build("tiny")
    counted = programs(xbuild)
    assert (counted["/usr/bin/perl"], counted["made by the build: embed"]) == ((1, 0), (0, 1))
    # The second one began again emulated.
    assert counted["/usr/bin/python3.13"] == (1, 1)
    emulated = xbuild.build("tiny", "--mode", "emulated")
    assert unpacked(emulated["artifact"]) == unpacked(made["artifact"])
    assert "native layer" not in inputs(emulated)
