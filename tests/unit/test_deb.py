from __future__ import annotations

import contextlib
import hashlib
import lzma
import shutil
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.debs import COMPRESS, FIELDS, TIME, Node, ar, control, deb, tar
from xbuild.base.errors import MachineError
from xbuild.formats import deb as reader
from xbuild.formats.deb import DebError, Member, opened

FILES: dict[str, bytes | Node] = {
    "usr/bin/tool": b"\x7fELF contents",
    "usr/bin/alias": Node(kind=tarfile.SYMTYPE, target="tool", mode=0o777),
    "usr/bin/twin": Node(kind=tarfile.LNKTYPE, target="./usr/bin/tool", mode=0o755),
    "usr/share/doc/tool/" + "long" * 60: b"x",
}


@pytest.mark.parametrize("kind", [*COMPRESS, ".zst"])
def test_what_a_deb_holds(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == ".zst":
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed")
        packed = lambda data: subprocess.run(["zstd", "-c"], input=data, stdout=-1, check=True).stdout  # noqa: E731
        monkeypatch.setitem(COMPRESS, kind, packed)
    fields = {"Description": "short\n long\n .\n more"}
    path = deb(tmp_path / "a.deb", FILES, fields=fields, scripts={"postinst": "#!/bin/sh\n"}, kind=kind)
    with opened(path) as found:
        assert found.fields == {**FIELDS, "Description": "short\n long\n .\n more"}
        assert found.source == ("tools", "1.0-2")
        assert found.parts == (f"control.tar{kind}", f"data.tar{kind}")
        assert found.control_files["postinst"] == b"#!/bin/sh\n"
        members = {member.path: member for member in found.members}
        assert list(members)[:2] == [".", "usr"]
        sha256 = hashlib.sha256(b"\x7fELF contents").hexdigest()
        assert members["usr/bin/tool"] == Member("usr/bin/tool", "file", 0o755, "root/root", TIME, 13, "", sha256)
        assert members["usr/bin/alias"] == Member("usr/bin/alias", "link", 0o777, "root/root", TIME, 0, "tool")
        twin = members["usr/bin/twin"]
        assert (twin.kind, twin.target, twin.size) == ("hard link", "usr/bin/tool", 0)
        assert found.read("usr/bin/tool") == found.read("usr/bin/twin") == b"\x7fELF contents"
        assert found.read("usr/share/doc/tool/" + "long" * 60) == b"x"
        with pytest.raises(KeyError):
            found.open("usr/bin/alias")


def test_one_that_dpkg_deb_made(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: a\n"
    )
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/a").write_text("#!/bin/sh\n")
    (tree / "usr/bin/a").chmod(0o755)
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, tmp_path / "a.deb"], check=True, stdout=-1)
    with opened(tmp_path / "a.deb") as found:
        assert found.source == ("a", "1")
        assert [(m.path, m.kind, m.owner) for m in found.members][-1] == ("usr/bin/a", "file", "root/root")
        assert found.read("usr/bin/a") == b"#!/bin/sh\n"


def of(control_tar: bytes, data_tar: bytes) -> bytes:
    return ar([("debian-binary", b"2.0\n"), ("control.tar", control_tar), ("data.tar", data_tar)])


