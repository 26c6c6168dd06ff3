"""perl and python answer natively as emulated, whatever they are asked and however they are started.

Their configuration, paths and uname are among the probes of test_leaks.py; here is what those leave out.
"""

from __future__ import annotations

import pytest

from tests.e2e.command_line import Xbuild

pytestmark = pytest.mark.e2e

MODES = ("substituted", "emulated")

PERL = r"""
perl -MConfig -e 'print "$_=$Config{$_}\n" for sort keys %Config' | sha256sum; perl -V | sha256sum; perl -V:.*size
PERL_HASH_SEED=0 perl -e '%h = map { ("k$_" => 1) } 1 .. 500; print join(" ", keys %h), "\n"' | sha256sum
mkdir l; echo 'package M; sub import { print "M $0\n" } 1;' > l/M.pm
PERL5LIB=l PERL5OPT=-MM perl -e 'print "$INC[0] @ARGV\n"' a; echo 'print "of stdin @ARGV\n", <STDIN>' > s
cat s | perl - b c
printf 'print <STDIN>;\n__END__\nrest\n' | perl; printf 'use POSIX; print getcwd(), <DATA>;\n__END__\nrest\n' | perl
perl -e 'if (my $p = fork) { waitpid $p, 0; print "parent $?\n" }
    else { require List::Util; exit List::Util::sum(3, 4) }'
perl -e 'BEGIN { if (!fork) { print "child\n"; exit 3 } wait; print $? >> 8, "\n" }
    use POSIX; print POSIX::floor(2.5), "\n"'
perl -Mthreads -e 'print join(",", map { $_->join } map { my $n = $_; threads->create(sub { $n * $n }) } 1 .. 4), "\n"'
perl -e '$SIG{USR1} = sub { print "signal\n" }; kill USR1 => $$;
    $SIG{ALRM} = sub { print "alarm\n"; exit 2 }; alarm 1; sleep 9'; echo $?
perl -e 'open my $p, "-|", "echo popen" or die; print <$p>; print `echo ticks`; system "echo system";
    require POSIX; print POSIX::strtol("ff", 16), "\n"'
for of in a b; do mkdir $of; echo "package Two; sub of { '$of' } 1;" > $of/Two.pm; done
perl -Ia -Ib -MTwo -e 'print Two::of(), " $INC{q(Two.pm)}\n"'
PERL5LIB=b:a perl -MTwo -e 'print Two::of(), " $INC{q(Two.pm)}\n"'
mkdir -p o/List; echo 'package List::Util; sub sum { "mine" } 1;' > o/List/Util.pm
perl -Io -MList::Util -e 'print List::Util::sum(1), " $INC{q(List/Util.pm)}\n"'
cp -r $(dirname $(perl -MList::Util -e 'print $INC{q(List/Util.pm)}'))/.. copied
perl -Icopied -MList::Util -e 'print List::Util::sum(3, 4), " $INC{q(List/Util.pm)}\n"'
perl -MStorable -e 'print unpack("H*", Storable::freeze([1, {a => 2}])), "\n"'
TZ=CET-1CEST perl -e 'print scalar(localtime(7e8)), "\n"'
"""

PYTHON = r"""
cat > ask.py <<'END'
import array, platform, site, struct, sys, sysconfig
print(sys.maxsize, sys.hash_info, sys.int_info, sys.float_info)
print(hash(2**40), hash(0.1), hash((1, 2)), platform.architecture())
print({(1, 2), (3, 4), (5, 6)}, {0.5, 1.5, 2.25}, frozenset(range(-9, 9)), [struct.calcsize(c) for c in "bhilqnNPfd"])
print(array.array("l").itemsize, sys.getsizeof([]), site.getsitepackages(), site.getusersitepackages())
print(sys.path, sys.argv)
print(sys.implementation, sys.platlibdir, sys.abiflags, sys.flags, sys.warnoptions, sys._xoptions, sys.platform)
import importlib.machinery as m
print(m.EXTENSION_SUFFIXES, sysconfig.get_platform(), sorted(sysconfig.get_paths().items()), platform.libc_ver())
import _locale, time
print(_locale.setlocale(_locale.LC_ALL), time.tzname)
END
python3 ask.py; python3 -X utf8=0 -X dev -W error ask.py; python3 - < ask.py
PYTHONHASHSEED=0 python3 -c 'print({*map(str, range(99))})'
mkdir -p p; echo 'print("mine", __name__)' > p/json.py; PYTHONPATH=p python3 -c 'import json'; cd p
python3 -c 'import json'
python3 -P -c 'import json; print(json.__file__)'; PYTHONSAFEPATH=1 python3 -c 'import json; print(json.__file__)'
cd ..
export HOME=$PWD; mkdir -p .local/lib/python3.13/site-packages
echo 'print("custom")' > .local/lib/python3.13/site-packages/usercustomize.py
python3 -c 'print(1)'; python3 -s -c 'print(2)'; PYTHONHOME=/nothing python3 -c 'print(3)' 2>&1 | tail -n 1
export HOME=/build
python3 -m venv --without-pip v; cat v/pyvenv.cfg
v/bin/python3 -c 'import sys; print(sys.prefix, sys.executable, sys.base_prefix)'
python3 -c 'import ctypes; print(ctypes.sizeof(ctypes.c_long), ctypes.CDLL(None).getpid() > 1)'
cat > fork.py <<'END'
import multiprocessing, os, signal, sys, threading
def work(number):
    return number * number, sys.maxsize
if __name__ == "__main__":
    for way in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(way).Pool(2) as pool:
            print(way, pool.map(work, range(4)))
    signal.signal(signal.SIGUSR1, lambda *_: print("signal"))
    os.kill(os.getpid(), signal.SIGUSR1)
    thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-c", "import sys; print('again', sys.maxsize, sys.argv)", "x"])
END
python3 fork.py 2> /dev/null
cat > popen.py <<'END'
import os, subprocess, sys
print(os.popen("echo popen").read(), subprocess.check_output(["sh", "-c", "echo $0"]), flush=True)
child = os.fork()
if child == 0:
    import decimal
    print("child", decimal.Decimal("0.1") + 1, flush=True); os._exit(3)
# By its number: the shell of popen may still be there to be waited for.
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
import bz2
print(bz2.decompress(bz2.compress(b"parent")))
END
python3 popen.py; python3 < popen.py
cp -r $(python3 -c 'import json; print(json.__path__[0])') json; echo 'VERSION = "mine"' >> json/__init__.py
python3 -c 'import json; print(json.VERSION, json.__file__)'; rm -r json
"""

