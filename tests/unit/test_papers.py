"""What is written about a build for others: valid by their own validators, complete, and the same each time."""

from __future__ import annotations

import copy
import hashlib
import json
import tarfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from xbuild.build import papers
from xbuild.build.papers.inputs import origins, packages
from xbuild.build.papers.spdx import File, files_of

DATA = Path(__file__).parent / "data"
DIGEST = "ab" * 32
TOLD: dict[str, Any] = {
    "name": "hello",
    "version": "1.2",
    "license": "MIT OR Apache-2.0",
    "target": "armhf",
    "suite": "trixie",
    "mode": "substituted",
    "key": "cd" * 32,
    "source-date-epoch": 1_700_000_000,
    "artifact": {"file": "hello-1.2-armhf.tar.zst", "bytes": 7, "sha256": DIGEST},
    "sources": [
        {"url": "https://me:secret@example.org/hello-1.2.tar.gz", "sha256": "01" * 32},
        {"git": "https://example.org/part.git", "commit": "a" * 40, "sha256": "02" * 32},
        {"git": "git@example.org:other.git", "commit": "b" * 40, "sha256": "03" * 32},
        {"pypi": "Part", "version": "3", "file": "part-3.tar.gz", "sha256": "04" * 32},
        {"distribution": {"package": "hello+", "file": "hello_1.orig.tar.gz"}, "sha256": "05" * 32},
        {"path": "/home/me/secret", "sha256": "06" * 32, "tree": True, "in-git": {"commit": "c" * 40, "dirty": True}},
        {"path": "/home/me/file", "sha256": "07" * 32},
    ],
    "inputs": {
        "target root": {"libstdc++6": f"1:14.2-1+b1 armhf {DIGEST}", "libhalf1": f"2 armhf {DIGEST}"},
        "native root amd64": {"gcc": f"4:14 amd64 {DIGEST}"},
        "policy": DIGEST,
        "makers": DIGEST,
        "twins": {"remove": []},
    },
    "libraries": {"libhalf.so.1": "libhalf1", "libc.so.6": "gone"},
    "recipes": [{"name": "zlib", "version": "1.3.1", "sha256": "09" * 32, "replaces": {}}],
}


@pytest.fixture
def files(tmp_path: Path) -> list[File]:
    """Those of an archive: ELF files, a text, links, names that are hostile."""
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(DATA, "usr", filter=lambda member: member if member.isdir() else None)
        for name in ("armhf-pie", "README.md", "armhf-static"):
            tar.add(DATA / name, f"usr/{name}")
        tar.add(DATA / "README.md", "usr/odd\n\udc80name")
        hard = tarfile.TarInfo("usr/zz")
        hard.type, hard.linkname = tarfile.LNKTYPE, "usr/armhf-pie"
        tar.addfile(hard)
    return files_of(tmp_path / "x.tar")


def test_the_files(files: list[File]) -> None:
    assert [file.name for file in files] == [
        "usr/armhf-pie", "usr/README.md", "usr/armhf-static", "usr/odd\\n\\udc80name", "usr/zz",
    ]  # fmt: skip
    assert [file.elf for file in files] == [True, False, True, False, True]
    assert "libhalf.so.1" in files[0].needed
    data = (DATA / "armhf-pie").read_bytes()
    assert files[0].sha256 == files[4].sha256 == hashlib.sha256(data).hexdigest()
    assert files[0].sha1 == hashlib.sha1(data).hexdigest()


def test_spdx_is_valid(files: list[File], tmp_path: Path) -> None:
    """By the SPDX project's own validator, which knows more than the schema."""
    pytest.importorskip("spdx_tools.spdx.parser.parse_anything", reason="needs spdx-tools")
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    def faults(value: Mapping[str, Any]) -> list[str]:
        file = tmp_path / "hello.spdx.json"
        file.write_text(json.dumps(value))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [message.validation_message for message in validate_full_spdx_document(parse_file(str(file)))]

    value = papers.sbom(TOLD, files)
    assert faults(value) == []
    worse = copy.deepcopy(value)
    worse["packages"][0]["SPDXID"] = "SPDXRef-a_b"
    assert faults(worse) != []


