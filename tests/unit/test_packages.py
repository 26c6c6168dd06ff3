"""Debian source packages: read, verified, and made recipes of, without a network."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base.errors import CheckError, MachineError, SourceError, UsageError
from xbuild.build.artifact import pack
from xbuild.formats import deb822
from xbuild.formats.deb822 import without_epoch
from xbuild.model.load import load_recipe, load_toolchain
from xbuild.packages import Where, find
from xbuild.packages.collect import collect, require_true
from xbuild.packages.recipe import Options, needs_root, recipe_of, recipe_text, relations
from xbuild.packages.remarks import remarks
from xbuild.packages.source import SourceFile, SourcePackage, matches, require_for
from xbuild.roots import index, sourceindex
from xbuild.roots.distribution import Roots
from xbuild.roots.index import Archive
from xbuild.store.local import Store

PROJECT = Path(__file__).parents[2]
ARMHF = load_toolchain("armhf", PROJECT)

CONTROL = """\
Source: foo
Section: libs
Rules-Requires-Root: no

Package: foo
Architecture: any
Description: does what foo does
 at length
"""
CHANGELOG = """\
foo (1:2.0-3) unstable; urgency=medium

  * Something.

 -- A Person <person@a.example>  Fri, 05 Jul 2024 10:00:00 +0200
"""
LIST = """
 foo deb utils optional arch=any
 foo-doc deb doc optional arch=all profile=!nodoc
 foo-udeb udeb debian-installer optional arch=linux-any
