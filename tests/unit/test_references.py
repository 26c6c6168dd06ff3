"""What packages are held against: .buildinfo files, and what the index of an archive has of a source."""

from __future__ import annotations

from pathlib import Path

import pytest

from xbuild.base.errors import UsageError
from xbuild.proof.reproduce.archive import from_source, of_source, read_buildinfo, udebs_of_source
from xbuild.proof.reproduce.run import Wanted, ask
from xbuild.roots import index
from xbuild.roots.index import Archive
from xbuild.store.local import Store


def test_a_buildinfo(tmp_path: Path) -> None:
    text_ = """-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Format: 1.0
Source: tools (1.0-2)
Binary: tool
Architecture: armhf
Version: 1.0-2+b1
Checksums-Sha256:
 aa 10 tool_1.0-2+b1_armhf.deb
Build-Path: /build/x
Installed-Build-Depends:
 binutils (= 2.43-1),
 gcc-14:armhf (= 14.2.0-17)
Environment:
 DEB_BUILD_OPTIONS="parallel=4 nocheck"
 LANG="C.UTF-8"
-----BEGIN PGP SIGNATURE-----
"""
    file = tmp_path / "a.buildinfo"
    file.write_text(text_)
    found = read_buildinfo(file)
    assert (found.source, found.version) == ("tools", "1.0-2")
    assert (found.architecture, found.directory) == (("armhf",), "/build/x")
    assert found.sums == {"tool_1.0-2+b1_armhf.deb": "aa"}
    assert found.built_with == {"binutils": "2.43-1", "gcc-14": "14.2.0-17"}
    assert (found.environment or {})["DEB_BUILD_OPTIONS"] == "parallel=4 nocheck"
    assert (found.kind, found.changes) == ("any", "")
    entry = "tools (1.0-2+b1) sid; urgency=low, binary-only=yes\n\n  * Rebuild.\n\n -- A <a@b.example>  Fri"
    field = "".join(f"\n {line or '.'}" for line in entry.splitlines())
    unsigned = text_.partition("\n\n")[2].partition("-----")[0]
    file.write_text(unsigned.replace("Architecture: armhf", "Architecture: all") + f"Binary-Only-Changes:{field}\n")
    found = read_buildinfo(file)
    assert (found.kind, found.changes) == ("all", entry)
    for text_ in ("Format: 3.0\n", "nonsense", "-----BEGIN PGP SIGNED MESSAGE-----\n\nFormat: 1.0\n"):
        file.write_text(text_)
        with pytest.raises(UsageError, match=r"no \.buildinfo file"):
            read_buildinfo(file)


@pytest.mark.parametrize(
    ("path", "directory"), [("/build/a/b-1", "/build/a/b-1"), ("/home/me/b-1", None), ("/build/b-1", None), ("", None)]
)
def test_where_a_buildinfo_was_built(tmp_path: Path, path: str, directory: str | None) -> None:
    file = tmp_path / "b_1_armhf.buildinfo"
    line = f"Build-Path: {path}\n" if path else ""
    file.write_text(f"Format: 1.0\nSource: b\nVersion: 1\nArchitecture: armhf all\n{line}")
    question = ask(Wanted(str(file), "", "substituted"))
    assert (question.options.directory, question.options.build, question.target) == (directory, "both", "armhf")
    told = [f"b_1_armhf.buildinfo was built in {path}, which cannot be had here: paths in it may differ"]
    assert list(question.notes) == (told if path and directory is None else [])


def test_an_index_by_source(tmp_path: Path) -> None:
    stanzas = [
        f"Package: {name}\n{source}Version: 1\nArchitecture: armhf"
        for name, source in (("a", ""), ("b", "Source: a (0.9)\n"), ("c", "Source: x\n"))
    ]
    (tmp_path / "x_Packages").write_text("\n\n".join(stanzas) + "\n")
    assert [one.name for one in from_source(tmp_path, "a")] == ["a", "b"]


def test_the_installers_packages_have_an_index_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def newest(_store: Store, asked: Archive, architecture: str) -> Path:
        place = tmp_path / "-".join(asked.components).replace("/", "-")
        (place / "lists").mkdir(parents=True)
        (place / "sources.list").write_text(f"deb http://a.example/debian trixie {' '.join(asked.components)}\n")
        kind = "udeb" if "installer" in place.name else "deb"
        text_ = f"Package: a-{kind}\nSource: a\nVersion: 1\nArchitecture: {architecture}\nFilename: pool/a.{kind}\n"
        (place / "lists/x_Packages").write_text(text_)
        return place

    monkeypatch.setattr(index, "newest", newest)
    words = Store(tmp_path / "store"), Archive("trixie", ("main", "contrib"), None, lambda: None), "armhf", "a"
    assert [one.package for one in of_source(*words)] == ["a-deb"]
    (udeb,) = udebs_of_source(*words)
    assert (udeb.package, udeb.address) == ("a-udeb", "http://a.example/debian/pool/a.udeb")
    assert (tmp_path / "main-debian-installer-contrib-debian-installer").exists()
