"""Artifacts of other recipes over a root: what goes before what, keys, and twins for what is the distribution's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.test_twins import AS, CC1, GCC, POLICY, both_widths, kinds, paths_of, reasons, target
from xbuild.base.digest import file_sha256, write_sums
from xbuild.base.errors import UsageError
from xbuild.build import outputs
from xbuild.build.prepared import NotBuiltError, Prepared, prepared, staged
from xbuild.build.request import Here, Request
from xbuild.build.standing import kept, recipes, waiting_actions
from xbuild.build.subject import Subject, read
from xbuild.formats.debian import Tree
from xbuild.model.load import load_toolchain
from xbuild.roots import staging
from xbuild.roots.staging import stand_ins
from xbuild.store.local import Store
from xbuild.twins.pairing import Refusal, pair

PROJECT = Path(__file__).parents[2]
ARMHF = load_toolchain("armhf", PROJECT)
TRIPLET = ARMHF.triplet
LIBRARIES, HEADERS = f"usr/lib/{TRIPLET}", f"usr/include/{TRIPLET}"


def written(root: Path, files: Mapping[str, str]) -> Path:
    """Files with these contents below `root`; `-> x` is a link to x."""
    for name, text in files.items():
        place = root / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            place.symlink_to(text.removeprefix("-> "))
        else:
            place.write_text(text)
    return root


# Twins.


def test_a_file_of_a_recipe_is_never_taken_for_the_distributions(tmp_path: Path) -> None:
    distribution = target(tmp_path / "target")
    over = tmp_path / "over/usr/bin"
    over.mkdir(parents=True)
    # Also the very same bytes: whose it is counts.
    shutil.copy2(tmp_path / "target/usr/bin/cat", over / "cat")
    seen = Tree([tmp_path / "over", *distribution.layers])
    pairs = pair(both_widths(tmp_path), distribution, POLICY, ARMHF, seen=seen)
    assert paths_of(pairs) == {"/usr/bin/bash", GCC, CC1, AS}
    assert (set(reasons(pairs)), kinds(pairs)) == ({"/usr/bin/cat"}, {Refusal.COVERED})
    assert not Refusal.COVERED.by_roots
    plain = pair(both_widths(tmp_path / "again"), distribution, POLICY, ARMHF)
    assert paths_of(plain) == {"/usr/bin/cat", *paths_of(pairs)}


def test_a_recipe_with_an_assembler_of_its_own_has_all_compilers_emulated(tmp_path: Path) -> None:
    distribution = target(tmp_path / "target")
    written(tmp_path / "over", {AS: "own"})
    pairs = pair(
        both_widths(tmp_path), distribution, POLICY, ARMHF, seen=Tree([tmp_path / "over", *distribution.layers])
    )
    assert paths_of(pairs) == {"/usr/bin/cat", "/usr/bin/bash"}
    assert set(reasons(pairs)) == {GCC, CC1, AS}


def test_a_package_database_in_an_artifact_makes_no_owner(tmp_path: Path) -> None:
    """What a recipe installs as dpkg's own lists says nothing of the root."""
    distribution = target(tmp_path / "target")
    written(tmp_path / "over", {"var/lib/dpkg/info/bash.list": "/.\n", "usr/bin/bash": "own"})
    pairs = pair(
        both_widths(tmp_path), distribution, POLICY, ARMHF, seen=Tree([tmp_path / "over", *distribution.layers])
    )
    assert reasons(pairs) == {"/usr/bin/bash": "a recipe that is built before has its own file there"}


# What goes before what.


