"""Why a program runs as it does: a made-up root, with twins for some of its programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_twins import ARMHF, CC1, CROSS_CC1, DATA, GCC, TRIPLET, debian
from xbuild.base import paths
from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import load_model
from xbuild.build.modes.table import MODES
from xbuild.formats.record import Choice
from xbuild.model.policy import Policy
from xbuild.proof.trace.answer import answer, started
from xbuild.proof.trace.explain import Surroundings, Why, explain, knows
from xbuild.twins.pairing import candidates, pair

POLICY = Policy.model_validate(
    {
        "schema": 1,
        "name": "test",
        "summary": "for tests",
        "never": ["uname", "python3"],
        "tools": {
            "coreutils": {"packages": ["coreutils"]},
            "sed": {"packages": ["sed"]},
            "bash": {"packages": ["bash"], "emulate-args": ["--version"]},
            "ccache": {"packages": ["ccache"], "optional": True},
            "m4": {"packages": ["m4"]},
            "gcc": {"group": "compilers", "files": [r"/usr/bin/{triplet}-gcc-[0-9]+"], "emulate-env": ["LIBRARY_PATH"]},
            "cc1": {
                "group": "compilers",
                "native-files": [r"/usr/libexec/gcc-cross/({triplet}/[0-9]+/(?:cc1|f951))"],
                "target-file": r"/usr/libexec/gcc/\1",
                "target-width-args": ["-flto*"],
            },
        },
    }
)
LOADER = "/usr/lib/ld-linux-armhf.so.3"
TARGET = {
    "base-files": ("1", {"/bin": "-> usr/bin", "/lib": "-> usr/lib", "/usr/bin/odd": "amd64-static"}),
    "coreutils": ("1", {"/usr/bin/cat": "armhf-pie", "/usr/bin/uname": "armhf-pie", "/usr/bin/env": "armhf-pie"}),
    "sed": ("1", {"/usr/bin/sed": "armhf-pie"}),
    "bash": ("5", {"/usr/bin/bash": "armhf-pie", "/usr/bin/sh": "-> bash", "/usr/bin/bashbug": "#!/bin/sh -e\n"}),
    "python": ("3", {"/usr/bin/python3": "-> python3.13", "/usr/bin/python3.13": "armhf-pie",
                     "/usr/bin/tool": "#!/usr/bin/env -S LC_ALL=C python3 -B\n"}),
    "ccache": ("1", {"/usr/bin/ccache": "armhf-pie"}),
    "m4": ("1", {"/usr/bin/m4": "armhf-pie"}),
    "bc": ("1", {"/usr/bin/bc": "armhf-pie", "/usr/bin/list": "# no program\n", "/usr/bin/loop": "#!/usr/bin/loop\n"}),
    "gcc": ("14", {GCC: "armhf-pie", CC1: "armhf-pie", CC1.replace("cc1", "f951"): "armhf-pie"}),
    "libc6": ("2", {LOADER: "armhf-static-pie"}),
}  # fmt: skip
NATIVE = {
    "coreutils": ("1", {"/usr/bin/cat": "amd64-static", "/usr/bin/uname": "amd64-static",
                        "/usr/bin/env": "amd64-static"}),
    "sed": ("2", {"/usr/bin/sed": "amd64-static"}),
    "bash": ("5", {"/usr/bin/bash": "amd64-static"}),
    "ccache": ("1", {"/usr/bin/ccache": "amd64-static"}),
    "gcc-cross": ("14", {GCC: "amd64-static", CROSS_CC1: "amd64-static"}),
}  # fmt: skip
SEARCH = ("/usr/local/bin", "/usr/bin", "/bin")


def around(
    root: Path, *, mode: str = "substituted", removed: str = "", without: str = "", gcc: str = "14"
) -> Surroundings:
    """A build in a made-up root. removed, without: one name, one path. gcc: the version of the native compiler."""
    native = {**NATIVE, "gcc-cross": (gcc, NATIVE["gcc-cross"][1])}
    tree = debian(root / "target", TARGET)
    for file in (root / "target/usr").rglob("*"):
        if file.is_file() and not file.is_symlink() and file.name != "list":
            file.chmod(0o755)
    (root / "target/usr/bin/own").write_bytes((DATA / "armhf-pie").read_bytes())
    (root / "target/usr/bin/own").chmod(0o755)
    twins = tuple(
        twin
        for name in ("amd64", "i386")
        for twin in candidates(debian(root / name, native), name, POLICY, ARMHF)
    )
    names, switched = frozenset(filter(None, [removed])), frozenset(filter(None, [without]))
    pairs = pair(twins, tree, POLICY, ARMHF, removed=names, without=switched)
    return Surroundings(MODES[mode], POLICY, ARMHF, tree, pairs, twins, names, switched)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Surroundings:
    """A substituted build that nothing is taken away from."""
    return around(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    ("path", "why", "reason", "remedy"),
    [
        ("/usr/bin/cat", Why.TWIN, "it has a twin", None),
        (GCC, Why.TWIN, "it has a twin", None),
        ("/usr/bin/sed", Why.REFUSED, "sed is 1 in the target root, sed 2 in the native root", "clean --roots"),
        ("/usr/bin/uname", Why.NEVER, "'test' never gives it a twin: it answers", None),
        ("/usr/bin/python3.13", Why.NEVER, "'test' never gives it a twin as python3: it answers", None),
        (LOADER, Why.NEVER, "the target's loader", None),
        ("/usr/bin/ccache", Why.OPTIONAL, "only where a recipe asks for it", "`twins: {add: [ccache]}`"),
        ("/usr/bin/m4", Why.NO_NATIVE, "the policy has the tool m4, but the native root", "native package of m4"),
        (CC1.replace("cc1", "f951"), Why.NO_NATIVE, "the policy has the tool cc1, but", "native package of gcc"),
        ("/usr/bin/bc", Why.NO_ENTRY, "no tool of the policy 'test' has this", "add a tool for the package bc"),
        ("/usr/bin/own", Why.NO_PACKAGE, "it belongs to no package", None),
        ("/usr/bin/none", Why.NOT_THERE, "the root has no such file", None),
        ("/build/obj/python", Why.MADE, "the build has made it", None),
    ],
)
def test_reasons(plain: Surroundings, path: str, why: Why, reason: str, remedy: str | None) -> None:
    found = explain(path, plain)
    assert found.why is why
    assert reason in found.reason
    assert (found.remedy is None) == (remedy is None)
    assert remedy is None or remedy in str(found.remedy)


def test_what_the_recipe_and_the_command_line_take_away(tmp_path: Path) -> None:
    found = explain("/usr/bin/cat", around(tmp_path / "1", removed="coreutils"))
    assert (found.why, found.reason) == (Why.REMOVED, "taken away by the recipe")
    assert "take it out of the recipe's" in str(found.remedy)
    found = explain("/usr/bin/cat", around(tmp_path / "2", without="/usr/bin/cat"))
    assert (found.why, found.reason) == (Why.REMOVED, "switched off")


def test_a_broken_group(tmp_path: Path) -> None:
    found = explain(CC1, around(tmp_path, without=GCC))
    assert (found.why, found.reason) == (Why.REFUSED, f"its group compilers is not substituted ({GCC}: switched off)")
    assert found.remedy is None
    found = explain(CC1, around(tmp_path / "versions", gcc="15"))
    assert found.why is Why.REFUSED
    assert "gcc is 14 in the target root, gcc-cross 15 in the native root" in found.reason
    assert "clean --roots" in str(found.remedy)


def test_a_mode_without_twins(tmp_path: Path) -> None:
    surroundings = around(tmp_path, mode="distcc")
    assert explain("/usr/bin/cat", surroundings).why is Why.MODE
    assert explain("/usr/bin/bc", surroundings).why is Why.MODE
    assert explain("/build/bc", surroundings).why is Why.MADE


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (Choice.TWIN, Why.TWIN),
        (Choice.WIDTH_TWIN, Why.TWIN),
        (Choice.ARGUMENT, Why.ARGUMENT),
        (Choice.VARIABLE, Why.VARIABLE),
        (Choice.CHANGED, Why.CHANGED),
        (Choice.FAILED, Why.FAILED),
        # Emulated in that build, though it has a twin now.
        (Choice.NO_ENTRY, Why.OUTDATED),
    ],
)
def test_what_the_dispatcher_said_counts(plain: Surroundings, verdict: Choice, why: Why) -> None:
    assert explain("/usr/bin/cat", plain, verdict).why is why
    assert explain("/usr/bin/uname", plain, Choice.NO_ENTRY).why is Why.NEVER


DEFAULT = load_model(paths.POLICIES / "default.yml", Policy)


@pytest.mark.parametrize(
    ("tool", "path", "package"),
    [
        ("sed", "/usr/bin/sed", "sed"),
        ("gcc", f"/usr/bin/{TRIPLET}-gfortran-14", "gfortran-14"),
        ("cc1", f"/usr/libexec/gcc/{TRIPLET}/14/f951", "gfortran-14"),
        ("cc1", f"/usr/lib/gcc/{TRIPLET}/12/cc1plus", "g++-12"),
        ("lto-wrapper", f"/usr/libexec/gcc/{TRIPLET}/14/lto-wrapper", "gcc-14"),
        ("ld", f"/usr/bin/{TRIPLET}-ld.bfd", "binutils"),
        (None, f"/usr/libexec/gcc/{TRIPLET}/14/g++-mapper-server", "g++-14"),
        (None, "/usr/lib/sed", "sed"),
        (None, f"/usr/libexec/gcc/{TRIPLET}/x/cc1", "cpp-14"),
    ],
)
def test_what_the_policy_knows(tool: str | None, path: str, package: str) -> None:
    found = [name for name, known in DEFAULT.tools.items() if knows(known, path, package, TRIPLET)]
    assert found == ([tool] if tool else [])


def test_a_native_program(plain: Surroundings) -> None:
    found = answer("/bin/sh", plain, SEARCH)
    assert [*found.lines()] == [
        "/bin/sh is /usr/bin/bash, of bash 5",
        "  native: /.xbuild/amd64/usr/bin/bash, of bash 5 (amd64, tool bash)",
        "  emulated with one of the arguments --version",
    ]
    value = found.as_json()
    assert (value["native"], value["path"], value["rules"]) == (
        True, "/usr/bin/bash", {"emulate_args": ["--version"]},
    )  # fmt: skip


def test_variables_and_the_other_width(plain: Surroundings) -> None:
    assert "  emulated with one of the variables LIBRARY_PATH" in answer(GCC, plain, SEARCH).lines()
    found = answer(CC1, plain, SEARCH)
    assert f"  with one of the arguments -flto*: /.xbuild/i386{CC1}" in found.lines()
    assert found.as_json()["other_twin"] == f"/.xbuild/i386{CC1}"
    assert answer("cat", plain, SEARCH).as_json()["other_twin"] is None


def test_scripts(plain: Surroundings) -> None:
    found = answer("bashbug", plain, SEARCH)
    assert (found.path, found.package, found.explanation.why) == ("/usr/bin/bashbug", "bash 5", Why.SCRIPT)
    assert "its interpreter is what runs: /bin/sh -e" in found.explanation.reason
    assert [known.path for known in found.next] == ["/usr/bin/bash"]
    found = answer("/usr/bin/tool", plain, SEARCH)
    assert [(known.path, known.explanation.why) for known in found.next] == [
        ("/usr/bin/env", Why.TWIN), ("/usr/bin/python3.13", Why.NEVER),
    ]  # fmt: skip
    assert not found.as_json()["native"]


def test_a_script_that_is_its_own_interpreter(plain: Surroundings) -> None:
    assert len([*answer("loop", plain, SEARCH).lines()]) == 10


@pytest.mark.parametrize(
    ("asked", "why", "reason"),
    [
        ("sd", Why.NOT_THERE, "there is no such file in the root of this recipe; did you mean 'sed'?"),
        ("/opt/sed", Why.NOT_THERE, "did you mean 'sed'?"),
        ("/usr/bin", Why.NO_PROGRAM, "it is a directory"),
        ("list", Why.NO_PROGRAM, "it is not executable"),
        ("odd", Why.NO_PROGRAM, "it is X86_64, 64 bits: no program of the target"),
        ("/build/obj/sed", Why.MADE, "what a build makes is emulated"),
        ("uname", Why.NEVER, "never gives it a twin"),
    ],
)
def test_other_answers(plain: Surroundings, asked: str, why: Why, reason: str) -> None:
    found = answer(asked, plain, SEARCH)
    assert found.explanation.why is why
    assert reason in found.explanation.reason
    assert not found.as_json()["native"]
    assert [*found.lines()]


def test_text_without_an_interpreter(tmp_path: Path) -> None:
    surroundings = around(tmp_path)
    (tmp_path / "target/usr/bin/list").chmod(0o755)
    assert "neither an ELF file nor a script" in answer("list", surroundings, SEARCH).explanation.reason


def test_a_relative_path(plain: Surroundings) -> None:
    with pytest.raises(UsageError, match="relative path"):
        answer("./configure", plain, SEARCH)


@pytest.mark.parametrize(
    ("words", "programs"),
    [
        (["/bin/sh", "-e"], ["/bin/sh"]),
        (["/usr/bin/env", "python3"], ["/usr/bin/env", "python3"]),
        (["/usr/bin/env", "-S A=1 perl -w"], ["/usr/bin/env", "perl"]),
        (["/usr/bin/env"], ["/usr/bin/env"]),
    ],
)
def test_what_a_script_starts(words: list[str], programs: list[str]) -> None:
    assert started(words) == programs
