"""Native tools for programs of another package version, in roots that the user brought."""

from __future__ import annotations

import base64
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.test_twins import AS, CC1, GCC, POLICY, both_widths, debian, target
from xbuild.base import paths
from xbuild.base.yamlfile import load_model
from xbuild.formats.debian import Tree
from xbuild.model.load import load_toolchain
from xbuild.model.policy import Policy, upstream
from xbuild.roots.imported.tree import ForeignTree
from xbuild.twins.pairing import Pairs, Refusal, Twin, pair

DATA = Path(__file__).with_name("data")
ARMHF = load_toolchain("armhf", paths.PACKAGE.parent)
RISKY = {"why": "tried", "risk": "messages"}


def policy(*equivalents: dict[str, object]) -> Policy:
    """The tests' policy with these equivalents."""
    return Policy.model_validate(
        {**POLICY.model_dump(by_alias=True), "equivalents": [{**RISKY, **known} for known in equivalents]}
    )


def paired(tmp_path: Path, known: Policy, *, libc: str | None = "glibc", **words: object) -> Pairs:
    """Pairs of a root whose coreutils are one version behind."""
    twins = both_widths(tmp_path, coreutils="9.8-1")
    return pair(twins, target(tmp_path / "target"), known, ARMHF, libc=libc, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("version", "plain"),
    [
        ("1.13-1+deb13u1", "1.13"),
        ("1:1.35+dfsg-3.1", "1.35"),
        ("1.35+dfsg", "1.35"),
        ("5.2.37-2+b5", "5.2.37"),
        ("1.13-r0", "1.13"),
        ("14.2.0-19+rpi1", "14.2.0"),
        ("1.0.8", "1.0.8"),
        ("2.0~ds1-1", "2.0"),
    ],
)
def test_upstream(version: str, plain: str) -> None:
    assert upstream(version) == plain


def test_versions_of_a_list(tmp_path: Path) -> None:
    pairs = paired(tmp_path, policy({"tools": ["coreutils"], "upstream": ["9.7", "9.8"]}))
    assert set(pairs.equivalents) == {"/usr/bin/cat"}
    assert pairs.pairing == "equivalent"
    assert "cat" in pairs.risks[0]
    assert "the risk: messages" in pairs.risks[0]
    # The others have the same version, so nothing is to be said of them.
    assert GCC in {entry.path for entry in pairs.entries}


@pytest.mark.parametrize(
    ("known", "libc"),
    [
        ({"tools": ["coreutils"], "upstream": ["9.7", "9.9"]}, "glibc"),
        ({"tools": ["coreutils"]}, "glibc"),
        ({"tools": ["bash"], "upstream": ["9.7", "9.8"]}, "glibc"),
        ({"tools": ["coreutils"], "upstream": ["9.7", "9.8"]}, "musl"),
        ({"tools": ["coreutils"], "upstream": ["9.7", "9.8"]}, None),
        ({"tools": ["coreutils"], "upstream": ["9.7", "9.8"], "offered": True}, "glibc"),
    ],
)
def test_what_is_not_covered_is_emulated(tmp_path: Path, known: dict[str, object], libc: str | None) -> None:
    pairs = paired(tmp_path, policy(known), libc=libc)
    assert "/usr/bin/cat" in {refused.path for refused in pairs.refused}
    assert not pairs.equivalents


def test_a_musl_root_has_no_exact_pairs(tmp_path: Path) -> None:
    twins = both_widths(tmp_path)
    tree = target(tmp_path / "target")
    assert pair(twins, tree, policy(), ARMHF, libc="musl").pairing == "none"
    pairs = pair(twins, tree, policy({"tools": ["coreutils"], "musl": True}), ARMHF, libc="musl")
    assert [entry.path for entry in pairs.entries] == ["/usr/bin/cat"]
    assert pairs.pairing == "equivalent"


def test_compilers_only_where_asked_for_and_whole(tmp_path: Path) -> None:
    known = policy({"tools": ["compilers"], "offered": True})
    root = tmp_path / "target"
    tree = target(root)
    status = root / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("14.2.0-19", "14.2.0-19+rpi1").replace("2.44-3", "2.44-3+rpi1"))
    twins = both_widths(tmp_path)
    compilers = {GCC, AS, CC1}

    def chosen(twins: list[Twin], added: frozenset[str]) -> Pairs:
        return pair(twins, Tree(tree.layers), known, ARMHF, added=added, libc="glibc")

    not_asked = chosen(twins, frozenset())
    assert not compilers & {entry.path for entry in not_asked.entries}
    assert any("twins: {add: [compilers]}" in refused.reason for refused in not_asked.refused)
    assert {refused.kind for refused in not_asked.refused} == {Refusal.OFFERED}
    asked = chosen(twins, frozenset({"compilers"}))
    assert compilers <= {entry.path for entry in asked.entries}
    assert asked.pairing == "equivalent"
    without = chosen([twin for twin in twins if twin.tool != "cc1"], frozenset({"compilers"}))
    assert not compilers & {entry.path for entry in without.entries}
    assert any("the native root lacks cc1" in refused.reason for refused in without.refused)
    assert {refused.kind for refused in without.refused} == {Refusal.LACKING}


