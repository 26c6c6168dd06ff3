from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from xbuild.formats.debian import Tree, merged
from xbuild.formats.elf import ElfError
from xbuild.model.load import load_toolchain
from xbuild.model.policy import Policy
from xbuild.twins.closure import closure
from xbuild.twins.pairing import Pairs, Refusal, Twin, candidates, entries, fill, load, pair, save

DATA = Path(__file__).parent / "data"
ARMHF = load_toolchain("armhf", Path(__file__).parents[2])
TRIPLET = ARMHF.triplet
POLICY = Policy.model_validate(
    {
        "schema": 1,
        "name": "test",
        "summary": "for tests",
        "ignored-version-suffixes": [r"\+b[0-9]+", "cross[0-9]+"],
        "never": ["uname"],
        "tools": {
            "coreutils": {"packages": ["coreutils"]},
            "bash": {"packages": ["bash"], "set-env": {"WHERE": "{triplet}"}},
            "gcc": {
                "group": "compilers",
                "files": [r"/usr/bin/{triplet}-gcc-[0-9]+"],
                "set-env": {"WHERE": "{triplet}/{version}/"},
            },
            "cc1": {
                "group": "compilers",
                "native-files": [r"/usr/libexec/gcc-cross/({triplet}/[0-9]+/cc1)"],
                "target-file": r"/usr/libexec/gcc/\1",
                "target-width-args": ["-flto*"],
            },
            "as": {"group": "compilers", "width": "target", "files": ["/usr/bin/{triplet}-as"]},
            "plugin": {"library": True, "files": [r"/usr/lib/plugin\.so"]},
        },
    }
)
GCC, AS, CC1 = f"/usr/bin/{TRIPLET}-gcc-14", f"/usr/bin/{TRIPLET}-as", f"/usr/libexec/gcc/{TRIPLET}/14/cc1"
CROSS_CC1 = f"/usr/libexec/gcc-cross/{TRIPLET}/14/cc1"


def debian(root: Path, packages: dict[str, tuple[str, dict[str, str]]]) -> Tree:
    """A tree: package -> (version, path -> name of a file in data, or `-> link`, or text)."""
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    status = []
    for name, (version, files) in packages.items():
        status.append(f"Package: {name}\nStatus: install ok installed\nArchitecture: x\nVersion: {version}\n")
        (info / f"{name}.list").write_text("/.\n" + "".join(f"{path}\n" for path in files))
        sums = [
            f"{hashlib.md5((DATA / contents).read_bytes()).hexdigest()}  {path.lstrip('/')}\n"
            for path, contents in files.items()
            if (DATA / contents).is_file()
        ]
        (info / f"{name}.md5sums").write_text("".join(sums))
        for path, contents in files.items():
            place = root / merged(path).lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if contents.startswith("-> "):
                place.symlink_to(contents[3:])
            elif (DATA / contents).is_file():
                shutil.copy(DATA / contents, place)
            else:
                place.write_text(contents)
    (root / "var/lib/dpkg/status").write_text("\n".join(status))
    return Tree([root])


def native(root: Path, **versions: str) -> Tree:
    return debian(
        root,
        {
            "coreutils": (
                versions.get("coreutils", "9.7-3"),
                {"/bin/cat": "amd64-static", "/bin/uname": "amd64-static"},
            ),
            "bash": ("5.2-1+b2", {"/bin/bash": "amd64-static", "/bin/sh": "-> bash", "/bin/bashbug": "#!/bin/sh\n"}),
            "gcc-14-cross": (
                versions.get("gcc", "14.2.0-19cross1+b3"),
                {GCC: "amd64-static", CROSS_CC1: "amd64-static"},
            ),
            "binutils-cross": ("2.44-3", {AS: "amd64-static"}),
            "other": ("1", {"/bin/other": "amd64-static"}),
        },
    )


