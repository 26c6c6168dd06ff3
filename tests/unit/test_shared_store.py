"""Shared stores: what is written there, what is believed of it, and what a broken, slow or lying one costs."""

import hashlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from xbuild.base import log
from xbuild.base.errors import UsageError
from xbuild.store.shared import place as places
from xbuild.store.shared import records
from xbuild.store.shared.place import Lie, Place, PlaceError
from xbuild.store.shared.records import Blob, Record
from xbuild.store.shared.shared import Shared, SharedError
from xbuild.store.shared.trust import Keys, signer_of

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="there is no ssh-keygen")

KEY, OTHER = "1" * 64, "2" * 64
BLOB = Blob("a" * 64, 3)


def make_keys(folder: Path, *, trusts: tuple[Keys, ...] = (), name: str = "me", options: str = "") -> Keys:
    """A signer's directory, who trusts himself and `trusts`."""
    folder.mkdir(mode=0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / "key"], check=True)
    for keys in (Keys(folder), *trusts):
        trust(folder, keys, options)
    return Keys(folder)


def trust(folder: Path, keys: Keys, options: str = "") -> None:
    public = keys.key.with_suffix(".pub").read_text()
    with (folder / "allowed_signers").open("a") as stream:
        stream.write(f"{public.split()[2]} {options} {public}")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path / "keys")


@pytest.fixture
def shared(tmp_path: Path, keys: Keys) -> Shared:
    return Shared([f"file://{tmp_path}/store"], keys)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    told: list[str] = []
    with log.warnings_told(told.append):
        yield told


def again(shared: Shared, keys: Keys | None = None) -> Shared:
    """The same stores, seen by another command, of who has `keys`."""
    return Shared([place.shown for place in shared.places], Keys((keys or shared.keys).folder))


