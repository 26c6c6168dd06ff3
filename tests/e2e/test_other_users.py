"""What another user of the machine can do to a store: one test for each door.

The other user is one of the caller's subordinate ids, in a process without any right that sees the machine as it is.
"""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild, unpacked
from xbuild.base import paths
from xbuild.base.errors import EXIT_MACHINE
from xbuild.sandbox.run import capture, give_tree, machine_view, remove_tree, take_back

pytestmark = pytest.mark.e2e

OTHER = 44444
INSTALL = r"""
cd "$DESTDIR"; mkdir -p usr/share; cd usr/share; cp /usr/bin/true su; cp su sgid; cp su secret; cp su open; cp su answer
chmod 4755 su; chmod 2711 sgid; chmod 600 secret; chmod 666 open; mkdir -m 700 closed; cp su closed/in
mkdir -m 2777 all
cp su "$SRCDIR/su"; chmod 4755 "$SRCDIR/su"
"""
MODES = {"su": 0o4755, "sgid": 0o2711, "secret": 0o600, "open": 0o666, "closed": 0o700, "all": 0o2777}


def other(script: str, *words: str | Path) -> tuple[int, str]:
    """The returncode of shell text that another user runs, and what it said."""
    code, said = capture(replace(machine_view(), uid=OTHER, gid=OTHER), ["sh", "-c", script, "sh", *words])
    return code, said.decode()


@pytest.fixture
def built(xbuild: Xbuild) -> Xbuild:
    """A build that has left its work place, of a recipe that makes all kinds of modes."""
    xbuild.recipe(build={"install": INSTALL})
    xbuild.build("tiny", "--keep")
    return xbuild


@pytest.fixture
def ajar(built: Xbuild) -> Iterator[Xbuild]:
    """Its store, with its top and all that is closed like that one open to all: what is in it must not rely on them."""
    tops = [path for path in (built.cache, *built.cache.parents) if path.is_relative_to(paths.cache())]
    closed = [*tops, *(path for path in built.cache.iterdir() if path.is_dir() and not path.is_symlink())]
    before = [(path, stat.S_IMODE(path.stat().st_mode)) for path in closed]
    for path, _ in before:
        path.chmod(0o755)
    yield built
    for path, mode in before:
        path.chmod(mode)


def test_modes_are_in_the_artifact_and_nowhere_else(built: Xbuild) -> None:
    found = unpacked(built.build("tiny")["artifact"])
    assert {name: found[f"usr/share/{name}"][1] for name in MODES} == MODES
    # Whatever was made, as whoever inside: nothing with such a bit is the user's, and in what was installed nothing is.
    script = 'find -L "$1" -type f -perm /6000 -printf "%U %p\\n" 2> /dev/null || true'
    lines = capture(machine_view(), ["sh", "-c", script, "sh", built.cache])[1].decode().splitlines()
    assert [line for line in lines if line.endswith("/build/src/su")] == [f"1000 {built.place() / 'build/src/su'}"]
    assert [line for line in lines if "/dest/" in line] == []
    assert {int(line.split()[0]) for line in lines} <= set(range(65536))


def test_a_check_that_is_done_again_keeps_the_modes(built: Xbuild) -> None:
    place = built.place()
    for path in (built.cache / "artifacts").iterdir():
        remove_tree(path)
    # As if it had been killed between the check and the packing.
    assert place.is_dir()
    found = unpacked(built.build("tiny", "--keep")["artifact"])
    assert {name: found[f"usr/share/{name}"][1] for name in MODES} == MODES


def test_the_store_is_closed(built: Xbuild) -> None:
    for part in ("", "tmp", "locks", "work", "artifacts", "CACHEDIR.TAG"):
        code, said = other('ls "$1"', built.cache / part)
        assert code != 0
        assert "Permission denied" in said


def test_nothing_in_it_can_be_written(ajar: Xbuild) -> None:
    assert other('ls -d "$1"', ajar.cache)[0] == 0
    _, said = other('find "$1"/ ! -type l -writable', ajar.cache)
    assert [line for line in said.splitlines() if "Permission denied" not in line] == [], said


def test_nothing_that_was_made_can_be_read_or_run(ajar: Xbuild) -> None:
    for path in ("build/dest/usr/share/su", "build/src/su", "build/dest/usr/share/open", "records/01-compile", "logs"):
        for test in ("-r", "-x", "-e"):
            assert other(f'test {test} "$1"', ajar.place() / path)[0] == 1


def test_locks_cannot_be_held(ajar: Xbuild) -> None:
    locks = [*ajar.cache.glob("locks/*.lock")]
    assert locks
    _, said = other('for lock; do flock -n "$lock" true && echo "$lock"; done; true', *locks)
    assert [line for line in said.splitlines() if line.startswith("/")] == []


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that all may write to, as /var/tmp is."""
    path = Path(tempfile.mkdtemp(prefix="xbuild-test-"))
    path.chmod(0o1777)
    yield path
    remove_tree(path)


@pytest.mark.parametrize("command", [("clean",), ("build", "tiny")])
def test_a_store_of_another_user_is_refused(command: tuple[str, ...], xbuild: Xbuild, shared: Path) -> None:
    victim = shared / "victim"
    victim.mkdir()
    (victim / "thesis").touch()
    script = 'cd "$1" && mkdir x && ln -s "$2" x/work && touch x/CACHEDIR.TAG && ln -s x y && chmod 777 x'
    assert other(script, shared, victim) == (0, "")
    xbuild.recipe()
    for name in ("x", "y", "x/below"):
        said = xbuild(*command, code=EXIT_MACHINE, env={"XBUILD_CACHE": str(shared / name)}).err
        assert "the store must not be" in said
        assert "XBUILD_CACHE" in said
    assert (victim / "thesis").exists()


def test_a_fresh_store_in_a_directory_of_all_is_good(xbuild: Xbuild, shared: Path) -> None:
    store = shared / "mine"
    xbuild("clean", env={"XBUILD_CACHE": str(store)})
    assert store.stat().st_mode & 0o777 == 0o700
    victim = shared / "victim"
    (victim / "a").mkdir(parents=True)
    (store / "work").symlink_to(victim)
    assert "is a link" in xbuild("clean", code=EXIT_MACHINE, env={"XBUILD_CACHE": str(store)}).err
    assert (victim / "a").is_dir()


def test_a_work_place_with_other_owners_is_made_anew(built: Xbuild) -> None:
    place = built.place()
    give_tree(1, tops=[place / "build/src"])
    # As an older xbuild had it: root inside was the user.
    take_back(place / "build")
    built("shell", "tiny", "--target", "armhf", "--", "test ! -e /build/dest/usr")