def target(root: Path, **changes: dict[str, str]) -> Tree:
    """The target tree; changes: a package's files, which replace its own."""
    files = {
        "coreutils": {"/usr/bin/cat": "armhf-pie", "/usr/bin/uname": "armhf-pie"},
        "bash": {"/bin/bash": "armhf-pie"},
        "gcc": {GCC: "armhf-pie", CC1: "armhf-pie"},
        "binutils": {AS: "armhf-pie"},
    }
    versions = {"coreutils": "9.7-3", "bash": "5.2-1+b1", "gcc": "14.2.0-19", "binutils": "2.44-3"}
    return debian(root, {name: (versions[name], {**own, **changes.get(name, {})}) for name, own in files.items()})


def both_widths(tmp_path: Path, **versions: str) -> list[Twin]:
    tree = native(tmp_path / "native", **versions)
    return [twin for name in ("amd64", "i386") for twin in candidates(tree, name, POLICY, ARMHF)]


def paths_of(pairs: Pairs) -> set[str]:
    return {entry.path for entry in pairs.entries}


def reasons(pairs: Pairs) -> dict[str, str]:
    return {refused.path: refused.reason for refused in pairs.refused}


def kinds(pairs: Pairs) -> set[Refusal]:
    return {refused.kind for refused in pairs.refused}


def test_candidates(tmp_path: Path) -> None:
    found = candidates(native(tmp_path), "amd64", POLICY, ARMHF)
    # No uname (never), no sh (a link), no bashbug (a script), nothing of packages that are nobody's tool.
    assert {(twin.tool, twin.target_path, twin.source, twin.version) for twin in found} == {
        ("coreutils", "/usr/bin/cat", "/usr/bin/cat", "9.7-3"),
        ("bash", "/usr/bin/bash", "/usr/bin/bash", "5.2-1"),
        ("gcc", GCC, GCC, "14.2.0-19"),
        ("cc1", CC1, CROSS_CC1, "14.2.0-19"),
        ("as", AS, AS, "2.44-3"),
    }
    assert {twin.program for twin in found if twin.tool == "cc1"} == {f"/.xbuild/amd64{CC1}"}
    assert found == candidates(native(tmp_path / "again"), "amd64", POLICY, ARMHF)


def test_pairs(tmp_path: Path) -> None:
    tree = target(tmp_path / "target")
    pairs = pair(both_widths(tmp_path), tree, POLICY, ARMHF)
    assert paths_of(pairs) == {"/usr/bin/cat", "/usr/bin/bash", GCC, CC1, AS}
    assert pairs.refused == ()
    cat = next(entry for entry in pairs.entries if entry.path == "/usr/bin/cat")
    state = (tmp_path / "target/usr/bin/cat").stat()
    assert (cat.size, cat.ctime[0] * 10**9 + cat.ctime[1]) == (state.st_size, state.st_ctime_ns)
    assert [twin.target_path for twin in pairs.twins] == [entry.path for entry in pairs.entries]


def test_widths(tmp_path: Path) -> None:
    twins = both_widths(tmp_path)
    chosen = {path: entry for path, (_, entry) in entries(twins, POLICY, ARMHF).items()}
    assert chosen["/usr/bin/cat"].program == "/.xbuild/amd64/usr/bin/cat"
    assert chosen[AS].program == f"/.xbuild/i386{AS}"
    assert chosen[CC1].program == f"/.xbuild/amd64{CC1}"
    assert chosen[CC1].other == f"/.xbuild/i386{CC1}"
    assert chosen[CC1].rules.target_width_args == ("-flto*",)
    assert chosen["/usr/bin/cat"].other is None
    # A 64-bit target has what it needs in the one width.
    arm64 = load_toolchain("arm64", Path(__file__).parents[2])
    plain = entries([twin for twin in twins if twin.architecture == "amd64"], POLICY, arm64)
    assert plain[AS][1].program == f"/.xbuild/amd64{AS}"
    assert plain[CC1][1].other is None