def record_file(shared: Shared, key: str = KEY) -> Path:
    base = Path(shared.places[0].shown.removeprefix("file://"))
    return base / records.folder_of("roots", key) / shared.keys.own


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_blobs_and_records_come_back(scheme: str, tmp_path: Path, keys: Keys) -> None:
    shared = Shared([f"{scheme}://{tmp_path}/store"], keys)
    file = tmp_path / "in"
    file.write_bytes(b"abc" * 1000)
    blob = shared.put_blob(file)
    assert blob == Blob(hashlib.sha256(file.read_bytes()).hexdigest(), 3000)
    assert shared.has_blob(blob)
    assert not shared.has_blob(BLOB)
    assert shared.find_blob(blob.sha256) == blob
    shared.put_record("roots", KEY, Record({"entry": blob}, {"jobs": 2}))
    found = again(shared).get_record("roots", KEY)
    assert found is not None
    assert (dict(found.blobs), dict(found.facts), found.signer) == ({"entry": blob}, {"jobs": 2}, "me")
    assert again(shared).get_blob(blob, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == file.read_bytes()
    assert shared.get_record("roots", OTHER) is None
    assert shared.get_record("layers", KEY) is None


def test_a_whole_file_or_none(shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut while it is written is under another name, and goes."""
    file = tmp_path / "in"
    file.write_bytes(bytes(100))
    monkeypatch.setattr(places, "_rename", lambda *_: (_ for _ in ()).throw(OSError("no more")))
    with pytest.raises(SharedError, match="no more"):
        shared.put_blob(file)
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_what_is_there_is_not_written_again(shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "in"
    file.write_bytes(b"abc")
    shared.put_blob(file)
    monkeypatch.setattr(Place, "write", lambda *_: pytest.fail("written again"))
    shared.put_blob(file)


def test_reads_from_all_and_writes_to_the_first_that_may_be_written(tmp_path: Path, keys: Keys) -> None:
    first, second = f"file://{tmp_path}/first", f"file://{tmp_path}/second"
    Shared([second], keys).put_record("roots", KEY, Record())
    both = Shared(["https://127.0.0.1:1/x", first, second], keys)
    both.put_record("roots", OTHER, Record())
    assert Shared([first], keys).get_record("roots", OTHER) is not None
    assert both.get_record("roots", KEY) is not None
    with pytest.raises(SharedError, match="none of the shared stores can be written"):
        Shared(["https://127.0.0.1:1/x"], keys).put_record("roots", KEY, Record())
    with pytest.raises(SharedError, match="nothing may be written"):
        Shared([first], keys, push=False).put_record("roots", KEY, Record())


def damage_with(work: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Shared], None]:
    def damage(file: Path, _: Shared) -> None:
        told = json.loads(file.read_text())
        told["record"] = json.dumps(work(json.loads(told["record"])))
        file.write_text(json.dumps(told))

    return damage


def cut(file: Path, _: Shared) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def by_somebody(file: Path, shared: Shared) -> None:
    stranger = make_keys(file.parent / "stranger", name="stranger")
    text = records.signed_text("roots", KEY, Record({"entry": BLOB}), datetime.now(UTC))
    file.write_bytes(records.wrapped(text, stranger.signature(text)))


def for_another_purpose(file: Path, shared: Shared) -> None:
    text = records.signed_text("roots", KEY, Record({"entry": BLOB}), datetime.now(UTC))
    done = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-n", "git", "-f", shared.keys.key],
        input=text.encode(), capture_output=True, check=True,
    )  # fmt: skip
    file.write_bytes(records.wrapped(text, done.stdout.decode()))


def of_the_future(file: Path, shared: Shared) -> None:
    text = records.signed_text("roots", KEY, Record({"entry": BLOB}), datetime.now(UTC) + timedelta(days=3))
    file.write_bytes(records.wrapped(text, shared.keys.signature(text)))


def revoked(file: Path, shared: Shared) -> None:
    shutil.copy(shared.keys.key.with_suffix(".pub"), shared.keys.revoked)


def revoked_by_a_list(file: Path, shared: Shared) -> None:
    words = ["-q", "-k", "-f", str(shared.keys.revoked), str(shared.keys.key.with_suffix(".pub"))]
    subprocess.run(["ssh-keygen", *words], check=True)


def endless(file: Path, shared: Shared) -> None:
    file.write_bytes(bytes(records.LARGEST + 1))


FAULTS: dict[str, tuple[Callable[[Path, Shared], object], str]] = {
    "forged blob": (damage_with(lambda told: told | {"blobs": {"entry": ["b" * 64, 3]}}), "its signature is not right"),
    "forged time": (damage_with(lambda told: told | {"made": "2020-01-01T00:00:00Z"}), "its signature is not right"),
    "no object": (damage_with(lambda told: [told]), "it is no record"),
    "cut": (cut, "it is cut, or no record"),
    "empty": (lambda file, _: file.write_bytes(b"") and None, "it is cut, or no record"),
    "by a stranger": (by_somebody, "nobody who is trusted has signed it"),
    "signed for git": (for_another_purpose, "its signature is not right"),
    "of the future": (of_the_future, "which is still to come"),
    "revoked": (revoked, "the key of me is revoked"),
    "revoked by a KRL": (revoked_by_a_list, "the key of me is revoked"),
    "without end": (endless, "has more than"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_record_is_not_used(fault: str, shared: Shared, warnings: list[str]) -> None:
    shared.put_record("roots", KEY, Record({"entry": BLOB}))
    assert again(shared).get_record("roots", KEY) is not None
    work, said = FAULTS[fault]
    work(record_file(shared), shared)
    assert again(shared).get_record("roots", KEY) is None
    assert len(warnings) == 1
    assert said in warnings[0]


def test_a_record_under_another_key_or_kind_is_not_used(shared: Shared, warnings: list[str]) -> None:
    shared.put_record("roots", KEY, Record({"entry": BLOB}))
    for kind, key in (("roots", OTHER), ("layers", KEY)):
        place = Path(shared.places[0].shown.removeprefix("file://")) / records.folder_of(kind, key)
        place.mkdir(parents=True)
        shutil.copy(record_file(shared), place)
        assert again(shared).get_record(kind, key) is None
        assert f"it was signed for roots/{KEY[:20]}" in warnings[-1]


def test_a_record_of_another_layout_is_not_used(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    monkeypatch.setattr(records, "LAYOUT", 1)
    shared.put_record("roots", KEY, Record())
    monkeypatch.undo()
    assert again(shared).get_record("roots", KEY) is None
    assert "layout 1" in warnings[0]


def test_a_key_counts_for_its_time(tmp_path: Path, shared: Shared, warnings: list[str]) -> None:
    """One that was given up in order keeps what it signed before; one that was trusted from a day on has only that."""
    shared.put_record("roots", KEY, Record())
    for number, (options, used) in enumerate(
        {'valid-before="20300101"': True, 'valid-before="20200101"': False, 'valid-after="20400101"': False}.items()
    ):
        reader = tmp_path / f"reader{number}"
        reader.mkdir(mode=0o700)
        trust(reader, shared.keys, options)
        assert (again(shared, Keys(reader)).get_record("roots", KEY) is not None) == used, options
    assert all("or not at that time" in text for text in warnings)
    assert len(warnings) == 2


def test_each_signer_has_a_record_of_his_own(tmp_path: Path, shared: Shared) -> None:
    """Who does not trust the other is not kept from what he may use."""
    other = make_keys(tmp_path / "other", name="other")
    shared.put_record("roots", KEY, Record({}, {"by": "me"}))
    again(shared, other).put_record("roots", KEY, Record({}, {"by": "other"}))
    for keys, by in ((shared.keys, "me"), (other, "other")):
        found = again(shared, keys).get_record("roots", KEY)
        assert found is not None
        assert found.facts == {"by": by}
    trust(shared.keys.folder, other)
    assert [found.signer for found in again(shared).records("roots", KEY)] == ["me", "other"]


def test_without_trusted_keys_nothing_is_asked(tmp_path: Path, shared: Shared) -> None:
    shared.put_record("roots", KEY, Record())
    nobody = again(shared, Keys(tmp_path / "none"))
    assert not nobody.reads
    assert not nobody.writes
    assert nobody.get_record("roots", KEY) is None


def test_a_list_that_others_can_write_is_refused(shared: Shared) -> None:
    shared.put_record("roots", KEY, Record())
    shared.keys.allowed.chmod(0o666)
    with pytest.raises(UsageError, match="others than you can write to it"):
        again(shared).get_record("roots", KEY)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b"x" + data[1:], lambda data: data + b"x"])
def test_a_changed_blob_is_not_used_and_written_anew(
    change: Callable[[bytes], bytes], shared: Shared, tmp_path: Path, warnings: list[str]
) -> None:
    file = tmp_path / "in"
    file.write_bytes(b"abc" * 99)
    blob = shared.put_blob(file)
    stored = tmp_path / "store" / blob.name
    stored.write_bytes(change(stored.read_bytes()))
    seen = again(shared)
    assert not seen.get_blob(blob, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "is cut, or was changed" in warnings[0]
    seen.put_blob(file)
    assert again(shared).get_blob(blob, tmp_path / "out")
    assert len(warnings) == 1


class Stuck:
    """A file system that never answers."""

    protocol = "stuck"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: threading.Event().wait()


class Slow:
    """One whose files come byte by byte."""

    protocol = "slow"

    def open(self, *_: Any, **__: Any) -> "Slow":
        return self

    def read(self, _: int) -> bytes:
        time.sleep(0.01)
        return b"x"

    def close(self) -> None:
        pass


class Broken:
    """One that answers 500, and tells the address with its password."""

    protocol = "broken"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("500, message='no', url='https://joe:very%20secret@x/y?token=zzz'")

        return fail


@pytest.mark.parametrize(
    ("system", "said"),
    [(Stuck(), "no answer within"), (Slow(), "less than"), (Broken(), "500, message='no'")],
    ids=lambda value: type(value).__name__,
)
def test_a_faulty_store_costs_one_warning(
    system: Any, said: str, tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    monkeypatch.setattr(places, "_ANSWER", 0.2)
    monkeypatch.setattr(places, "_GRACE", 0.2)
    monkeypatch.setattr(Place, "_system", lambda _: (system, ""))
    shared = Shared(["sftp://joe:very%20secret@x/y"], keys)
    assert not shared.get_blob(Blob("a" * 64, 1000), tmp_path / "out")
    assert shared.get_record("roots", KEY) is None
    assert not shared.has_blob(BLOB)
    assert not shared.writes
    assert len(warnings) == 1
    assert said in warnings[0]
    assert warnings[0].startswith("sftp://x/y: ")
    assert "secret" not in warnings[0]
    assert "zzz" not in warnings[0]


def test_what_cannot_be_written_here_is_no_fault_of_the_store(shared: Shared, tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_bytes(b"abc")
    blob = shared.put_blob(file)
    with pytest.raises(FileNotFoundError):
        shared.get_blob(blob, tmp_path / "none/out")
    assert shared.get_blob(blob, tmp_path / "out")


def test_addresses() -> None:
    assert Place("/srv/store").shown == "/srv/store"
    assert Place("s3://bucket/a?endpoint=http://x").shown == "s3://bucket/a"
    assert not Place("https://x/y").writable
    with pytest.raises(UsageError, match="gopher://x is no address"):
        Place("gopher://me:secret@x")


@pytest.mark.parametrize("address", ["http://[bad", "sftp://me:secret@x:99999", "https://x:secret/a", "http://\u2100/"])
def test_addresses_that_cannot_be_read(address: str) -> None:
    with pytest.raises(UsageError, match=r"is no address of a shared store$"):
        Place(address)


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41", "a b", "\udcff", "ü"])
def test_a_directory_is_the_one_that_is_named(tmp_path: Path, name: str) -> None:
    (path := tmp_path / name).mkdir()
    (path / "x").write_bytes(b"1")
    assert (Place(str(path)).read("x", 10), Place(str(path)).shown) == (b"1", str(path))


def test_files_are_read_whole_or_refused(tmp_path: Path) -> None:
    place, file = Place(str(tmp_path)), tmp_path / "x"
    file.write_bytes(bytes(10))
    assert (place.read("x", 10), place.read("none", 9)) == (bytes(10), None)
    with pytest.raises(Lie):
        place.read("x", 9)
    assert place.size("x") == 10
    assert place.size("none") is None
    assert list(place.names("")) == [("x", 10)]
    place.remove("x")
    place.remove("x")
    assert list(place.names("")) == []


@pytest.mark.parametrize(("kind", "key"), [("../roots", KEY), ("roots", "../x"), ("roots", "a" * 63), ("", KEY)])
def test_names_lead_nowhere_else(kind: str, key: str) -> None:
    with pytest.raises(ValueError, match="no kind and key"):
        records.folder_of(kind, key)


def test_the_name_of_a_signer_is_of_his_key_alone(keys: Keys) -> None:
    public = keys.key.with_suffix(".pub").read_text()
    assert signer_of(f'a,b namespaces="x",valid-after="20200101" {public}') == keys.own
    assert signer_of(f"# {public}") == ""
    assert signer_of("a ssh-ed25519 !!!") == ""


def test_place_errors_are_told_of_a_directory_that_may_not_be_written(shared: Shared, tmp_path: Path) -> None:
    (file := tmp_path / "in").write_bytes(b"abc")
    (tmp_path / "store").write_text("a file")
    with pytest.raises(SharedError):
        shared.put_blob(file)
    with pytest.raises(PlaceError), file.open("rb") as stream:
        Place(str(tmp_path / "store")).write("x", stream, 3)