GOOD = control(FIELDS)
FOLDER = Node(kind=tarfile.DIRTYPE)
BAD = {
    "empty": (b"", "does not begin with debian-binary"),
    "an archive of objects": (ar([("a.o/", b"x")]), "does not begin with debian-binary"),
    "format": (ar([("debian-binary", b"3.0\n")]), "format 2"),
    "no data": (ar([("debian-binary", b"2.0\n"), ("control.tar", GOOD)]), "holds no data.tar"),
    "order": (ar([("debian-binary", b"2.0\n"), ("data.tar", tar([]))]), "where control.tar should be"),
    "control twice": (
        ar([("debian-binary", b"2.0\n"), ("control.tar", GOOD), ("control.tar.gz", b"")]),
        "where data.tar should be",
    ),
    "compression": (ar([("debian-binary", b"2.0\n"), ("control.tar.br", b"x"), ("data.tar", b"")]), "nobody knows"),
    "cut ar": (of(GOOD, tar([]))[:-600], "broken archive"),
    "not gz": (ar([("debian-binary", b"2.0\n"), ("control.tar.gz", b"no gzip"), ("data.tar", b"")]), "is damaged"),
    "cut xz": (
        ar([("debian-binary", b"2.0\n"), ("control.tar.xz", lzma.compress(GOOD)[:-20]), ("data.tar", b"")]),
        "control.tar.xz is damaged: it is cut off",
    ),
    "no control": (of(tar([("./x", Node(b"y"))]), tar([])), "holds no file control"),
    "no version": (of(control({"Package": "a"}), tar([])), "no field Version"),
    "upwards": (of(GOOD, tar([("./../etc/passwd", Node(b"x"))])), "leads outside"),
    "absolute": (of(GOOD, tar([("/etc/passwd", Node(b"x"))])), "leads outside"),
    "twice": (of(GOOD, tar([("./a", Node(b"x")), ("a", Node(b"y"))])), "'a', twice"),
    "hard link": (of(GOOD, tar([("./a", Node(kind=tarfile.LNKTYPE, target="/etc/shadow"))])), "is a hard link to"),
    "pax": (of(GOOD, tar([("./a", Node(b"x", pax={"comment": "y"}))])), "dpkg does not unpack"),
    "cut tar": (of(GOOD, tar([("./a", Node(b"x" * 600))])[:600]), "is damaged"),
    "no end": (of(GOOD, tar([("./a", FOLDER)])[:512]), "it is cut off"),
    "later header": (of(GOOD, tar([("./a", FOLDER)])[:512] + b"x" * 512 + tar([])), "no valid header at byte 512"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bad.deb"
    data, said = BAD[name]
    path.write_bytes(data)
    with pytest.raises(DebError) as caught, opened(path, name="pool/bad.deb"):
        pass
    assert caught.value.message.startswith("pool/bad.deb: ")
    assert said in caught.value.message
    assert caught.value.reason in caught.value.message


def test_a_long_stream_of_little_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = deb(tmp_path / "a.deb", {"zeros": bytes(30 << 20)})
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(reader, "_MOST_DATA", 10 << 20)
    with pytest.raises(DebError, match=r"data\.tar\.xz holds more than"), opened(path):
        pass


def test_a_disk_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_LEFT", 1 << 62)
    with pytest.raises(MachineError, match="no room"), opened(deb(tmp_path / "a.deb"), scratch=tmp_path):
        pass


def test_a_long_header_is_not_read_into_memory(tmp_path: Path) -> None:
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 60 << 20
    data = name.tobuf(tarfile.GNU_FORMAT) + bytes(60 << 20) + tar([("./a", Node(b"x"))])
    path = tmp_path / "a.deb"
    path.write_bytes(of(GOOD, data))
    tracemalloc.start()
    try:
        with pytest.raises(DebError, match="a header of"), opened(path):
            pass
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


@given(st.data())
def test_any_damage_is_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["", ".gz", ".xz"]))
    path = deb(tmp_path_factory.mktemp("damage") / "a.deb", FILES, kind=kind)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with contextlib.suppress(DebError), opened(path) as found:
        assert all(member.path for member in found.members)


@pytest.mark.parametrize(
    ("text", "what"), [("Package: a\nnonsense\n", "line 2: no field"), ("Package: a\n\nPackage: b\n", "2 paragraphs")]
)
def test_a_control_file_that_is_none(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "a.deb"
    parts = {"control.tar": tar([("control", Node(text.encode()))]), "data.tar": tar([])}
    path.write_bytes(ar([("debian-binary", b"2.0\n"), *parts.items()]))
    with pytest.raises(DebError, match=what), opened(path):
        pass


def test_a_description_with_other_ends_of_lines(tmp_path: Path) -> None:
    """dpkg's lines end with a newline, and not where Unicode has one too."""
    text = "one\u2028two\x0cthree\x85"
    with opened(deb(tmp_path / "a.deb", {}, fields={"Description": text})) as found:
        assert found.fields["Description"] == text.strip()
