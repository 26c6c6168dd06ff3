"""The architecture, as rules over the syntax trees of our own files."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.unit.sources import PACKAGE, PROJECT, Nodes, modules, nodes_in, nodes_of

LAYERS: tuple[tuple[str, ...], ...] = (
    ("base",),
    ("formats", "model"),
    ("dispatcher", "sandbox"),
    ("binfmt", "store", "twins"),
    ("roots", "sources"),
    ("build", "doctor"),
    ("cluster", "deploy", "export", "graph", "packages", "projects", "proof", "session", "wheels"),
    ("__main__", "cli"),
)
"""What lies directly below xbuild. Imports go downwards or stay in the layer, and never in a circle."""

STARTERS = frozenset({"fork", "forkpty", "popen", "posix_spawn", "posix_spawnp", "startfile", "system"})
"""Functions of os that start or become another program, besides exec* and spawn*."""

MOUNTERS = frozenset({"mount", "umount", "umount2", "move_mount", "pivot_root", "unshare", "setns", "chroot"})
"""System calls that change what a process sees of the file system."""

ALLOWED_NAMES = frozenset({"MAKE_HOST", "distcc_hosts"})
"""Names with the word "host" that others have given; HOSTTYPE and hostname are words of their own."""


def module_name(path: Path) -> str:
    """xbuild/model/base.py -> model.base, xbuild/model/__init__.py -> model."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in modules()}


def imported(name: str, nodes: Nodes) -> Iterator[str]:
    """Full names of what a module imports anywhere in it; `from a import b` gives a.b."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(name: str, nodes: Nodes) -> set[str]:
    """Our own modules that `name` imports, as in MODULES."""
    found = set()
    for full in imported(name, nodes):
        if full == "xbuild" or full.startswith("xbuild."):
            below = full.removeprefix("xbuild").removeprefix(".")
            # The last part may be a name inside a module.
            found.add(below if below in MODULES else below.rpartition(".")[0])
    return found - {name}


def foreign_imports(name: str, nodes: Nodes) -> set[str]:
    return {full.partition(".")[0] for full in imported(name, nodes)}


def layer(name: str) -> int | None:
    top = name.partition(".")[0]
    return next((number for number, names in enumerate(LAYERS) if top in names), None)


def upward(name: str, nodes: Nodes) -> list[str]:
    own = layer(name)
    assert own is not None
    return [other for other in own_imports(name, nodes) if other and (layer(other) or 0) > own]


def starts_processes(nodes: Nodes) -> list[str]:
    found = []
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            called = node.attr
        elif isinstance(node, ast.alias):
            called = node.name
        else:
            continue
        if called in STARTERS or re.fullmatch(r"(exec|spawn)[lv]p?e?", called):
            found.append(called)
    return found


@cache
def called(nodes: Nodes) -> tuple[tuple[str, int], ...]:
    """What is called as it is written, and in which line."""
    return tuple((ast.unparse(node.func), node.lineno) for node in nodes if isinstance(node, ast.Call))


def mounts(nodes: Nodes) -> list[str]:
    return [name for name, _ in called(nodes) if name.rpartition(".")[2] in MOUNTERS]


def makes_views(nodes: Nodes) -> list[str]:
    """What a root seen inside is made from, where it is not said to `RootView`."""
    return [name for name, _ in called(nodes) if name.rpartition(".")[2] in ("Overlay", "Devices")]


def prints(nodes: Nodes) -> list[int]:
    """Lines with print(), or with the stdout or stderr of sys written to."""
    writes = re.compile(r"print|sys\.(__)?std(out|err)(__)?\.(buffer\.)?write(lines)?")
    return [line for name, line in called(nodes) if writes.fullmatch(name)]


def identifiers(nodes: Nodes) -> Iterator[str]:
    """Every name that a file gives or uses."""
    for node in nodes:
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


@cache
def is_banned(name: str) -> bool:
    """Whether `host` is one of the words of an identifier: host, HOST_ARCH, host_root, hostRoot, HostRoot."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)
    return name not in ALLOWED_NAMES and any(word.lower() in ("host", "hosts") for word in words)


def wrong(
    look: Callable[[str, Nodes], object], allowed: Callable[[str], bool] = lambda _: False
) -> Mapping[str, object]:
    """By module what `look` finds in it, if anything; not of the modules that are allowed to have it."""
    found = {name: look(name, nodes_of(path)) for name, path in MODULES.items() if name and not allowed(name)}
    return {name: faults for name, faults in found.items() if faults}


def in_sandbox(name: str) -> bool:
    return name.partition(".")[0] == "sandbox"


def test_every_module_has_a_layer() -> None:
    assert len(MODULES) > 300
    assert [name for name in MODULES if name and layer(name) is None] == []


