from __future__ import annotations

import json
import os
import shutil
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from xbuild.base.errors import CheckError
from xbuild.build.check import check_tree
from xbuild.build.environment import Root, WorkPlace, sandbox
from xbuild.build.outputs import Usage, finish, usage_of, verify
from xbuild.build.stepfiles import StepFiles
from xbuild.formats.debian import Tree
from xbuild.model.load import load_recipe, load_toolchain
from xbuild.model.output import Output
from xbuild.sandbox.mounts import Bind
from xbuild.twins.pairing import Twin

DATA = Path(__file__).parent / "data"
PROJECT = Path(__file__).parents[2]
ARMHF = load_toolchain("armhf", PROJECT)
LUA = load_recipe("lua", ARMHF, PROJECT)


@pytest.fixture
def place(tmp_path: Path) -> WorkPlace:
    found = WorkPlace(tmp_path / "work")
    found.dest.mkdir(parents=True)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root that has the one library that the programs of tests/unit/data need."""
    library = tmp_path / "base" / "usr/lib/arm-linux-gnueabihf/libhalf.so.1"
    library.parent.mkdir(parents=True)
    shutil.copy(DATA / "libhalf.so.1", library)
    return Root((tmp_path / "base",), None, ())


def install(place: WorkPlace, path: str, contents: str, mode: int = 0o755) -> None:
    """Put a file of tests/unit/data, a link (`-> target`), or text to `path`."""
    file = place.dest / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if contents.startswith("-> "):
        file.symlink_to(contents[3:])
        return
    if (DATA / contents).is_file():
        shutil.copy(DATA / contents, file)
    else:
        file.write_text(contents)
    file.chmod(mode)


def faults(place: WorkPlace, root: Root, *outputs: Output) -> list[str]:
    """What `verify` finds wrong with a recipe that promises `outputs`."""
    try:
        verify(LUA.model_copy(update={"outputs": outputs}), ARMHF, place, root, {})
    except CheckError as error:
        return list(error.details)
    return []


@pytest.mark.parametrize(
    ("kind", "contents"),
    [
        ("executable", "armhf-pie"),
        ("executable", "armhf-static"),
        ("executable", "armhf-static-pie"),
        ("executable", "#!/bin/sh\n"),
        ("shared-library", "libhalf.so.1"),
        ("static-library", "armhf.a"),
        ("file", "text"),
        ("file", "armhf-pie"),
        ("file", "-> nowhere"),
    ],
)
def test_what_was_promised(place: WorkPlace, root: Root, kind: Any, contents: str) -> None:
    install(place, "usr/it", contents)
    assert faults(place, root, Output(path="usr/it", kind=kind)) == []


@pytest.mark.parametrize(
    ("kind", "contents", "fault"),
    [
        ("executable", "text", "not an ELF file"),
        ("executable", "libhalf.so.1", "is no executable"),
        ("executable", "armhf.o", "is no executable"),
        ("executable", "armhf.a", "not an ELF file"),
        ("shared-library", "armhf-static", "is no shared library, but ELF type EXEC"),
        ("shared-library", "armhf.o", "is no shared library, but ELF type REL"),
        ("shared-library", "text", "not an ELF file"),
        ("static-library", "armhf.o", "is no static library"),
        ("static-library", "", "is no static library"),
        ("static-library", "-> nowhere.a", "is a link that leads nowhere"),
        ("executable", "-> it", "is a link that leads nowhere"),
        ("executable", "-> .", "is a directory"),
    ],
)
def test_what_is_something_else(place: WorkPlace, root: Root, kind: Any, contents: str, fault: str) -> None:
    install(place, "usr/it", contents)
    (found,) = faults(place, root, Output(path="usr/it", kind=kind))
    assert found.startswith("usr/it: ")
    assert fault in found


@pytest.mark.parametrize("contents", ["armhf-pie", "#!/bin/sh\n"])
def test_without_the_permission_to_run(place: WorkPlace, root: Root, contents: str) -> None:
    install(place, "usr/bin/it", contents, 0o644)
    (found,) = faults(place, root, Output(path="usr/bin/it", kind="executable"))
    assert "is not executable" in found


def test_links_are_those_of_the_installed_system(place: WorkPlace, root: Root) -> None:
    # /usr/lib/it.so is not this machine's, and what is in the root will be there too.
    install(place, "opt/it.so", "-> /usr/lib/it.so")
    install(place, "usr/lib/it.so", "-> arm-linux-gnueabihf/libhalf.so.1")
    assert faults(place, root, Output(path="opt/it.so", kind="shared-library")) == []
    install(place, "opt/sh", "-> /bin/sh")
    assert faults(place, root, Output(path="opt/sh", kind="executable")) == ["opt/sh: is a link that leads nowhere"]


def test_a_missing_output(place: WorkPlace, root: Root) -> None:
    install(place, "usr/bin/it", "armhf-pie")
    outputs = [Output(path=path) for path in ("usr/bin/other", "usr/bin/it", "usr/lib/*.so")]
    assert faults(place, root, *outputs) == [
        f"{path}: the recipe promises it, but it was not installed" for path in ("usr/bin/other", "usr/lib/*.so")
    ]


def test_all_that_a_pattern_finds_is_looked_at(place: WorkPlace, root: Root) -> None:
    install(place, "usr/lib/a.a", "armhf.a")
    install(place, "usr/lib/b.a", "text")
    install(place, "usr/lib/c.a", "text")
    found = faults(place, root, Output(path="usr/lib/*.a", kind="static-library"))
    assert found == ["usr/lib/b.a: is no static library", "usr/lib/c.a: is no static library"]


def test_files_that_nobody_promised_are_checked_too(place: WorkPlace, root: Root) -> None:
    install(place, "usr/bin/it", "armhf-pie")
    install(place, "usr/bin/wrong", "amd64-static")
    (found,) = faults(place, root, Output(path="usr/bin/it", kind="executable"))
    assert found.startswith("usr/bin/wrong: ")


def test_needed_libraries_may_be_in_the_root(place: WorkPlace, root: Root, tmp_path: Path) -> None:
    install(place, "usr/bin/it", "armhf-pie")
    output = Output(path="usr/bin/it", kind="executable")
    assert faults(place, root, output) == []
    (found,) = faults(place, Root((tmp_path / "empty",), None, ()), output)
    assert "libhalf.so.1" in found


def test_usage_of(place: WorkPlace) -> None:
    place.records.mkdir()
    for step, execs in {"01-a": [(3, b"/usr/bin/perl"), (1, b"/usr/bin/sed")], "02-b": [(5, b"/usr/bin/sed")]}.items():
        place.accounts(StepFiles.named(step)).write_text("{}")
        data = [struct.pack("<HBBIQ", 16 + len(path), verdict, 0, 7, 1) + path for verdict, path in execs]
        (place.records / step).write_bytes(b"".join(data))
    usage = usage_of(place)
    assert usage.native == {"/usr/bin/sed": 1}
    assert usage.emulated == {"/usr/bin/perl": 1, "/usr/bin/sed": 1}


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd")
def test_finish(place: WorkPlace, tmp_path: Path) -> None:
    install(place, "usr/bin/it", "armhf-pie")
    twins = [
        Twin("sed", "/usr/bin/sed", "amd64", "sed", "4.9-2", "/usr/bin/sed"),
        Twin("as", "/usr/bin/as", "i386", "binutils", "2.44-3", "/usr/bin/as"),
    ]
    usage = Usage({"/usr/bin/sed": 3}, {"/usr/bin/perl": 2, "/usr/bin/gcc": 1})
    facts = {"mode": "substituted", "resumed": False}
    checked = check_tree(place.dest, ARMHF, {"libhalf.so.1"})
    with_all: dict[str, Any] = {"epoch": 1700000000, "facts": facts, "twins": twins, "usage": usage}
    finish(LUA, ARMHF, place, tmp_path, "lua-5", checked=checked, **with_all)
    manifest = json.loads((tmp_path / "lua-5.manifest.json").read_text())
    archive = tmp_path / "lua-5.tar.zst"
    assert manifest["artifact"]["bytes"] == archive.stat().st_size > 0
    assert (manifest["name"], manifest["target"], manifest["mode"]) == ("lua", "armhf", "substituted")
    assert [(twin["path"], twin["architecture"], twin["ran"]) for twin in manifest["twins"]] == [
        ("/usr/bin/sed", "amd64", True),
        ("/usr/bin/as", "i386", False),
    ]
    assert manifest["ran-native"] == {"/usr/bin/sed": 3}
    assert manifest["ran-emulated"] == {"/usr/bin/perl": 2, "/usr/bin/gcc": 1}
    assert manifest["sources"][0]["sha256"] == LUA.sources[0].sha256
    assert str(tmp_path) not in (tmp_path / "lua-5.manifest.json").read_text()


def test_an_output_is_not_somewhere_else(place: WorkPlace, root: Root, tmp_path: Path) -> None:
    (tmp_path / "outside/bin").mkdir(parents=True)
    shutil.copy(DATA / "armhf-pie", tmp_path / "outside/bin/it")
    install(place, "usr", f"-> {tmp_path}/outside")
    for path in ("usr/bin/it", "usr/*/it", "**/it"):
        assert faults(place, root, Output(path=path)) == [
            f"{path}: the recipe promises it, but it was not installed"
        ]


def test_an_output_behind_a_link_in_the_tree(place: WorkPlace, root: Root) -> None:
    install(place, "opt/it-1/bin/it", "armhf-static")
    install(place, "opt/it", "-> /opt/it-1")
    install(place, "opt/up", "-> ../../../../opt/it/bin")
    for path in ("opt/it/bin/it", "opt/*/bin/it", "opt/up/it"):
        assert faults(place, root, Output(path=path, kind="executable")) == []


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**", ["", "a", "a/b", "a/b/c.so", "a/c.so", "l"]),
        ("**/c.so", ["a/b/c.so", "a/c.so", "l/c.so"]),
        ("a/**", ["a", "a/b", "a/b/c.so", "a/c.so"]),
        ("*", ["a", "l"]),
        ("*/c.so", ["a/c.so", "l/c.so"]),
        (".*/x", [".h/x"]),
        ("a/[!b]*", ["a/c.so"]),
        ("a/[b]", ["a/b"]),
        ("a/?", ["a/b"]),
        ("l", ["l"]),
        ("l/c.so", ["l/c.so"]),
        ("a/c.so/x", []),
        ("*/*/*/*", []),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, found: list[str]) -> None:
    for name in (".h/x", "a/b/c.so", "a/c.so"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "l").symlink_to("a")
    assert Tree((tmp_path,)).matching(pattern) == found


@pytest.mark.parametrize("kind", ["executable", "shared-library", "static-library"])
def test_what_would_wait_or_is_no_file(place: WorkPlace, root: Root, kind: Any) -> None:
    place.dest.joinpath("usr").mkdir()
    os.mkfifo(place.dest / "usr/fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place.dest / "usr/socket"))
    for name in ("fifo", "socket"):
        (place.dest / "usr" / name).chmod(0o755)
        install(place, f"usr/link-{name}", f"-> {name}")
        for path in (f"usr/{name}", f"usr/link-{name}"):
            assert f"{path}: is a {name}" in faults(place, root, Output(path=path, kind=kind))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_links_to_what_may_not_be_looked_at(place: WorkPlace, root: Root, tmp_path: Path) -> None:
    # In the root, where another user of the sandbox has it.
    (root.layers[0] / "root").mkdir(mode=0)
    (tmp_path / "closed").mkdir(mode=0)
    install(place, "usr/bin/one", "-> /root/x")
    install(place, "usr/bin/two", f"-> {tmp_path}/closed/x")
    install(place, "usr/bin/three", "-> " + "x" * 3000)
    promised = [Output(path=f"usr/bin/{name}", kind="executable") for name in ("one", "two", "three")]
    assert faults(place, root, *promised) == [
        "usr/bin/one: cannot be looked at: Permission denied",
        "usr/bin/two: is a link that leads nowhere",
        "usr/bin/three: is a link that leads nowhere",
    ]
    assert faults(place, root, Output(path="usr/bin/one")) == []


def test_a_fault_of_what_may_be_data_says_how_to_call_it_so(place: WorkPlace, root: Root) -> None:
    install(place, "usr/lib/a.o", "amd64.o")
    recipe = LUA.model_copy(update={"outputs": (Output(path="usr/lib/a.o"),)})
    with pytest.raises(CheckError) as caught:
        verify(recipe, ARMHF, place, root, {})
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("says so by: data: [usr/lib/a.o]")
    checked = verify(recipe.model_copy(update={"data": ("usr/lib/a.o",)}), ARMHF, place, root, {})
    assert [node.path for node in checked.nodes] == [b"usr", b"usr/lib", b"usr/lib/a.o"]
    install(place, "usr/lib/leak", "/.xbuild/lib")
    with pytest.raises(CheckError) as caught:
        verify(recipe.model_copy(update={"data": ("usr/lib/a.o",)}), ARMHF, place, root, {})
    assert caught.value.hint is None


def test_what_may_be_data_is_named_by_its_file(place: WorkPlace, root: Root) -> None:
    install(place, "usr/lib/odd(1).o", "amd64.o")
    install(place, "usr/lib/all.a", "mixed.a")
    with pytest.raises(CheckError) as caught:
        verify(LUA.model_copy(update={"outputs": (Output(path="usr/lib/all.a"),)}), ARMHF, place, root, {})
    assert any(line.startswith("usr/lib/all.a(") for line in caught.value.details)
    assert str(caught.value.hint).endswith("data: [usr/lib/all.a, usr/lib/odd(1).o]")


def test_the_records_of_all_phases_count(place: WorkPlace) -> None:
    place.records.mkdir(parents=True)
    execs = {"01-configure": 1, "02-listen": 2, "03-json": 3}
    for name, number in execs.items():
        path = b"/usr/bin/sed"
        head = struct.pack("<HBBIQ", 16 + len(path), 1, 0, 7, 9)
        (place.records / name).write_bytes((head + path) * number)
        (place.records / f"{name}.cpu.json").write_text("{}")
    assert usage_of(place).native == {"/usr/bin/sed": 6}


def test_what_is_laid_over_the_root_is_not_writable(place: WorkPlace, root: Root) -> None:
    where = sandbox(root, place, {}, over=(place.dest,))
    binds = [mount for mount in where.mounts if isinstance(mount, Bind)]
    whole, dest = (next(bind for bind in binds if bind.target == target) for target in ("/build", "/build/dest"))
    assert dest == Bind(str(place.dest), "/build/dest", readonly=True)
    assert where.mounts.index(whole) < where.mounts.index(dest)
