"""A wheel of a project of ours: requirements fetched, built, repaired, tried, put into an index."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild, processes, wait_for
from tests.e2e.test_full_disk import on_a_small_disk
from tests.e2e.test_interruptions import nothing_is_left
from xbuild.formats.wheel import name_of

pytestmark = pytest.mark.e2e

SETUP = """\
import platform, struct, sys
from setuptools import Extension, setup

said = (platform.machine(), sys.maxsize, struct.calcsize("P"), "CPU implementer" in open("/proc/cpuinfo").read())
assert said == ("armv7l", 2**31 - 1, 4, True), said
setup(packages=["adder"], ext_modules=[Extension("adder._fast", ["adder/fast.c", "adder/add.c"])])
"""
"""It asks what it runs on, in the ways that projects do."""


def test_a_wheel_for_armhf(xbuild: Xbuild, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(Path(__file__).parent / "projects" / "pyproject", tmp_path / "adder"))
    (tree / "setup.py").write_text(SETUP)
    text = (tree / "pyproject.toml").read_text().replace('["setuptools"]', '["setuptools", "ninja==1.11.1.4"]')
    (tree / "pyproject.toml").write_text(f"{text}\n[tool.xbuild.wheel]\nbefore-build = 'ninja --version'\n")
    words = ["wheel", str(tree), "--target", "armhf", "--json", "--output", str(tmp_path / "out")]
    words += ["--test-command", "python3 -c 'import adder; assert adder._fast.__file__.endswith(\"gnueabihf.so\")'"]
    value = xbuild(*words, "--index", str(tmp_path / "index")).json
    (made,) = value["wheels"]
    file = Path(made["file"])
    assert (made["kind"], made["tried"]["imported"], made["tried"]["tested"]) == ("compiled", ["adder"], True)
    assert all(tag.startswith("manylinux") for tag in name_of(file.name).platforms)
    assert made["build"]["anew"] == []
    # The distribution has another version: the wheel's own program, by this machine's wheel of the same version.
    ran = json.loads(Path(made["build"]["manifest"]).read_text())
    assert ran["ran-native"]["/build/obj/env/bin/ninja"] == 1
    assert "/build/obj/env/bin/ninja" not in ran["ran-emulated"]
    assert (tmp_path / "index/simple/adder/index.html").read_text().count(file.name) > 0
    # Once more: all is there.
    again = xbuild(*words, "--no-test").json["wheels"][0]
    assert again["sha256"] == made["sha256"]
    assert not {part["name"] for part in again["build"]["parts"]} & {"compile", "install"}


MODULES = """\
import importlib.metadata, markupsafe, os
import markupsafe._speedups as fast
from setuptools import Extension, setup

known = importlib.metadata.distribution("markupsafe")
said = [str(markupsafe.escape("<\u20ac '>")), fast.__file__, fast.__spec__.origin, known.version,
        known.read_text("RECORD"), *sorted(os.listdir(os.path.dirname(fast.__file__))),
        open(fast.__file__, "rb").read().hex()]
