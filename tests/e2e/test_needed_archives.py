"""Recipes that need recipes which make Debian packages or wheels: these are installed, as nodes of one graph."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.command_line import Xbuild, unpacked
from tests.unit.wheelfiles import wheel

pytestmark = pytest.mark.e2e

PACKAGE = """
    mkdir -p one/DEBIAN one/usr/bin one/usr/share/doc/sed two/DEBIAN
    fields='Version: 7\\nArchitecture: all\\nMaintainer: A Tester <tester@example.org>\\nDescription: x\\n'
    printf "Package: one\\nDepends: two\\n$fields" > one/DEBIAN/control
    printf "Package: two\\nDepends: NEEDS\\n$fields" > two/DEBIAN/control
    printf '#!/bin/sh\\nuseradd --system own && echo "configured $1" > /usr/share/told\\n' > one/DEBIAN/postinst
    printf '#!/bin/sh\\necho one\\n' > one/usr/bin/one
    chmod 755 one/DEBIAN/postinst one/usr/bin/one
    for name in one two; do dpkg-deb --root-owner-group -b $name ${name}_7_all.deb; done
"""
USES = "one > answer; cat /usr/share/told >> answer; id -un own >> answer; dpkg -s two | grep ^Stat >> answer; ls /"


def packages(xbuild: Xbuild, needs: str = "base-files", name: str = "packages") -> None:
    build = {"compile": PACKAGE.replace("NEEDS", needs), "install": 'cp ./*.deb "$DESTDIR"; touch "$DESTDIR/x.changes"'}
    xbuild.recipe(name, build=build, outputs=[{"path": "*.deb"}])


def compiled(xbuild: Xbuild, name: str = "tiny") -> str:
    return xbuild("log", name, "--target", "armhf", "--phase", "compile").out


def test_debian_packages_are_installed(xbuild: Xbuild) -> None:
    packages(xbuild)
    xbuild.recipe(build={"compile": f"{USES}; cat answer"}, depends={"recipes": ["packages"]})
    built = xbuild.build("tiny")
    said = compiled(xbuild)
    assert said.endswith("one\nconfigured configure\nown\nStatus: install ok installed\n")
    # The packages themselves lie nowhere.
    assert ".deb" not in said
    assert ".changes" not in said
    (known,) = json.loads(Path(built["manifest"]).read_text())["recipes"]
    assert (known["name"], known["replaces"]) == ("packages", {})
    assert xbuild.build("tiny")["status"] == "up-to-date"


@pytest.mark.long
def test_debian_packages_that_cannot_be_installed(xbuild: Xbuild) -> None:
    packages(xbuild, "libnowhere1")
    xbuild.recipe(depends={"recipes": ["packages"]})
    said = xbuild.fails("tiny", code=4)
    assert "the packages of packages could not be installed" in said
    assert "two depends on libnowhere1" in said
    assert "`depends: packages`" in said
    packages(xbuild)
    packages(xbuild, name="others")
    xbuild.recipe(depends={"recipes": ["packages", "others"]})
    assert "packages and others both make the package one" in xbuild.fails("tiny", code=2)
    install = 'install -D answer "$DESTDIR/usr/bin/one"'
    xbuild.recipe("others", build={"install": install}, outputs=[{"path": "usr/bin/one"}])
    assert "others and packages, in a package, both install usr/bin/one" in xbuild.fails("tiny", code=2)


@pytest.mark.long
def test_wheels_are_laid_out(xbuild: Xbuild, tmp_path: Path) -> None:
    files = {
        "thing/__init__.py": b"def main():\n    print('thing')\n",
        "thing-1.0.dist-info/entry_points.txt": b"[console_scripts]\nthing = thing:main\n",
    }
    made = wheel(tmp_path, files=files)
    install = {"compile": "true", "install": 'cp *.whl "$DESTDIR"'}
    xbuild.recipe("thing", files={made.name: made.read_bytes()}, build=install, outputs=[{"path": "*.whl"}])
    uses = "thing > answer; python3 -c 'import importlib.metadata as m; print(m.version(\"thing\"))' >> answer"
    depends = {"recipes": ["thing"], "packages": ["python3"]}
    xbuild.recipe(build={"compile": f"{uses}; cat answer"}, depends=depends)
    xbuild.build("tiny")
    assert compiled(xbuild).endswith("thing\n1.0\n")


BACKEND = '''\
"""A build backend that makes a wheel of the one module in the directory."""
import pathlib, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = pathlib.Path("name").read_text().strip()
    with zipfile.ZipFile(pathlib.Path(folder, f"{name}-1-py3-none-any.whl"), "w") as archive:
        for path, text in {
            f"{name}.py": pathlib.Path(f"{name}.py").read_text(), f"{name}-1.dist-info/RECORD": "",
            f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n",
            f"{name}-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        }.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{name}-1-py3-none-any.whl"
'''


@pytest.mark.long
def test_a_wheel_is_built_by_another_one(xbuild: Xbuild) -> None:
    """A backend that no index has: the recipe of its wheel is needed by the recipe of the one that it builds."""

    def recipe(name: str, table: str, module: str, **fields: Any) -> None:
        files = {"pyproject.toml": f"[build-system]\n{table}\n", "name": f"{name}\n", f"{name}.py": module}
        value = {"build": {"preset": "wheel", "options": {"repair": False}}, "outputs": [{"path": "*.whl"}]}
        path = xbuild.recipe(name, files=files, **fields)
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **value}))

    recipe("backend", 'requires = []\nbackend-path = ["."]\nbuild-backend = "backend"', BACKEND)
    # All is said by the last one, which only sees it if it was built by the one before.
    recipe("said", 'requires = ["backend"]\nbuild-backend = "backend"', "word = 42\n", depends={"recipes": ["backend"]})
    depends = {"recipes": ["said"], "packages": ["python3"]}
    xbuild.recipe(build={"compile": "python3 -c 'import said; print(said.word)' | tee answer"}, depends=depends)
    xbuild.build("tiny")
    assert compiled(xbuild).endswith("42\n")


HUM = "#include \"hum.h\"\nint hum(void) { return 42; }\n"
HUM_MAKEFILE = """\
all: ; $(CC) $(CFLAGS) -shared -fPIC -Wl,-soname,libhum.so.1 -o libhum.so.1 hum.c
install:
	install -D -m 755 libhum.so.1 $(DESTDIR)/usr/lib/libhum.so.1
	ln -s libhum.so.1 $(DESTDIR)/usr/lib/libhum.so
	install -D -m 644 hum.h $(DESTDIR)/usr/include/hum.h
