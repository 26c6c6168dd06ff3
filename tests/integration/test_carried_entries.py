"""Entries with other owners and an overlay's marks: packed, unpacked elsewhere, verified, removed; and races."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xbuild.base.digest import CONTENTS, key_of
from xbuild.base.errors import CheckError, MachineError, UsageError
from xbuild.sandbox.mounts import Overlay, Proc
from xbuild.sandbox.run import capture, give_tree, machine_view, remove_tree, run
from xbuild.store import carry, usage, verify
from xbuild.store.local import IN_USE, Store

VALUE = {"what": "layer", "base": {"architecture": "armhf"}, "packages": ["a"]}
KEY = key_of(VALUE)
CHOSEN = [("layers", KEY)]

_FILL = r"""
cd "$1"
mkdir -p usr/bin usr/lib var/old empty
echo su > usr/bin/su; chmod 4755 usr/bin/su; ln usr/bin/su usr/bin/also
echo game > usr/bin/game; chown 65534:42 usr/bin/game; chmod 2755 usr/bin/game
echo secret > shadow; chmod 640 shadow; chown 0:42 shadow
ln -s su usr/bin/link; chown -h 1000:1000 usr/bin/link
echo gone > var/old/gone; echo gone > gone
"$2" -IS -c '
import os
os.setxattr("usr/bin/game", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
open(b"empty/\xff\xfe", "w").close()'
"""
_CHANGE = """
cd "$1"
rm gone
rm -r var/old
mkdir var/old
echo more >> usr/bin/also
chmod 700 usr/lib
echo x > usr/new
"""


def fill(staging: Path) -> None:
    """What a layer is: a directory that an overlay wrote to, with marks for what is gone."""
    for name in ("lower", "upper", "work", "merged"):
        (staging / name).mkdir()
        (staging / name).chmod(0o755)
    give_tree(0, tops=[staging / name for name in ("lower", "upper", "work", "merged")])
    run(machine_view(), ["sh", "-euc", _FILL, "sh", staging / "lower", sys.executable])
    lower, *others = (str(staging / name) for name in ("lower", "upper", "work", "merged"))
    mounts = (Proc(), Overlay((lower,), others[0], others[1], others[2]))
    run(replace(machine_view(), mounts=mounts), ["sh", "-euc", _CHANGE, "sh", staging / "merged"])
    for name in ("work", "merged"):
        remove_tree(staging / name)
    (staging / "log").write_text(f"made at {staging}\n")
    (staging / "facts.json").write_text("{}\n")


def empty(staging: Path) -> None:
    """Nothing but what the store itself writes."""


def large(staging: Path) -> None:
    """Something to free."""
    (staging / "data").write_bytes(b"x" * 100_000)


@pytest.fixture
def first(place: Path) -> Iterator[Store]:
    yield from _store(place / "first")


@pytest.fixture
def second(place: Path) -> Iterator[Store]:
    yield from _store(place / "far" / "away")


def _store(path: Path) -> Iterator[Store]:
    path.mkdir(parents=True)
    yield Store(path, remove_tree, carry.record)
    remove_tree(path)


@pytest.fixture
def file(first: Store, tmp_path: Path) -> Path:
    """The entry in a file."""
    first.ensure("layers", VALUE, "the layer", fill)
    return carry.pack(first, CHOSEN, tmp_path / "file").file


def faults(store: Store) -> list[str]:
    return [fault for one in verify.verify(store) for fault in one.faults]


def left(store: Store) -> list[Path]:
    return list((store.root / "tmp").iterdir())


def test_an_entry_travels(first: Store, second: Store, file: Path, tmp_path: Path) -> None:
    (taken,) = carry.unpack(second, file)
    assert (taken.kind, taken.key, taken.present) == ("layers", KEY, False)
    assert second.get("layers", KEY) == taken.path
    assert second.value("layers", KEY) == VALUE
    assert (taken.path / CONTENTS).read_bytes() == (first.entry("layers", KEY) / CONTENTS).read_bytes()
    again = carry.pack(second, CHOSEN, tmp_path / "again")
    assert again.file.read_bytes() == file.read_bytes()
    assert faults(second) == []
    assert left(second) == []


def test_marks_owners_and_capabilities_are_there(second: Store, file: Path) -> None:
    (taken,) = carry.unpack(second, file)
    script = r"""
        cd "$1"
        test "$(stat -c %a:%u:%g lower/usr/bin/su lower/usr/bin/game lower/shadow)" = "4755:0:0
2755:65534:42
640:0:42"
        test "$(stat -c %h lower/usr/bin/su)" = 2
        test "$(stat -c %u lower/usr/bin/link)" = 1000
        test "$(stat -c %F:%t:%T upper/gone)" = "character special file:0:0"
        test -d lower/empty
        "$2" -IS -c '
import os
assert os.getxattr("upper/var/old", "user.overlay.opaque") == b"y"
assert os.getxattr("lower/usr/bin/game", "security.capability").hex() == "0100000200040000000000000000000000000000"
assert os.listdir(b"lower/empty") == [b"\xff\xfe"]
assert "user.overlay.origin" not in os.listxattr("upper/usr")'
    """
    run(machine_view(), ["sh", "-euc", script, "sh", taken.path, sys.executable])


def test_the_file_names_neither_the_store_nor_its_user(first: Store, file: Path) -> None:
    plain = subprocess.run(["zstd", "-dc", file], capture_output=True, check=True).stdout
    assert str(first.root).encode() not in plain
    assert len(plain) > 5000


def test_an_entry_that_is_there_is_left_as_it_is(first: Store, file: Path) -> None:
    before = first.entry("layers", KEY).stat()
    (taken,) = carry.unpack(first, file)
    assert taken.present
    assert first.entry("layers", KEY).stat() == before


def test_a_damaged_one_that_is_there_is_told(first: Store, file: Path) -> None:
    spoil(first.entry("layers", KEY) / "lower/usr/bin/su", "flip")
    with pytest.raises(CheckError, match="is there already, and is not as it was made: lower/usr/bin/"):
        carry.unpack(first, file)


_SPOILING = {
    "flip": 'printf X | dd of="$1" conv=notrunc status=none',
    "cut": 'truncate -s 1 "$1"',
    "mode": 'chmod 755 "$1"',
    "owner": 'chown 5 "$1"',
    "gone": 'rm "$1"',
    "new": 'touch "$1.new"',
}


def spoil(path: Path, how: str) -> None:
    script = f'{_SPOILING[how]}; touch -d @5 "$1" 2>/dev/null || :'
    command = ["sh", "-euc", script if how == "flip" else _SPOILING[how], "sh", str(path)]
    run(machine_view(), command)


@pytest.mark.parametrize("how", _SPOILING)
def test_verify_sees_every_change(first: Store, how: str) -> None:
    entry = first.ensure("layers", VALUE, "the layer", fill)
    assert faults(first) == []
    spoil(entry / "lower/usr/bin/su", how)
    (one,) = verify.verify(first)
    assert any("usr/bin/" in fault for fault in one.faults)
    assert verify.remove(first, [one]) == [one]
    assert first.get("layers", KEY) is None
    assert verify.verify(first) == []


def test_pack_refuses_what_was_changed(first: Store, tmp_path: Path) -> None:
    entry = first.ensure("layers", VALUE, "the layer", fill)
    spoil(entry / "lower/shadow", "flip")
    with pytest.raises(CheckError, match="lower/shadow has other contents"):
        carry.pack(first, CHOSEN, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_cut_or_changed_leaves_nothing(second: Store, file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    bad = tmp_path / "bad"
    changed = [data[:length] for length in range(4, len(data), len(data) // 7)]
    offsets = range(20, len(data), len(data) // 7)
    changed += [data[:offset] + bytes([data[offset] ^ 4]) + data[offset + 1 :] for offset in offsets]
    for text in changed:
        bad.write_bytes(text)
        with pytest.raises(CheckError, match="damaged"):
            carry.unpack(second, bad)
        assert second.finished("layers") == []
        assert left(second) == []


def test_kinds_that_stay_are_refused(first: Store, tmp_path: Path) -> None:
    first.ensure("canaries", VALUE, "canaries", empty)
    with pytest.raises(UsageError, match="canaries do not travel"):
        carry.pack(first, [("canaries", KEY)], tmp_path / "file")


def test_what_is_no_file_of_entries_is_told(second: Store, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    second.ensure("layers", VALUE, "the layer", empty)
    for name, words in (("text", "is no file of entries"), ("nothing", "there is no such file"), ("", "is no file")):
        with pytest.raises(UsageError, match=words):
            carry.unpack(second, tmp_path / name)
    with pytest.raises(UsageError, match="cannot write"):
        carry.pack(second, CHOSEN, tmp_path / "nowhere/file")


KILLED = """
import sys
from pathlib import Path
from xbuild.sandbox.run import remove_tree
from xbuild.store import carry, usage
from xbuild.store.local import Store

store = Store(Path(sys.argv[1]), remove_tree, carry.record)
print("begin", flush=True)
if sys.argv[2] == "unpack":
    carry.unpack(store, Path(sys.argv[3]))
else:
    usage.collect(store, (), size=0)
print("end", flush=True)
"""


def started(store: Store, do: str, file: Path | str = "") -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", KILLED, str(store.root), do, str(file)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def killed_after(process: subprocess.Popen[bytes], seconds: float) -> None:
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("part", range(12))
def test_a_killed_unpack_leaves_nothing_that_is_trusted(part: int, second: Store, file: Path) -> None:
    killed_after(started(second, "unpack", file), part * 0.04)
    assert faults(second) == []
    carry.unpack(second, file)
    assert faults(second) == []
    assert left(second) == []


@pytest.mark.parametrize("part", range(8))
def test_a_killed_gc_leaves_nothing_that_is_trusted(part: int, first: Store, file: Path) -> None:
    killed_after(started(first, "gc"), part * 0.04)
    assert faults(first) == []
    if entry := first.get("layers", KEY):
        assert (entry / "lower").is_dir()
    assert usage.collect(first, (), size=0).left == 0
    assert left(first) == []


_SMALL_DISK = """
echo root:0:65536 > "$1/ids"
for file in /etc/subuid /etc/subgid; do mount --bind "$1/ids" "$file"; done
mount -t tmpfs -o size=8m,mode=755 small /mnt
mkdir /mnt/cache
"$2" -c "$3" /mnt/cache unpack "$1/file" || echo failed
find /mnt/cache -mindepth 2 ! -path "*/locks/*"
"""


def test_a_full_disk_leaves_nothing(first: Store, place: Path) -> None:
    def make(staging: Path) -> None:
        (staging / "data").write_bytes(os.urandom(12 << 20))

    first.ensure("layers", VALUE, "the layer", make)
    shutil.move(carry.pack(first, CHOSEN, first.root / "file").file, place / "file")
    # The caller is root in there, with a range of ids that is there.
    command = ["sh", "-uc", _SMALL_DISK, "sh", str(place), sys.executable, KILLED]
    _, said = capture(machine_view(), command)
    lines = said.decode().splitlines()
    assert any("DiskFullError: disk full: /mnt/cache" in line for line in lines), lines
    assert lines[-1] == "failed"


def test_two_unpacks_of_one_file(second: Store, file: Path) -> None:
    both = [started(second, "unpack", file) for _ in range(2)]
    for process in both:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()
    assert faults(second) == []
    assert left(second) == []


def test_gc_leaves_what_is_in_use(first: Store, file: Path) -> None:
    with first.lock(IN_USE, shared=True), pytest.raises(MachineError, match="another xbuild that builds"):
        usage.collect(first, (), size=0)
    with first.lock(f"layers-{KEY[:20]}"):
        assert usage.collect(first, (), size=0).gone == ()
    assert usage.collect(first, {KEY[:20]}, size=0).gone == ()
    assert first.get("layers", KEY)


def test_gc_beside_builds(first: Store) -> None:
    """What a build holds in its hands, it has until its end."""
    end = threading.Event()
    bad: list[str] = []

    def build() -> None:
        while not end.is_set():
            with first.lock(IN_USE, shared=True, describe="cleans the store"):
                entry = first.ensure("twins", VALUE, "twins", lambda staging: (staging / "a").mkdir())
                time.sleep(0.01)
                if not (entry / "a").is_dir() or first.get("twins", KEY) != entry:
                    bad.append(str(entry))

    builders = [threading.Thread(target=build) for _ in range(2)]
    for builder in builders:
        builder.start()
    removed = 0
    for _ in range(40):
        try:
            removed += len(usage.collect(first, (), size=0).gone)
        except MachineError:
            time.sleep(0.005)
    end.set()
    for builder in builders:
        builder.join()
    assert bad == []
    assert faults(first) == []


def test_the_longest_unused_goes_first(first: Store) -> None:
    keys = []
    for number in range(4):
        value = {"what": "twins", "number": number}
        entry = first.ensure("twins", value, "twins", large)
        keys.append(key_of(value))
        for file in (first.root / "locks" / f"twins-{entry.name}.lock", entry / "key.json"):
            os.utime(file, (1_000_000 + number, 1_000_000 + number))
    imported = first.ensure("imported", VALUE, "a root", empty)
    os.utime(imported / "key.json", (1, 1))
    assert first.get("twins", keys[0])
    held = usage.held(first)
    assert [one.key for one in held if one.kind == "twins"] == [keys[0], keys[3], keys[2], keys[1]]
    total = sum(one.size for one in held)
    told = usage.collect(first, (), size=total - 1, dry=True)
    assert [one.key for one in told.gone] == [keys[1]]
    assert len(usage.held(first)) == 5
    assert usage.collect(first, (), size=total - 1).gone == told.gone
    done = usage.collect(first, (), days=1)
    assert [one.key for one in done.gone] == [keys[2], keys[3]]
    assert done.left == sum(one.size for one in usage.held(first))
    assert usage.collect(first, (), size=0).gone[0].key == keys[0]
    assert imported.is_dir()
