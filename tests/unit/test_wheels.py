"""Wheels: what a word means, which sdist an index has for it, the recipe, what a project says of itself, an index."""

from __future__ import annotations

import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.unit.wheelfiles import wheel
from xbuild.base.errors import PhaseError, SourceError, UsageError
from xbuild.build.request import Request
from xbuild.build.subject import read
from xbuild.model.load import load_presets, load_recipe, load_toolchain
from xbuild.sources import index as sourceindex
from xbuild.sources.index import IndexFile, files_of
from xbuild.store.local import Store
from xbuild.wheels import simple
from xbuild.wheels.build import Maker, _asked, _require_twins
from xbuild.wheels.find import Project, files, find, has_pure, newest, requirement_of
from xbuild.wheels.known import known
from xbuild.wheels.python import Python
from xbuild.wheels.recipe import Needs, Options, recipe_of, recipe_text
from xbuild.wheels.require import Found
from xbuild.wheels.settings import settings_of, together
from xbuild.wheels.trial import Wanted

PROJECT = Path(__file__).parents[2]
ARMHF = load_toolchain("armhf", PROJECT)
PYTHON = Python("3.13.5", 41, "armv7l", {"ninja-build": "1.12.1", "cmake": "3.31.6", "patchelf": "0.18.0"})
SHA = "ab" * 32
PYPROJECT = """\
[build-system]
requires = ["setuptools>=61", "cython"]
build-backend = "setuptools.build_meta"
[project]
name = "My.Thing"
version = "1.2"
"""


def sdist(folder: Path, name: str = "my_thing-1.2", files: dict[str, str] | None = None) -> Path:
    file = folder / f"{name}.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        for path, text in (files if files is not None else {"pyproject.toml": PYPROJECT}).items():
            info = tarfile.TarInfo(f"{name}/{path}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return file


def an_index(folder: Path, project: str, links: str, monkeypatch: pytest.MonkeyPatch) -> str:
    page = folder / "simple" / project / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    address = (folder / "simple").as_uri()
    monkeypatch.setattr("xbuild.wheels.find.configured_indexes", lambda: [address])
    monkeypatch.setattr("xbuild.wheels.find.configured_directories", list)
    return address


# What a word means.


def test_a_sdist_is_read_and_none_of_its_code_runs(tmp_path: Path) -> None:
    project = find(str(sdist(tmp_path)), PYTHON, Store(tmp_path / "s"))
    assert (project.name, project.version) == ("my-thing", "1.2")
    assert project.requires == ["setuptools>=61", "cython"]
    assert project.source["path"] == str(tmp_path / "my_thing-1.2.tar.gz")


def test_a_sdist_without_pyproject(tmp_path: Path) -> None:
    project = find(str(sdist(tmp_path, files={"setup.py": ""})), PYTHON, Store(tmp_path / "s"))
    assert (project.requires, project.backend) == (["setuptools", "wheel"], "setuptools.build_meta:__legacy__")


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    project = find(f"{tmp_path}/", PYTHON, Store(tmp_path / "s"))
    assert (project.name, project.version, project.directory) == ("my-thing", "1.2", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[build-system]\nrequires=['setuptools']\n")
    assert find(f"{tmp_path}/", PYTHON, Store(tmp_path / "s")).version == "0"


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("a b", "no requirement"),
        ("x @ https://a.example/x.tar.gz", "by address"),
        ("./none.tar.gz", "no such file"),
        ("a-1-py3-none-any.whl", "is a wheel already"),
        ("{here}/empty", "neither pyproject.toml nor setup.py"),
        ("{here}/bad", "pyproject.toml: "),
        ("{here}/requires", "no list of requirements"),
        ("{here}/strange.tar.gz", "not the name of a sdist"),
    ],
)
def test_words_that_mean_nothing(tmp_path: Path, word: str, text: str) -> None:
    for name in ("empty", "bad", "requires"):
        (tmp_path / name).mkdir()
    (tmp_path / "bad" / "pyproject.toml").write_text("[")
    (tmp_path / "requires" / "pyproject.toml").write_text("[build-system]\nrequires = 'x'\n")
    sdist(tmp_path, "strange")
    with pytest.raises(UsageError, match=text):
        _ = find(word.format(here=tmp_path), PYTHON, Store(tmp_path / "s")).requires


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "../x"), ("name", "x y"), ("name", "-"), ("version", "not a version"), ("version", "1/../../x")],
)
def test_a_name_or_version_that_can_be_none(tmp_path: Path, field: str, value: str) -> None:
    words = {"name": "x", "version": "1", field: value}
    (tmp_path / "pyproject.toml").write_text(f"[project]\nname='{words['name']}'\nversion='{words['version']}'\n")
    with pytest.raises(UsageError, match=rf"pyproject.toml: project.{field} can be none") as caught:
        find(f"{tmp_path}/", PYTHON, Store(tmp_path / "s"))
    assert repr(value) in caught.value.message


