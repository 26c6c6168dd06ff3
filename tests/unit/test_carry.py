"""Entries in a file: the script that packs and unpacks them, without a namespace, for which all is root's inside."""

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xbuild.base.digest import key_of
from xbuild.sandbox import carry, contents
from xbuild.sandbox.contents import CAPABILITY, Item, Owners
from xbuild.sandbox.idmap import IDS
from xbuild.sandbox.unwrap import HEAD, SKIPPED, attribute_key

SELF = Owners((os.getuid(), os.getgid()), (1 << 32, 1 << 32))
VALUE = {"what": "a test", "packages": ["a", "ä"]}
KEY = key_of(VALUE)
NAME = f"layers/{KEY[:20]}"
LAYOUT = 7


def job(folder: Path, do: str, data: bytes | None = None, **words: Any) -> tuple[dict[str, Any], bytes]:
    """Run a job of the script as a build does; gives its report and what it writes."""
    file, report = folder / "job", folder / "report"
    report.unlink(missing_ok=True)
    file.write_text(json.dumps({"do": do, "report": str(report), "owners": [SELF.root, SELF.caller], **words}))
    done = subprocess.run(
        [sys.executable, "-I", "-S", carry.__file__, str(file)], input=data, capture_output=True, check=False
    )
    assert done.stderr == b"", done.stderr.decode()
    return json.loads(report.read_text()), done.stdout


def packed(folder: Path, tree: Path, value: Any = VALUE) -> bytes:
    entry = {"kind": "layers", "key": key_of(value), "value": value, "path": str(tree)}
    report, data = job(folder, "pack", entries=[entry], layout=LAYOUT)
    assert "error" not in report, report
    return data


def unpacked(folder: Path, data: bytes, name: str = "new") -> dict[str, Any]:
    into = folder / name
    into.mkdir(exist_ok=True)
    return carry.attempted(
        lambda: carry.unpack(io.BytesIO(data), str(into), LAYOUT, ["layers", "roots"], [], SELF)
    )


def described(tree: Path) -> str:
    return contents.recorded(tree, SELF, SKIPPED)