"""
FIELDS: Mapping[str, str] = {
    "Source": "foo",
    "Version": "1:2.0-3",
    "Architecture": "any all",
    "Homepage": "https://foo.example/",
    "Build-Depends": "debhelper-compat (= 13),\n libbar-dev (>= 2) | libbaz-dev [armhf], check <!nocheck>,",
    "Build-Depends-Arch": "pkgconf",
    "Build-Depends-Indep": "pandoc",
    "Build-Conflicts": "libqux-dev (<< 2)",
    "Package-List": LIST,
}
POOL = {"distribution": {"package": "foo", "file": "foo_2.0-3.dsc"}}
FILE = SourceFile("foo_2.0-3.dsc", 3, "ab" * 32, POOL)
PACKAGE = SourcePackage("foo", FIELDS, (FILE,), "by a test", CONTROL, CHANGELOG)


def test_a_source_package_comes_to_a_recipe(tmp_path: Path) -> None:
    options = Options(profiles=("nodoc",), build_options=("nocheck",))
    file = recipe_of(PACKAGE, options, Store(tmp_path / "store"))
    recipe = load_recipe(str(file), ARMHF, PROJECT)
    assert (recipe.name, recipe.version, recipe.homepage) == ("foo", "2.0-3", "https://foo.example/")
    assert recipe.summary == "foo 1:2.0-3: does what foo does"
    assert [source.unpack for source in recipe.sources] == [False]
    assert recipe.build.options == {"build": "any", "profiles": ("nodoc",), "build-options": ("nocheck",)}
    assert recipe.build.as_root == ()
    assert "debhelper-compat (= 13)" in recipe.depends.packages
    # With other options it is another file: what has been built by one stays.
    other = recipe_of(PACKAGE, Options(), Store(tmp_path / "store"))
    assert other.parent != file.parent
    assert other.parent.name == "foo_2.0-3"
    assert recipe_of(PACKAGE, options, Store(tmp_path / "store")) == file


def test_relations_are_those_of_what_is_built() -> None:
    common = ["debhelper-compat (= 13)", "libbar-dev (>= 2) | libbaz-dev [armhf]", "check <!nocheck>"]
    conflicts = ["Conflicts: libqux-dev (<< 2)"]
    assert relations(FIELDS, Options()) == [*common, "pkgconf", *conflicts]
    assert relations(FIELDS, Options(build="all")) == [*common, "pandoc", *conflicts]
    assert relations(FIELDS, Options(build="both")) == [*common, "pkgconf", "pandoc", *conflicts]


@pytest.mark.parametrize(
    ("said", "depends", "root"),
    [
        ("no", "", False),
        ("binary-targets", "", True),
        ("dpkg/target-subcommand", "", True),
        ("", "debhelper-compat (= 13)", True),
        ("", "dpkg-build-api (= 1)", False),
        ("", "dpkg-build-api (= 0)", True),
        ("binary-targets", "dpkg-build-api (= 1)", True),
    ],
)
def test_root_only_where_the_package_demands_it(said: str, depends: str, root: bool) -> None:
    control = f"Source: foo\n{f'Rules-Requires-Root: {said}' if said else 'Priority: optional'}\n"
    package = replace(PACKAGE, control=control, fields={**FIELDS, "Build-Depends": depends})
    assert needs_root(package) is root
    value = yaml.safe_load(recipe_text(package, Options()))
    assert value["build"].get("as-root", []) == (["configure", "install"] if root else [])


_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=30)


@given(summary=_WORDS, homepage=_WORDS, depends=st.lists(_WORDS, max_size=3))
def test_any_text_of_a_package_is_the_same_text_in_its_recipe(summary: str, homepage: str, depends: list[str]) -> None:
    control = f"Source: foo\n\nPackage: foo\nDescription: {summary}\n"
    fields = {**FIELDS, "Homepage": homepage, "Build-Depends": ",".join(depends)}
    value = yaml.safe_load(recipe_text(replace(PACKAGE, control=control, fields=fields), Options()))
    wanted = [" ".join(part.split()) for part in ",".join(depends).split(",")]
    assert value.get("homepage", "") == homepage
    assert value["depends"]["packages"][: len(set(filter(None, wanted)))] == list(dict.fromkeys(filter(None, wanted)))
    assert yaml.safe_load(recipe_text(replace(PACKAGE, origin="x\nname: evil"), Options()))["name"] == "foo"
    assert value["summary"].endswith(": " + (summary.strip() or "Debian's source package"))


@pytest.mark.parametrize(
    ("word", "armhf", "arm64"),
    [
        ("any", True, True), ("armhf", True, False), ("linux-any", True, True), ("any-arm", True, False),
        ("any-arm64", False, True), ("kfreebsd-any", False, False), ("gnu-linux-any", True, True),
        ("all", False, False), ("hurd-i386", False, False), ("any-i386", False, False), ("arm", False, False),
    ],
)  # fmt: skip
def test_architectures_and_wildcards(word: str, armhf: bool, arm64: bool) -> None:
    assert (matches("armhf", word), matches("arm64", word)) == (armhf, arm64)


@pytest.mark.skipif(shutil.which("dpkg-architecture") is None, reason="dpkg-dev is not there")
def test_wildcards_are_dpkgs() -> None:
    words = ["any", "linux-any", "any-arm", "any-arm64", "any-amd64", "hurd-any", "any-i386", "gnu-linux-any", "armhf"]
    words += ["gnu-any-any", "any-any", "any-any-any", "any-linux-any", "musl-linux-any", "gnueabihf-linux-any"]
    pairs = [(name, word) for name in ("armhf", "arm64", "amd64", "i386", "riscv64", "armel") for word in words]
    # What dpkg-architecture -a -i asks, for all in one process.
    ask = "use Dpkg::Arch qw(debarch_is); while (<>) { my @pair = split; print debarch_is($pair[0], $pair[1]) ? 1 : 0 }"
    lines = "".join(f"{name} {word}\n" for name, word in pairs)
    said = subprocess.run(["perl", "-e", ask], input=lines, capture_output=True, check=True, text=True).stdout
    assert [pair for pair, answer in zip(pairs, said, strict=True) if matches(*pair) != (answer == "1")] == []


def test_what_is_not_for_the_target_is_told_before_anything_is_made() -> None:
    require_for(PACKAGE, "armhf", independent=False)
    require_for(PACKAGE, "armhf", independent=True)
    only_all = replace(PACKAGE, fields={**FIELDS, "Package-List": "\n foo-doc deb doc optional arch=all\n"})
    with pytest.raises(UsageError, match="makes only packages of Architecture: all, none for armhf"):
        require_for(only_all, "armhf", independent=False)
    other = replace(PACKAGE, fields={**FIELDS, "Package-List": "\n foo deb admin optional arch=amd64,i386\n"})
    with pytest.raises(UsageError, match=r"foo 1:2\.0-3 is not for armhf: its packages are for amd64 i386"):
        require_for(other, "armhf", independent=False)
    with pytest.raises(UsageError, match="makes no package of Architecture: all"):
        require_for(other, "armhf", independent=True)


def test_what_profiles_leave_out_is_told_too() -> None:
    def made(independent: bool, *profiles: str) -> None:
        require_for(PACKAGE, "armhf", independent=independent, profiles=profiles)

    made(False, "nodoc")
    with pytest.raises(UsageError, match="makes nothing for all under these profiles: nodoc") as caught:
        made(True, "nodoc", "nodoc")
    assert caught.value.details == ("not made: foo-doc",)
    listed = "\n foo deb misc optional arch=any profile=!stage1,!cross+pkg.foo.x\n"
    (binary,) = replace(PACKAGE, fields={**FIELDS, "Package-List": listed}).binaries
    assert [binary.is_under(words) for words in ([], ["stage1"], ["cross", "pkg.foo.x"])] == [True, False, True]


def test_languages_that_run_emulated_are_named() -> None:
    def told(depends: str) -> list[str]:
        return remarks(replace(PACKAGE, fields={**FIELDS, "Build-Depends": depends}), Options())

    assert "Rust" in told("debhelper, rustc:native (>= 1.70)")[0]
    assert "Rust" in told("debhelper-compat (= 13), dh-sequence-cargo")[0]
    assert "Go" in told("dh-golang | golang-any")[0]
    assert told("debhelper-compat (= 13), golang-github-foo-dev") == []


# -- deb822 --------------------------------------------------------------------------------------------------------

_NAMES = st.from_regex(r"\A[A-Za-z][A-Za-z0-9-]{0,12}\Z")
_LINE = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=20)
_VALUES = st.lists(_LINE.map(str.strip).filter(lambda text: text and not text.startswith("#")), min_size=1, max_size=3)


@given(st.lists(st.dictionaries(_NAMES, _VALUES, min_size=1, max_size=4), min_size=1, max_size=3))
def test_paragraphs_are_read_as_they_were_written(wanted: list[dict[str, list[str]]]) -> None:
    parts = ["".join(f"{name}: {lines[0]}\n" + "".join(f" {more}\n" for more in lines[1:])
                     for name, lines in part.items()) for part in wanted]  # fmt: skip
    found = list(deb822.paragraphs("\n".join(parts)))
    assert found == [{name: "\n ".join(lines) for name, lines in part.items()} for part in wanted]


@pytest.mark.parametrize("text", [" x\n", "A: 1\nA: 2\n", "A: 1\nnonsense\n", "A: 1\n\nB: 2\n", ""])
def test_what_is_no_paragraph(text: str) -> None:
    with pytest.raises(ValueError, match=r"line|paragraphs"):
        deb822.paragraph(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_package_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert deb822.paragraph(deb822.unsigned(data.decode(errors="replace")))


# -- the index -----------------------------------------------------------------------------------------------------


def test_an_index_of_sources_is_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    text = "".join(
        f"Package: {name}\nBinary: {name}, lib{name}1, lib{name}-dev,\n {name}-doc\nVersion: {version}\n\n"
        for name, version in (("foo", "1"), ("foobar", "2"), ("foo", "3"), ("bar+", "4"))
    )
    (tmp_path / "lists/a_dists_x_main_source_Sources").write_text(text)
    (tmp_path / "lists/a_dists_x_InRelease").write_text("Package: foo\n")
    assert [fields["Version"] for fields in sourceindex.named(tmp_path, "foo")] == ["1", "3"]
    assert [fields["Version"] for fields in sourceindex.named(tmp_path, "bar+")] == ["4"]
    assert list(sourceindex.named(tmp_path, "oo")) == []
    assert sourceindex.making(tmp_path, "libfoo1") == ["foo"]
    assert sourceindex.making(tmp_path, "foobar-doc") == ["foobar"]
    assert sourceindex.making(tmp_path, "libbar+-dev") == ["bar+"]
    assert sourceindex.making(tmp_path, "libfo") == []
    assert sourceindex.names(tmp_path) == ["foo", "foobar", "bar+"]


def test_sources_come_from_where_the_packages_come_from() -> None:
    text = '# x\n\ndeb http://a.example/debian trixie main\ndeb [signed-by="/k"] http://b.example trixie-s main\n'
    assert sourceindex.source_lines(text) == [
        "deb-src http://a.example/debian trixie main",
        'deb-src [signed-by="/k"] http://b.example trixie-s main',
    ]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with foo 1:2.0-3 and 1:2.0-10, whose index is there."""
    pool, index = tmp_path / "mirror/pool/main/f/foo", tmp_path / "index"
    pool.mkdir(parents=True)
    (index / "lists").mkdir(parents=True)
    (index / "sources.list").write_text(f"deb-src file://{tmp_path}/mirror trixie main\n")
    texts = []
    for version in ("1:2.0-3", "1:2.0-10"):
        sums = "\n"
        for ending in (".debian.tar.xz", ".dsc"):
            data = f"{version}{ending}".encode()
            name = f"foo_{without_epoch(version)}{ending}"
            (pool / name).write_bytes(data)
            sums += f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n"
        own = {"Version": version, "Directory": "pool/main/f/foo", "Checksums-Sha256": sums}
        fields = {"Package": "foo", **{key: value for key, value in FIELDS.items() if key != "Source"}, **own}
        texts.append("".join(f"{key}: {value.rstrip()}\n" for key, value in fields.items()))
    (index / "lists/a_dists_trixie_main_source_Sources").write_text("\n".join(texts))
    monkeypatch.setattr(sourceindex, "newest", lambda *_, **__: index)
    return pool