def test_rules(tmp_path: Path) -> None:
    chosen = entries(both_widths(tmp_path), POLICY, ARMHF)
    assert chosen["/usr/bin/bash"][1].rules.set_env == {"WHERE": TRIPLET}
    assert chosen[GCC][1].rules.set_env == {"WHERE": f"{TRIPLET}/14/"}


def test_another_version_is_no_twin(tmp_path: Path) -> None:
    pairs = pair(both_widths(tmp_path, coreutils="9.8-1"), target(tmp_path / "target"), POLICY, ARMHF)
    assert reasons(pairs) == {
        "/usr/bin/cat": "coreutils is 9.7-3 in the target root, coreutils 9.8-1 in the native root"
    }
    assert paths_of(pairs) == {"/usr/bin/bash", GCC, CC1, AS}


def test_a_group_is_substituted_whole_or_not_at_all(tmp_path: Path) -> None:
    pairs = pair(both_widths(tmp_path, gcc="14.3.0-1cross1"), target(tmp_path / "target"), POLICY, ARMHF)
    assert paths_of(pairs) == {"/usr/bin/cat", "/usr/bin/bash"}
    assert set(reasons(pairs)) == {GCC, CC1, AS}
    assert "its group compilers is not substituted" in reasons(pairs)[AS]
    assert "gcc is 14.2.0-19 in the target root" in reasons(pairs)[AS]
    assert kinds(pairs) == {Refusal.VERSION}


def test_a_group_of_which_a_tool_is_not_there_natively(tmp_path: Path) -> None:
    """As for a target without a cross compiler, whose collect2 would be the native compiler's own."""
    known = [twin for twin in both_widths(tmp_path) if twin.tool != "gcc"]
    pairs = pair(known, target(tmp_path / "target"), POLICY, ARMHF)
    assert paths_of(pairs) == {"/usr/bin/cat", "/usr/bin/bash"}
    assert "there is no native gcc" in reasons(pairs)[AS]
    assert kinds(pairs) == {Refusal.ABSENT}
    assert not Refusal.ABSENT.by_roots


@pytest.mark.parametrize(
    ("removed", "lost"),
    [
        ("coreutils", {"/usr/bin/cat"}),
        ("cat", {"/usr/bin/cat"}),
        ("compilers", {GCC, CC1, AS}),
        ("as", {GCC, CC1, AS}),
        ("cc1", {GCC, CC1, AS}),
    ],
)
def test_a_recipe_takes_away(tmp_path: Path, removed: str, lost: set[str]) -> None:
    tree = target(tmp_path / "target")
    pairs = pair(both_widths(tmp_path), tree, POLICY, ARMHF, removed=frozenset({removed}))
    assert set(reasons(pairs)) == lost
    assert paths_of(pairs) == {"/usr/bin/cat", "/usr/bin/bash", GCC, CC1, AS} - lost
    assert "taken away by the recipe" in " ".join(reasons(pairs).values())
    assert kinds(pairs) == {Refusal.REMOVED}


def test_what_is_switched_off_takes_its_group_along(tmp_path: Path) -> None:
    tree = target(tmp_path / "target")
    pairs = pair(both_widths(tmp_path), tree, POLICY, ARMHF, without=frozenset({GCC}))
    assert set(reasons(pairs)) == {GCC, CC1, AS}
    assert kinds(pairs) == {Refusal.SWITCHED_OFF}


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ("-> other", "it is no ELF file in the target root"),
        ("#!/bin/sh\n", "it is no ELF file in the target root"),
        ("arm64-static", "it is AARCH64, 64 bits"),
        ("amd64-static", "it is X86_64, 64 bits"),
    ],
)
def test_what_is_no_program_of_the_target(tmp_path: Path, contents: str, reason: str) -> None:
    tree = target(tmp_path / "target", coreutils={"/usr/bin/cat": contents, "/usr/bin/other": "armhf-pie"})
    pairs = pair(both_widths(tmp_path), tree, POLICY, ARMHF)
    assert (reasons(pairs), kinds(pairs)) == ({"/usr/bin/cat": reason}, {Refusal.UNFIT})


