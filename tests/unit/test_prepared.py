"""Builds as they are prepared: what is asked, what it is about, its keys. Without network and namespaces."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from xbuild.base import paths
from xbuild.base.digest import file_sha256
from xbuild.base.errors import UsageError
from xbuild.build import prepared as preparing
from xbuild.build.modes.table import MODES, mode_of
from xbuild.build.prepared import MAKERS, Prepared, prepare, prepared
from xbuild.build.request import Here, Request
from xbuild.build.subject import read
from xbuild.model.load import load_presets, load_recipe, load_toolchain
from xbuild.model.phases import UNPACK, resolve_phases
from xbuild.store.local import Store

PROJECT = Path(__file__).resolve().parents[2]
ZLIB = Request("zlib", "armhf")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this project's recipes and toolchains."""
    for name in ("recipes", "toolchains"):
        shutil.copytree(PROJECT / name, tmp_path / "project" / name)
    monkeypatch.setenv("XBUILD_PROJECT", str(tmp_path / "project"))
    return tmp_path / "project"


@pytest.fixture
def build(project: Path, tmp_path: Path) -> Callable[[Request], Prepared]:
    """Prepares in an empty store; and sees that nothing was made there but what the resolver keeps."""

    def prepared(request: Request) -> Prepared:
        made = prepare(request, Store(tmp_path / "store"))
        assert {path.name for path in (tmp_path / "store").glob("*")} <= {"indexes", "resolved", "locks", "tmp"}
        return made

    return prepared


def test_a_request_comes_to_models_steps_and_keys(build: Callable[[Request], Prepared]) -> None:
    made = build(ZLIB)
    toolchain = load_toolchain("armhf", PROJECT)
    recipe = load_recipe("zlib", toolchain, PROJECT)
    phases = resolve_phases(recipe, load_presets())
    assert (made.subject.recipe, made.subject.toolchain, made.subject.phases) == (recipe, toolchain, phases)
    assert [step.name for step in made.steps] == [UNPACK, *(phase.name for phase in phases)]
    assert len({made.key, *(step.key for step in made.steps)}) == len(made.steps) + 1
    assert (made.subject.title, made.subject.file_name) == ("zlib 1.3.1 for armhf", "zlib-1.3.1-armhf")
    with pytest.raises(FrozenInstanceError):
        made.key = ""  # type: ignore[misc]


def test_two_stores_at_different_places_give_equal_keys(project: Path, tmp_path: Path) -> None:
    one, other = (prepare(ZLIB, Store(tmp_path / name)) for name in ("one", "two/three"))
    assert one.subject.place != other.subject.place
    assert (one.key, one.value, one.steps) == (other.key, other.value, other.steps)
    shutil.move(project, tmp_path / "moved")
    (tmp_path / "project").symlink_to("moved")
    assert prepare(ZLIB, Store(tmp_path / "one")).key == one.key


@pytest.mark.parametrize(
    "here",
    [
        Here(jobs=3), Here(start="compile"), Here(keep=True), Here(publish=False), Here(format="dir"), Here(sbom=True),
        Here(provenance=True), Here(cache=0),
    ],
    ids=str,
)  # fmt: skip
def test_what_concerns_this_machine_only_is_in_no_key(build: Callable[[Request], Prepared], here: Here) -> None:
    plain, other = build(ZLIB), build(replace(ZLIB, here=here))
    assert (other.key, other.steps) == (plain.key, plain.steps)


@pytest.mark.parametrize(
    "changed",
    [
        {"mode": "emulated"},
        {"suite": "bookworm"},
        {"target": "arm64"},
        {"without": frozenset({"/usr/bin/sed"})},
        {"emulate": frozenset({"sed"})},
        {"grouped": False},
        {"mode": "distcc"},
        {"mode": "distcc", "servers": ("box",)},
        {"mode": "system"},
    ],
    ids=str,
)
def test_what_decides_is_in_all_keys(build: Callable[[Request], Prepared], changed: dict[str, Any]) -> None:
    plain, other = build(ZLIB), build(replace(ZLIB, **changed))
    assert plain.key != other.key
    assert {step.key for step in plain.steps}.isdisjoint(step.key for step in other.steps)


CHANGES = {
    "identity": {"MACHTYPE": "arm-other-linux-gnueabihf"},
    "uname_machine": "armv8l",
    "traits": ("other",),
    "inexact": ("sinf",),
    "multiarch": False,
    "triplet": "arm-linux-gnueabi",
    "architecture": "armel",
    "name": "other",
}
ELSEWHERE = {"schema_version", "summary", "platform", "suites", "policy", "system", "native_root", "word_size_root"}
"""Fields that decide nothing, or that other parts of keys tell."""


def test_each_field_of_a_target_has_its_say(build: Callable[[Request], Prepared]) -> None:
    """What native bash says of the machine is in its copy: twins and artifact have other keys then."""
    subject = build(ZLIB).subject
    toolchain, roots = subject.toolchain, subject.roots
    assert set(type(toolchain).model_fields) == {*CHANGES, *ELSEWHERE, "elf", "qemu", "distribution"}
    twins, key = roots.private_value(), prepared(subject).key
    for name, value in CHANGES.items():
        changed = toolchain.model_copy(update={name: value})
        roots.toolchain = changed
        assert prepared(replace(subject, toolchain=changed)).key != key, name
        assert roots.private_value() != twins, name


