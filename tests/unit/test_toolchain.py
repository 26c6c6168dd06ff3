from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xbuild.base.errors import RecipeError, UsageError
from xbuild.model import native as machines
from xbuild.model.load import load_toolchain, toolchain_names, toolchain_path
from xbuild.model.toolchain import Toolchain

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(CHECKOUT / "toolchains", tmp_path / "toolchains")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(project: Path, name: str, old: str, new: str) -> list[str]:
    """The errors, without the file's name, once `old` is `new` in the toolchain `name`."""
    path = project / "toolchains" / f"{name}.yml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(RecipeError) as caught:
        load_toolchain(name, project)
    return [line.split(": ", 1)[1] for line in caught.value.details]


def test_targets_of_this_project() -> None:
    assert toolchain_names(CHECKOUT) == ["amd64", "arm64", "armhf", "riscv64"]


@pytest.mark.parametrize("name", toolchain_names(CHECKOUT))
def test_each_toolchain_of_this_project_agrees_with_itself(name: str) -> None:
    toolchain = load_toolchain(name, CHECKOUT)
    assert toolchain.architecture == name
    assert toolchain.triplet.startswith(toolchain.identity["HOSTTYPE"])
    assert toolchain.identity["MAKE_HOST"] == toolchain.identity["MACHTYPE"]


@pytest.mark.parametrize("name", toolchain_names(CHECKOUT))
def test_each_has_what_every_other_machine_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for native in machines.known():
        monkeypatch.setattr("platform.machine", lambda uname=native.uname_machine: uname)
        test_each_toolchain_of_this_project_agrees_with_itself(name)
        toolchain = load_toolchain(name, CHECKOUT)
        assert toolchain.native == (name == native.name)
        if toolchain.native:
            assert native.identity == toolchain.identity
            assert (native.triplet, native.elf_machine, native.elf_class, native.uname_machine) == (
                toolchain.triplet, toolchain.elf.machine, toolchain.elf.elf_class, toolchain.uname_machine,
            )  # fmt: skip


def test_armhf() -> None:
    armhf = load_toolchain("armhf", CHECKOUT)
    assert (armhf.elf.machine, armhf.elf.elf_class, armhf.elf.float_abi) == ("ARM", 32, "hard")
    assert armhf.elf.interpreter == "/lib/ld-linux-armhf.so.3"
    assert armhf.model_dump(mode="json", by_alias=True)["elf"]["class"] == 32
    assert not armhf.native


def differences(one: Toolchain, other: Toolchain) -> set[str]:
    return {name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)}


def test_another_suite() -> None:
    armhf = load_toolchain("armhf", CHECKOUT)
    other = armhf.with_suite("forky")
    assert other.distribution.suite == "forky"
    assert differences(armhf, other) == {"distribution"}
    assert other.with_suite(armhf.distribution.suite) == armhf


def test_another_suite_with_another_emulator() -> None:
    armhf = load_toolchain("armhf", CHECKOUT)
    other = armhf.with_suite("bookworm")
    assert differences(armhf, other) == {"distribution", "qemu"}
    assert other.qemu == armhf.suites["bookworm"].qemu


def test_a_target_that_only_runs() -> None:
    assert {known.name for known in map(toolchain_of, toolchain_names(CHECKOUT)) if not known.builds} == {"riscv64"}


def toolchain_of(name: str) -> Toolchain:
    return load_toolchain(name, CHECKOUT)


