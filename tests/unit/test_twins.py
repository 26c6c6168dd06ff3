from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xbuild.debian import Tree
from xbuild.model.load import load_toolchain
from xbuild.model.policy import Policy
from xbuild.twins import Pairs, Twin, candidates

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
            "bash": {"packages": ["bash"], "default-env": ["HOSTTYPE"]},
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
            "plugin": {"group": "compilers", "library": True, "files": [r"/usr/lib/plugin\.so"]},
        },
    }
)
GCC, AS, CC1 = f"/usr/bin/{TRIPLET}-gcc-14", f"/usr/bin/{TRIPLET}-as", f"/usr/libexec/gcc/{TRIPLET}/14/cc1"
CROSS_CC1 = f"/usr/libexec/gcc-cross/{TRIPLET}/14/cc1"
SED = "/usr/bin/sed"


def debian(root: Path, packages: dict[str, tuple[str, dict[str, str]]]) -> Tree:
    """A tree: package -> (version, path -> name of a file in data, or `-> link`, or text)."""
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    status = []
    for name, (version, files) in packages.items():
        status.append(f"Package: {name}\nStatus: install ok installed\nArchitecture: x\nVersion: {version}\n")
        (info / f"{name}.list").write_text("/.\n" + "".join(f"{path}\n" for path in files))
        for path, contents in files.items():
            place = root / path.lstrip("/")
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
            "coreutils": (versions.get("coreutils", "9.7-3"), {"/bin/cat": "amd64-static", "/bin/uname": "amd64-static"}),
            "bash": ("5.2-1+b2", {"/bin/bash": "amd64-static", "/bin/sh": "-> bash", "/bin/bashbug": "#!/bin/sh\n"}),
            "gcc-14-cross": (versions.get("gcc", "14.2.0-19cross1+b3"), {GCC: "amd64-static", CROSS_CC1: "amd64-static"}),
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


@pytest.fixture(autouse=True)
def merged_usr(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trees here have no links from /bin to /usr/bin: files are made where they really are."""
    real = Path.mkdir

    def mkdir(path: Path, *arguments: object, **keywords: object) -> None:
        real(path, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", mkdir)