def test_what_went_into_it(files: list[File]) -> None:
    value = papers.sbom(TOLD, files)
    assert value["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    assert papers.sbom(copy.deepcopy(TOLD), list(files)) == value
    text = json.dumps(value)
    assert "secret" not in text
    named = {one["SPDXID"]: one.get("name", one.get("fileName")) for one in (*value["packages"], *value["files"])}
    said = {
        (named.get(one["spdxElementId"], ""), one["relationshipType"], named.get(one["relatedSpdxElement"]))
        for one in value["relationships"]
    }
    assert {
        ("", "DESCRIBES", "hello"),
        ("hello", "CONTAINS", "./usr/armhf-pie"),
        ("hello", "GENERATED_FROM", "hello-1.2.tar.gz"),
        ("libstdc++6", "BUILD_DEPENDENCY_OF", "hello"),
        ("gcc", "BUILD_TOOL_OF", "hello"),
        ("zlib", "BUILD_DEPENDENCY_OF", "hello"),
        ("./usr/armhf-pie", "DYNAMIC_LINK", "libhalf1"),
        ("./usr/zz", "DYNAMIC_LINK", "libhalf1"),
        ("libhalf1", "RUNTIME_DEPENDENCY_OF", "hello"),
    } <= said
    assert ("libstdc++6", "RUNTIME_DEPENDENCY_OF", "hello") not in said
    sources = [one for one in value["packages"] if one.get("primaryPackagePurpose") == "SOURCE"]
    assert [one["downloadLocation"] for one in sources] == [
        "https://example.org/hello-1.2.tar.gz", f"git+https://example.org/part.git@{'a' * 40}",
        *["NOASSERTION"] * 5,
    ]  # fmt: skip
    assert sources[5]["sourceInfo"] == f"digest of the tree: {'06' * 32}; commit {'c' * 40}, changed"
    assert "checksums" not in sources[5]
    assert sources[6]["checksums"] == [{"algorithm": "SHA256", "checksumValue": "07" * 32}]


def test_package_urls() -> None:
    purls = [package.purl for package in packages(TOLD)]
    assert purls == [
        "pkg:deb/debian/libhalf1@2?arch=armhf&distro=trixie",
        "pkg:deb/debian/libstdc%2B%2B6@1%3A14.2-1%2Bb1?arch=armhf&distro=trixie",
        "pkg:deb/debian/gcc@4%3A14?arch=amd64&distro=trixie",
    ]
    assert [origin.purl for origin in origins(TOLD)][3:5] == [
        "pkg:pypi/part@3", "pkg:deb/debian/hello%2B?arch=source",
    ]  # fmt: skip
    imported = {**TOLD, "root": {"distribution": "raspbian", "suite": None}}
    assert next(packages(imported)).purl == "pkg:deb/raspbian/libhalf1@2?arch=armhf"


def test_a_library_of_its_own_is_a_file(files: list[File]) -> None:
    own = File("usr/lib/libhalf.so.1.0", "0" * 40, "0" * 64, True, (), "libhalf.so.1")
    value = papers.sbom(TOLD, [*files, own])
    linked = [one for one in value["relationships"] if one["relationshipType"] == "DYNAMIC_LINK"]
    assert {one["relatedSpdxElement"] for one in linked} == {f"SPDXRef-File-{len(files) + 1}"}


def _validated(value: Mapping[str, Any]) -> None:
    pytest.importorskip("in_toto_attestation.v1.statement", reason="needs in-toto-attestation")
    from google.protobuf.json_format import ParseDict
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message

    message = ParseDict(dict(value), Message())
    Statement.copy_from_pb(message).validate()
    # What is no field of SLSA's provenance is an error.
    ParseDict(value["predicate"], provenance_pb2.Provenance())


@pytest.mark.parametrize("change", [dict, lambda: {"debug": {"file": "d", "sha256": DIGEST}, "strip": True}])
def test_provenance_is_valid(change: Callable[[], dict[str, Any]]) -> None:
    """By in-toto's own library, and the message of SLSA's predicate."""
    told = {**TOLD, **change()}
    value = papers.provenance(told)
    _validated(value)
    assert len(value["subject"]) == 1 + ("debug" in told)
    assert value["predicate"]["buildDefinition"]["externalParameters"]["strip"] == told.get("strip", False)
    with pytest.raises(Exception, match="Predicate type"):
        _validated({**value, "predicateType": ""})


def test_where_it_came_from() -> None:
    value = papers.provenance(TOLD)
    found = value["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert found[0] == {
        "name": "hello-1.2.tar.gz", "uri": "https://example.org/hello-1.2.tar.gz", "digest": {"sha256": "01" * 32},
    }  # fmt: skip
    assert found[1]["digest"] == {"xbuildTree": "02" * 32, "gitCommit": "a" * 40}
    # What was changed is not that commit.
    assert found[5]["digest"] == {"xbuildTree": "06" * 32}
    assert found[5]["annotations"] == {"commit": "c" * 40, "dirty": True}
    assert found[7] == {"name": "zlib 1.3.1", "digest": {"sha256": "09" * 32}}
    assert found[8] == {
        "name": "libhalf1", "uri": "pkg:deb/debian/libhalf1@2?arch=armhf&distro=trixie", "digest": {"sha256": DIGEST},
    }  # fmt: skip
    assert "secret" not in json.dumps(value)
    packed = {**TOLD, "artifact": {"file": "hello", "form": "dir", "sha256": "", "packed": TOLD["artifact"]}}
    assert papers.provenance(packed)["subject"] == value["subject"]