def test_unknown_target(project: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown target 'armfh'; did you mean 'armhf'\?") as caught:
        load_toolchain("armfh", project)
    assert caught.value.hint == "known: amd64, arm64, armhf, riscv64"


def test_a_project_without_toolchains_has_the_shipped_ones(tmp_path: Path) -> None:
    assert load_toolchain("armhf", tmp_path) == load_toolchain("armhf", CHECKOUT)
    assert toolchain_names(tmp_path) == toolchain_names(CHECKOUT)


def test_the_projects_own_toolchain_comes_first(tmp_path: Path) -> None:
    (tmp_path / "toolchains").mkdir()
    own = tmp_path / "toolchains" / "armhf.yml"
    own.write_text((CHECKOUT / "toolchains" / "armhf.yml").read_text().replace("summary: ", "summary: Mine, "))
    assert load_toolchain("armhf", tmp_path).summary.startswith("Mine, ")
    assert toolchain_path("armhf", tmp_path) == own
    assert toolchain_path("arm64", tmp_path) == CHECKOUT / "toolchains" / "arm64.yml"
    own.unlink()
    own.symlink_to("nowhere")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_toolchain("armhf", tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("armhf", "machine: ARM", "machine: AMR", "elf.machine: 'AMR' is not one of ARM, AARCH64, RISCV, X86_64"),
        ("armhf", "class: 32", "class: 31", "elf.class: 31 is not one of 32, 64"),
        ("armhf", "float-abi: hard", "float-abi: harder", "elf.float-abi: 'harder' is not one of hard, soft"),
        ("armhf", "float-abi", "float_abi", "elf.float_abi: unknown field; did you mean 'float-abi'?"),
        ("armhf", "/lib/ld-linux", "lib/ld-linux", "elf.interpreter: must be an absolute path"),
        ("armhf", "triplet: arm-linux-gnueabihf", "triplet: arm", "triplet: must be a triplet such as"),
        ("armhf", "name: armhf", "name: armel", "name: must be 'armhf', as the file is called"),
        ("armhf", "schema: 1", "schema: 7", "schema: schema 7 needs a newer xbuild"),
        ("armhf", "suite: trixie", "suite: 13", "distribution.suite: must be quoted: YAML read 13, a number"),
        ("armhf", "policy: default\n", "", "a target that is not native needs policy"),
        ("amd64", "qemu: {binary", "native: true\nqemu: {binary", "native: unknown field"),
        ("amd64", "qemu: {binary: /usr/bin/qemu-x86_64, package: qemu-user}\n", "",
         "a target that is not native needs qemu"),
        ("riscv64", "native-root:\n", "native-root:\n  architecture: i386\n",
         "native-root.architecture: unknown field"),
    ],
)  # fmt: skip
def test_bad_toolchains(project: Path, name: str, old: str, new: str, expected: str) -> None:
    found = change(project, name, old, new)
    assert len(found) == 1
    assert found[0].startswith(expected)


LEAN = """schema: 1
name: lean
summary: A target that only its own machine can build for
triplet: x86_64-linux-gnu
architecture: amd64
elf: {machine: X86_64, class: 64, data: little, interpreter: /lib64/ld-linux-x86-64.so.2}
distribution: {suite: trixie}
identity: {}
uname-machine: x86_64
"""


def test_a_target_for_its_own_machine_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project / "toolchains/lean.yml"
    file.write_text(LEAN)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert load_toolchain("lean", project).native
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(UsageError, match="not this machine's own, so it needs qemu, policy"):
        load_toolchain("lean", project)
    file.write_text(LEAN + "system: {binary: /q, package: qq, machine: m, cpu: c, console: t, kernel-package: kk}\n")
    with pytest.raises(RecipeError, match=r"lean\.yml") as caught:
        load_toolchain("lean", project)
    assert "a target that is not native needs qemu, policy" in caught.value.details[0]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("  cpu: cortex-a15\n", "", "cpu"),
        ("  cpu: cortex-a15\n", "  cpu: cortex-a15\n  memory: 16\n", "memory"),
        ("binary: /usr/bin/qemu-system-arm", "binary: qemu-system-arm", "binary"),
    ],
)
def test_a_machine_is_described_whole(project: Path, old: str, new: str, fault: str) -> None:
    assert any(fault in error for error in change(project, "armhf", old, new))
