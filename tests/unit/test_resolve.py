"""Which packages a root will have, from an index: with real apt over a part of a real one (trixie, November 2026)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from xbuild.base.digest import key_of
from xbuild.base.errors import EXIT_MACHINE, EXIT_USAGE, MachineError, UsageError
from xbuild.formats.debian import Package, Tree
from xbuild.model.load import load_toolchain
from xbuild.model.native import here
from xbuild.model.relation import Relation
from xbuild.roots import apt, index, repository
from xbuild.roots.distribution import Roots
from xbuild.roots.index import Archive, Stanza, read_answer, with_sums
from xbuild.roots.resolve import Locked, MirrorChanged, Question, Resolver, mirror_changed, require_same
from xbuild.sandbox import idmap
from xbuild.store.local import Store

INDEX = Path(__file__).with_name("data") / "index"
NATIVE = here().name
BASE = Question("target root", "armhf", "extract", ("libc6",))
LAYER = Question("build dependencies", "armhf", None, ("pkgconf",), BASE)
NO_APT = pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not there")

SAID = """\
Reading package lists...
The following packages will be REMOVED:
  libfoo-dev libbar1
  libbaz2t64
The following NEW packages will be installed:
  pkgconf
0 upgraded, 1 newly installed, 3 to remove and 0 not upgraded.
'http://a.example/debian/pool/main/p/pkgconf/pkgconf_1.8.1-4_armhf.deb' pkgconf_1.8.1-4_armhf.deb 26132 SHA256:%s
""" % ("ab" * 32)


class Mirror:
    """The index at INDEX, in a copy that can change."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.fetched = 0
        shutil.copytree(INDEX, place)
        (self.file,) = index.packages_files(place / "lists")

    def newest(self, _store: Store, _archive: Archive, _architecture: str, *, renew: bool = False) -> Path:
        self.fetched += renew
        return self.place

    def replace(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    known = Mirror(tmp_path / "mirror")
    monkeypatch.setattr(index, "newest", known.newest)
    return known


def resolver(place: Path, locked: dict[str, Locked] | None = None) -> Resolver:
    return Resolver(Store(place), Archive("trixie", ("main",), None, lambda: None), locked)


def test_what_apt_says() -> None:
    assert read_answer(SAID) == ({"ab" * 32}, ["libfoo-dev", "libbar1", "libbaz2t64"])
    assert read_answer("Reading package lists...\n") == (set(), [])


def test_a_stanza() -> None:
    text = "Package: linux-image-armmp\nVersion: 6.12-1\nArchitecture: armhf\nSHA256: 00\n"
    text += "Depends: linux-image-6.12-armmp (= 6.12-1), a | b:any (>= 2) |c"
    stanza = Stanza.read(text)
    assert (stanza.name, stanza.version, stanza.architecture, stanza.sha256) == (
        "linux-image-armmp", "6.12-1", "armhf", "00",
    )  # fmt: skip
    assert stanza.depends == ["linux-image-6.12-armmp", "a", "b", "c"]
    assert Stanza.read("Package: a\nVersion: 1\nArchitecture: all\n").depends == []


@NO_APT
@pytest.mark.usefixtures("mirror")
def test_a_root_and_a_layer(tmp_path: Path) -> None:
    asked = resolver(tmp_path / "store")
    base, layer = asked.packages(BASE), asked.packages(LAYER)
    assert {name: text.split()[0] for name, text in base.items()} == {
        "gcc-14-base": "14.2.0-19", "libc6": "2.41-12+deb13u5", "libgcc-s1": "14.2.0-19",
    }  # fmt: skip
    assert set(layer) == {*base, "pkgconf", "pkgconf-bin", "libpkgconf3"}
    sums = {text.split()[2] for text in layer.values()}
    assert {stanza.sha256 for stanza in with_sums(INDEX / "lists", sums)} == sums
    place = asked.place(LAYER)
    (lists,) = index.packages_files(place / "lists")
    # Nothing else can be installed from it.
    assert lists.read_text().count("Package:") == 3
    assert (place / "status").read_text().count("Package:") == 6


@NO_APT
def test_the_same_in_every_store(tmp_path: Path, mirror: Mirror) -> None:
    places = (resolver(tmp_path / "one"), resolver(tmp_path / "two/three"))
    assert len({key_of(dict(asked.packages(LAYER))) for asked in places}) == 1
    mirror.replace("Version: 2.41-12+deb13u5", "Version: 2.41-12+deb13u6")
    # What was resolved stays until somebody asks for newer.
    old = resolver(tmp_path / "one")
    assert old.packages(LAYER) == places[0].packages(LAYER)
    assert resolver(tmp_path / "four").packages(LAYER) != old.packages(LAYER)
    old.renew(BASE)
    assert old.packages(LAYER)["libc6"].startswith("2.41-12+deb13u6 ")
    assert mirror.fetched == 1


@NO_APT
@pytest.mark.usefixtures("mirror")
def test_the_kernel_that_a_package_without_files_means(tmp_path: Path) -> None:
    question = Question("package x", "armhf", None, ("linux-image-armmp",), needed=r"linux-image-[0-9].*")
    (name,) = resolver(tmp_path / "store").packages(question)
    assert name.startswith("linux-image-6.12")
    question = Question("package x", "armhf", None, ("linux-image-armmp",), needed="nothing")
    assert set(resolver(tmp_path / "store").packages(question)) == {"linux-image-armmp"}


@NO_APT
@pytest.mark.usefixtures("mirror")
def test_a_package_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the target root cannot be had for armhf from trixie: pkgcnf") as caught:
        resolver(tmp_path / "store").packages(Question("target root", "armhf", "extract", ("libc6", "pkgcnf")))
    assert caught.value.details[0].startswith("pkgcnf: trixie has no such package for armhf; did you mean pkgconf")
    assert "is the name wrong?" in str(caught.value.hint)


@NO_APT
def test_a_lock_says_what_there_will_be(tmp_path: Path, mirror: Mirror) -> None:
    packages = dict(resolver(tmp_path / "one").packages(BASE))
    locked = resolver(tmp_path / "two", {"target root": Locked(("libc6",), packages)})
    assert locked.packages(BASE) == packages
    assert (locked.place(BASE) / "status").read_text().count("Package:") == 3
    mirror.replace(packages["libgcc-s1"].split()[2], "0" * 64)
    again = resolver(tmp_path / "three", {"target root": Locked(("libc6",), packages)})
    assert again.packages(BASE) == packages
    with pytest.raises(MachineError, match="no longer has 1 of the packages that the lock file names") as caught:
        again.place(BASE)
    assert caught.value.exit_code == EXIT_MACHINE
    assert caught.value.details == ("libgcc-s1 14.2.0-19",)
    assert mirror.fetched == 1


def test_a_lock_for_other_packages(tmp_path: Path) -> None:
    locked = resolver(tmp_path, {"target root": Locked(("libc6", "make"), {})})
    with pytest.raises(UsageError, match="for other packages in the target root: make") as caught:
        locked.packages(BASE)
    assert caught.value.exit_code == EXIT_USAGE


def test_what_was_made_is_held_against_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"a": Package("a", "2", "armhf", "a=2"), "b": Package("b", "1", "all", "b=1")}
    monkeypatch.setattr(Tree, "packages", made)
    require_same({"a": "2 armhf 00", "b": "1 all 00"}, Tree([tmp_path]), "target root")
    with pytest.raises(MirrorChanged, match=r"target root did not get .*: a: resolved 1 armhf, installed 2") as caught:
        require_same({"a": "1 armhf 00", "c": "1 all 00"}, Tree([tmp_path]), "target root")
    assert len(caught.value.details) == 3
    assert mirror_changed(caught.value)


