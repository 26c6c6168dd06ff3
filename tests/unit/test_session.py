"""What a session shows of the machine, which programs it takes, and what it says of the others."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xbuild.base.errors import MachineError, UsageError
from xbuild.formats.debian import Tree
from xbuild.formats.elf import read_elf
from xbuild.model.load import load_policy, load_toolchain, toolchain_names
from xbuild.roots.distribution import Roots
from xbuild.roots.partners import Partners
from xbuild.sandbox.mounts import Bind, Text
from xbuild.session import files, kept, program
from xbuild.session.root import Origin, _is_doubtful, _natives
from xbuild.session.run import RunOptions, _as_kept
from xbuild.session.shell import STATUS, tell_installed
from xbuild.store.local import Store
from xbuild.twins.pairing import Twin

DATA = Path(__file__).parent / "data"
CHECKOUT = Path(__file__).parents[2]
ALL = [load_toolchain(name, CHECKOUT) for name in toolchain_names(CHECKOUT)]
ARMHF = next(known for known in ALL if known.name == "armhf")


def made(path: Path, data: bytes | str = b"", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    path.chmod(mode)
    return path


def refused(word: str | Path) -> str:
    with pytest.raises(UsageError) as caught:
        program.look(str(word))
    return caught.value.message.replace(str(word), "WORD")


def test_what_is_no_program(tmp_path: Path) -> None:
    arm = (DATA / "armhf-static").read_bytes()
    (tmp_path / "dangling").symlink_to("nowhere")
    for path, reason in (
        (tmp_path, "WORD is a directory"),
        (tmp_path / "dangling", "WORD is a link to nowhere, which is not there"),
        (made(tmp_path / "plain", arm, 0o644), "WORD is not executable"),
        (made(tmp_path / "empty"), "WORD is an empty file"),
        (made(tmp_path / "text", "echo a\n"), "WORD is neither an ELF file nor a script with `#!` in its first line"),
        (made(tmp_path / "bare", "#!\n"), "WORD is a script that names no interpreter in its first line"),
        (made(tmp_path / "short", arm[:12]), "WORD is a broken ELF file: it ends within its first 16 bytes"),
        (made(tmp_path / "o", (DATA / "armhf.o").read_bytes()), "WORD is an object file: it has to be linked first"),
        (made(tmp_path / "lib", (DATA / "libhalf.so.1").read_bytes()), "WORD is a shared library, not a program"),
    ):
        assert refused(path) == reason
    os.mkfifo(tmp_path / "fifo")
    assert refused(tmp_path / "fifo") == "WORD is no regular file"


@pytest.mark.parametrize("size", range(60, 556, 31))
def test_a_program_that_is_cut_short(tmp_path: Path, size: int) -> None:
    """At any place: what still is a program to the kernel must be one whole."""
    path = made(tmp_path / "cut", (DATA / "armhf-static").read_bytes()[:size])
    if size < read_elf(DATA / "armhf-static").end:
        assert re.search("cut short|broken ELF file", refused(path))
    else:
        # What is cut off is for tools, not for the kernel.
        assert re.search("broken ELF file", refused(path))


@pytest.mark.parametrize("name", ["armhf-static", "armhf-static-pie", "armhf-pie", "arm64-static"])
def test_the_target_is_found(name: str) -> None:
    found = program.look(str(DATA / name))
    assert program.choose(found, iter([ARMHF, *ALL])).name == name.partition("-")[0]


def test_what_is_no_elf_file_is_the_default_target_s(tmp_path: Path) -> None:
    script = made(tmp_path / "script", "#!/usr/bin/env -S python3 -u\n")
    found = program.look(str(script))
    assert found.interpreter == ("/usr/bin/env", "-S python3 -u")
    assert program.choose(found, iter([ARMHF])) is ARMHF
    assert program.choose(program.look("uname"), iter([ARMHF])) is ARMHF


def test_a_program_of_another_machine(tmp_path: Path) -> None:
    native = program.look(str(DATA / "amd64-static"))
    other = program.look(str(DATA / "arm64-static"))
    big = bytearray((DATA / "armhf-static").read_bytes())
    # e_machine: 43 is EM_SPARCV9; whatever else, it is none of our targets'.
    big[18] = 43
    unknown = program.look(str(made(tmp_path / "sparc", bytes(big))))
    for found, reason, hint in (
        (native, "is a program for x86-64, as this machine is, not for armhf", "run it as it is"),
        (other, "is a program for AARCH64, 64 bits, not for armhf", "--target arm64 runs it"),
        (unknown, "is a program for SPARCV9, 32 bits, not for armhf; no target runs that", "targets: "),
    ):
        assert found.info is not None
        with pytest.raises(UsageError) as caught:
            program.check_machine(found, found.info, ARMHF, lambda: ALL)
        assert reason in caught.value.message
        assert hint in str(caught.value.hint)
    for found in (native, unknown):
        with pytest.raises(UsageError):
            program.choose(found, iter([ARMHF, *ALL]))


def root(path: Path) -> Path:
    """A root with a shell and a loader."""
    for name in ("usr/bin/sh", "usr/lib/ld-linux-armhf.so.3", "usr/lib/arm-linux-gnueabihf/libc.so.6"):
        made(path / name)
    for name in ("bin", "lib"):
        (path / name).symlink_to(f"usr/{name}")
    return path


@pytest.mark.parametrize(
    ("data", "reason", "hint"),
    [
        ("#!/bin/sh\n", None, ""),
        ("#! /usr/bin/python3 -u\n", "is a script for /usr/bin/python3, which the root of armhf", "install python3"),
        (DATA / "armhf-pie", None, ""),
        (DATA / "armhf-interpreter", "needs the loader /lib/ld-linux.so.3, which the root of armhf", "--sysroot DIR"),
    ],
)
def test_what_it_needs_to_start(tmp_path: Path, data: str | Path, reason: str | None, hint: str) -> None:
    path = made(tmp_path / "program", data if isinstance(data, str) else data.read_bytes())
    found, view = program.look(str(path)), files.View([root(tmp_path / "root")], [])
    if reason is None:
        program.check(found, ARMHF, view)
        return
    with pytest.raises(UsageError) as caught:
        program.check(found, ARMHF, view)
    assert reason in caught.value.message
    assert hint in str(caught.value.hint)


def test_a_program_of_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = files.View([root(tmp_path / "root")], [])
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "here")
    for word in ("sh", "/usr/bin/sh", "/bin/sh"):
        program.check(program.Found(word, None), ARMHF, view)
    for word, hint in (("here", "./here"), ("nosuch", "apt-get install")):
        with pytest.raises(UsageError, match=f"has no program '{word}'") as caught:
            program.check(program.look(word), ARMHF, view)
        assert hint in str(caught.value.hint)
    with pytest.raises(UsageError, match=r"there is no \./nosuch, neither here nor"):
        program.check(program.look("./nosuch"), ARMHF, view)


def test_which_directories_are_shown(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    for name in ("bin", "usr", "etc", "proc", "home", "data", "sys", "dev", "var/tmp", "run", "real"):
        (machine / name).mkdir(parents=True)
    (machine / "linked").symlink_to(machine / "real")
    (machine / "file").touch()
    shown = {bind.target: bind.source for bind in files.machine_directories(machine)}
    assert shown == {
        **{f"/{name}": str(machine / name) for name in ("data", "dev", "home", "real", "sys")},
        "/linked": str(machine / "real"),
        "/var/tmp": str(machine / "var/tmp"),
    }


def test_what_is_shown_besides(tmp_path: Path) -> None:
    """What is shown already is not shown twice, and the target's own directories stay."""
    base = root(tmp_path / "root")
    shown = [Bind("/home", "/home")]
    mine = tmp_path / "mine"
    made(mine / "program")
    wanted = [Path("/home/me"), mine, mine / "program", Path("/usr/bin"), Path("/"), tmp_path / "nothing"]
    assert files.further(wanted, shown, Tree([base])) == [Bind(str(mine), str(mine))]