@pytest.fixture
def root(tmp_path: Path) -> Tree:
    """A root with zlib1g-dev and expat's files, some by triplet."""
    files = {
        "usr/include/zlib.h": "old", f"{HEADERS}/zconf.h": "old", f"{LIBRARIES}/libz.so": "-> libz.so.1",
        f"{LIBRARIES}/libz.so.1": "-> libz.so.1.2", f"{LIBRARIES}/libz.so.1.2": "old", f"{LIBRARIES}/libz.a": "old",
        f"{LIBRARIES}/pkgconfig/zlib.pc": "old", f"{LIBRARIES}/libm.so": "old", "usr/share/pkgconfig/x.pc": "old",
        f"{LIBRARIES}/cmake/z/z-config.cmake": "old", f"{LIBRARIES}/cmake/z/z-none.cmake": "old",
    }  # fmt: skip
    written(tmp_path / "root", files | {"var/lib/dpkg/status": ""})
    listed = "".join(f"/{name}\n" for name in files)
    written(tmp_path / "root", {"var/lib/dpkg/info/zlib1g-dev:armhf.list": f"/.\n{listed}"})
    return Tree([tmp_path / "root"])


def over(root: Tree, *files: str) -> staging._Over:
    return stand_ins(root, dict.fromkeys(files, "zlib"), TRIPLET)


def test_what_is_looked_at_first_leads_to_the_recipes_own(root: Tree) -> None:
    found = over(root, "usr/include/zlib.h", "usr/include/zconf.h", "usr/lib/libz.so", "usr/lib/libz.so.1",
                 "usr/lib/libz.a", "usr/lib/pkgconfig/zlib.pc", "usr/include/other.h")  # fmt: skip
    assert found.links == {
        f"{HEADERS}/zconf.h": "/usr/include/zconf.h",
        f"{LIBRARIES}/libz.so": "/usr/lib/libz.so",
        f"{LIBRARIES}/libz.so.1": "/usr/lib/libz.so.1",
        f"{LIBRARIES}/libz.a": "/usr/lib/libz.a",
        f"{LIBRARIES}/pkgconfig/zlib.pc": "/usr/lib/pkgconfig/zlib.pc",
    }
    # Else ldconfig would let the name lead there again.
    assert found.gone == {f"{LIBRARIES}/libz.so.1.2"}
    assert len(found.replaced["zlib"]["zlib1g-dev"]) == 7
    assert "/usr/include/zlib.h" in found.replaced["zlib"]["zlib1g-dev"]


def test_half_of_a_library_is_not_mixed_with_the_other_half(root: Tree) -> None:
    assert over(root, "usr/lib/libz.a").gone == {f"{LIBRARIES}/libz.so"}
    assert over(root, f"{LIBRARIES}/libz.so").gone == {f"{LIBRARIES}/libz.a"}
    assert over(root, "usr/lib/libnew.a", "usr/lib/libz.so.2").gone == set()
    for folder in ("usr/lib", LIBRARIES):
        assert over(root, f"{folder}/libz.so.1", f"{folder}/libz.so.1.0").gone == {f"{LIBRARIES}/libz.so.1.2"}
    assert over(root, f"{LIBRARIES}/libz.so.1", f"{LIBRARIES}/libz.so.1.2").gone == set()


def test_cmake_finds_the_words_of_one_of_them(root: Tree) -> None:
    assert over(root, "usr/lib/cmake/z/z-config.cmake").links == {
        f"{LIBRARIES}/cmake/z/z-config.cmake": "/usr/lib/cmake/z/z-config.cmake"
    }
    for place in ("usr/lib", LIBRARIES):
        found = over(root, f"{place}/cmake/z/z-config.cmake", f"{place}/cmake/z/z-release.cmake")
        assert found.gone == {f"{LIBRARIES}/cmake/z/z-none.cmake"}


def test_pkg_config_below_share(root: Tree) -> None:
    assert set(over(root, "usr/share/pkgconfig/zlib.pc").links) == {f"{LIBRARIES}/pkgconfig/zlib.pc"}


# Two recipes with one path.


