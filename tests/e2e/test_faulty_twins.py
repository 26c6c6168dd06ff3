"""Faulty twins, and whether they are found: real builds with a private tree in which one program is a bad one."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Said, Xbuild, unpacked, wait_for
from tests.e2e.conftest import SHARED
from xbuild.base import paths
from xbuild.base.yamlfile import load_model
from xbuild.model.load import load_toolchain
from xbuild.model.policy import Policy
from xbuild.roots.distribution import Roots
from xbuild.sandbox.run import remove_tree
from xbuild.store.local import Store

pytestmark = pytest.mark.e2e

AS = "usr/bin/arm-linux-gnueabihf-as"
TOOLS = f"{paths.PRIVATE}/amd64/usr/bin"


def script(text: str) -> bytes:
    """A twin that is a shell script. It has to name every program by its path in the private tree."""
    return f"#!{TOOLS}/dash\n{text}\n".encode()


# One rare byte is wrong.
BAD_SED = script(f"{TOOLS}/sed.real \"$@\" | {TOOLS}/sed.real s/1009/1000/")
# Files lose their x bits, directories do not.
BAD_TAR = script(f"exec {TOOLS}/tar.real --mode=a-x,a+X \"$@\"")
BAD_PATCH = script(f"exec {TOOLS}/patch.real --dry-run \"$@\"")
# Every time is now.
BAD_TOUCH = script(f'for file; do :; done; exec {TOOLS}/touch.real "$file"')


class Planter:
    """xbuild with a private tree of the test's own, in which programs can be made faulty."""

    def __init__(self, xbuild: Xbuild, private: Path) -> None:
        self.xbuild = xbuild
        self.private = private

    @contextmanager
    def planted(self, twin: str, program: bytes) -> Iterator[None]:
        """For the block, the twin (a path below the private tree) is `program`; the good one is TWIN.real."""
        path = self.private / twin
        good = path.with_name(f"{path.name}.real")
        path.rename(good)
        try:
            path.write_bytes(program)
            path.chmod(0o755)
            yield
        finally:
            good.replace(path)

    def bisect(self, recipe: str, *words: str, code: int) -> Said:
        """What a bisection of `recipe` says."""
        return self.xbuild("bisect", recipe, "--target", "armhf", *words, code=code)

    def finds(self, recipe: str, *words: str) -> Any:
        """What a bisection of `recipe`, which must find something, says as JSON."""
        return self.bisect(recipe, "--json", *words, code=5).json

    def finds_nothing(self, recipe: str, *words: str) -> Any:
        """What a bisection of `recipe`, which must find nothing, says as JSON."""
        found = self.bisect(recipe, "--json", *words, code=0).json
        assert (found["status"], found["culprits"]) == ("same", [])
        return found

    @property
    def work(self) -> list[str]:
        """What is in the store's work directory."""
        return sorted(path.name for path in (self.xbuild.cache / "work").glob("*"))


@contextmanager
def cache_to_plant_in(path: Path, user_cache: Path) -> Iterator[tuple[Path, Path]]:
    """A cache at `path` that shares all but the twins with the user's, of which it has a copy; and the private tree."""
    policy = load_model(paths.POLICIES / "default.yml", Policy)
    roots = Roots(Store(user_cache, remove_tree), load_toolchain("armhf", paths.PACKAGE.parent), policy)
    entry = roots.natives().private.parent
    (path / "twins").mkdir(parents=True)
    for name in SHARED:
        if name != "twins":
            (path / name).symlink_to(user_cache / name)
    copy = path / "twins" / entry.name
    subprocess.run(["cp", "-a", "--reflink=auto", entry, copy], check=True)
    try:
        yield path, copy / "private"
    finally:
        remove_tree(path)


@pytest.fixture(scope="session")
def private_cache(cache: Path, user_cache: Path) -> Iterator[tuple[Path, Path]]:
    """A cache as the tests' own to plant in, and the private tree in it."""
    with cache_to_plant_in(cache / "planted", user_cache) as found:
        yield found


@pytest.fixture
def planter(project: Path, private_cache: tuple[Path, Path]) -> Iterator[Planter]:
    """A planter in a project of the test's own."""
    path, private = private_cache
    yield Planter(Xbuild(project, path), private)
    for name in ("work", "artifacts"):
        remove_tree(path / name)


def names(found: Any) -> list[str]:
    """The culprits' paths."""
    return [culprit["path"] for culprit in found["culprits"]]


def files(found: Any) -> dict[str, str]:
    """The files that are wrong, and how."""
    return {file["path"]: file["difference"] for file in found["files"]}


def at_most(suspects: int) -> int:
    """Builds in which one guilty twin of `suspects` is found: with all, with none, and log2(n) + 1, rounded up."""
    return 2 + (suspects - 1).bit_length() + 1