print("SAID =", ascii(said), file=open("adder/said.py", "w"))
setup(packages=["adder"], ext_modules=[Extension("adder._fast", ["adder/fast.c", "adder/add.c"])])
"""
"""What it sees of a compiled build requirement goes into the wheel."""


@pytest.mark.long
def test_modules_of_build_requirements(xbuild: Xbuild, tmp_path: Path) -> None:
    """Native python loads this machine's, and what a build sees of them is the target's own all the same."""
    tree = Path(shutil.copytree(Path(__file__).parent / "projects" / "pyproject", tmp_path / "adder"))
    (tree / "setup.py").write_text(MODULES)
    text = (tree / "pyproject.toml").read_text()
    (tree / "pyproject.toml").write_text(text.replace('["setuptools"]', '["setuptools", "markupsafe==3.0.4"]'))
    words = ["wheel", str(tree), "--target", "armhf", "--no-test", "--json", "--output", str(tmp_path / "out")]
    (made,) = xbuild(*words).json["wheels"]
    ran = json.loads(Path(made["build"]["manifest"]).read_text())
    assert ran["ran-native"]["/usr/bin/python3.13"] > 0
    assert "/usr/bin/python3.13" not in ran["ran-emulated"]
    (emulated,) = xbuild(*words, "--mode", "emulated").json["wheels"]
    assert "/usr/bin/python3.13" in json.loads(Path(emulated["build"]["manifest"]).read_text())["ran-emulated"]
    assert emulated["sha256"] == made["sha256"]


@pytest.mark.long
def test_what_a_tag_takes_for_granted_and_a_wheel_that_fails(xbuild: Xbuild, tmp_path: Path) -> None:
    """auditwheel takes no X11 in; a plain root has none, and a wheel that needs it can be tried all the same."""
    tree = Path(shutil.copytree(Path(__file__).parent / "projects" / "pyproject", tmp_path / "adder"))
    with (tree / "adder/add.c").open("a") as stream:
        stream.write("#include <X11/Xlib.h>\nvoid *display(void) { return XOpenDisplay(0); }\n")
    (tree / "setup.py").write_text(
        "from setuptools import Extension, setup\n"
        "fast = Extension('adder._fast', ['adder/fast.c', 'adder/add.c'], libraries=['X11'])\n"
        "setup(packages=['adder'], ext_modules=[fast])\n"
    )
    out = tmp_path / "out"
    words = ["wheel", str(tree), "--target", "armhf", "--depends", "libx11-dev", "--output", str(out), "--json"]
    (made,) = xbuild(*words).json["wheels"]
    assert made["bundled"] == []
    assert made["tried"]["imported"] == ["adder"]
    assert made["tried"]["system"] == {"libX11.so.6": "libx11-6"}
    said = xbuild(*words, "--test-command", "echo this is wrong; exit 3", code=5)
    assert "this is wrong" in str(said.json["error"]["details"])
    assert [file.name for file in out.iterdir()] == ["failed"]
    assert [file.name for file in (out / "failed").iterdir()] == [Path(made["file"]).name]
    shutil.rmtree(out / "failed")
    (out / "failed").touch()
    error = xbuild(*words, code=2).json["error"]
    assert "was not tried" in error["message"]
    assert str(out / "failed") in error["hint"]


def project(tmp_path: Path, before_build: str) -> Path:
    """The project, with shell text that runs before its backend does."""
    tree = Path(shutil.copytree(Path(__file__).parent / "projects" / "pyproject", tmp_path / "adder"))
    with (tree / "pyproject.toml").open("a") as stream:
        stream.write(f"\n[tool.xbuild.wheel]\nbefore-build = {before_build!r}\n")
    return tree


@pytest.mark.long
def test_control_c_and_the_same_command(xbuild: Xbuild, tmp_path: Path) -> None:
    marker = "sleep 98731"
    tree = project(tmp_path, f"if [ ! -e first ]; then touch first; {marker}; fi")
    words = ["wheel", str(tree), "--target", "armhf", "--no-test", "--output", str(tmp_path / "out")]
    process = xbuild.start(*words)
    wait_for(marker, lambda: processes(marker), 240)
    process.send_signal(signal.SIGINT)
    said = xbuild.ended(process, code=130)
    assert "goes on where it stopped when the same command is given again" in said.err
    assert not (tmp_path / "out").exists()
    nothing_is_left(xbuild, marker)
    (made,) = xbuild(*words, "--json").json["wheels"]
    assert Path(made["file"]).is_file()
    # Neither unpacked again, nor its requirements laid out.
    assert not {part["name"] for part in made["build"]["parts"]} & {"unpack", "prepare", "configure"}


@pytest.mark.long
def test_a_full_disk(xbuild: Xbuild, tmp_path: Path) -> None:
    tree = project(tmp_path, "dd if=/dev/zero of=big bs=1M count=128")
    words = f'wheel "{tree}" --target armhf --no-test --no-repair --output "{tmp_path}/out"'
    said = on_a_small_disk(xbuild, tmp_path, f'"$@" {words} || echo "code $?"\n')
    assert "error: disk full: " in said, said
    assert said.endswith("code 4\n")
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