def test_each_field_of_a_request_has_its_say() -> None:
    """A field more is to be put into one of the two tests above; others say what packages there are."""
    assert set(Request.__dataclass_fields__) - {"snapshot", "locked", "repositories"} == {
        "recipe", "target", "mode", "suite", "root", "without", "emulate", "grouped", "servers", "strip", "here",
    }  # fmt: skip
    assert set(Here.__dataclass_fields__) == {
        "jobs", "start", "keep", "publish", "format", "sbom", "provenance", "cache",
    }  # fmt: skip


def test_what_is_stripped_has_another_key_and_the_same_steps(
    build: Callable[[Request], Prepared], project: Path
) -> None:
    """What is there need not be compiled again; the form of copies decides about nothing."""
    plain, dropped, split = (build(replace(ZLIB, strip=strip)) for strip in (None, True, "debug-package"))
    assert len({plain.key, dropped.key, split.key}) == 3
    assert plain.steps == dropped.steps == split.steps
    assert build(replace(ZLIB, strip=False)).key == plain.key
    with (project / "recipes/zlib.yml").open("a") as stream:
        stream.write("artifact: {strip: debug-package, format: dir, sbom: true, provenance: true}\n")
    assert build(ZLIB).key == split.key
    assert build(replace(ZLIB, strip=False)).key == plain.key


@pytest.mark.parametrize("name", MODES)
def test_what_a_mode_adds(build: Callable[[Request], Prepared], name: str) -> None:
    mode, plain, made = MODES[name], build(ZLIB).subject, build(replace(ZLIB, mode=name)).subject
    assert made.mode is mode
    assert set(made.packages) == {*plain.packages, *mode.packages}
    expected = {
        "substituted": ("zlib-1.3.1-armhf", "", True, False),
        "distcc": ("zlib-1.3.1-armhf-distcc", " --mode distcc", False, False),
        "emulated": ("zlib-1.3.1-armhf-emulated", " --mode emulated", False, False),
        "system": ("zlib-1.3.1-armhf-system", " --mode system", False, True),
    }
    words, twins, whole = f"zlib --target armhf{expected[name][1]}", *expected[name][2:]
    assert (made.file_name, made.command_line()) == (expected[name][0], words)
    assert (mode.twins, mode.whole, bool(mode.unrecorded)) == (twins, whole, whole)
    assert made.place.path.name == f"zlib-armhf-trixie-{name}"


def test_distcc_comes_first_in_path_and_is_told_of_its_servers(build: Callable[[Request], Prepared]) -> None:
    own = build(replace(ZLIB, mode="distcc", here=Here(jobs=5))).subject.variables(7)
    assert own["PATH"].split(":")[0] == "/run/distcc"
    assert (own["DISTCC_HOSTS"], own["SOURCE_DATE_EPOCH"]) == ("127.0.0.1:3632/5", "7")
    others = build(replace(ZLIB, mode="distcc", servers=("a", "b"))).subject.variables(7)
    assert others["DISTCC_HOSTS"] == "a b"
    assert "DISTCC_HOSTS" not in build(ZLIB).subject.variables(7)


def test_a_mode_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="unknown mode 'sytsem'; did you mean 'system'"):
        mode_of("sytsem")


def test_twins_that_the_recipe_takes_away_are_in_the_key(build: Callable[[Request], Prepared], project: Path) -> None:
    plain = build(ZLIB)
    with (project / "recipes/zlib.yml").open("a") as stream:
        stream.write("twins: {remove: [sed]}\n")
    assert {step.key for step in build(ZLIB).steps}.isdisjoint(step.key for step in plain.steps)


@pytest.mark.parametrize(
    ("kind", "file"),
    [(kind, name) for kind, names in MAKERS.items() for name in names],
)
def test_each_module_that_decides_about_packed_bytes_is_in_the_key(
    build: Callable[[Request], Prepared], monkeypatch: pytest.MonkeyPatch, kind: str, file: str
) -> None:
    plain = build(ZLIB)
    changed = paths.PACKAGE / file
    monkeypatch.setattr(preparing, "file_sha256", lambda path: "changed" if path == changed else file_sha256(path))
    preparing._makers.cache_clear()
    other = build(ZLIB)
    preparing._makers.cache_clear()
    assert other.key != plain.key
    # What is built already can be packed again.
    assert (other.steps == plain.steps) == (kind == "packing")


def test_an_input_that_cannot_be_read_is_named(
    build: Callable[[Request], Prepared], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "recipes/patches").mkdir()
    (project / "recipes/patches/mend.patch").write_text("")
    with (project / "recipes/zlib.yml").open("a") as stream:
        stream.write("patches: [patches/mend.patch]\n")
    build(ZLIB)
    digest = file_sha256

    def refused(path: Path) -> str:
        # As for who is not root: no mode keeps root from reading.
        if path.name == "mend.patch":
            raise PermissionError(13, "Permission denied", str(path))
        return digest(path)

    monkeypatch.setattr(preparing, "file_sha256", refused)
    with pytest.raises(UsageError, match=r"recipes/patches/mend.patch: cannot be read: Permission denied") as caught:
        build(ZLIB)
    assert caught.value.exit_code == 2


def test_reading_a_subject_makes_nothing(project: Path, tmp_path: Path) -> None:
    for name in MODES:
        read(Request("zlib", "armhf", name), Store(tmp_path / "store"))
    assert not (tmp_path / "store").exists()