def test_exact_pairs_are_called_so(tmp_path: Path) -> None:
    pairs = pair(both_widths(tmp_path), target(tmp_path / "target"), policy(), ARMHF, libc="glibc")
    assert (pairs.pairing, pairs.risks) == ("exact", [])
    assert replace(pairs, twins=()).pairing == "none"


def test_the_policy_that_is_shipped() -> None:
    known = load_model(paths.POLICIES / "default.yml", Policy)
    assert known.equivalent("gzip", "1.12-1", "1.13-1+deb13u1") is not None
    assert known.equivalent("gzip", "1.12-r0", "1.13-1", musl=True) is not None
    assert known.equivalent("gzip", "1.11-1", "1.13-1") is None
    for tool, older, newer in (("xz", "5.4.1", "5.8.1"), ("zstd", "1.5.4", "1.5.7"), ("tar", "1.34", "1.35")):
        assert known.equivalent(tool, f"{older}-1", f"{newer}-1") is None
        assert known.equivalent(tool, f"{newer}-1", f"{newer}-1ubuntu1") is not None
    # Of a musl root, nothing whose behaviour depends on the C library; no compiler, whatever its version.
    assert {tool for tool in known.tools if known.equivalent(tool, "1-1", "1-1", musl=True)} == {
        "bzip2", "gzip", "xz", "zstd"
    } - {"gzip"}  # fmt: skip
    compiler = known.equivalent("cc1", "14.2.0-19+rpi1", "14.2.0-19")
    assert compiler is not None
    assert compiler.offered
    assert known.equivalent("cc1", "14.3.0-1", "14.2.0-19") is None
    assert known.equivalent("sort", "9.7-1", "9.7-2") is None


def test_unknown_tools_in_equivalents() -> None:
    with pytest.raises(ValueError, match="coreutil, which is no tool"):
        policy({"tools": ["coreutil"]})


APK = """C:Q1
P:gzip
V:1.13-r0
A:armv7
o:gzip
F:bin
R:gzip
a:0:0:755
Z:{checksum}
F:usr/bin
R:zcat

P:musl
V:1.2.5-r0
F:lib
R:ld-musl-armhf.so.1
"""


def test_alpine_packages(tmp_path: Path) -> None:
    for name in ("bin/gzip", "usr/bin/zcat", "lib/ld-musl-armhf.so.1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / "armhf-static", tmp_path / name)
    database = tmp_path / "lib/apk/db/installed"
    database.parent.mkdir(parents=True)
    sha1 = hashlib.sha1((DATA / "armhf-static").read_bytes()).digest()
    database.write_text(APK.format(checksum="Q1" + base64.b64encode(sha1).decode()))
    tree = ForeignTree([tmp_path], "alpine")
    assert {name: known.version for name, known in tree.packages.items()} == {"gzip": "1.13-r0", "musl": "1.2.5-r0"}
    assert tree.owners == {"/bin/gzip": "gzip", "/usr/bin/zcat": "gzip", "/lib/ld-musl-armhf.so.1": "musl"}
    # Its gzip is in /bin, the native one in /usr/bin.
    native = debian(tmp_path / "native", {"gzip": ("1.12-1", {"/bin/gzip": "amd64-static"})})
    shipped = load_model(paths.POLICIES / "default.yml", Policy)
    twin = Twin("gzip", "/usr/bin/gzip", "amd64", "gzip", native.packages["gzip"].version, "/usr/bin/gzip")
    pairs = pair([twin], tree, shipped, ARMHF, libc="musl")
    assert [(entry.path, entry.program) for entry in pairs.entries] == [("/bin/gzip", "/.xbuild/amd64/usr/bin/gzip")]
    # Its owner's own program is none of the package's.
    (tmp_path / "bin/gzip").write_bytes((DATA / "armhf-pie").read_bytes())
    pairs = pair([twin], tree, shipped, ARMHF, libc="musl")
    assert not pairs.entries
    assert [refused.kind for refused in pairs.refused] == [Refusal.CHANGED]


def test_a_root_without_packages(tmp_path: Path) -> None:
    tree = ForeignTree([tmp_path], "other")
    assert (tree.packages, tree.owners) == ({}, {})


def test_a_program_that_is_not_its_package_s(tmp_path: Path) -> None:
    tree = target(tmp_path / "target")
    (tmp_path / "target/usr/bin/cat").write_bytes((DATA / "armhf-static").read_bytes())
    pairs = pair(both_widths(tmp_path), tree, policy(), ARMHF, libc="glibc")
    assert {refused.path for refused in pairs.refused} == {"/usr/bin/cat"}
    assert "/usr/bin/cat" in {entry.path for entry in pair(both_widths(tmp_path / "b"), tree, policy(), ARMHF).entries}