NUMBERS = {
    "configure": "date +%N > stamp; mktemp ./XXXXXX.tmp",
    "compile": "seq 2000 > all; sed 's/$/;/' all > numbers; sort -r numbers | head -n 3 > few; tr 9 , < few > x\n"
    "mkdir -p made; cp numbers made; awk '{n += $1} END {print n}' all > sum; grep -c 7 all > sevens\n"
    "cat sum sevens | tee both | wc -l > count; cut -c 1-2 all | uniq | head -n 5 > start; basename $PWD > name",
    "install": 'install -D -m 644 numbers "$DESTDIR/usr/share/answer"; ls -R "$DESTDIR" > installed',
}


def test_a_sed_that_writes_a_wrong_byte(planter: Planter) -> None:
    recipe = planter.xbuild.recipe("numbers", build=NUMBERS)
    with planter.planted("amd64/usr/bin/sed", BAD_SED):
        found = planter.finds("numbers")
        assert names(found) == ["/usr/bin/sed"]
        assert (found["status"], found["what"], found["phase"]) == ("found", "differs", "compile")
        # Nothing of what configure left was wrong, so its emulated state was good to start from.
        assert found["start"] == "compile"
        assert files(found) == dict.fromkeys(("src/made/numbers", "src/numbers"), "other contents")
        assert found["others"] is False
        # Not reproducible by itself: a time, and a name that is another one each time.
        assert "src/stamp" in found["noise"]
        assert len([path for path in found["noise"] if path.endswith(".tmp")]) == 2
        assert len(found["noise"]) == 3
        assert found["suspects"] > 12
        assert found["tries"] <= at_most(found["suspects"])
        # Nothing is left, and nothing was made that could be taken for a build's.
        assert planter.work == []
        assert not (planter.xbuild.cache / "artifacts").exists()
        # The way out is one.
        recipe.write_text(recipe.read_text() + f"twins: {found['workaround']['twins']}\n")
        artifact = unpacked(planter.xbuild.build("numbers")["artifact"])
    right = "".join(f"{number};\n" for number in range(1, 2001)).encode()
    assert artifact["usr/share/answer"][2] == hashlib.sha256(right).hexdigest()


@pytest.mark.long
def test_only_what_is_installed(planter: Planter) -> None:
    """The difference shows in the last phase, but an earlier one made it: that has to be repeated too."""
    planter.xbuild.recipe("numbers", build=NUMBERS)
    with planter.planted("amd64/usr/bin/sed", BAD_SED):
        found = planter.finds("numbers", "--no-objects", "--keep")
        assert names(found) == ["/usr/bin/sed"]
        assert (found["phase"], found["start"]) == ("install", "compile")
        assert files(found) == {"dest/usr/share/answer": "other contents"}
        trees = {name: Path(path, "build/dest/usr/share/answer").read_text() for name, path in found["kept"].items()}
        assert trees["wrong"] == trees["right"].replace("1009", "1000")
        assert trees["wrong"] != trees["right"]
        assert planter.work == ["numbers-armhf-trixie-bisect"]
        elsewhere = {**NUMBERS, "install": 'install -D sum "$DESTDIR/usr/share/answer"'}
        planter.xbuild.recipe("numbers", build=elsewhere)
        planter.finds_nothing("numbers", "--no-objects")
        assert planter.work == []


@pytest.mark.long
def test_an_assembler_of_the_wrong_word_size(planter: Planter) -> None:
    """Found in bash: whether line tables set an address anew depends on how the assembler cuts its memory."""
    chance = random.Random(1)
    lines = [".syntax unified", ".thumb", ".text", '.file 1 "a.c"']
    for number in range(2000):
        lines += [".p2align 2,,3", f"f{number}:", f".loc 1 {20 * number + 1} 1 view -0", "nop"]
        for line in range(chance.randrange(4)):
            lines += [f".loc 1 {20 * number + line + 2} 1 view .LVU{10 * number + line}", "nop"]
        lines += [f".word f{number}"] * chance.randrange(40)
    # The tries mix native and emulated parts of the compiler: that alone must make no difference.
    build = {"compile": "cc -c lines.s; cc -c -g -O2 small.c; ar rcs libsmall.a lines.o small.o; echo 42 > answer"}
    small = "#include <stddef.h>\nsize_t f(size_t x) { return x * 3; }\n"
    sources = {"lines.s": "\n".join(lines) + "\n", "small.c": small}
    planter.xbuild.recipe("lines", build=build, files=sources)
    with planter.planted(f"i386/{AS}", (planter.private / "amd64" / AS).read_bytes()):
        found = planter.finds("lines")
    assert names(found) == [f"/{AS}"]
    assert found["culprits"][0]["group"] == "compilers"
    assert files(found) == dict.fromkeys(("src/libsmall.a", "src/lines.o"), "other contents")


