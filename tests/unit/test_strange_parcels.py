"""What a stranger may send as a parcel: it is refused, and nothing of it leaves its place."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.sender import TINY, Sender, sender
from xbuild.base.errors import MachineError, UsageError, XbuildError
from xbuild.build.parcel import Item, Parcel, received, unpacked
from xbuild.build.parcel.words import MOST_WORDS, SCHEMA, parcel_of
from xbuild.store.shared.records import Blob

__all__ = ["sender"]


class Stranger:
    """Makes parcels that no xbuild packs, and holds that they are refused and leave nothing."""

    def __init__(self, sender: Sender, top: Path) -> None:
        self.sender, self.top = sender, top
        self.parcel = sender.pack()
        self.place = top / "there" / "place"
        self.place.parent.mkdir()
        (top / "there" / "own").write_text("mine")

    def blob(self, data: bytes) -> Blob:
        file = self.top / "blob"
        file.write_bytes(data)
        return self.sender.blobs.put_blob(file)

    def item(self, name: str, data: bytes = b"x") -> Item:
        return Item(name, self.blob(data))

    def with_items(self, *items: Item) -> Parcel:
        names = {item.name for item in items}
        kept = tuple(item for item in self.parcel.items if item.name not in names)
        return replace(self.parcel, items=(*kept, *items))

    def tree(self, data: bytes, *, size: int | None = None, files: int = 9) -> Parcel:
        (item,) = (item for item in self.parcel.items if item.kind == "tree")
        plain = size if size is not None else max(len(data), 1 << 16)
        return self.with_items(replace(item, blob=self.blob(gzip.compress(data)), size=plain, files=files))

    def refused(self, parcel: Parcel, said: str, kind: type[XbuildError] = UsageError) -> None:
        before = self._seen()
        with pytest.raises(kind, match=said):
            unpacked(parcel, self.place, self.sender.blobs)
        assert self._seen() == before

    def _seen(self) -> dict[str, bytes]:
        places = (self.top / "there", self.sender.project)
        return {str(file): file.read_bytes() for place in places for file in place.rglob("*") if file.is_file()}


@pytest.fixture
def stranger(sender: Sender, tmp_path: Path) -> Stranger:
    return Stranger(sender, tmp_path)


def test_no_item_leaves_the_place(stranger: Stranger) -> None:
    for name in (
        "../own", "/tmp/x", "a/../../own", "a//b", "", ".", "..", "a/.", "x\0", ".git/config", "a/.GIT/config",
        "x" * 256, "\ud800", "/".join(["x" * 200] * 20),
    ):  # fmt: skip
        stranger.refused(stranger.with_items(stranger.item(name)), "refused parcel: |this is no parcel")


def test_items_that_do_not_go_together(stranger: Stranger) -> None:
    one = stranger.item("a")
    stranger.refused(stranger.with_items(one, one), "two items have one name")
    stranger.refused(stranger.with_items(one, stranger.item("a/b")), "'a/b' lies in a file")
    stranger.refused(stranger.with_items(stranger.item("a/b"), one), "two items lie at 'a'")
    stranger.refused(stranger.with_items(replace(one, kind="tree")), "lies where none of its kind does")
    stranger.refused(stranger.with_items(stranger.item("trees/a/b")), "lies where none of its kind does")
    stranger.refused(stranger.with_items(replace(one, size=-1)), "no digest or no size")
    stranger.refused(stranger.with_items(replace(one, blob=Blob("../../own", 4))), "no digest or no size")
    stranger.refused(stranger.with_items(replace(one, blob=Blob("0" * 64, 1 << 60))), "more than .* bytes")
    stranger.refused(stranger.with_items(replace(one, files=1 << 40)), "more than .* files")


def test_no_request_names_what_is_elsewhere(stranger: Stranger) -> None:
    request = stranger.parcel.request
    for odd in (
        *(replace(request, recipe=recipe) for recipe in ("../tiny.yml", "/etc/passwd", "none.yml", "tiny")),
        *(replace(request, root=root) for root in ("../x", "/x", "")),
        *(replace(request, repositories=(place,)) for place in ("/etc", "..", "", "trees")),
    ):
        stranger.refused(replace(stranger.parcel, request=odd), "refused parcel")


def tar_of(*members: tuple[str, bytes, bytes | str]) -> bytes:
    """A tar file of names, types, and contents or targets of links."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if isinstance(content, str):
                member.linkname = content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


REG, SYM = tarfile.REGTYPE, tarfile.SYMTYPE


ATTACKS: list[tuple[list[tuple[str, bytes, bytes | str]], str]] = [
    ([("../own", REG, b"x")], "leads out"),
    ([("/tmp/own", REG, b"x")], "leads out"),
    ([("a/../../../own", REG, b"x")], "leads out"),
    ([(".git/config", REG, b"[core] fsmonitor = touch /tmp/x")], "git's own"),
    ([("out", SYM, "../../../../"), ("out/own", REG, b"x")], "cannot be laid out"),
    ([("out", SYM, "/"), ("out/own", SYM, "x")], "cannot be laid out"),
    ([("a", REG, b"x"), ("a", REG, b"y")], "cannot be laid out"),
    ([("a", REG, b"x"), ("a", SYM, "/etc/passwd")], "cannot be laid out"),
    ([("a", REG, b"x"), ("a/b", REG, b"y")], "cannot be laid out"),
    ([("a", tarfile.LNKTYPE, "/etc/passwd")], "neither a file nor a link"),
    ([("a", tarfile.CHRTYPE, b"")], "neither a file nor a link"),
    ([("a", tarfile.BLKTYPE, b"")], "neither a file nor a link"),
    ([("a", tarfile.FIFOTYPE, b"")], "neither a file nor a link"),
    ([("a", tarfile.DIRTYPE, b"")], "neither a file nor a link"),
    ([(str(number), REG, b"") for number in range(10)], "more files than it says"),
]