def test_a_damaged_sdist(tmp_path: Path) -> None:
    file = sdist(tmp_path)
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(SourceError, match="damaged"):
        find(str(file), PYTHON, Store(tmp_path / "s"))


# Which sdist an index has.


def test_the_newest_sdist_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["1.0", "1.1", "1.2rc1", "1.3", "1.4", "1.5"]
    more = {"1.4": ' data-requires-python="&lt;3.13"', "1.5": ' data-yanked="bad"'}
    links = [f'<a href="../../f/my_thing-{v}.tar.gz#sha256={SHA}"{more.get(v, "")}>x</a>' for v in names]
    links += ['<a href="../../f/my_thing-9-py3-none-any.whl">x</a>', '<a href="../../f/other-9.tar.gz">x</a>']
    an_index(tmp_path, "my-thing", "".join(links), monkeypatch)
    known = files("My.Thing")
    assert has_pure(known, "my.thing", "9.0")
    assert not has_pure(known, "my.thing", "1.3")

    def chosen(text: str) -> str:
        return newest(requirement_of(text), known, PYTHON).name

    assert chosen("my-thing") == "my_thing-1.3.tar.gz"
    assert chosen("my-thing<1.2") == "my_thing-1.1.tar.gz"
    assert chosen("my-thing==1.2rc1") == "my_thing-1.2rc1.tar.gz"
    assert chosen("my-thing==1.5") == "my_thing-1.5.tar.gz"
    for none in ("my-thing==1.4", "my-thing>2"):
        with pytest.raises(SourceError, match="no sdist fits"):
            chosen(none)


def test_an_index_without_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = sdist(tmp_path)
    an_index(tmp_path, "my-thing", f'<a href="../../{file.name}">x</a>', monkeypatch)
    project = find("my-thing", PYTHON, Store(tmp_path / "s"))
    assert project.source["url"] == file.as_uri()
    with pytest.raises(SourceError, match="not one that the requirements name"):
        find("my-thing", PYTHON, Store(tmp_path / "s"), hashes=[SHA])


def test_a_hash_that_does_not_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = sdist(tmp_path)
    an_index(tmp_path, "my-thing", f'<a href="../../{file.name}#sha256={SHA}">x</a>', monkeypatch)
    with pytest.raises(SourceError, match="sha256"):
        find("my-thing", PYTHON, Store(tmp_path / "s"))


def test_indexes_that_do_not_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    an_index(tmp_path, "my-thing", '<a href="my_thing-1-py3-none-any.whl">x</a>', monkeypatch)
    with pytest.raises(SourceError, match="has wheels, but no sdist"):
        files("my-thing")
    with pytest.raises(SourceError, match="is not known"):
        files("other")
    # A directory has what it has, of all projects.
    (tmp_path / "links").mkdir()
    for name in ("third-1-py3-none-any.whl", "notes", "third.whl"):
        (tmp_path / "links" / name).touch()
    monkeypatch.setattr("xbuild.wheels.find.configured_directories", lambda: [tmp_path / "links"])
    with pytest.raises(SourceError, match="is not known"):
        files("other")
    with pytest.raises(SourceError, match="third has wheels, but no sdist"):
        files("third")


def test_pages_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [{"url": "../../f/a-1.tar.gz", "hashes": {"sha256": SHA}, "requires-python": ">=3", "yanked": "why"},
             {"url": "a-2.tar.gz"}]  # fmt: skip
    links = sourceindex._links(json.dumps({"files": files}).encode(), "application/vnd.pypi.simple.v1+json")
    first = IndexFile("a-1.tar.gz", "../../f/a-1.tar.gz", SHA, ">=3", True)
    assert links == [first, IndexFile("a-2.tar.gz", "a-2.tar.gz")]