def test_what_a_changed_mirror_says() -> None:
    line = "E: Failed to fetch http://a.example/pool/x.deb  404  Not Found [IP: 127.0.0.1 80]"
    assert mirror_changed(MachineError("x", details=["a", line]))
    assert not mirror_changed(MachineError("x", details=["dpkg: error processing package x"]))


NO_RELEASE = [
    "  404  Not Found [IP: 127.0.0.1 80]",
    "E: The repository 'http://a.example x Release' does not have a Release file.",
]
NO_ANSWER = ["  Could not resolve 'a.example'", NO_RELEASE[1]]


@pytest.mark.parametrize(
    ("said", "lines", "message"),
    [
        (NO_RELEASE, (), "there is no release nonsense at http://a.example"),
        (NO_ANSWER, (), "not be had"),
        (NO_RELEASE, ("deb http://a.example x main",), "not be had"),
    ],
)
def test_a_release_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], lines: tuple[str, ...], message: str
) -> None:
    def run_logged(*_: object) -> None:
        raise MachineError("not be had", details=said, hint="is the network there?")

    monkeypatch.setattr(apt, "run_logged", run_logged)
    monkeypatch.setattr(idmap, "own", lambda *_: None)
    archive = Archive("nonsense", ("main",), None, lambda: "http://a.example")
    with pytest.raises(MachineError) as caught:
        index.fetch(tmp_path, archive, "armhf", lines)
    assert caught.value.message == message
    assert (caught.value.hint == "is the network there?") == (message == "not be had")


