"""The architecture, as rules over the syntax trees of our own files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = PROJECT / "xbuild"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("base",),
    ("formats", "model"),
    ("dispatcher", "sandbox"),
    ("binfmt", "store", "twins"),
    ("roots", "sources"),
    ("build", "doctor"),
    ("export", "proof", "session"),
    ("cli",),
)
"""What lies directly below xbuild. Imports go downwards or stay in the layer, and never in a circle."""

STARTERS = frozenset({"fork", "forkpty", "popen", "posix_spawn", "posix_spawnp", "startfile", "system"})
"""Functions of os that start or become another program, besides exec* and spawn*."""

MOUNTERS = frozenset({"mount", "umount", "umount2", "move_mount", "pivot_root", "unshare", "setns", "chroot"})
"""System calls that change what a process sees of the file system."""

ALLOWED_NAMES = frozenset({"MAKE_HOST", "distcc_hosts"})
"""Names with the word "host" that others have given; HOSTTYPE and hostname are words of their own."""


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """xbuild/model/base.py -> model.base, xbuild/model/__init__.py -> model."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): ast.parse(path.read_text(), str(path)) for path in sources()}
NAMES = sorted(MODULES)


def imported(name: str, tree: ast.AST) -> Iterator[str]:
    """Full names of what a module imports anywhere in it; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(name: str, tree: ast.AST) -> set[str]:
    """Our own modules that `name` imports, as in MODULES."""
    found = set()
    for full in imported(name, tree):
        if full == "xbuild" or full.startswith("xbuild."):
            below = full.removeprefix("xbuild").removeprefix(".")
            # The last part may be a name inside a module.
            found.add(below if below in MODULES else below.rpartition(".")[0])
    return found - {name}


def foreign_imports(name: str, tree: ast.AST) -> set[str]:
    return {full.partition(".")[0] for full in imported(name, tree)}


def layer(name: str) -> int | None:
    top = name.partition(".")[0]
    return next((number for number, names in enumerate(LAYERS) if top in names), None)


def upward(name: str, tree: ast.AST) -> list[str]:
    own = layer(name)
    assert own is not None
    return [other for other in own_imports(name, tree) if other and (layer(other) or 0) > own]


def starts_processes(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            called = node.attr
        elif isinstance(node, ast.alias):
            called = node.name
        else:
            continue
        if called in STARTERS or re.fullmatch(r"(exec|spawn)[lv]p?e?", called):
            found.append(called)
    return found


def mounts(tree: ast.AST) -> list[str]:
    called = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [name for name in called if name.rpartition(".")[2] in MOUNTERS]


def makes_views(tree: ast.AST) -> list[str]:
    """What a root seen inside is made from, where it is not said to `RootView`."""
    called = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [name for name in called if name.rpartition(".")[2] in ("Overlay", "Devices")]


def prints(tree: ast.AST) -> list[int]:
    """Lines with print(), or with the stdout or stderr of sys written to."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "print" or re.fullmatch(
                r"sys\.(__)?std(out|err)(__)?\.(buffer\.)?write(lines)?", called
            ):
                found.append(node.lineno)
    return found


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Every name that a file gives or uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def is_banned(name: str) -> bool:
    """Whether `host` is one of the words of an identifier: host, HOST_ARCH, host_root, hostRoot, HostRoot."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)
    return name not in ALLOWED_NAMES and any(word.lower() in ("host", "hosts") for word in words)


def test_every_module_has_a_layer() -> None:
    assert [name for name in NAMES if name and layer(name) is None] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name])
def test_imports_go_downwards(name: str) -> None:
    assert upward(name, MODULES[name]) == []


def test_no_import_circles() -> None:
    graph = {name: own_imports(name, tree) for name, tree in MODULES.items()}
    TopologicalSorter(graph).prepare()


def test_the_package_itself_imports_nothing() -> None:
    assert set(imported("", MODULES[""])) == set()


@pytest.mark.parametrize(
    ("library", "only"),
    [("subprocess", "base.process"), ("rich", "base.log"), ("invoke", "cli")],
)
def test_libraries_with_one_user(library: str, only: str) -> None:
    users = [name for name in NAMES if library in foreign_imports(name, MODULES[name])]
    assert [name for name in users if name != only and not name.startswith(f"{only}.")] == []


@pytest.mark.parametrize("name", [n for n in NAMES if n != "base.process" and n.partition(".")[0] != "sandbox"])
def test_starts_no_processes(name: str) -> None:
    assert starts_processes(MODULES[name]) == []
    assert foreign_imports(name, MODULES[name]).isdisjoint({"multiprocessing", "pty", "_posixsubprocess"})


@pytest.mark.parametrize("name", [n for n in NAMES if n.partition(".")[0] != "sandbox"])
def test_mounts_nothing(name: str) -> None:
    assert mounts(MODULES[name]) == []
    assert "sandbox.syscalls" not in own_imports(name, MODULES[name])


# The doctor tries the mounts themselves.
@pytest.mark.parametrize("name", [n for n in NAMES if n != "doctor.trials" and n.partition(".")[0] != "sandbox"])
def test_views_are_put_together_in_one_place(name: str) -> None:
    assert makes_views(MODULES[name]) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "base.log"])
def test_writes_nothing_to_the_terminal(name: str) -> None:
    assert prints(MODULES[name]) == []


@pytest.mark.parametrize(
    "path",
    [*sources(), *sorted((PROJECT / "tests").rglob("*.py")), *PROJECT.glob("tasks.py")],
    ids=lambda path: str(path.relative_to(PROJECT)),
)
def test_native_and_target_are_the_words(path: Path) -> None:
    found = sorted({name for name in identifiers(ast.parse(path.read_text())) if is_banned(name)})
    assert found == []


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("build.") and not n.startswith("build.modes.")])
def test_a_build_asks_its_mode_not_for_its_name(name: str) -> None:
    """A new mode is a module in build/modes and a line in its table."""
    texts = {node.value for node in ast.walk(MODULES[name]) if isinstance(node, ast.Constant)}
    assert texts.isdisjoint({"substituted", "distcc", "emulated", "system"})


@pytest.mark.parametrize("path", sorted((PACKAGE / "dispatcher").glob("*.[ch]")), ids=lambda path: path.name)
def test_native_and_target_are_the_words_in_c(path: Path) -> None:
    code = re.sub(r'/\*.*?\*/|//[^\n]*|"(\\.|[^"\\])*"', " ", path.read_text(), flags=re.DOTALL)
    assert sorted({name for name in re.findall(r"[A-Za-z_]\w*", code) if is_banned(name)}) == []


def test_the_rules_can_fail() -> None:
    assert upward("base.errors", ast.parse("from xbuild.model.recipe import Recipe")) == ["model.recipe"]
    assert upward("sandbox.run", ast.parse("from xbuild.roots import mirror")) == ["roots.mirror"]
    assert starts_processes(ast.parse("import os\nos.execvp('sh', ['sh'])")) == ["execvp"]
    assert starts_processes(ast.parse("from os import fork")) == ["fork"]
    assert mounts(ast.parse("libc.umount2(b'/x', 0)")) == ["libc.umount2"]
    assert makes_views(ast.parse("[mounts.Overlay((), None, None), Devices()]")) == ["mounts.Overlay", "Devices"]
    assert prints(ast.parse("print(1)\nsys.stderr.write('x')")) == [1, 2]
    assert "subprocess" in foreign_imports("x", ast.parse("def f():\n    from subprocess import run"))
    bad = ("host", "HOST", "host_root", "HostRoot", "theHost", "HOST_ARCH", "hosts")
    good = ("hostname", "HOSTTYPE", "MAKE_HOST", "gethostname", "ghost", "localhost")
    assert [name for name in bad if not is_banned(name)] == []
    assert [name for name in good if is_banned(name)] == []