def test_two_recipes_that_install_one_path(tmp_path: Path) -> None:
    one = written(tmp_path / "one", {"usr/share/info/dir": "a", "usr/share/same": "x", "usr/l": "-> share"})
    two = written(tmp_path / "two", {"usr/share/info/dir": "b", "usr/share/same": "x", "usr/l": "-> share"})
    with pytest.raises(UsageError, match="one and two both install usr/share/info/dir, and not the same") as told:
        staging._files({"one": one, "two": two})
    assert (told.value.exit_code, told.value.details) == (2, ("usr/share/info/dir",))
    (two / "usr/share/info/dir").write_text("a")
    assert sorted(staging._files({"one": one, "two": two})) == ["usr/l", "usr/share/info/dir", "usr/share/same"]
    (two / "usr/share/same").chmod(0o755)
    with pytest.raises(UsageError, match="both install usr/share/same"):
        staging._files({"one": one, "two": two})


def test_a_file_where_another_has_a_directory(tmp_path: Path) -> None:
    one = written(tmp_path / "one", {"usr/share/x/file": "a"})
    two = written(tmp_path / "two", {"usr/share/x": "b"})
    for pair_ in ({"one": one, "two": two}, {"two": two, "one": one}):
        with pytest.raises(UsageError, match="both install usr/share/x, "):
            staging._files(pair_)


# Whose a library is.


def test_a_library_of_a_recipe_is_of_no_package(root: Tree, tmp_path: Path) -> None:
    name = f"{LIBRARIES}/libz.so.1.2"
    assert outputs._packages_of(["libz.so.1"], root, root, ARMHF) == {"libz.so.1": "zlib1g-dev"}
    seen = Tree([written(tmp_path / "over", {name: "own", f"{LIBRARIES}/libnew.so.1": "own"}), *root.layers])
    assert outputs._packages_of(["libz.so.1", "libnew.so.1", "libno.so.1"], seen, root, ARMHF) == {}


def test_a_library_is_found_where_ld_so_conf_says(root: Tree, tmp_path: Path) -> None:
    assert not outputs._finds(root, ARMHF)("libown.so.1")
    files = {"opt/own/libown.so.1": "own", "etc/ld.so.conf.d/own.conf": "# ours\n/opt/own\n"}
    assert outputs._finds(Tree([written(tmp_path / "over", files), *root.layers]), ARMHF)("libown.so.1")


# Keys.