# LD_VERBOSE does nothing, but what has it runs emulated.
VENV = r"""
LD_VERBOSE=1 python3 -m venv --without-pip e; python3 -m venv --without-pip n; diff -r e n
for v in e n; do
    site=$v/lib/python3.13/site-packages
    echo 'print("a module", __file__)' > $site/a.py; touch -d @1000000000 $site/a.py
    for variable in A LD_VERBOSE; do
        export $variable=1
        $v/bin/python -c 'import a, sys; print(sys.prefix, sys.executable, sys.path[-1])'
        echo '{"a": 1}' | $v/bin/python -m json.tool
        rm -r $site/__pycache__; $v/bin/python -m compileall -q $v/lib; sha256sum $site/__pycache__/*
        (. $v/bin/activate; echo $VIRTUAL_ENV; python -m venv --without-pip of; cat of/pyvenv.cfg; rm -r of)
        unset LD_VERBOSE
    done
done
"""

# An interpreter in a program that the build has made: the target's, and so are the modules that it loads.
EMBEDDED = r"""
cat > embed.c <<'END'
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    void *lib = dlopen("libpython3.13.so.1.0", RTLD_NOW | RTLD_GLOBAL);
    int (*run)(int, char **) = lib ? (int (*)(int, char **))dlsym(lib, "Py_BytesMain") : 0;
    return run ? run(argc, argv) : (puts(dlerror()), 9);
}
END
cc -o embed embed.c
./embed -c 'import bz2, decimal, _ctypes, sys, sysconfig; print(sys.maxsize, sysconfig.get_platform(), sys.executable)'
./embed -c 'import os; os.execv("/usr/bin/python3", ["python3", "-c", "import bz2; print(bz2)"])'
echo 'import json; print(json.dumps([1, 2]))' | ./embed -
"""

COMPILEALL = r"""
mkdir c; cp $(ls /usr/lib/python3.13/*.py | head -n 60) c; for level in 0 2; do python3 -m compileall -q -o $level c
done
cd c/__pycache__; ls | wc -l; sha256sum *
"""


@pytest.fixture
def asking(xbuild: Xbuild) -> Xbuild:
    """A project with a recipe that has the packages of meson's preset, which are both interpreters."""
    xbuild.recipe("asking", build={"preset": "meson"}, depends={"packages": ["libpython3.13"]})
    return xbuild


ASKED = {"perl": PERL, "python": PYTHON, "compileall": COMPILEALL, "venv": VENV, "embedded": EMBEDDED}


QUICK = {("armhf", name) for name in ASKED if name not in ("compileall", "venv")}
"""What CI has the time for."""
CASES = [
    pytest.param(target, name, marks=() if (target, name) in QUICK else pytest.mark.long)
    for target in ("armhf", "arm64")
    for name in ASKED
]


@pytest.mark.parametrize(("target", "name"), CASES)
def test_the_answers_are_the_same(asking: Xbuild, target: str, name: str) -> None:
    words = ("shell", "asking", "--target", target, "--mode")
    text = f"mkdir /tmp/asked; cd /tmp/asked; ({ASKED[name]}) 2>&1 < /dev/null; echo the end"
    said = {mode: asking(*words, mode, "--", text).out.splitlines() for mode in MODES}
    assert said["emulated"][-1] == "the end"
    assert len(said["emulated"]) > 3
    assert said["substituted"] == said["emulated"]