def test_a_package_of_the_archive(tmp_path: Path, mirror: Path) -> None:
    store = Store(tmp_path / "store")
    place = Where(store, ARMHF, Roots(store, ARMHF, None))
    package = find("foo", place)
    assert (package.name, package.version, package.checked) == ("foo", "1:2.0-10", "by the signed index of trixie")
    assert [file.name for file in package.files] == ["foo_2.0-10.dsc", "foo_2.0-10.debian.tar.xz"]
    recipe = load_recipe(str(recipe_of(package, Options(), store)), ARMHF, PROJECT)
    assert [source.distribution.section for source in recipe.sources if source.distribution] == ["main", "main"]
    assert find("foo=1:2.0-3", place).version == "1:2.0-3"
    with pytest.raises(UsageError, match=r"foo: trixie has no version 9") as caught:
        find("foo=9", place)
    assert caught.value.hint == "it has 1:2.0-3, 1:2.0-10; --snapshot DATE has those of a day"
    with pytest.raises(UsageError, match="did you mean 'foo'"):
        find("fooo", place)


def test_what_the_mirror_has_lost_is_named(tmp_path: Path, mirror: Path) -> None:
    store = Store(tmp_path / "store")
    for file in mirror.glob("*2.0-10*"):
        file.unlink()
    place = Where(store, ARMHF, Roots(store, ARMHF, None))
    with pytest.raises(SourceError) as caught:
        find("foo", place)
    assert caught.value.message == "the mirror no longer has foo_2.0-10.dsc, foo_2.0-10.debian.tar.xz"
    assert str(caught.value.hint).startswith("the mirror may still have foo=1:2.0-3; --snapshot DATE ")
    assert find("foo=1:2.0-3", place).version == "1:2.0-3"