@pytest.mark.long
def test_a_tar_that_loses_mode_bits(planter: Planter) -> None:
    """The build fails, and later than the fault happened: the state before the failure must be a faulty one."""
    build = {
        "configure": "mkdir tools; echo 'echo 42' > tools/make-answer; chmod 755 tools/make-answer\n"
        "tar --mtime=@0 -cf tools.tar tools; rm -r tools",
        "compile": "tar -xf tools.tar; ls tools; echo now; ./tools/make-answer > answer",
    }
    planter.xbuild.recipe("packed", build=build)
    with planter.planted("amd64/usr/bin/tar", BAD_TAR):
        found = planter.finds("packed")
        assert names(found) == ["/usr/bin/tar"]
        assert (found["what"], found["phase"], found["start"]) == ("fails", "compile", "configure")
        assert "phase 'compile' failed" in found["message"]
        assert found["log"][-2] == "now"
        assert "Permission denied" in found["log"][-1]
        # The same for people.
        said = planter.bisect("packed", code=5).out
    assert "packed 1 for armhf: phase 'compile' fails; of the" in said
    assert "  /usr/bin/tar  (tar " in said
    assert "invoke build packed --target armhf --without /usr/bin/tar\n" in said
    assert "  twins: {remove: [tar]}\n" in said


@pytest.mark.long
def test_a_package_is_told_from_inside(planter: Planter) -> None:
    control = "Package: tiny\nVersion: 1\nArchitecture: armhf\nMaintainer: A <a@b.c>\nDescription: tiny\n"
    build = {
        "compile": "seq 2000 > all; sed s/x/y/ all > tree/usr/share/answer",
        "install": 'dpkg-deb --build --root-owner-group tree "$DESTDIR/tiny_1_armhf.deb"',
    }
    sources = {"tree/DEBIAN/control": control, "tree/usr/share/other": "x\n"}
    planter.xbuild.recipe("tiny", build=build, files=sources)
    with planter.planted("amd64/usr/bin/sed", BAD_SED):
        found = planter.finds("tiny", "--no-objects")
    assert names(found) == ["/usr/bin/sed"]
    (file,) = found["files"]
    assert file["path"] == "dest/tiny_1_armhf.deb"
    ((name, lines),) = [(member["name"], member["lines"]) for member in file["inside"]["members"]]
    assert (name, lines[1:4]) == ("usr/share/answer", [" 1008", "-1009", "+1000"])
    assert planter.work == []


@pytest.mark.long
def test_a_fault_that_no_digest_shows(planter: Planter) -> None:
    """Times are not compared, since they are never the same; but make looks at them in the next phase."""
    build = {
        "configure": "echo right > answer; echo wrong > source; sleep 0.1; touch -d 2001-01-01 source\n"
        "printf 'answer: source\\n\\tcp source answer\\n' > Makefile",
        "compile": "make",
    }
    planter.xbuild.recipe("times", build=build)
    with planter.planted("amd64/usr/bin/touch", BAD_TOUCH):
        found = planter.finds("times")
    assert names(found) == ["/usr/bin/touch"]
    assert (found["phase"], found["start"]) == ("compile", "unpack")
    assert files(found) == {"src/answer": "other contents"}


@pytest.mark.long
def test_a_patch_that_changes_nothing(planter: Planter) -> None:
    """Patches are applied before any phase; what runs then is in no record, so every twin is suspected."""
    patch = "--- a/README\n+++ b/README\n@@ -1 +1 @@\n-nothing\n+something\n"
    planter.xbuild.project.joinpath("recipes/fix.diff").write_text(patch)
    planter.xbuild.recipe("patched", patches=["fix.diff"])
    with planter.planted("amd64/usr/bin/patch", BAD_PATCH):
        found = planter.finds("patched")
    assert names(found) == ["/usr/bin/patch"]
    assert (found["phase"], found["start"], files(found)) == ("unpack", "unpack", {"src/README": "other contents"})
    assert found["tries"] <= at_most(found["suspects"])


@pytest.mark.long
def test_what_emulation_itself_does_not_do_twice(planter: Planter) -> None:
    """Two substituted builds are the same here; that the emulated ones are not is only seen on the way."""
    build = {"compile": "case $(readlink /proc/$$/exe) in */dash) echo 42;; *) date +%N;; esac > odd; echo 42 > answer"}
    planter.xbuild.recipe("odd", build=build)
    assert planter.finds_nothing("odd")["noise"] == ["src/odd"]


def test_a_recipe_that_fails_emulated_too(planter: Planter) -> None:
    planter.xbuild.recipe("broken", build={"compile": "echo no luck; exit 7"})
    said = planter.bisect("broken", code=3).err
    assert "error: broken 1 for armhf: phase 'compile' fails emulated too, so no twin is to blame\n" in said
    assert "no luck\n" in said
    assert planter.work == []


def test_a_target_without_twins(planter: Planter) -> None:
    planter.xbuild.recipe()
    assert "no twins" in planter.xbuild("bisect", "tiny", "--target", "amd64", code=2).err


@pytest.mark.long
def test_a_killed_one_is_in_nobodys_way(planter: Planter) -> None:
    planter.xbuild.recipe("slow", build={"compile": "echo begun; sleep 1000"})
    place = planter.xbuild.cache / "work/slow-armhf-trixie-bisect"
    process = planter.xbuild.start("bisect", "slow", "--target", "armhf")
    log = place / "now/logs/01-compile.log"
    wait_for("the phase runs", lambda: log.exists() and log.read_text() == "begun\n")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert place.exists()
    planter.xbuild.recipe("slow")
    assert planter.finds_nothing("slow")["noise"] == []
    assert planter.work == []