def test_files_of_no_package_and_missing_ones_are_nothing(tmp_path: Path) -> None:
    tree = target(tmp_path / "target")
    (tmp_path / "target/var/lib/dpkg/info/bash.list").write_text("/.\n")
    (tmp_path / "target/usr/bin/cat").unlink()
    pairs = pair(both_widths(tmp_path), tree, POLICY, ARMHF)
    assert paths_of(pairs) == {GCC, CC1, AS}
    assert pairs.refused == ()


def test_a_layer_that_has_another_version(tmp_path: Path) -> None:
    base = target(tmp_path / "base")
    layer = debian(tmp_path / "layer", {"coreutils": ("9.9-1", {"/usr/bin/cat": "armhf-pie"})})
    status = (tmp_path / "base/var/lib/dpkg/status").read_text().replace("Version: 9.7-3", "Version: 9.9-1")
    (tmp_path / "layer/var/lib/dpkg/status").write_text(status)
    pairs = pair(both_widths(tmp_path), Tree([*layer.layers, *base.layers]), POLICY, ARMHF)
    assert "coreutils is 9.9-1 in the target root" in reasons(pairs)["/usr/bin/cat"]


def test_a_library_of_a_twin_has_no_entry_of_its_own() -> None:
    plugin = Twin("plugin", "/usr/lib/plugin.so", "i386", "gcc", "1", "/usr/lib/plugin.so")
    assert entries([plugin], POLICY, ARMHF) == {}


def test_a_group_that_lacks_a_library(tmp_path: Path) -> None:
    """Its programs would be there, but answer by the native library."""
    changed = POLICY.tools["plugin"].model_copy(update={"group": "compilers"})
    policy = POLICY.model_copy(update={"tools": {**POLICY.tools, "plugin": changed}})
    pairs = pair(both_widths(tmp_path), target(tmp_path / "target"), policy, ARMHF)
    assert GCC not in paths_of(pairs)
    assert "there is no native plugin" in reasons(pairs)[GCC]


def test_save_and_load(tmp_path: Path) -> None:
    twins = both_widths(tmp_path)
    save(twins, tmp_path / "twins.json")
    assert load(tmp_path / "twins.json") == twins


@pytest.mark.parametrize(
    ("path", "version"),
    [(GCC, "14"), (CROSS_CC1, "14"), ("/usr/bin/x86-64-gcc-9", "9"), ("/usr/bin/sed", "")],
)
def test_fill(path: str, version: str) -> None:
    assert fill("a {triplet} b {version}", ARMHF, path) == f"a {TRIPLET} b {version}"


def libraries(root: Path, folder: str) -> Tree:
    files = {
        "/usr/bin/program": "armhf-pie",
        "/usr/lib/ld-linux-armhf.so.3": "armhf-static-pie",
        f"{folder}/libhalf.so.1": "-> real/libhalf.so.1.2",
        f"{folder}/real/libhalf.so.1.2": "libhalf.so.1",
    }
    return debian(root, {"program": ("1", files)})


def test_closure(tmp_path: Path) -> None:
    tree = libraries(tmp_path, f"/usr/lib/{TRIPLET}")
    (tmp_path / "lib").symlink_to("usr/lib")
    assert closure(tree, "/usr/bin/program", TRIPLET) == {
        "libhalf.so.1": f"/usr/lib/{TRIPLET}/real/libhalf.so.1.2",
        "ld-linux-armhf.so.3": "/usr/lib/ld-linux-armhf.so.3",
    }


def test_closure_tells_what_is_missing(tmp_path: Path) -> None:
    tree = libraries(tmp_path, "/usr/lib/elsewhere")
    (tmp_path / "lib").symlink_to("usr/lib")
    with pytest.raises(ElfError, match=r"/usr/bin/program needs libhalf\.so\.1, which the native root does not have"):
        closure(tree, "/usr/bin/program", TRIPLET)