def test_a_file_behind_a_link_of_the_root(tmp_path: Path) -> None:
    """/bin/env, say, where /bin is a link in the root: a bind's place has no links on the way."""
    (found,) = files.further([Path("/bin/env")], [], Tree([root(tmp_path / "root")]))
    assert found == Bind(str(Path("/bin/env").resolve()), "/usr/bin/env")


def test_what_a_program_needs_to_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    real = made(tmp_path / "real/program")
    (tmp_path / "link").symlink_to(real)
    environment = {"HOME": "/home/me", "TMPDIR": "relative", "XDG_RUNTIME_DIR": "/run/user/1000"}
    assert files.wanted(environment, tmp_path / "link") == [
        *(Path(name) for name in ("/home/me", "/run/user/1000")),
        tmp_path,
        *(tmp_path, tmp_path / "link"),
        *(real.parent, real),
    ]


def test_a_view(tmp_path: Path) -> None:
    base = root(tmp_path / "root")
    mine = made(tmp_path / "mine/deep/file").parent.parent
    (mine / "link").symlink_to("/bin/sh")
    view = files.View([base], [Bind(str(mine), "/mine"), Bind(str(mine / "deep"), "/mine/other")])
    assert view.find("/mine/deep/file") == mine / "deep/file"
    assert view.find("/mine/other/file") == mine / "deep/file"
    assert view.find("/mine/nothing") is None
    assert view.real_path("/mine/link") == "/usr/bin/sh"
    assert view.find("/minerals") is None