def with_attribute(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"no such attributes in {path.parent}: {error.strerror}")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A tree with all that an entry may hold."""
    top = tmp_path / "odd"
    (top / "upper/empty").mkdir(parents=True)
    upper = top / "upper"
    (upper / "su").write_bytes(b"\x7fELF")
    (upper / "su").chmod(0o4755)
    (upper / "sticky").mkdir()
    (upper / "sticky").chmod(0o1777)
    (upper / "closed").mkdir()
    (upper / "closed/in").write_text("x")
    (upper / "closed").chmod(0o500)
    os.link(upper / "su", upper / "another")
    (upper / "link").symlink_to("/nowhere/at/all")
    (upper / "odd-link").symlink_to(os.fsdecode(b"\xff\xfe"))
    os.mkfifo(upper / "fifo")
    os.mknod(upper / "whiteout", stat.S_IFCHR, 0)
    with (upper / "sparse").open("wb") as file:
        file.write(b"begin")
        file.truncate(5 << 20)
        file.seek(3 << 20)
        file.write(b"middle")
    for name in (b"\xff\x00".replace(b"\0", b"\x01"), b"two\nlines", b"a" * 250, b"=%3D%25", "ü".encode()):
        Path(os.fsdecode(os.fsencode(upper / "empty") + b"/" + name)).write_bytes(name)
    deep = upper / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    (deep / ("f" * 120)).touch()
    for number, path in enumerate(sorted(top.rglob("*"))):
        os.utime(path, ns=(5, number * 1_000_000_001), follow_symlinks=False)
    os.utime(upper / "su", ns=(0, -1_500_000_000))
    (top / "log").write_text(f"made in {top}\n")
    (top / "key.json").write_text("the store's own\n")
    return top


def test_a_tree_packed_unpacked_and_packed_again_is_the_same(odd: Path, tmp_path: Path) -> None:
    data = packed(tmp_path, odd)
    assert packed(tmp_path, odd) == data
    report = unpacked(tmp_path, data)
    assert report == {"entries": [{"kind": "layers", "key": KEY, "value": VALUE}]}
    new = tmp_path / "new" / NAME
    assert described(new) == described(odd) == (new / "CONTENTS").read_text()
    assert packed(tmp_path, new) == data
    assert (new / "upper/su").stat().st_ino == (new / "upper/another").stat().st_ino
    assert stat.S_IMODE((new / "upper/su").stat().st_mode) == 0o4755
    assert (new / "upper/whiteout").stat().st_rdev == 0
    assert (new / "upper/sparse").stat().st_blocks * 512 < 1 << 20
    assert (new / "upper/sparse").read_bytes() == (odd / "upper/sparse").read_bytes()
    assert (new / "upper/su").stat().st_mtime_ns == -1_500_000_000
    assert not (new / "log").exists()
    assert str(tmp_path).encode() not in data


def test_attributes_travel_but_for_notes_about_this_machine(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "upper").mkdir(parents=True)
    (tree / "upper/file").touch()
    with_attribute(tree / "upper", "user.overlay.opaque", b"y")
    with_attribute(tree / "upper", "user.overlay.origin", b"\0\xfb\x1d")
    with_attribute(tree / "upper/file", "user.a=b%25", bytes(range(256)))
    data = packed(tmp_path, tree)
    assert "error" not in unpacked(tmp_path, data)
    new = tmp_path / "new" / NAME / "upper"
    assert os.listxattr(new) == ["user.overlay.opaque"]
    assert os.getxattr(new / "file", "user.a=b%25") == bytes(range(256))
    assert packed(tmp_path, new.parent) == data


def test_tar_can_read_it(odd: Path, tmp_path: Path) -> None:
    data = packed(tmp_path, odd)
    done = subprocess.run(["tar", "-tvf", "-"], input=data, capture_output=True, check=True)
    assert f"{NAME}/upper/su".encode() in done.stdout


def test_what_is_no_more_as_it_was_made_is_not_packed(odd: Path, tmp_path: Path) -> None:
    assert job(tmp_path, "record", trees=[(str(odd), str(odd / "CONTENTS"))])[0] == {"faults": {}}
    packed(tmp_path, odd)
    (odd / "upper/closed/in").write_text("y")
    entry = {"kind": "layers", "key": KEY, "value": VALUE, "path": str(odd)}
    report, _ = job(tmp_path, "pack", entries=[entry], layout=LAYOUT)
    assert report["error"] == "damaged"
    assert report["message"] == f"{NAME} is not as it was made: upper/closed/in has other contents"


def test_a_socket_does_not_travel(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mknod(tree / "socket", stat.S_IFSOCK | 0o600)
    entry = {"kind": "layers", "key": KEY, "value": VALUE, "path": str(tree)}
    report, _ = job(tmp_path, "pack", entries=[entry], layout=LAYOUT)
    assert report["error"] == "refused"
    assert "socket" in report["message"]


# An archive by hand: what its members say, and what it records of itself.
FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def member(name: str, kind: bytes = FILE, data: bytes = b"", **fields: Any) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    info.mode = 0o755 if kind == FOLDER else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    padding = b"\0" * (-len(data) % 512)
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + data + padding


def archive(*members: bytes, listed: str | None = "", head: dict[str, Any] | None = None, **entry: Any) -> bytes:
    told = {"format": 1, "layout": LAYOUT, "entries": [{"kind": "layers", "key": KEY, "value": VALUE, **entry}]}
    text = json.dumps({**told, **(head or {})}).encode()
    last = [] if listed is None else [member(f"{NAME}.contents", data=(listed or contents.text_of([])).encode())]
    return b"".join([member(HEAD, data=text), *members, *last]) + b"\0" * 1024


def one(name: str, *args: Any, **fields: Any) -> bytes:
    return member(f"{NAME}/{name}", *args, **fields)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "upwards": lambda: archive(one("../../../out")),
    "of another entry": lambda: archive(member("layers/other/file")),
    "absolute": lambda: archive(member("/out")),
    "absolute below": lambda: archive(one("/out")),
    "through a link": lambda: archive(one("a", LINK, linkname="../../.."), one("a/out")),
    "over a link": lambda: archive(one("a", LINK, linkname="../../../out"), one("a")),
    "a directory over a link": lambda: archive(one("a", LINK, linkname="../../.."), one("a", FOLDER), one("a/out")),
    "a hard link to a file outside": lambda: archive(one("a", HARD, linkname="/etc/passwd")),
    "a hard link upwards": lambda: archive(one("a", HARD, linkname=f"{NAME}/../../../secret")),
    "a hard link through a link": lambda: archive(
        one("a", LINK, linkname="../../.."), one("b", HARD, linkname=f"{NAME}/a/secret")
    ),
    "a hard link to a link": lambda: archive(one("a", LINK, linkname="x"), one("b", HARD, linkname=f"{NAME}/a")),
    "a disk": lambda: archive(one("a", tarfile.BLKTYPE, devmajor=8)),
    "a device": lambda: archive(one("a", tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "an unknown kind of member": lambda: archive(one("a", b"V")),
    "a name twice": lambda: archive(one("a"), one("a")),
    "a directory after what is in it": lambda: archive(one("a/b"), one("a", FOLDER)),
    "not in order": lambda: archive(one("a", FOLDER), one("b"), one("a/b")),
    "the key's file": lambda: archive(one("key.json")),
    "the record": lambda: archive(one("CONTENTS")),
    "no name": lambda: archive(one("")),
    "an owner beyond": lambda: archive(one("a", uid=IDS + 1)),
    "the user's rights": lambda: archive(one("a", uid=IDS, mode=0o4755)),
    "an attribute of the machine's": lambda: archive(
        one("a", pax_headers={attribute_key("security.selinux"): "x"}), listed=None
    ),
    "a time that is none": lambda: archive(one("a", pax_headers={"mtime": "1e5"})),
    "another record": lambda: archive(one("a"), listed=contents.text_of([])),
    "a record that is damaged": lambda: archive(listed="[]\n"),
    "no record": lambda: archive(listed=None),
    "more members": lambda: archive()[:-1024] + one("b") + b"\0" * 1024,
    "no head": lambda: one("a") + b"\0" * 1024,
    "nothing": lambda: b"\0" * 1024,
    "not an archive": lambda: b"hello" * 1000,
    "empty": lambda: b"",
    "another value": lambda: archive(value={"what": "another"}),
    "a key that is none": lambda: archive(key="../../../out"),
    "an entry twice": lambda: archive(head={"entries": [{"kind": "layers", "key": KEY, "value": VALUE}] * 2}),
    "entries that are none": lambda: archive(head={"entries": 5}),
    "a list of texts": lambda: archive(head={"entries": ["a"]}),
}
FOREIGN: dict[str, Callable[[], bytes]] = {
    "another kind": lambda: archive(kind="../out"),
    "a kind that stays": lambda: archive(kind="work"),
    "another layout": lambda: archive(head={"layout": LAYOUT + 1}),
    "another format": lambda: archive(head={"format": 2}),
}


def seen(folder: Path) -> list[str]:
    own = ("job", "report")
    return sorted(str(path) for path in folder.rglob("*") if "new" not in path.parts and path.name not in own)


@pytest.mark.parametrize("what", [*HOSTILE, *FOREIGN])
def test_what_nobody_packed_is_refused(what: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    before = seen(tmp_path)
    report = unpacked(tmp_path, (HOSTILE | FOREIGN)[what]())
    assert report["error"] in (("os", "damaged") if what in HOSTILE else ("refused",)), report
    assert report["error"] != "os" or report["message"] == "File exists"
    assert seen(tmp_path) == before
    assert (tmp_path / "secret").stat().st_nlink == 1


def test_an_archive_by_hand_is_taken_if_it_is_right(tmp_path: Path) -> None:
    """So those above are refused for their fault."""
    items = [Item("a", "file", 0o644, 0, 0, 0, 1, hashlib.sha256(b"x").hexdigest(), {})]
    assert "error" not in unpacked(tmp_path, archive(one("a", FILE, b"x"), listed=contents.text_of(items)))
    assert "error" not in unpacked(tmp_path, archive(), "empty")


def small(tmp_path: Path) -> tuple[Path, bytes]:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/file").write_text("text")
    (tree / "link").symlink_to("d/file")
    os.link(tree / "d/file", tree / "second")
    return tree, packed(tmp_path, tree)


def test_an_archive_that_is_cut_is_refused(tmp_path: Path) -> None:
    _, data = small(tmp_path)
    last = len(data) - 1024
    for number, length in enumerate([*range(0, last, 512), *range(100, last, 1024)]):
        report = unpacked(tmp_path, data[:length], f"new{number}")
        assert report.get("error") == "damaged", length


def test_a_changed_byte_is_seen_or_changes_nothing(tmp_path: Path) -> None:
    tree, data = small(tmp_path)
    noticed = 0
    for number, offset in enumerate(range(0, len(data) - 1024, 97)):
        changed = bytearray(data)
        changed[offset] ^= 1 << (number % 8)
        report = unpacked(tmp_path, bytes(changed), f"new{number}")
        noticed += "error" in report
        if "error" not in report:
            assert described(tmp_path / f"new{number}" / NAME) == described(tree)
            assert report["entries"] == [{"kind": "layers", "key": KEY, "value": VALUE}]
    assert noticed > 20


def test_entries_that_are_there_are_passed_over(tmp_path: Path) -> None:
    _, data = small(tmp_path)
    words = {"into": str(tmp_path / "new"), "layout": LAYOUT, "kinds": ["layers"], "present": [NAME]}
    report, _ = job(tmp_path, "unpack", data, **words)
    assert [entry["key"] for entry in report["entries"]] == [KEY]
    assert not (tmp_path / "new").exists()


def test_a_place_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    """Whoever wanted the entries has ended, and somebody has cleaned up after him."""
    _, data = small(tmp_path)
    words = {"into": str(tmp_path / "new"), "layout": LAYOUT, "kinds": ["layers"], "present": []}
    report, _ = job(tmp_path, "unpack", data, **words)
    assert (report["error"], report["message"]) == ("os", "No such file or directory")
    assert not (tmp_path / "new").exists()


def test_capabilities_are_those_of_root_inside() -> None:
    inside = bytes.fromhex("0100000200040000000000000000000000000000")
    owners = Owners((100000, 200000), (0, 0))
    outside = owners.capability_seen(inside)
    assert outside == bytes.fromhex("0100000300040000000000000000000000000000a0860100")
    assert owners.capability_inside(outside) == inside
    assert SELF.capability_inside(inside) == inside
    assert CAPABILITY == "security.capability"


def test_owners() -> None:
    owners = Owners((100000, 200000), (1000, 1001))
    assert owners.inside((100000, 200005)) == (0, 5)
    assert owners.inside((1000, 1001)) == (IDS, IDS)
    assert owners.inside((0, 99)) == (65534, 65534)
    assert owners.seen(0, 5) == (100000, 200005)
    assert owners.seen(IDS, IDS) == (1000, 1001)


def test_differences_are_told_by_their_kind(odd: Path) -> None:
    old = described(odd)
    (odd / "upper/su").chmod(0o755)
    (odd / "upper/fifo").unlink()
    (odd / "upper/new").touch()
    (odd / "upper/link").unlink()
    (odd / "upper/link").symlink_to("elsewhere")
    (odd / "upper/odd-link").unlink()
    (odd / "upper/odd-link").mkdir()
    found = dict(contents.differences(old, described(odd)))
    assert found.pop("upper") == "has another mtime"
    assert found == {
        "upper/another": "has another mode",
        "upper/fifo": "is gone",
        "upper/new": "was added",
        "upper/link": "leads elsewhere",
        "upper/odd-link": "was a link, and is a directory",
    }
    assert list(contents.differences(old, old)) == []
    with pytest.raises(ValueError, match="changed"):
        contents.parsed(old.replace("su", "so", 1))


def test_an_archive_of_several_kinds(tmp_path: Path) -> None:
    tree, _ = small(tmp_path)
    entries = [{"kind": kind, "key": KEY, "value": VALUE, "path": str(tree)} for kind in ("layers", "roots")]
    _, data = job(tmp_path, "pack", entries=entries, layout=LAYOUT)
    assert [entry["kind"] for entry in unpacked(tmp_path, data)["entries"]] == ["layers", "roots"]
    assert described(tmp_path / "new" / NAME.replace("layers", "roots")) == described(tree)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames()[0] == HEAD