@pytest.mark.parametrize("page", ["[", '{"files": 3}', '{"files": [[]]}', '{"x": 1}', '{"files": [{}'])
def test_a_page_that_was_cut_off(page: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        sourceindex._links(page.encode(), "application/json")


class Cut(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = b'<a href="my_thing-1.tar.gz">x</a>'
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page) + 50))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_connection_that_is_cut_in_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Cut) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/simple"
        monkeypatch.setattr("xbuild.wheels.find.configured_indexes", lambda: [address])
        monkeypatch.setattr("xbuild.wheels.find.configured_directories", list)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        try:
            with pytest.raises(SourceError, match="gave no page that can be read") as caught:
                files("my-thing")
        finally:
            server.shutdown()
            thread.join()
    assert "was cut after 33 of 83 bytes" in caught.value.details[0]


# The recipe.


def test_a_project_comes_to_a_recipe(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    project = find(str(sdist(tmp_path)), PYTHON, store)
    needs = Needs((Found("cython", "3", "cython-3-py3-none-any.whl", SHA),), (), ("ninja-build",), ("ninja>=1",))
    options = Options(depends=("libz-dev",), config_settings=("a=b c",), environment={"X": "y"}, repair=False)
    place = store.directory("wheels") / "x"
    file = recipe_of(project, options, needs, place, store)
    recipe = load_recipe(str(file), ARMHF, PROJECT)
    assert (recipe.name, recipe.version) == ("my-thing", "1.2")
    assert recipe.depends.packages == ("libz-dev", "ninja-build")
    assert recipe.sources[1].into == ".wheels/build"
    assert not recipe.sources[1].unpack
    values = load_presets()["wheel"].environment(recipe.build.options)
    own = (values["OPT_CONFIG_SETTINGS"], values["OPT_REPAIR"], values["OPT_ANSWERED"])
    assert own == ("'a=b c'", "", "'ninja>=1'")
    # Its phases see to what a native interpreter would answer otherwise.
    assert read(Request(str(file), "armhf"), store).recipe.twins.add == ("python3",)
    emulated = Request(str(file), "armhf", emulate=frozenset({"python3"}))
    assert read(emulated, store).recipe.twins.add == ()


def test_equal_questions_have_equal_recipes(tmp_path: Path) -> None:
    project = find(str(sdist(tmp_path)), PYTHON, Store(tmp_path / "s"))
    assert recipe_text(project, Options(), Needs()) == recipe_text(project, Options(), Needs())
    assert yaml.safe_load(recipe_text(project, Options(), Needs()))["build"] == {"preset": "wheel", "options": {}}


def test_rust_is_said_plainly() -> None:
    for table in ({"requires": ["maturin>=1"], "build-backend": "maturin"}, {"requires": ["setuptools-rust"]}):
        project = Project("x", "1", {}, {"build-system": table})
        with pytest.raises(UsageError, match="built by Rust, which xbuild has no twins for"):
            _require_twins(project, Options())
        _require_twins(project, Options(depends=("cargo",)))


def test_what_a_backend_asks_for_is_read_from_its_log(tmp_path: Path) -> None:
    error = PhaseError("x")
    assert _asked(error) == []
    error.log = tmp_path / "log"
    for text, asked in (("xbuild: the build backend asks for [\"a>1\"]\n", ["a>1"]), ("asks for []\n", []),
                        ("xbuild: the build backend asks for [a\n", [])):  # fmt: skip
        error.log.write_text(text)
        assert _asked(error) == asked


# What a project says of itself.


def test_settings_in_cibuildwheels_words() -> None:
    table = {"before-build": ["a", "b"], "test-command": "pytest {project}", "test-requires": ["pytest"],
             "environment": {"X": "1"}, "config-settings": {"k": "v"}, "depends": ["libz-dev"]}  # fmt: skip
    project = Project("x", "1", {}, {"tool": {"xbuild": {"wheel": table}}})
    options, tests = together(project, Options(depends=("liby-dev",), config_settings=("k=w",)), Wanted())
    assert (options.before_build, options.environment) == ("a && b", {"X": "1"})
    assert (options.depends, options.config_settings) == (("libz-dev", "liby-dev"), ("k=v", "k=w"))
    assert tests == Wanted("pytest {project}", ("pytest",))
    assert together(project, Options(), Wanted("mine"))[1].command == "mine"


@pytest.mark.parametrize("table", [{"befor-build": "x"}, {"environment": {"PATH": "x"}}, {"repair": "maybe"}])
def test_settings_that_are_wrong(table: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="is wrong"):
        settings_of(Project("x", "1", {}, {"tool": {"xbuild": {"wheel": table}}}))
    assert settings_of(Project("x", "1", {}, {"tool": "none"})) == settings_of(Project("x", "1", {}, {}))


# An index of what was made.


def test_an_index_that_pip_reads(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    files = {"my_thing/__init__.py": b"value = 7\n"}
    mine = wheel(tmp_path, "my_thing-1.0-py3-none-any.whl", files, metadata="Requires-Python: >=3.8\n")
    assert simple.add(folder, [mine]) == ["my-thing"]
    assert simple.add(folder, [wheel(tmp_path, "other-2-py3-none-any.whl")]) == ["my-thing", "other"]
    address = (folder / "simple").as_uri()
    (found,) = files_of(address, "My.Thing")
    assert (found.name, found.requires_python) == (mine.name, ">=3.8")
    words = [sys.executable, "-m", "pip", "install", "-q", "--isolated", "--disable-pip-version-check", "--target"]
    command = [*words, str(tmp_path / "there"), "--no-deps", "--index-url", address, "my-thing"]
    subprocess.run(command, check=True)
    assert (tmp_path / "there/my_thing/__init__.py").read_text() == "value = 7\n"
    page = json.loads((folder / "simple/my-thing/index.json").read_text())
    assert (page["versions"], page["files"][0]["size"]) == (["1.0"], mine.stat().st_size)
    assert "Requires-Python: >=3.8" in (folder / f"files/{mine.name}.metadata").read_text()


def test_what_is_no_index_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").touch()
    with pytest.raises(UsageError, match="no index"):
        simple.add(tmp_path / "x", [])
    (tmp_path / "y" / "files").mkdir(parents=True)
    (tmp_path / "y" / "files" / "a-1-py3-none-any.whl").touch()
    with pytest.raises(UsageError, match="no wheel"):
        simple.add(tmp_path / "y", [])


def test_what_is_known_is_well_formed() -> None:
    assert known().language({"maturin"}, "x") == "Rust"
    assert known().language(set(), "maturin:x") == "Rust"
    assert known().language({"setuptools"}, "setuptools.build_meta") is None
    assert "setuptools<81" in str(known().hint("AttributeError: module 'pkgutil' has no attribute 'ImpImporter'"))
    assert "a build has no network" in str(known().hint("   Could not resolve host: download.libsodium.org"))
    assert known().hint("all is well") is None
    assert {program for programs in known().backends.values() for program in programs} <= set(known().programs)


def test_tags_that_run_there() -> None:
    tags = replace(PYTHON, glibc=36).platforms
    assert (tags[0], tags[-1]) == ("manylinux_2_36_armv7l", "linux_armv7l")
    assert "manylinux2014_armv7l" in tags
    assert PYTHON.short == "3.13"


def test_what_another_wheel_needs_has_its_packages_and_the_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can give options for it alone: cffi, for zstandard, wants libffi-dev."""
    asked: list[tuple[str, Options]] = []

    def make(_: Maker, project: Any, options: Options) -> Any:
        asked.append((project.name, options))
        return SimpleNamespace(file=tmp_path / "a.whl")

    monkeypatch.setattr(Maker, "links", tmp_path)
    monkeypatch.setattr(Maker, "find", lambda _, word: SimpleNamespace(name=word.partition(">")[0]))
    monkeypatch.setattr(Maker, "make", make)
    nothing: Any = None
    maker = Maker(nothing, nothing, "armhf", nothing, tmp_path)
    assert maker.make_needed("cffi>=1.17; python_version > '3'", ["zlib1g-dev"]) == tmp_path / "a.whl"
    assert asked == [("cffi", Options(depends=("zlib1g-dev", "libffi-dev")))]