@pytest.mark.parametrize("suite", ["", "-x", "--setup-hook=x", "../../x", "a b", "Trixie", "trixie\n", "{x}"])
def test_what_can_be_no_suite(suite: str) -> None:
    toolchain = load_toolchain("armhf", INDEX).with_suite(suite)
    with pytest.raises(UsageError, match="can be no release's name") as caught:
        Roots(Store(INDEX / "none"), toolchain, None)
    assert caught.value.exit_code == EXIT_USAGE


def package(name: str, version: str, number: int, *, depends: str = "", architecture: str = NATIVE) -> str:
    lines = [f"Package: {name}", f"Version: {version}", f"Architecture: {architecture}", "Size: 1"]
    lines += [f"Depends: {depends}"] if depends else []
    lines += [f"Filename: pool/{name}_{version}_{architecture}.deb", f"SHA256: {number:064x}"]
    return "\n".join(lines) + "\n\n"


ARCHIVE = (
    package("lang", "1.0-1", 1)
    + package("liba-lang", "1.0-1+b2", 2, depends="lang, libx1, data")
    + package("libx1", "5", 3)
    + package("data", "5", 4, architecture="all")
    + package("libb-lang", "2.0-2", 5)
    + package("libc-lang", "3.0-1", 6, depends="libgone1")
)


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """It asks real apt, over ARCHIVE."""
    place = tmp_path / "index"
    shutil.copytree(INDEX, place)
    (file,) = index.packages_files(place / "lists")
    file.unlink()
    file.with_name(file.name.replace("armhf", NATIVE)).write_text(ARCHIVE)
    release = next((place / "lists").glob("*_Release"))
    release.write_text(release.read_text().replace("armhf", NATIVE))
    monkeypatch.setattr(index, "newest", lambda *_args, **_more: place)
    archive = Archive("trixie", ("main",), None, lambda: None)
    return Resolver(Store(tmp_path / "store"), archive, None, lambda version: version.partition("+b")[0])


@NO_APT
def test_only_what_the_archive_has_in_the_same_version(native: Resolver) -> None:
    # Its own suffix says nothing about the sources; what it depends on comes along, but for what is of no architecture.
    assert alike(native, liba_lang="1.0-1") == {"liba-lang", "libx1"}
    # Another version, none at all, and one that cannot be installed: those that can are there all the same.
    assert alike(native, libb_lang="2.0-1") == set()
    assert alike(native, nothing="1", libb_lang="2.0-2") == {"libb-lang"}
    assert alike(native, libc_lang="3.0-1") == set()
    assert alike(native, liba_lang="1.0-1", libb_lang="2.0-2", libc_lang="3.0-1") == {
        "liba-lang", "libb-lang", "libx1",
    }  # fmt: skip


def alike(resolver: Resolver, **versions: str) -> set[str]:
    names = tuple(name.replace("_", "-") for name in versions)
    base = Question("native root", NATIVE, "extract", ("lang",))
    question = Question("native layer", NATIVE, None, names, base, versions=tuple(versions.values()))
    return set(resolver.packages(question)) - set(resolver.packages(base))


RELATIONS = (
    package("one", "1:2.0-1", 1)
    + package("two", "5", 2, depends="one (>= 1:2)")
    + package("hard", "1", 3, depends="one (>= 2:0)")
    + package("foe", "1", 4).replace("Version", "Conflicts: two\nVersion")
    + package("mta-a", "1", 5).replace("Version", "Provides: mta, helper-compat (= 13)\nVersion")
    + package("mta-b", "1", 6).replace("Version", "Provides: mta\nVersion")
)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[str]]:
    """It gives the names of what comes with relations for a layer, from RELATIONS by real apt."""
    place = tmp_path / "index"
    shutil.copytree(INDEX, place)
    (file,) = index.packages_files(place / "lists")
    file.write_text(package("base", "1", 9, architecture="armhf") + RELATIONS.replace(f": {NATIVE}\n", ": armhf\n"))
    monkeypatch.setattr(index, "newest", lambda *_args, **_more: place)
    base = Question("target root", "armhf", "extract", ("base",))

    def ask(*relations: str, profiles: tuple[str, ...] = ()) -> set[str]:
        question = Question("build dependencies", "armhf", None, relations, base, profiles=profiles)
        return set(resolver(tmp_path / "store").packages(question)) - {"base"}

    return ask