RECIPE = """\
schema: 1
name: {name}
version: "1"
sources: [{{url: 'https://x.test/{name}.tar.gz', sha256: '{digest}'}}]
depends: {{recipes: {needs}, packages: {packages}}}
build: {{preset: make}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """base <- lib <- app, with other <- app."""
    (tmp_path / "project/recipes").mkdir(parents=True)
    needs = {"base": "[]", "lib": "[base]", "other": "[]", "app": "[lib, {name: other, when: [armhf]}]"}
    for name, text in needs.items():
        packages = "[zlib1g-dev]" if name == "lib" else "[]"
        words = {"name": name, "digest": "0" * 64, "needs": text, "packages": packages}
        (tmp_path / f"project/recipes/{name}.yml").write_text(RECIPE.format(**words))
    monkeypatch.setenv("XBUILD_PROJECT", str(tmp_path / "project"))
    return tmp_path / "project"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def made(subject: Subject, contents: str) -> Prepared:
    """Its artifact in the store, as if it had been built."""
    build = prepared(subject)

    def make(place: Path) -> None:
        file = place / f"{subject.file_name}.tar.zst"
        file.write_text(contents)
        manifest = {"artifact": {"sha256": file_sha256(file)}}
        (place / f"{subject.file_name}.manifest.json").write_text(json.dumps(manifest))

    subject.store.ensure("artifacts", build.value, "an artifact", make)
    return build


def of(subject: Subject, name: str) -> Subject:
    return next(need for need in subject.needs if need.recipe.name == name)


def test_a_subject_knows_what_it_needs(project: Path, store: Store) -> None:
    how = {"mode": "emulated", "emulate": frozenset({"sed"}), "here": Here(jobs=3, keep=True)}
    app = read(Request("app", "armhf", **how), store)  # type: ignore[arg-type]
    assert [need.recipe.name for need in app.needs] == ["base", "lib", "other"]
    assert [need.recipe.name for need in of(app, "lib").needs] == ["base"]
    assert {need.request for need in app.needs} == {
        Request(name, "armhf", here=Here(jobs=3, publish=False)) for name in ("base", "lib", "other")
    }
    # What lib was made from may be wanted by who uses it.
    assert "zlib1g-dev" in app.packages
    assert "zlib1g-dev" not in of(app, "other").packages
    assert [need.recipe.name for need in read(Request("app", "arm64"), store).needs] == ["base", "lib"]
    assert (project / "recipes/app.yml").samefile(app.file)


def test_a_key_is_known_after_what_it_needs(project: Path, store: Store) -> None:
    app = read(Request("app", "armhf"), store)
    with pytest.raises(NotBuiltError) as told:
        prepared(app)
    assert told.value.waiting == {"base": (), "lib": ("base",), "other": ()}
    assert told.value.exit_code == 2
    actions = {action.name: (action.verdict, action.reason) for action in waiting_actions(app, told.value)}
    assert actions["recipe lib"] == ("after", "known after base")
    assert actions["recipe base"] == ("run", "not built as it would be now")
    assert actions["compile"] == ("after", "known after base, lib, other")
    made(of(app, "base"), "b")
    assert recipes(app) == {"base": True, "lib": False, "other": False}
    with pytest.raises(NotBuiltError) as told:
        staged(app)
    assert told.value.waiting == {"lib": (), "other": ()}
    made(of(app, "lib"), "l")
    made(of(app, "other"), "o")
    build = prepared(app)
    assert [one.name for one in build.staged] == ["base", "lib", "other"]
    assert set(build.value["contents"]["recipes"]) == {"base", "lib", "other"}


def all_made(request: Request, store: Store, **contents: str) -> Prepared:
    app = read(request, store)
    for need in app.needs:
        made(need, contents.get(need.recipe.name, need.recipe.name))
    return prepared(app)


def changed(project: Path, name: str, old: str, new: str) -> None:
    file = project / f"recipes/{name}.yml"
    file.write_text(file.read_text().replace(old, new))


def test_bytes_count_and_nothing_else(project: Path, store: Store) -> None:
    """A change at the bottom that gives other bytes changes all above it; one that gives the same changes nothing."""
    first = all_made(Request("app", "armhf"), store)
    changed(project, "base", "0" * 64, "1" * 64)
    app = read(Request("app", "armhf"), store)
    assert recipes(app) == {"base": False, "lib": False, "other": True}
    base = made(of(app, "base"), "base")
    assert base.key not in {one.key for one in first.staged}
    # Cut off: the same bytes came out.
    assert recipes(app) == {"base": True, "lib": True, "other": True}
    assert prepared(app).key == first.key
    changed(project, "base", "1" * 64, "2" * 64)
    made(of(read(Request("app", "armhf"), store), "base"), "other bytes")
    app = read(Request("app", "armhf"), store)
    assert recipes(app) == {"base": True, "lib": False, "other": True}
    made(of(app, "lib"), "lib")
    again = prepared(app)
    assert again.key != first.key
    assert not {step.key for step in again.steps} & {step.key for step in first.steps}


def test_how_the_dependent_runs_changes_nothing_of_what_it_needs(project: Path, store: Store) -> None:
    plain = all_made(Request("app", "armhf"), store)
    for more in ({"mode": "emulated"}, {"emulate": frozenset({"sed"})}, {"mode": "distcc", "servers": ("box",)}):
        other = prepared(read(replace(Request("app", "armhf"), **more), store))
        assert other.staged == plain.staged
        assert other.key != plain.key
    with pytest.raises(NotBuiltError):
        prepared(read(Request("app", "armhf", suite="bookworm"), store))


def test_a_recipe_without_needs_has_nothing_of_this_in_its_key(
    project: Path, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "own.py"
    plain, app = read(Request("base", "armhf"), store), all_made(Request("app", "armhf"), store)
    before = prepared(plain)
    assert not {"recipes", "staging"} & set(before.value["contents"])
    shutil.copy(staging.__file__, own)
    own.write_text(own.read_text() + "\n")
    monkeypatch.setattr(staging, "__file__", str(own))
    assert prepared(plain).key == before.key
    assert all_made(Request("app", "armhf"), store).key != app.key


def test_logs_of_what_was_built_are_there_whatever_is_to_be_built_first(project: Path, store: Store) -> None:
    app = all_made(Request("app", "armhf"), store)
    made(app.subject, "app")
    entry = store.get("artifacts", app.key)
    assert entry is not None
    (entry / "logs").mkdir()
    write_sums(entry)
    assert kept(app.subject, "logs") == (entry / "logs", True)
    changed(project, "base", "0" * 64, "1" * 64)
    assert kept(read(Request("app", "armhf"), store), "logs") == (entry / "logs", False)


def test_a_manifest_that_cannot_be_read_is_no_artifact(project: Path, store: Store) -> None:
    app = all_made(Request("app", "armhf"), store)
    of_base = app.staged[0]
    of_base.archive.with_name("base-1-armhf.manifest.json").write_text("{")
    assert recipes(app.subject)["base"] is False


def test_a_root_of_ones_own_is_looked_for(project: Path, store: Store) -> None:
    changed(project, "lib", 'version: "1"', 'version: "1"\nroot: nowhere')
    with pytest.raises(UsageError, match="nowhere"):
        read(Request("app", "armhf"), store)


# Debian packages of recipes, by what dpkg wrote down.


def listed(tmp_path: Path, lists: Mapping[str, str]) -> Path:
    """A layer in which dpkg installed packages: the lists of their files, by package."""
    info = "var/lib/dpkg/info"
    return written(tmp_path / "upper", {f"{info}/{name}.list": text for name, text in lists.items()})


def test_whose_the_files_of_packages_are(tmp_path: Path) -> None:
    lists = {"one": "/.\n/bin/x\n", "one-dev:armhf": "/usr/include/x.h\n", "two": "/usr/bin/y\n", "x": "/z\n"}
    upper = listed(tmp_path, lists)
    first = written(tmp_path / "first", {"one_1_all.deb": "", "one-dev_1_armhf.deb": ""})
    second = written(tmp_path / "second", {"two_1_all.deb": ""})
    found = staging._installed(upper, {"first": first, "second": second})
    assert {name: set(paths) for name, paths in found.items()} == {
        "first": {"/.", "/usr/bin/x", "/usr/include/x.h"}, "second": {"/usr/bin/y"},
    }  # fmt: skip
    written(second, {"one_2_all.deb": ""})
    with pytest.raises(UsageError, match="first and second both make the package one"):
        staging._installed(upper, {"first": first, "second": second})


def test_a_package_in_the_place_of_the_distributions(root: Tree, tmp_path: Path) -> None:
    one = written(tmp_path / "one", {"usr/bin/tool": "one"})
    found, seen = staging._files({"one": one}), staging._Over()
    header = f"/{HEADERS}/zconf.h"
    staging._tell_replaced("packages", ["/usr", header, "/usr/bin/new"], root, seen, found)
    assert seen.replaced == {"packages": {"zlib1g-dev": [header]}}
    with pytest.raises(UsageError, match="one and packages, in a package, both install usr/bin/tool") as told:
        staging._tell_replaced("packages", ["/usr/bin/tool"], root, seen, found)
    assert told.value.hint == 'leave it away in one: after-install: rm -f "$DESTDIR"/usr/bin/tool'
