"""What a build sees of its sources, and of us: trees, patches, variables, names of machines."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild
from xbuild.sources import tree_digest

pytestmark = pytest.mark.e2e

# A makefile that takes no word of ours for its user's, and a script that a phase calls.
_FILES = {
    "Makefile": "TARGET ?= libx.so\nNAME ?= mine\nall:\n\t@echo $(TARGET) $(NAME) $(origin HOSTTYPE) $(origin JOBS)\n",
    "script": 'echo "${VERSION-none} ${DESTDIR-none} ${CFLAGS-none} ${OPT_MAKE_ARGS-none}"\n',
}
_ASKED = """\
make -s > answer
sh script >> answer
echo "$TARGET $NAME $VERSION $PREFIX $DESTDIR $BUILDDIR $OPT_MAKE_ARGS" >> answer
bash -c 'env | grep -E "^(HOSTTYPE|OSTYPE|MACHTYPE|MAKE_HOST)="' >> answer || echo none >> answer
getent hosts localhost "$(hostname)" | wc -l >> answer
"""
_ANSWER = """\
libx.so mine undefined undefined
none none -O1 none
armhf tiny 1 /usr /build/dest /build/src -x
none
2
"""


@pytest.mark.parametrize("mode", ["substituted", "distcc"])
def test_what_a_phase_sees_of_us(xbuild: Xbuild, mode: str) -> None:
    options = {"make-args": ["-x"]}
    xbuild.recipe(files=_FILES, build={"compile": _ASKED, "options": options}, env={"CFLAGS": "-O1"})
    xbuild.build("tiny", "--keep", "--mode", mode)
    assert (xbuild.place(mode=mode) / "build/src/answer").read_text() == _ANSWER


def test_a_shell_knows_a_phases_variables(xbuild: Xbuild) -> None:
    xbuild.recipe(files=_FILES)
    assert xbuild("shell", "tiny", "--", "echo $TARGET $JOBS; env | grep -c ^TARGET=", code=1).out.startswith("armhf ")
    assert xbuild("shell", "tiny", "--", "printenv", "TARGET", code=1).out == ""


def test_patches_of_one_name_and_a_directory_to_unpack_into(xbuild: Xbuild) -> None:
    path = xbuild.recipe(build={"compile": "cat one two deep/er/file > answer"}, files={"file": "f\n"})
    patches = []
    for directory, name in (("a", "one"), ("b", "two")):
        patch = path.parent / directory / "add.patch"
        patch.parent.mkdir()
        patch.write_text(f"--- /dev/null\n+++ src/{name}\n@@ -0,0 +1 @@\n+{name}\n")
        patches.append(f"{directory}/add.patch")
    text = path.read_text().replace("  sha256:", "  into: deep/er\n  sha256:", 1)
    path.write_text(f"{text}patches: [{', '.join(patches)}]\n")
    xbuild.build("tiny", "--keep")
    source = xbuild.place() / "build/src"
    assert (source / "answer").read_text() == "one\ntwo\nf\n"
    assert sorted(place.name for place in (source / "deep").rglob("*")) == ["er", "file"]


def _told(said: str) -> None:
    assert "sha256 is not the one that the recipe names" in said
    assert "changed: README" in said
    assert "write the found value into the recipe" in said


@pytest.mark.long
def test_an_edited_tree_is_told_and_never_taken_for_the_old_one(xbuild: Xbuild) -> None:
    xbuild.recipe()
    xbuild.build("tiny", "--keep")
    (xbuild.project / "sources/tiny/README").write_text("other\n")
    for words in ((), ("--from", "compile"), ("--plan",)):
        _told(xbuild.fails("tiny", *words, code=2))
    _told(xbuild("why", "tiny", code=2).err)
    shell = xbuild("shell", "tiny", "--", "cat", "/build/src/README")
    assert (shell.out, "is not the one that the recipe names" in shell.err) == ("nothing\n", True)
    xbuild("log", "tiny")


def test_an_edited_tree_is_told_before_a_build_goes_on(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": "false"})
    xbuild.fails("tiny", code=3)
    (xbuild.project / "sources/tiny/README").write_text("other\n")
    _told(xbuild.fails("tiny", code=2))


def test_an_edited_tree_without_a_digest_is_built_as_it_is_now(xbuild: Xbuild) -> None:
    xbuild.recipe(
        files={"text": "one\n", ".gitignore": "*.o\n", "old.o": "x"},
        build={"compile": "ls -A > answer; cat text >> answer"},
        sources=[{"path": "sources/tiny"}],
    )
    tree = xbuild.project / "sources/tiny"
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=one"]):
        subprocess.run([*git, *words], check=True)

    def built(text: str, *, dirty: bool) -> str:
        result = xbuild.build("tiny", "--keep")
        (source,) = json.loads(Path(result["manifest"]).read_text())["sources"]
        assert (source["sha256"], source["in-git"]["dirty"]) == (tree_digest(tree), dirty)
        answer = (xbuild.place() / "build/dest/usr/share/answer").read_text()
        assert answer == f".gitignore\nanswer\ntext\n{text}\n"
        return str(result["status"])

    assert (built("one", dirty=False), built("one", dirty=False)) == ("built", "up-to-date")
    (tree / "text").write_text("two\n")
    said = xbuild.fails("tiny", "--from", "compile", code=2)
    assert "cannot start from 'compile': 'unpack' has not been done yet, or its inputs changed" in said
    assert "its inputs changed; the tree here was made of the old ones" in xbuild("shell", "tiny", "--", "true").err
    assert built("two", dirty=True) == "built"
    (tree / "new.o").touch()
    assert built("two", dirty=True) == "up-to-date"


@pytest.mark.long
def test_git_describe_in_a_build(xbuild: Xbuild, tmp_path: Path) -> None:
    names = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*words: str) -> str:
        command = ["git", "-C", f"{tmp_path}/repository", *words]
        return subprocess.run(command, env=xbuild.environment(names), check=True, capture_output=True).stdout.decode()

    (tmp_path / "repository").mkdir()
    git("init", "--quiet")
    (tmp_path / "repository" / "file").touch()
    git("add", "file")
    git("commit", "--quiet", "--message", "one")
    git("tag", "--annotate", "--message", "v1", "v1")
    git("commit", "--quiet", "--allow-empty", "--message", "two")
    described = git("describe")
    source = {"git": f"file://{tmp_path}/repository", "commit": git("rev-parse", "HEAD").strip(), "sha256": "0" * 64}

    def written(sha256: str) -> None:
        xbuild.recipe(build={"compile": "git describe --dirty > answer"}, sources=[source | {"sha256": sha256}])

    written("0" * 64)
    said = xbuild.fails("tiny", code=3)
    written(said.partition("found:")[2].split()[0])
    xbuild.build("tiny", "--keep")
    assert (xbuild.place() / "build/src/answer").read_text() == described