@NO_APT
@pytest.mark.parametrize(
    ("relations", "names"),
    [
        (("two",), {"one", "two"}),
        (("one (>= 1:2) [armhf arm64]",), {"one"}),
        (("gone [amd64 i386]", "gone [!linux-any]", "one [any-arm]"), {"one"}),
        (("nothing (>= 2) | one (<< 1:3)",), {"one"}),
        (("one (>= 3:0) | two (= 5)", "helper-compat (= 13)"), {"one", "two", "mta-a"}),
        (("mta | nothing",), {"mta-b"}),
        (("gone <cross> <stage1>", "one <!nocheck>"), {"one"}),
        (("one", "Conflicts: foe"), {"one"}),
    ],
)
def test_relations_are_as_apt_takes_them(
    asked: Callable[..., set[str]], relations: tuple[str, ...], names: set[str]
) -> None:
    assert asked(*relations) == names
    for relation in relations:
        assert TypeAdapter(Relation).validate_python(relation) == relation


@NO_APT
@pytest.mark.usefixtures("asked")
def test_packages_of_ones_own(tmp_path: Path) -> None:
    """They are asked for layers only, by what they are, and win where versions are equal."""
    own = tmp_path / "own"
    own.mkdir()
    archive = Archive("trixie", ("main",), None, lambda: None)

    def layer(number: int) -> tuple[str, dict[str, str]]:
        text = package("mine", "1", number, depends="one (>= 1:2)") + package("one", "1:2.0-1", number + 1)
        (own / "Packages").write_text(text.replace(f": {NATIVE}\n", ": armhf\n"))
        repository._text.cache_clear()
        known = Resolver(Store(tmp_path / "store"), archive, repositories=repository.repositories([str(own)]))
        base = Question("target root", "armhf", "extract", ("base",))
        assert set(known.packages(base)) == {"base"}
        question = Question("build dependencies", "armhf", None, ("mine (= 1)",), base)
        return (known.place(question) / "sources.list").read_text(), dict(known.packages(question))

    (first, held), (second, others) = layer(50), layer(60)
    assert {name: int(text.split()[2], 16) for name, text in held.items()} == {"base": 9, "mine": 50, "one": 51}
    assert {name: int(text.split()[2], 16) for name, text in others.items()} == {"base": 9, "mine": 60, "one": 61}
    assert first != second
    assert str(own) not in first


@NO_APT
def test_profiles_choose_among_relations(asked: Callable[..., set[str]]) -> None:
    words = ("one <!nocheck>", "mta-b <pkg.a.b>", "two <!nocheck> <nodoc>")
    assert asked(*words) == {"one", "two"}
    assert asked(*words, profiles=("nocheck", "pkg.a.b")) == {"mta-b"}
    assert asked(*words, profiles=("nocheck", "nodoc")) == {"one", "two"}


@NO_APT
@pytest.mark.parametrize(
    ("relations", "message", "lines"),
    [
        (("one (>= 1:3)", "two"), "from trixie: one (>= 1:3)", ["one (>= 1:3): one: trixie has 1:2.0-1"]),
        (("helper-compat (= 14)",), ": helper-compat (= 14)", ["trixie has helper-compat (= 13) by mta-a"]),
        (("mta",), ": mta", ["mta: trixie has mta by mta-a, mta by mta-b"]),
        (("hard (= 1)",), ": hard (= 1)", ["hard: trixie has 1", "hard : Depends: one (>= 2:0)"]),
        (("two:native", "foe (>> 0)"), "armhf from trixie", ["foe : Conflicts: two"]),
        (("wto | three (>= 2)", "one"), ": wto | three (>= 2)",
         ["wto | three (>= 2): three: trixie has no such", "wto: trixie has no such"]),
    ],
)  # fmt: skip
def test_what_cannot_be_met_is_told_beside_what_there_is(
    asked: Callable[..., set[str]], relations: tuple[str, ...], message: str, lines: list[str]
) -> None:
    with pytest.raises(UsageError, match=f"{re.escape(message)}") as caught:
        asked(*relations)
    assert caught.value.exit_code == EXIT_USAGE
    for line in lines:
        assert any(line in said for said in caught.value.details), caught.value.details


def test_names_ask_as_they_always_did() -> None:
    # What is in the store was resolved under these words.
    assert apt.asked(("aa", "b-dev"), ("nocheck",)) == ("install", "aa", "b-dev")
    assert apt.asked(("aa", "b (>= 1)"), ("x", "y"))[:3] == ("satisfy", "-o", "APT::Build-Profiles=x,y")