def test_variables(tmp_path: Path) -> None:
    tree = Tree([root(tmp_path / "root")])
    environment = {
        "PATH": "/home/me/bin", "LD_PRELOAD": "/x86.so", "LD_LIBRARY_PATH": "/mine", "XBUILD_CACHE": "/c",
        "VIRTUAL_ENV": "/v", "COLOUR": "blue",
        "LANG": "de_DE.UTF-8", "LC_TIME": "C", "SHELL": "/bin/zsh", "TERM": "xterm", "QEMU_CPU": "max",
    }  # fmt: skip
    assert files.variables(environment, "/usr/bin", tree) == {
        "PATH": "/usr/bin", "LD_LIBRARY_PATH": "/mine", "COLOUR": "blue", "LANG": "C.UTF-8", "LC_TIME": "C",
        "SHELL": "/bin/sh", "TERM": "xterm", "QEMU_CPU": "max",
    }  # fmt: skip
    (tmp_path / "root/usr/lib/locale/de_DE.UTF-8").mkdir(parents=True)
    assert files.variables({"LANG": "de_DE.UTF-8", "SHELL": "/bin/sh"}, "/", tree)["LANG"] == "de_DE.UTF-8"


def test_the_user_has_a_name(tmp_path: Path) -> None:
    base = root(tmp_path / "root")
    made(base / "etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    made(base / "etc/group", "root:x:0:\nother:x:4242:\n")
    found = {text.target: text.text for text in files.settings(Tree([base]), 4242, 4242) if isinstance(text, Text)}
    assert found["/etc/passwd"] == "root:x:0:0::/root:/bin/sh\nuser:x:4242:4242::/:/bin/sh\n"
    assert found["/etc/group"] == "root:x:0:\nother:x:4242:\n"


def test_a_file_of_a_foreign_layer_must_be_its_package_s(tmp_path: Path) -> None:
    base, upper = tmp_path / "base", tmp_path / "upper"
    for layer in (base, upper):
        made(layer / "usr/bin/sed", "sed")
    made(base / "var/lib/dpkg/status", "Package: sed\nStatus: install ok installed\nVersion: 1\nArchitecture: armhf\n")
    made(base / "var/lib/dpkg/info/sed.list", "/bin/sed\n")
    sums = made(base / "var/lib/dpkg/info/sed.md5sums", f"{'0' * 32}  bin/sed\n")
    source = Origin((base,)).below(upper)
    tree = Tree(source.layers)
    assert not _is_doubtful(Tree([base]), "/usr/bin/sed", Origin((base,)))
    assert _is_doubtful(tree, "/usr/bin/sed", source)
    md5 = "177544aa797af6f322f8caa5e80e7f24"
    sums.write_text(f"{md5}  bin/sad\n")
    assert _is_doubtful(tree, "/usr/bin/sed", source)
    sums.write_text(f"{md5}  bin/sad\n{md5}  bin/sed\n")
    assert not _is_doubtful(tree, "/usr/bin/nothing", source)
    made(upper / "usr/bin/own", "own")
    assert _is_doubtful(tree, "/usr/bin/own", source)


def test_what_came_meanwhile_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upper, base = tmp_path / "upper", tmp_path / "base"
    sed, bison = (f"Package: {name}\nStatus: install ok installed\nVersion: 1\n\n" for name in ("sed", "bison"))
    made(base / "var/lib/dpkg/status", sed)
    made(base / "var/lib/dpkg/info/sed.list", "/usr/bin/sed\n")
    names = ("sed", "bison", "yacc")
    twins = tuple(Twin("sed", f"/usr/bin/{name}", "amd64", name, "1", f"/usr/bin/{name}") for name in names)
    roots = SimpleNamespace(policy=load_policy(ARMHF), natives=lambda: SimpleNamespace(twins=twins))
    before = Tree([base]).text(STATUS)
    tell_installed(roots, Tree([upper, base]), before, "tools")  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""
    made(upper / "var/lib/dpkg/status", sed + bison)
    made(upper / "var/lib/dpkg/info/bison.list", "/usr/bin/bison\n/usr/share/bison\n")
    tell_installed(roots, Tree([upper, base]), before, "tools")  # type: ignore[arg-type]
    assert capsys.readouterr().err == (
        "installed meanwhile, and emulated up to here: bison; "
        "in `invoke shell --keep tools` they run natively the next time\n"
    )
    tell_installed(roots, Tree([upper, base]), before, None)  # type: ignore[arg-type]
    assert "bison; with --keep NAME they stay, and run natively the next time" in capsys.readouterr().err


def test_a_session_needs_no_native_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(_partners: Partners) -> None:
        raise MachineError("the mirror is away")

    plain: Any = SimpleNamespace()
    monkeypatch.setattr(Partners, "natives", unreachable)
    monkeypatch.setattr(Roots, "natives", lambda _roots: plain)
    assert _natives(Roots(Store(tmp_path), ARMHF, load_policy(ARMHF)), Origin((tmp_path,)), frozenset()) is plain
    assert "stay emulated: the mirror is away" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, (None, None)),
        ({"keep": "tools64"}, ("arm64", "bookworm")),
        ({"keep": "tools64", "suite": "trixie"}, ("arm64", "trixie")),
        # What is named is held against it later.
        ({"keep": "tools64", "target": "armhf"}, ("armhf", None)),
    ],
)
def test_a_kept_system_says_which_target_is_meant(
    tmp_path: Path, given: dict[str, str], meant: tuple[str | None, str | None]
) -> None:
    store = Store(tmp_path)
    place = store.directory(kept.DIRECTORY) / "tools64"
    place.mkdir()
    kept._write(kept.Kept("tools64", place, "arm64", "bookworm", "root", "base", "2026-01-01", "2026-01-01"))
    options = _as_kept(store, RunOptions(**given))  # type: ignore[arg-type]
    assert (options.target, options.suite) == meant
    with pytest.raises(UsageError, match=r"there is no kept system 'tool64'; did you mean 'tools64'"):
        _as_kept(store, RunOptions(keep="tool64"))
