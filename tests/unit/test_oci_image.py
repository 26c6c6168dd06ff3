"""Container images, written from a few files and read back as the OCI's image specification tells."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from xbuild.base.errors import UsageError
from xbuild.export import CONFIG, Export, Wish, layer_compression
from xbuild.export.image import Compression, Layout, add_file
from xbuild.export.trees import check_sources, epoch_of
from xbuild.formats.debian import Tree
from xbuild.model.toolchain import Platform

EPOCH = 1_700_000_000
ARM = Platform(architecture="arm", variant="v7")


def archive_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            add_file(tar, name, data, EPOCH)
    return path


def made(place: Path, compression: Compression = "gzip") -> Layout:
    """The layout of an image with two layers."""
    layout = Layout(place / "image")
    archives = [archive_of(place / name, {f"etc/{name}": name.encode() * 1000}) for name in ("lower", "upper")]
    layers = [layout.add_layer(archive, compression, f"made {archive.name}") for archive in archives]
    layout.finish(layers, ARM, CONFIG, "localhost/x:1", EPOCH)
    return layout


def blob(layout: Layout, descriptor: dict[str, Any]) -> bytes:
    """The contents that a descriptor names, which must be as it says."""
    algorithm, _, digest = descriptor["digest"].partition(":")
    data: bytes = (layout.path / "blobs" / algorithm / digest).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    assert len(data) == descriptor["size"]
    return data


def read(layout: Layout) -> tuple[Any, Any, Any]:
    """Index, manifest, configuration."""
    assert json.loads((layout.path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout.path / "index.json").read_text())
    manifest = json.loads(blob(layout, index["manifests"][0]))
    return index, manifest, json.loads(blob(layout, manifest["config"]))


def unpacked(data: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.decompress(data)
    return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_every_digest_is_right(tmp_path: Path, compression: Compression) -> None:
    layout = made(tmp_path, compression)
    index, manifest, config = read(layout)
    assert index["manifests"][0]["platform"] == {"os": "linux", "architecture": "arm", "variant": "v7"}
    for descriptor, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        assert descriptor["mediaType"] == f"application/vnd.oci.image.layer.v1.tar+{compression}"
        data = unpacked(blob(layout, descriptor), compression)
        assert diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    named = {item["digest"].partition(":")[2] for item in (index["manifests"][0], manifest["config"])}
    named |= {item["digest"].partition(":")[2] for item in manifest["layers"]}
    assert {path.name for path in (layout.path / "blobs/sha256").iterdir()} == named


def test_the_configuration_starts_commands_by_the_entry_program(tmp_path: Path) -> None:
    config = read(made(tmp_path))[2]
    assert (config["architecture"], config["variant"], config["os"]) == ("arm", "v7", "linux")
    assert config["created"] == "2023-11-14T22:13:20Z"
    assert config["config"]["Entrypoint"] == ["/.xbuild/enter"]
    assert config["config"]["Shell"] == ["/.xbuild/enter", "/bin/sh", "-c"]
    assert [entry["created_by"] for entry in config["history"]] == ["made lower", "made upper"]


def test_a_platform_without_variants(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "image")
    layout.finish([], Platform(architecture="riscv64"), {}, "a/b:c", EPOCH)
    assert "variant" not in read(layout)[2]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_the_same_bytes_twice(tmp_path: Path, compression: Compression) -> None:
    archives = []
    for name in ("a", "b"):
        place = tmp_path / name
        place.mkdir()
        made(place, compression).archive(place / "tar", EPOCH)
        os.utime(place / "image", (1, 1))
        archives.append((place / "tar").read_bytes())
    assert archives[0] == archives[1]


def test_the_archive_is_also_dockers(tmp_path: Path) -> None:
    layout = made(tmp_path)
    layout.archive(tmp_path / "tar", EPOCH)
    _, manifest, _ = read(layout)
    with tarfile.open(tmp_path / "tar") as tar:
        names = tar.getnames()
        stream = tar.extractfile("manifest.json")
        assert stream is not None
        (told,) = json.load(stream)
        assert {(member.uid, member.gid, member.uname, member.mtime) for member in tar} == {(0, 0, "", EPOCH)}
    assert told["RepoTags"] == ["localhost/x:1"]
    assert told["Config"] == "blobs/sha256/" + manifest["config"]["digest"].partition(":")[2]
    assert {told["Config"], *told["Layers"], "oci-layout", "index.json"} <= set(names)


def test_a_second_name_of_a_file_is_a_file_of_its_own(tmp_path: Path) -> None:
    """Twins share files in the store, of which only some may go into the image."""
    (tmp_path / "one").write_bytes(b"contents")
    os.link(tmp_path / "one", tmp_path / "two")
    with tarfile.open(tmp_path / "tar", "w") as tar:
        for name in ("one", "two"):
            add_file(tar, name, tmp_path / name, EPOCH)
    with tarfile.open(tmp_path / "tar") as tar:
        for name in ("one", "two"):
            stream = tar.extractfile(name)
            assert stream is not None
            assert stream.read() == b"contents"
            assert tar.getmember(name).isreg()


def test_the_time_is_that_of_the_newest_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    for name, time in (("old", 1000), ("new", 2000)):
        log = tmp_path / "usr/share/doc" / name / "changelog.Debian.gz"
        log.parent.mkdir(parents=True)
        log.touch()
        os.utime(log, (time, time))
    assert epoch_of(Tree([tmp_path])) == 2000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "17")
    assert epoch_of(Tree([tmp_path])) == 17
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError, match="yesterday"):
        epoch_of(Tree([tmp_path]))


def test_a_password_does_not_go_into_an_image(tmp_path: Path) -> None:
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text("deb http://mirror.example/debian trixie main # a@b\n")
    check_sources(Tree([tmp_path]))
    (folder / "x.sources").write_text("URIs: https://me:secret@mirror.example/debian\n")
    with pytest.raises(UsageError, match="password"):
        check_sources(Tree([tmp_path]))


@pytest.mark.parametrize(("name", "compression"), [("a.tar", None), ("a.tar.gz", "gzip"), ("a.tar.zst", "zstd")])
def test_how_a_layer_is_compressed(name: str, compression: str | None) -> None:
    assert layer_compression(Path(name)) == compression


def test_a_layer_of_another_kind() -> None:
    with pytest.raises(UsageError, match=r"layer\.zip"):
        layer_compression(Path("layer.zip"))


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBUILD_PROJECT", str(Path(__file__).parents[2]))
    assert Export(Wish("armhf")).name == "localhost/xbuild-armhf:trixie"
    assert Export(Wish("arm64", suite="sid", layer=True)).name == "localhost/xbuild-layer-arm64:sid"
    assert Export(Wish("arm64", name="registry:5000/mine")).name == "registry:5000/mine:latest"
    with pytest.raises(UsageError, match="amd64"):
        Export(Wish("amd64"))


def test_what_is_there_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBUILD_PROJECT", str(Path(__file__).parents[2]))
    monkeypatch.setenv("XBUILD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "mine").touch()
    with pytest.raises(UsageError, match="there already"):
        Export(Wish("armhf")).to_layout(tmp_path / "image")
    with pytest.raises(UsageError, match="no directory"):
        Export(Wish("armhf")).to_archive(tmp_path / "nowhere" / "image.tar")
    assert not (tmp_path / "cache").exists()
