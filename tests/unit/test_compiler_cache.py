"""The compiler cache: when a build has one, what it is told, and what it did. Without network and namespaces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_twins import debian
from xbuild.base import paths
from xbuild.base.errors import UsageError
from xbuild.build import compilercache
from xbuild.build.compilercache import Cache, answers, begin, lay
from xbuild.build.environment import WorkPlace
from xbuild.build.executor import Answers
from xbuild.build.modes.mode import Site
from xbuild.build.request import Here, Request
from xbuild.build.subject import Subject, read
from xbuild.cli.arguments import cache_of
from xbuild.model.native import here
from xbuild.roots.distribution import Natives, Roots
from xbuild.store.local import Store
from xbuild.twins.pairing import Pairs, Twin, entries

PROJECT = Path(__file__).resolve().parents[2]
GCC = "/usr/bin/arm-linux-gnueabihf-gcc-14"
MODE = "substituted"
AS = "/usr/bin/arm-linux-gnueabihf-as"
PACKAGES = {"gcc-14": ("14.2", {GCC: "armhf-pie"}), "binutils": ("2.44", {AS: "armhf-pie"})}


def twin(tool: str, path: str) -> Twin:
    architecture = here().architectures(32)[-1] if tool == "binutils" else here().name
    return Twin(tool, path, architecture, tool, "1", path)


TWINS = (twin("gcc", GCC), twin("binutils", AS), twin("ccache", "/usr/bin/ccache"))


class Build:
    """A build that is asked for with a cache, in a root with a driver and an assembler."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XBUILD_PROJECT", str(PROJECT))
        self.roots = "roots"
        monkeypatch.setattr(compilercache, "_of_roots", self._of_roots)
        self.store = Store(place / "store")
        self.place = WorkPlace(place / "work")
        self.tree = debian(place / "root", PACKAGES)
        self.staged: tuple[str, ...] = ()
        self.twins: tuple[Twin, ...] = TWINS

    def _of_roots(self, _: Roots) -> str:
        return self.roots

    def subject(self, **words: Any) -> Subject:
        request = Request("zlib", "armhf", here=Here(cache=0))
        return read(replace(request, **words), self.store)

    def pairs(self, roots: Roots, without: frozenset[str]) -> Pairs:
        assert roots.policy is not None
        found = entries(self.twins[:2], roots.policy, roots.toolchain)
        twins, table = zip(*found.values(), strict=True)
        return Pairs(table, twins, ()).without(without)

    def lay(self, without: frozenset[str] = frozenset(), **words: Any) -> Cache | None:
        subject = self.subject(**words)
        site = Site(subject.roots, subject.toolchain, (), (), 1, staged=self.staged)
        natives = Natives({}, Path("p"), Path("d"), Path("e"), "key", self.twins)
        return lay(subject, site, natives, self.tree, self.pairs(subject.roots, without), self.place)

    def settings(self, without: frozenset[str] = frozenset(), **words: Any) -> dict[str, str]:
        assert self.lay(without, **words) is not None
        lines = (self.place.path / "ccache/ccache.conf").read_text().splitlines()
        return dict(line.split(" = ") for line in lines)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    return Build(tmp_path, monkeypatch)


def test_what_the_dispatcher_and_the_sandbox_get(build: Build) -> None:
    cache = build.lay()
    assert cache is not None
    assert {entry.path: entry.cache for entry in cache.entries} == {GCC: TWINS[2].program, AS: None}
    settings, columns = cache.caching.env
    assert settings == "CCACHE_CONFIGPATH=/.xbuild/cache/ccache.conf"
    assert "-g*" in columns.removeprefix("XBUILD_COLUMNS=").split(" ")
    assert cache.caching.given == ("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",)
    assert [(bind.target, bind.readonly) for bind in cache.shown] == [
        (paths.CACHE, True), (f"{paths.CACHE}/files", False), (f"{paths.CACHE}/log", False),
    ]  # fmt: skip
    assert [Path(bind.source).exists() for bind in cache.shown] == [True] * 3
    # In a place that only its owner enters.
    closed = [path.stat().st_mode & 0o777 for path in (build.store.root, build.store.root / "ccache")]
    assert closed == [0o700, 0o700]


@pytest.mark.parametrize("words", [{"here": Here()}, {"mode": "system"}], ids=str)
def test_without_one(build: Build, words: dict[str, Any]) -> None:
    assert build.lay(**words) is None


def test_without_one_where_there_is_no_native_program_or_no_twin_of_the_compiler(build: Build) -> None:
    assert build.lay(frozenset({GCC})) is None
    build.twins = TWINS[:2]
    assert build.lay() is None


def test_the_identity_is_that_of_the_compilers(build: Build, tmp_path: Path) -> None:
    plain = build.settings()["compiler_check"]
    assert plain.startswith("string:")
    # What only says how much is kept, or how many run.
    assert build.settings(here=Here(cache=1 << 30, jobs=7))["compiler_check"] == plain
    found = {plain, build.settings(frozenset({AS}))["compiler_check"]}
    build.staged = ("0" * 64,)
    found.add(build.settings()["compiler_check"])
    build.staged = ()
    build.roots = "others"
    found.add(build.settings()["compiler_check"])
    build.roots = "roots"
    build.tree = debian(tmp_path / "other", {**PACKAGES, "binutils": ("2.45", PACKAGES["binutils"][1])})
    found.add(build.settings()["compiler_check"])
    assert len(found) == 5


@pytest.mark.parametrize(("asked", "most"), [(0, 5 << 20), (1 << 30, 1 << 20), (1, 1)])
def test_how_much_it_keeps(build: Build, asked: int, most: int) -> None:
    assert build.settings(here=Here(cache=asked))["max_size"] == f"{most}Ki"


LOG = """\
# a.c
cache_miss
local_storage_miss
preprocessed_cache_miss
# b.c
local_storage_hit
preprocessed_cache_hit
# conftest.c
compiler_produced_no_output
"""


def test_what_it_did(build: Build) -> None:
    assert answers(build.place) is None
    build.lay()
    assert answers(build.place) == Answers()
    (build.place.path / "ccache/log").write_text(LOG)
    build.lay()
    assert answers(build.place) == Answers(hits=1, misses=1, others=1)
    assert str(answers(build.place)) == "compiler cache: 1 of 2 calls answered; 1 more calls were none that can be kept"
    begin(build.place)
    assert answers(build.place) is None
    build.lay()
    assert answers(build.place) == Answers()


def test_the_words_that_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [cache_of(*words) for words in (("", MODE), ("on", MODE), ("off", MODE), ("10G", MODE), ("", "emulated"))]
    assert said == [None, 0, None, 10 << 30, None]
    assert (cache_of("", MODE, own=True), cache_of("off", MODE, own=True)) == (0, None)
    monkeypatch.setenv("XBUILD_CCACHE", "off")
    assert (cache_of("", MODE, own=True), cache_of("on", MODE)) == (None, 0)
    monkeypatch.setenv("XBUILD_CCACHE", "much")
    with pytest.raises(UsageError, match="XBUILD_CCACHE must be on, off or an amount such as 10G, not 'much'"):
        cache_of("", MODE)
    with pytest.raises(UsageError, match="--ccache must be on, off or an amount"):
        cache_of("yes", MODE)
    with pytest.raises(UsageError, match="--ccache is for --mode substituted"):
        cache_of("on", "emulated")

