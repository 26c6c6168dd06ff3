"""The Python that the preset `wheel` writes: what it answers, and how it calls a build backend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xbuild.base.errors import PhaseError
from xbuild.model.load import load_presets
from xbuild.wheels.build import _asked


def part(name: str) -> str:
    """A file that the preset's prepare phase writes."""
    text = load_presets()["wheel"].phases.prepare
    return text.partition(f'/{name}" << \'END\'\n')[2].partition("\nEND\n")[0]


NARROW = """
import sysconfig
sysconfig.get_config_var = lambda name: 4
__file__ = sys.argv[1]
exec(compile(open(__file__).read(), __file__, "exec"))
import struct
assert sys.maxsize == 2**31 - 1
sizes = [struct.calcsize(text) for text in ("P", "l", "@Nn", "bl", "<l", "=q", b"P", "bq", "")]
assert sizes == [4, 4, 8, 8, 4, 8, 4, 16, 0]
assert struct.pack("l", -2) == struct.pack("i", -2)
assert struct.unpack("L", b"\\1\\0\\0\\0") == (1,)
assert struct.Struct("lP").size == 8 and issubclass(struct.Struct, object)
class Mine(struct.Struct):
    pass
assert Mine("2l").pack(1, 2) == b"\\1\\0\\0\\0\\2\\0\\0\\0"
import platform
assert platform.architecture("")[0] == "32bit"
assert not [path for path in sys.path if path.endswith("-packages")]
"""


def test_an_interpreter_with_wider_words_answers_as_the_targets(tmp_path: Path) -> None:
    site = tmp_path / "site" / "sitecustomize.py"
    site.parent.mkdir()
    site.write_text(part("sitecustomize.py"))
    subprocess.run([sys.executable, "-c", f"import sys{NARROW}", str(site)], check=True)


HOOKS = """
def get_requires_for_build_wheel(settings):
    return ["there", "ninja>=1", "lacking>2"]
def build_wheel(folder, settings, metadata=None):
    open(folder + "/x.whl", "w").write(repr(settings))
    return "x.whl"
"""


def test_the_backend_is_called_as_the_standard_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hook.py").write_text(part("hook.py"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own/mine.py").write_text(HOOKS)
    (tmp_path / "own/there-1.dist-info").mkdir()
    (tmp_path / "own/there-1.dist-info/METADATA").write_text("Name: there\nVersion: 1\n")
    (tmp_path / "pyproject.toml").write_text('[build-system]\nbuild-backend = "mine"\nbackend-path = ["own"]\n')

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(tmp_path / "hook.py"), *words]
        return subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)

    lacking = run("requires", ".", "a=b", "--", "ninja>=1")
    assert lacking.returncode == 1
    error = PhaseError("x")
    error.log = tmp_path / "log"
    error.log.write_text(lacking.stderr)
    assert _asked(error) == ["lacking>2"]
    assert run("requires", ".", "--", "ninja>=1", "lacking>2").returncode == 0
    assert run("build", ".", "a=b", "c=1", "a=d", "a=e").returncode == 0
    assert (tmp_path / "x.whl").read_text() == "{'a': ['b', 'd', 'e'], 'c': '1'}"
    # What would run ninja by itself is told how many jobs there are, unless somebody has said it.
    (tmp_path / "own/mine.py").rename(tmp_path / "own/mesonpy.py")
    (tmp_path / "pyproject.toml").write_text('[build-system]\nbuild-backend = "mesonpy"\nbackend-path = ["own"]\n')
    monkeypatch.setenv("CMAKE_BUILD_PARALLEL_LEVEL", "3")
    assert run("build", ".").returncode == 0
    assert (tmp_path / "x.whl").read_text() == "{'compile-args': '-j3'}"
    assert run("build", ".", "compile-args=-j1").returncode == 0
    assert (tmp_path / "x.whl").read_text() == "{'compile-args': '-j1'}"


def test_laying_wheels_out_leaves_a_phase_s_variables_alone(tmp_path: Path) -> None:
    """The install phase has the wheel that it repairs in one of them."""
    (tmp_path / "wheels/tools").mkdir(parents=True)
    (tmp_path / "wheels/tools/a.whl").touch()
    after = "wheel=mine kind=k into=i\nlay tools there\necho $wheel $kind $into"
    script = f'python3() {{ echo "$@"; }}\n{part("lay")}\n{after}'
    env = {"BUILDDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-euc", script], env=env, capture_output=True, check=True, text=True)
    said = done.stdout.splitlines()
    assert said[0].endswith(f"--target there {tmp_path}/wheels/tools/a.whl")
    assert said[-1] == "mine k i"
