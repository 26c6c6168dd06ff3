"""A .dsc file and what lies beside it: read, held against its signature and sums, its own debian/ looked into."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.test_packages import ARMHF, CHANGELOG, CONTROL, FIELDS, PROJECT
from xbuild.base.errors import UsageError
from xbuild.formats import deb822
from xbuild.model.load import load_recipe
from xbuild.packages import find
from xbuild.packages.changelog import rebuilt
from xbuild.packages.control import debian_files
from xbuild.packages.find import Where, compared, of_dsc
from xbuild.packages.recipe import Options, recipe_of
from xbuild.packages.signature import verified
from xbuild.roots.distribution import Roots
from xbuild.store.local import Store


def tar_with(members: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def dsc(folder: Path, *, control: str = CONTROL) -> Path:
    """A source package in `folder`: its .dsc."""
    name = "foo_2.0-3.debian.tar.xz"
    data = tar_with({"debian/changelog": CHANGELOG, "debian/control": control})
    (folder / name).write_bytes(data)
    sums = f"\n {hashlib.sha256(data).hexdigest()} {len(data)} {name}"
    fields = {"Format": "3.0 (quilt)", **FIELDS, "Checksums-Sha256": sums}
    file = folder / "foo_2.0-3.dsc"
    file.write_text("".join(f"{key}: {value.rstrip()}\n" for key, value in fields.items()))
    return file


@pytest.fixture
def place(tmp_path: Path) -> Where:
    store = Store(tmp_path / "store")
    return Where(store, ARMHF, Roots(store, ARMHF, None))


def test_a_dsc_is_verified_and_its_files_are_in_the_store(tmp_path: Path, place: Where) -> None:
    file = dsc(tmp_path)
    package = find(str(file), place)
    assert (package.name, package.version, package.file_version) == ("foo", "1:2.0-3", "2.0-3")
    assert package.checked == "signature not checked: it has none"
    assert (package.control, package.changelog) == (CONTROL, CHANGELOG)
    assert [part.name for part in package.files] == [file.name, "foo_2.0-3.debian.tar.xz"]
    downloads = {path.name for path in (place.store.root / "downloads").iterdir()}
    assert downloads == {f"sha256-{part.sha256}" for part in package.files}
    recipe = load_recipe(str(recipe_of(package, Options(), place.store)), ARMHF, PROJECT)
    assert [source.url for source in recipe.sources] == [(tmp_path / part.name).as_uri() for part in package.files]


def test_files_beside_a_dsc_must_be_what_it_names(tmp_path: Path, place: Where) -> None:
    file = dsc(tmp_path)
    other = tmp_path / "foo_2.0-3.debian.tar.xz"
    other.write_bytes(other.read_bytes() + b"x")
    with pytest.raises(UsageError, match="files have not the sha256 that it names") as caught:
        find(str(file), place)
    assert caught.value.details == (other.name,)
    other.unlink()
    with pytest.raises(UsageError, match="files that it names are not beside it"):
        find(str(file), place)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", ".hidden", "a/b", "a b"])
def test_a_dsc_names_files_beside_it_only(tmp_path: Path, place: Where, name: str) -> None:
    file = dsc(tmp_path)
    file.write_text(file.read_text().replace("foo_2.0-3.debian.tar.xz", name))
    with pytest.raises(UsageError, match="Checksums-Sha256 has a line that names no file"):
        find(str(file), place)


@pytest.mark.parametrize("text", ["", "x", "Source: foo\n", "\0", "-----BEGIN PGP SIGNED MESSAGE-----\n\nSource: a\n"])
def test_what_is_no_dsc(tmp_path: Path, place: Where, text: str) -> None:
    file = tmp_path / "x.dsc"
    file.write_text(text)
    with pytest.raises(UsageError):
        find(str(file), place)


@pytest.mark.parametrize("word", ["none.dsc", "a b", "", "foo/bar"])
def test_words_that_name_nothing(place: Where, word: str) -> None:
    with pytest.raises(UsageError):
        find(word, place)


GPG = pytest.mark.skipif(not shutil.which("gpg") or not shutil.which("gpgv"), reason="gpg and gpgv are not there")


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path]:
    """A signed .dsc, and the keyring of who signed it."""
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-gen-key", "A Person <person@a.example>", "ed25519"], check=True)
    keyring = tmp_path / "keyring.gpg"
    keyring.write_bytes(subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout)
    file = dsc(tmp_path)
    text = subprocess.run([*gpg, "--clearsign", "--output", "-", str(file)], check=True, capture_output=True).stdout
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    file.write_bytes(text)
    return file, keyring


@GPG
def test_signatures(tmp_path: Path, signed: tuple[Path, Path]) -> None:
    file, keyring = signed
    good = verified(file, [keyring])
    assert good.checked == "signed by A Person <person@a.example>"
    assert deb822.paragraph(good.text)["Source"] == "foo"
    assert verified(file, []).checked == "signature not checked: the package debian-keyring is not installed here"
    (empty := tmp_path / "empty.gpg").touch()
    assert "is in no keyring of the distribution here" in verified(file, [empty]).checked
    file.write_text(file.read_text().replace("1:2.0-3", "1:2.0-4"))
    with pytest.raises(UsageError, match="its signature is wrong: the file is not what was signed"):
        verified(file, [keyring])


@GPG
def test_only_what_is_signed_counts(signed: tuple[Path, Path], place: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    file, keyring = signed
    monkeypatch.setattr("xbuild.packages.signature.keyrings", lambda: [keyring])
    file.write_text(file.read_text() + "\nBuild-Depends: evil\n")
    package = of_dsc(str(file), place)
    assert package is not None
    assert "evil" not in package.fields["Build-Depends"]


def test_files_of_debian_in_each_format(tmp_path: Path) -> None:
    native = tmp_path / "foo_2.tar.xz"
    native.write_bytes(tar_with({"foo-2/a": "x", "foo-2/debian/control": "A: 1\n", "foo-2/debian/changelog": "c\n"}))
    assert debian_files({native.name: native}) == {"control": "A: 1\n", "changelog": "c\n"}
    original = tmp_path / "foo_2.orig.tar.xz"
    original.write_bytes(tar_with({"foo-2/debian/control": "Old: 1\n"}))
    diff = tmp_path / "foo_2-1.diff.gz"
    lines = ["--- foo-2.orig/debian/changelog", "+++ foo-2/debian/changelog", "@@ -0,0 +1,2 @@", "+c", "+d",
             "--- foo-2.orig/debian/control", "+++ foo-2/debian/control", "@@ -0,0 +1 @@", "+New: 1"]  # fmt: skip
    diff.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    files = {file.name: file for file in (original, diff)}
    assert debian_files(files) == {"control": "New: 1\n", "changelog": "c\nd\n"}
    diff.write_bytes(gzip.compress("\n".join([*lines[:5], *lines[5:8], "-Old: 1", "+New: 1"]).encode() + b"\n"))
    assert debian_files(files) == {"control": "Old: 1\n", "changelog": "c\nd\n"}
    assert debian_files({"foo_2.tar.xz": diff}) == {}


def test_rebuilds() -> None:
    entry = rebuilt(CHANGELOG, "2: Rebuild with  libbar2", "armhf")
    lines = entry.splitlines()
    assert lines[0] == "foo (1:2.0-3+b2) unstable; urgency=low, binary-only=yes"
    assert "  * Rebuild with libbar2" in lines
    assert lines[-1] == " -- A Person <person@a.example>  Fri, 05 Jul 2024 10:00:00 +0200"
    assert rebuilt("", f"\n{entry}\n", "armhf") == entry
    for odd in ("x", "0", "", "-1", "1 2"):
        with pytest.raises(UsageError, match="is no rebuild"):
            rebuilt(CHANGELOG, odd, "armhf")


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is not there")
def test_versions() -> None:
    assert [compared("1:1", "2"), compared("1~rc1", "1"), compared("1", "1"), compared("1.0", "1.00")] == [1, -1, 0, 0]