def test_no_tree_leaves_its_place(stranger: Stranger) -> None:
    for members, said in ATTACKS:
        stranger.refused(stranger.tree(tar_of(*members)), said)


def test_trees_that_are_larger_than_they_say(stranger: Stranger) -> None:
    stranger.refused(stranger.tree(tar_of(("a", REG, bytes(1 << 20))), size=1 << 19), "larger than it says")
    stranger.refused(stranger.tree(bytes(1 << 24), size=1 << 14), "larger than it says")
    # What the header says is not there.
    whole = tar_of(("a", REG, b"x" * 4096))
    stranger.refused(stranger.tree(whole[:1024]), "refused parcel")
    stranger.refused(stranger.tree(_with_size(whole, 1 << 40)), "larger than it says")
    # A header of 3 MB, which says nothing wrong, and would be in memory.
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a")
        member.pax_headers = {"comment": "x" * (3 << 20)}
        tar.addfile(member)
    stranger.refused(stranger.tree(stream.getvalue()), "a header of many megabytes")
    sparse = tar_of(("a", tarfile.GNUTYPE_SPARSE, b""))
    stranger.refused(stranger.tree(sparse), "refused parcel")


def _with_size(tar: bytes, size: int) -> bytes:
    member = tarfile.TarInfo.frombuf(tar[:512], "utf-8", "surrogateescape")
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT) + tar[512:]


def test_trees_that_are_none(stranger: Stranger) -> None:
    (item,) = (item for item in stranger.parcel.items if item.kind == "tree")
    for data in (b"", b"nothing", gzip.compress(b"nothing" * 1000), gzip.compress(tar_of(("a", REG, b"x")))[:-20]):
        stranger.refused(stranger.with_items(replace(item, blob=stranger.blob(data), size=1 << 20)), "refused parcel")


def test_no_recipe_names_files_of_the_receiver(stranger: Stranger) -> None:
    (stranger.sender.project / "src" / "link").symlink_to("/etc/passwd")
    stranger.parcel = stranger.sender.pack()
    (tree,) = (item.name for item in stranger.parcel.items if item.kind == "tree")
    own = [{"path": tree}]
    wrong: tuple[dict[str, Any], ...] = (
        *({"sources": [{"path": path}]} for path in ("/etc/passwd", "../own", ".", "trees", f"{tree}/link")),
        {"sources": own, "patches": [f"{tree}/link"]},
        {"sources": own, "overrides": [{"targets": ["*"], "patches": ["none.patch"]}]},
    )
    for fields in wrong:
        item = stranger.item("tiny.yml", yaml.safe_dump({**TINY, **fields}).encode())
        stranger.refused(stranger.with_items(item), "which is not in it")


def test_recipes_that_are_none(stranger: Stranger) -> None:
    for text in ("- a", "a: [", "sources: 5", "sources: [5]", "patches: {a: b}", "overrides: [7]", "depends: x", "5"):
        stranger.refused(stranger.with_items(stranger.item("tiny.yml", text.encode())), "tiny.yml: .*error|refused")


def test_words_that_are_no_parcel(sender: Sender, stranger: Stranger) -> None:
    good = stranger.parcel.as_json()
    assert parcel_of(json.loads(json.dumps(good))) == stranger.parcel
    wrong: tuple[Any, ...] = ([], None, {}, {**good, "items": None}, {**good, "request": {}}, "x", 5)
    for value in wrong:
        with pytest.raises(UsageError):
            parcel_of(value)
    with pytest.raises(UsageError, match=f"has schema {SCHEMA + 1}, and this xbuild reads {SCHEMA}"):
        parcel_of({"schema": SCHEMA + 1, "xbuild": "9.0"})
    with pytest.raises(UsageError, match="not JSON"):
        received(stranger.blob(b"[" * 100_000), sender.blobs)
    with pytest.raises(UsageError, match=f"{MOST_WORDS + 1} bytes"):
        received(Blob("0" * 64, MOST_WORDS + 1), sender.blobs)
    with pytest.raises(MachineError, match="the parcel is not in the shared store"):
        received(Blob("0" * 64, 5), sender.blobs)


def test_blobs_that_are_gone_or_others(stranger: Stranger) -> None:
    item = stranger.parcel.items[-1]
    (file,) = (stranger.top / "blobs" / "blobs").rglob(item.blob.sha256)
    file.write_bytes(bytes(item.blob.size))
    stranger.refused(stranger.parcel, "is not in the shared store", MachineError)
    file.unlink()
    stranger.refused(stranger.parcel, "is not in the shared store", MachineError)


def test_a_place_that_is_there_and_a_full_disk(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger.place.mkdir()
    (stranger.place / "own").write_text("x")
    stranger.refused(stranger.parcel, "is there already")
    shutil.rmtree(stranger.place)
    stranger.place.symlink_to("nowhere")
    stranger.refused(stranger.parcel, "is there already")
    stranger.place.unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9))
    stranger.refused(stranger.parcel, "MiB are to be laid out", MachineError)