def test_imports_go_downwards() -> None:
    assert wrong(upward) == {}


def test_no_import_circles() -> None:
    graph = {name: own_imports(name, nodes_of(path)) for name, path in MODULES.items()}
    TopologicalSorter(graph).prepare()


def test_the_package_itself_imports_nothing() -> None:
    assert set(imported("", nodes_of(MODULES[""]))) == set()


@pytest.mark.parametrize(
    ("library", "only"),
    [("subprocess", "base.process"), ("rich", "base.log")],
)
def test_libraries_with_one_user(library: str, only: str) -> None:
    users = wrong(lambda name, nodes: library in foreign_imports(name, nodes))
    assert [name for name in users if name != only and not name.startswith(f"{only}.")] == []


def test_commands_are_made_without_invoke() -> None:
    """It takes long to load, and `xbuild` needs none of it: `xbuild.cli.task` makes a command."""
    users = wrong(lambda name, nodes: "invoke" in foreign_imports(name, nodes))
    assert set(users) == {"cli.namespace", "cli.reference", "cli.table", "cli.words"}


def test_nobody_else_starts_processes() -> None:
    def starts(name: str, nodes: Nodes) -> list[str]:
        libraries = foreign_imports(name, nodes) & {"multiprocessing", "pty", "_posixsubprocess"}
        return [*starts_processes(nodes), *libraries]

    assert wrong(starts, lambda name: name == "base.process" or in_sandbox(name)) == {}


def test_nobody_else_mounts() -> None:
    def found(name: str, nodes: Nodes) -> list[str]:
        return [*mounts(nodes), *(own_imports(name, nodes) & {"sandbox.syscalls"})]

    assert wrong(found, in_sandbox) == {}


def test_views_are_put_together_in_one_place() -> None:
    # The doctor tries the mounts themselves.
    assert wrong(lambda _, nodes: makes_views(nodes), lambda name: name == "doctor.trials" or in_sandbox(name)) == {}


def test_nobody_else_writes_to_the_terminal() -> None:
    assert wrong(lambda _, nodes: prints(nodes), lambda name: name == "base.log") == {}


def test_native_and_target_are_the_words() -> None:
    files = [*modules(), *(PROJECT / "tests").rglob("*.py")]
    texts = {path: path.read_text() for path in files}
    trees = {path: nodes_in(text) for path, text in texts.items() if "host" in text.lower()}
    found = {path: {name for name in identifiers(nodes) if is_banned(name)} for path, nodes in trees.items()}
    assert {path: names for path, names in found.items() if names} == {}


def test_a_build_asks_its_mode_not_for_its_name() -> None:
    """A new mode is a module in build/modes and a line in its table."""
    modes = {"substituted", "distcc", "emulated", "system"}

    def named(_: str, nodes: Nodes) -> list[object]:
        return [node.value for node in nodes if isinstance(node, ast.Constant) and node.value in modes]

    assert wrong(named, lambda name: not name.startswith("build.") or name.startswith("build.modes.")) == {}


def test_native_and_target_are_the_words_in_c() -> None:
    found: dict[str, list[str]] = {}
    for path in (PACKAGE / "dispatcher").glob("*.[ch]"):
        code = re.sub(r'/\*.*?\*/|//[^\n]*|"(\\.|[^"\\])*"', " ", path.read_text(), flags=re.DOTALL)
        found[path.name] = sorted({name for name in re.findall(r"[A-Za-z_]\w*", code) if is_banned(name)})
    assert {name: names for name, names in found.items() if names} == {}
    assert len(found) > 20


def test_the_rules_can_fail() -> None:
    assert upward("base.errors", nodes_in("from xbuild.model.recipe import Recipe")) == ["model.recipe"]
    assert upward("sandbox.run", nodes_in("from xbuild.roots import mirror")) == ["roots.mirror"]
    assert starts_processes(nodes_in("import os\nos.execvp('sh', ['sh'])")) == ["execvp"]
    assert starts_processes(nodes_in("from os import fork")) == ["fork"]
    assert mounts(nodes_in("libc.umount2(b'/x', 0)")) == ["libc.umount2"]
    assert makes_views(nodes_in("[mounts.Overlay((), None, None), Devices()]")) == ["mounts.Overlay", "Devices"]
    assert prints(nodes_in("print(1)\nsys.stderr.write('x')")) == [1, 2]
    assert "subprocess" in foreign_imports("x", nodes_in("def f():\n    from subprocess import run"))
    bad = ("host", "HOST", "host_root", "HostRoot", "theHost", "HOST_ARCH", "hosts")
    good = ("hostname", "HOSTTYPE", "MAKE_HOST", "gethostname", "ghost", "localhost")
    assert [name for name in bad if not is_banned(name)] == []
    assert [name for name in good if is_banned(name)] == []