def test_an_index_that_is_not_of_today_is_asked_for_again(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, index, asked = Store(tmp_path / "store"), tmp_path / "index", []
    place = Where(store, ARMHF, Roots(store, ARMHF, None))
    old = tmp_path / "old"
    shutil.copytree(index, old)
    # The mirror has moved on to another version.
    (listed,) = (old / "lists").iterdir()
    listed.write_text(listed.read_text().replace("2.0-10", "2.0-20"))

    def newest(*_: object, renew: bool = False) -> Path:
        asked.append(renew)
        return index if any(asked) else old

    monkeypatch.setattr(sourceindex, "newest", newest)
    with pytest.raises(SourceError):
        find("foo", place)
    assert asked == [False]
    os.utime(old / "sources.list", (0, 0))
    assert find("foo", place).version == "1:2.0-10"
    assert asked == [False, False, True, False]


def test_an_index_takes_the_place_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, archive = Store(tmp_path), Archive("trixie", ("main",), None, lambda: None)
    monkeypatch.setattr(index, "fetch", lambda staging, *_: (staging / "sources.list").touch())
    first = sourceindex.newest(store, archive, "armhf")
    other = index.newest(store, archive, "armhf")
    assert sourceindex.newest(store, archive, "armhf") == first
    with store.in_use():
        second = sourceindex.newest(store, archive, "armhf", renew=True)
    assert {place for place, _, _ in store.finished("indexes")} == {first, second, other}
    third = sourceindex.newest(store, archive, "armhf", renew=True)
    assert {place for place, _, _ in store.finished("indexes")} == {third, other}


# -- what was built ------------------------------------------------------------------------------------------------


def buildinfo(folder: Path, architecture: str, version: str) -> list[Path]:
    built = folder / "foo_2.0-3_armhf.deb"
    built.write_bytes(b"x")
    file = folder / "foo_2.0-3_armhf.buildinfo"
    file.write_text(
        f"Source: foo\nBuild-Architecture: {architecture}\n"
        f"Checksums-Sha256:\n {hashlib.sha256(b'x').hexdigest()} 1 {built.name}\n"
        f"Installed-Build-Depends:\n gcc (= {version}),\n libc6:armhf (= 2.41-12)\n"
    )
    return [built, file]


def test_a_buildinfo_must_be_true(tmp_path: Path) -> None:
    there = {"gcc": "4:14.2.0-1", "libc6": "2.41-12"}
    require_true(buildinfo(tmp_path, "armhf", "4:14.2.0-1"), "armhf", there)
    with pytest.raises(CheckError) as caught:
        require_true(buildinfo(tmp_path, "amd64", "4:14.2.0-2"), "armhf", there)
    assert caught.value.details == (
        "foo_2.0-3_armhf.buildinfo: Build-Architecture is amd64, not armhf",
        "foo_2.0-3_armhf.buildinfo: Installed-Build-Depends: gcc 4:14.2.0-2, and there was 4:14.2.0-1",
    )
    files = buildinfo(tmp_path, "armhf", "4:14.2.0-1")
    files[0].write_bytes(b"y")
    with pytest.raises(CheckError):
        require_true(files, "armhf", there)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not there")
def test_what_was_built_is_handed_out(tmp_path: Path) -> None:
    (dest := tmp_path / "dest").mkdir()
    for name in ("foo_2.0-3+b1_armhf.deb", "foo_2.0-3+b1_armhf.changes", "foo-udeb_2.0-3+b1_armhf.udeb"):
        (dest / name).write_text(name)
    pack(dest, tmp_path / "foo.tar.zst", 0)
    (logs := tmp_path / "logs").mkdir()
    (logs / "02-install.log").write_text("installs\n")
    (logs / "01-compile.log").write_text("compiles\n")
    store = Store(tmp_path / "store")
    files = collect(tmp_path / "foo.tar.zst", logs, None, tmp_path / "dist", store)
    folder = tmp_path / "dist" / "foo_2.0-3+b1_armhf"
    log = folder / "foo_2.0-3+b1_armhf.build"
    assert sorted(files) == sorted([*(folder / file.name for file in dest.iterdir()), log])
    assert log.read_text() == "==> compile\ncompiles\n==> install\ninstalls\n"
    assert list((tmp_path / "store" / "tmp").iterdir()) == []
    elsewhere = collect(tmp_path / "foo.tar.zst", logs, tmp_path / "out", tmp_path / "dist", store)
    assert {file.parent for file in elsewhere} == {tmp_path / "out"}
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="is no directory"):
        collect(tmp_path / "foo.tar.zst", logs, tmp_path / "file", tmp_path / "dist", store)
