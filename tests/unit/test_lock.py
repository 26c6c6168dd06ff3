"""Lock files and snapshots: what is written and read, and what of it a build takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.commands import Run
from xbuild.base import paths
from xbuild.base.errors import EXIT_USAGE, RecipeError, UsageError
from xbuild.build.locking import questions
from xbuild.build.request import Request
from xbuild.build.subject import read
from xbuild.model.load import load_toolchain
from xbuild.model.lock import load_lock, lock_path
from xbuild.roots.resolve import Resolver
from xbuild.store.local import Store

CHECKOUT = paths.PACKAGE.parent
ARMHF = load_toolchain("armhf", CHECKOUT)
ARCHIVE = "http://snapshots.example/{date}/"
SUM = "ab" * 32


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe in a project of its own."""
    (tmp_path / "project/recipes").mkdir(parents=True)
    monkeypatch.setenv("XBUILD_PROJECT", str(tmp_path / "project"))
    monkeypatch.setenv("XBUILD_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copy(CHECKOUT / "recipes/zlib.yml", tmp_path / "project/recipes"))


@pytest.mark.usefixtures("recipe")
def test_what_is_locked(recipe: Path, xbuild: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBUILD_PROJECT", str(recipe.parents[1]))
    done = xbuild("lock", "zlib")
    assert (done.code, done.out.strip()) == (0, str(lock_path(recipe)))
    text = lock_path(recipe).read_text()
    lock = load_lock(recipe)
    assert lock is not None
    assert sorted(lock.targets) == ["armhf"]
    subject = read(Request("zlib", "armhf"))
    asked = questions(subject)
    assert sorted(lock.targets["armhf"].roots) == sorted(question.what for question in asked)
    for question in asked:
        assert lock.targets["armhf"].roots[question.what].wanted == tuple(sorted(question.packages))
        assert subject.roots.resolver.locked[question.what].packages.keys() == set(question.packages)
    # One more target leaves the first one's lines as they are, and the same again writes the same.
    assert xbuild("lock", "zlib", "--target", "armhf,arm64").code == 0
    both = lock_path(recipe).read_text()
    assert text.split("targets:\n")[1] in both
    assert xbuild("lock", "zlib").code == 0
    assert lock_path(recipe).read_text() == both


@pytest.mark.usefixtures("recipe")
def test_relations_and_profiles_are_locked(recipe: Path, xbuild: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBUILD_PROJECT", str(recipe.parents[1]))
    monkeypatch.setattr(Resolver, "packages", lambda *_: {"plain": f"1 armhf {SUM}"})
    relations = ["debhelper-compat (= 13)", "foo (>= 2) | bar [linux-any] <!nocheck>", "Conflicts: baz", "plain"]
    recipe.write_text(recipe.read_text() + f"depends: {{packages: {relations}, profiles: [nocheck]}}\n")
    assert xbuild("lock", "zlib").code == 0
    lock = load_lock(recipe)
    assert lock is not None
    root = lock.targets["armhf"].roots["build dependencies"]
    assert set(relations) <= set(root.wanted)
    assert root.profiles == ("nocheck",)
    subject = read(Request("zlib", "armhf"))
    question = subject.roots.layer_question(subject.packages)
    assert question.profiles == ("nocheck",)
    assert subject.roots.resolver._lock(question) == root.packages
    recipe.write_text(recipe.read_text().replace("[nocheck]", "[nocheck, nodoc]"))
    subject = read(Request("zlib", "armhf"))
    with pytest.raises(UsageError, match="for other packages in the build dependencies: nodoc"):
        subject.roots.resolver._lock(subject.roots.layer_question(subject.packages))


def with_lock(recipe: Path, text: str) -> None:
    lock_path(recipe).write_text(f"schema: 1\ntargets:\n  armhf:\n{text}")


def resolver(**more: str) -> Resolver:
    return read(Request("zlib", "armhf", **more), Store(Path("/nowhere"))).roots.resolver  # type: ignore[arg-type]


ROOTS = f"    roots:\n      target root:\n        wanted: [make]\n        packages:\n          make: 1:4 armhf {SUM}\n"


def test_a_lock_is_for_its_targets_and_release(recipe: Path) -> None:
    with_lock(recipe, f"    suite: trixie\n{ROOTS}")
    (what,) = resolver().locked
    assert what == "target root"
    assert resolver().locked[what].packages == {"make": f"1:4 armhf {SUM}"}
    assert resolver(suite="bookworm").locked == {}
    assert read(Request("zlib", "arm64"), Store(Path("/nowhere"))).roots.resolver.locked == {}
    assert read(Request("zlib", "armhf", locked=False), Store(Path("/nowhere"))).roots.resolver.locked == {}


def test_a_lock_of_a_snapshot(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBUILD_SNAPSHOTS", "http://snapshots.example/{date}")
    assert resolver().archive.snapshot is None
    with_lock(recipe, f"    suite: trixie\n    snapshot: '2026-01-31'\n{ROOTS}")
    assert str(resolver().archive.snapshot).endswith("/20260131T000000Z")
    assert str(resolver(snapshot="2026-02-01").archive.snapshot).endswith("/20260201T000000Z")
    assert set(resolver(snapshot="2026-02-01").locked) == {"target root"}


def test_a_wrong_lock_names_its_line(recipe: Path) -> None:
    with_lock(recipe, f"    suite: trixie\n{ROOTS}".replace(SUM, "short"))
    with pytest.raises(RecipeError) as caught:
        resolver()
    assert any("zlib.lock:9:" in line and "sha256" in line for line in caught.value.details)


@pytest.mark.parametrize(
    ("date", "address"),
    [
        ("2026-01-31", "20260131T000000Z"),
        ("20260131", "20260131T000000Z"),
        ("20260131T123456Z", "20260131T123456Z"),
    ],
)
def test_the_address_of_a_snapshot(date: str, address: str) -> None:
    assert ARMHF.snapshot(date, ARCHIVE) == f"http://snapshots.example/{address}"


@pytest.mark.parametrize("date", ["yesterday", "2026-1-3", "../..", "2026-01-31T1", ""])
def test_a_day_that_is_none(date: str) -> None:
    with pytest.raises(UsageError, match="must be a day") as caught:
        ARMHF.snapshot(date, ARCHIVE)
    assert caught.value.exit_code == EXIT_USAGE


def test_a_machine_without_an_archive_of_snapshots() -> None:
    with pytest.raises(UsageError, match="no archive of snapshots is known"):
        ARMHF.snapshot("2026-01-31", None)
    own = ARMHF.distribution.model_copy(update={"snapshots": ARCHIVE})
    plain = ARMHF.model_copy(update={"distribution": own})
    assert plain.snapshot("2026-01-31", None) == "http://snapshots.example/20260131T000000Z"