"""
HUMS = """\
#include <Python.h>
#include <hum.h>
static PyObject *it(PyObject *self, PyObject *none) { (void)self; (void)none; return PyLong_FromLong(hum()); }
static PyMethodDef methods[] = {{"it", it, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "hums", "", -1, methods, 0, 0, 0, 0};
PyMODINIT_FUNC PyInit_hums(void) { return PyModule_Create(&module); }
"""
HUMS_SETUP = """\
from setuptools import Extension, setup
setup(ext_modules=[Extension("hums", ["hums.c"], libraries=["hum"])])
"""


@pytest.mark.long
def test_auditwheel_takes_in_a_recipes_library(xbuild: Xbuild, tmp_path: Path) -> None:
    """The library of one recipe lies in the wheel of another, and a third one, which has it only so, can use it."""
    files = {"hum.c": HUM, "hum.h": "int hum(void);\n", "Makefile": HUM_MAKEFILE}
    hum = xbuild.recipe("hum", files=files, outputs=[{"path": "usr/lib/libhum.so.1", "kind": "shared-library"}])
    value = yaml.safe_load(hum.read_text())
    hum.write_text(yaml.safe_dump(value | {"build": {"preset": "make"}}))
    (tree := tmp_path / "hums").mkdir()
    (tree / "hums.c").write_text(HUMS)
    (tree / "setup.py").write_text(HUMS_SETUP)
    table = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    (tree / "pyproject.toml").write_text(f'{table}[project]\nname = "hums"\nversion = "1"\n')
    # The recipe of the one command, with auditwheel and what it needs, and the library besides.
    shown = yaml.safe_load(xbuild("wheel", str(tree), "--target", "armhf", "--recipe").out)
    shown["depends"] = {**shown.get("depends", {}), "recipes": ["hum"]}
    (xbuild.project / "recipes/hums.yml").write_text(yaml.safe_dump(shown))
    built = xbuild.build("hums")
    members = [Path(name).name for name in unpacked(built["artifact"])]
    (name,) = [name for name in members if name.endswith(".whl")]
    assert re.search(r"-manylinux[\w.]+_armv7l\.whl$", name)
    sees = "import hums; print(hums.it(), *{line.split()[-1] for line in open('/proc/self/maps') if 'libhum' in line})"
    depends = {"recipes": ["hums"], "packages": ["python3"]}
    xbuild.recipe(build={"compile": f'python3 -c "{sees}" | tee answer'}, depends=depends)
    xbuild.build("tiny")
    number, library = compiled(xbuild).splitlines()[-1].split()
    assert number == "42"
    assert "/hums.libs/libhum-" in library


@pytest.mark.long
def test_a_debian_package_is_built_against_another_one(xbuild: Xbuild) -> None:
    """By the preset: dpkg finds the package that a recipe made, and its database tells what a program needs of it."""
    data = Path(__file__).parent / "data/debian-package"
    shutil.copytree(data, xbuild.project / "hail")
    (tree := xbuild.project / "storm/debian").mkdir(parents=True)
    control = """\
        Source: storm
        Section: misc
        Priority: optional
        Maintainer: A Tester <tester@example.org>
        Build-Depends: debhelper-compat (= 13), hail (>= 1.0)
        Rules-Requires-Root: no
        Standards-Version: 4.7.2

        Package: storm
        Architecture: any
        Depends: ${misc:Depends}, hail (= ${hail:Version})
        Description: hail, once more
         Said once more.
        """
    (tree / "control").write_text(textwrap.dedent(control))
    (tree / "changelog").write_text((data / "debian/changelog").read_text().replace("hail", "storm"))
    rules = """\
        #!/usr/bin/make -f
        %:
        \tdh $@
        override_dh_install:
        \tinstall -d debian/storm/usr/share/storm
        \thail > debian/storm/usr/share/storm/said
        override_dh_gencontrol:
        \tdh_gencontrol -- -Vhail:Version="$$(dpkg-query -W -f '$${Version}' hail)"
        """
    (tree / "rules").write_text(textwrap.dedent(rules))
    (tree / "rules").chmod(0o755)
    for name, needs in {"hail": [], "storm": ["hail"]}.items():
        path = xbuild.recipe(name, depends={"packages": ["debhelper"], "recipes": needs})
        own = {"sources": [{"path": str(xbuild.project / name)}], "version": "1.0"}
        value = {**yaml.safe_load(path.read_text()), **own, "build": {"preset": "debian"}}
        path.write_text(yaml.safe_dump(value | {"outputs": [{"path": "*.deb"}]}))
    shows = "cat /usr/share/storm/said > answer; dpkg -s storm | grep ^Depends >> answer; cat answer"
    xbuild.recipe(build={"compile": shows}, depends={"recipes": ["storm"]})
    xbuild.build("tiny")
    assert compiled(xbuild).endswith("hail hail\nDepends: hail (= 1.0)\n")
