"""Native layers: which packages ask for one, what determines it, and which modules become partners."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xbuild.dispatcher.table import Entry, encode
from xbuild.formats.debian import Tree
from xbuild.formats.elf import read_elf
from xbuild.model.load import load_toolchain
from xbuild.model.native import here
from xbuild.model.policy import Policy
from xbuild.roots.distribution import Roots
from xbuild.roots.partners import WHAT, Partners, bringing
from xbuild.roots.resolve import Locked
from xbuild.store.local import Store
from xbuild.twins import nativelayer, pairing

DATA = Path(__file__).parent / "data"
ARMHF = load_toolchain("armhf", Path(__file__).parents[2])
OWN, NATIVE = here().triplet, here().name
POLICY = Policy.model_validate(
    {
        "schema": 1,
        "name": "test",
        "summary": "for tests",
        "ignored-version-suffixes": [r"\+b[0-9]+"],
        "never": [],
        "tools": {
            "cat": {"files": ["/usr/bin/cat"]},
            "langc": {"packages": ["langc"], "native-packages": [], "layer-packages": ["langc: .+"]},
            "modules": {
                "native-files": ["/usr/lib/{native-triplet}/lang/(.+)\\.so"],
                "target-file": "/usr/lib/{triplet}/lang/\\1.so",
                "native-packages": [],
                "layer-packages": [".+: langapi-.+"],
                "library": True,
                "module": True,
            },
        },
    }
)
STATUS = """\
Package: liba-lang
Status: install ok installed
Version: 1.0-1+b3
Architecture: armhf
Depends: lang (>= 1), libc6
Pre-Depends: langapi-1

Package: libb-lang
Version: 2.0-1
Architecture: armhf
Depends: lang,
 langapi-1

Package: libpure-lang
Version: 1.0-1
Architecture: all
Depends: langapi-1

Package: lang-dev
Version: 1.0-1
Architecture: armhf
Depends: lang (= 1.0-1)
"""


def test_which_packages_may_bring_modules() -> None:
    assert bringing(STATUS, POLICY, {}) == {"liba-lang": "1.0-1", "libb-lang": "2.0-1"}
    # What the native root has in the same version is paired already.
    assert bringing(STATUS, POLICY, {"liba-lang": "1.0-1 x 00", "libb-lang": "1.9 x 00"}) == {"libb-lang": "2.0-1"}
    assert bringing("", POLICY, {}) == {}


def roots(place: Path, locked: dict[str, Locked] | None = None) -> Roots:
    return Roots(Store(place), ARMHF, POLICY, locked=locked)


def test_no_layer_where_nothing_asks_for_one(tmp_path: Path) -> None:
    none = Partners(roots(tmp_path), lambda: STATUS.split("\n\n")[-1])
    assert (none.question, none.value(), none.inputs()) == (None, None, {})
    assert not tmp_path.exists() or not any(tmp_path.iterdir())


def test_what_a_layer_is_determined_by(tmp_path: Path) -> None:
    one = Partners(roots(tmp_path), lambda: STATUS)
    assert one.question is not None
    assert (one.question.packages, one.question.versions) == (("liba-lang", "libb-lang"), ("1.0-1", "2.0-1"))
    assert set(one.inputs()[WHAT]) == {"liba-lang", "libb-lang"}
    value = one.value()
    assert value is not None
    assert value["held"] == one.inputs()[WHAT]
    # The store takes it for its own.
    store = one.roots.store
    store.ensure("twins", value, "a native layer", lambda _: None)
    assert store.older("twins") == []


def test_a_lock_file_fixes_it(tmp_path: Path) -> None:
    def unasked() -> str:
        raise AssertionError

    locked = {"target root": Locked((), {}), WHAT: Locked(("liba-lang",), {"liba-lang": "1 x 00"})}
    question = Partners(roots(tmp_path, locked), unasked).question
    assert question is not None
    assert (question.packages, question.versions) == (("liba-lang",), ())
    # One from before there were such layers has none.
    assert Partners(roots(tmp_path, {"target root": Locked((), {})}), unasked).question is None


class Natives:
    """A native root, packages over it, and the private tree made from the root."""

    def __init__(self, place: Path) -> None:
        self.place, self.private = place, place / "private"
        (self.private / NATIVE / "lib").mkdir(parents=True)
        self.tree = Tree([place / "unpacked", place / "root"])
        (place / "staging").mkdir()

    def file(self, layer: str, package: str, path: str, data: bytes) -> None:
        folder = self.place / layer
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        info = folder / "var/lib/dpkg/info"
        info.mkdir(parents=True, exist_ok=True)
        with (info / f"{package}.list").open("a") as stream:
            stream.write(path + "\n")
        with (folder / "var/lib/dpkg/status").open("a") as stream:
            stream.write(f"Package: {package}\nVersion: 1.0-1+b2\nArchitecture: {NATIVE}\n\n")

    def module(self, package: str, name: str, *, needs: bool = True) -> None:
        program = "armhf-pie" if needs else "amd64-static"
        self.file("unpacked", package, f"/usr/lib/{OWN}/lang/{name}.so", (DATA / program).read_bytes())

    def library(self, layer: str, data: bytes = b"", folder: str = f"/usr/lib/{OWN}") -> None:
        self.file(layer, "libhalf1", f"{folder}/libhalf.so.1", (DATA / "libhalf.so.1").read_bytes() + data)

    def make(self, *packages: str) -> dict[str, pairing.Twin]:
        staging = self.place / "staging"
        nativelayer.make(staging, self.tree, self.private, packages, POLICY, ARMHF)
        return {Path(twin.target_path).stem: twin for twin in pairing.load(staging / "twins.json")}

    def made(self) -> set[str]:
        layer = self.place / "staging/layer"
        return {str(path.relative_to(layer)) for path in layer.rglob("*") if path.is_file()}


@pytest.fixture
def natives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Natives:
    monkeypatch.setattr(nativelayer, "give_tree", lambda *_: None)
    made = Natives(tmp_path)
    made.file("root", "libc6", "/usr/lib/ld-linux-armhf.so.3", (DATA / "libhalf.so.1").read_bytes())
    (tmp_path / "root/lib").symlink_to("usr/lib")
    (made.private / NATIVE / "lib/ld-linux-armhf.so.3").write_bytes(b"changed")
    return made


def test_modules_with_their_libraries(natives: Natives) -> None:
    natives.module("liba-lang", "a")
    natives.module("other", "unasked", needs=False)
    natives.library("unpacked")
    twin = natives.make("liba-lang")["a"]
    place = f"usr/lib/{ARMHF.triplet}/lang/a.so"
    assert (twin.version, twin.layer, twin.program) == ("1.0-1", True, f"/.xbuild/layer/{place}")
    assert natives.made() == {place, "lib/libhalf.so.1"}


def test_programs_that_only_build_dependencies_bring(natives: Natives) -> None:
    natives.file("unpacked", "langc", "/usr/bin/langc", (DATA / "armhf-pie").read_bytes())
    natives.file("unpacked", "liba-lang", "/usr/bin/cat", (DATA / "armhf-pie").read_bytes())
    natives.library("unpacked")
    twins = natives.make("langc", "liba-lang")
    assert {name: twin.program for name, twin in twins.items()} == {"langc": "/.xbuild/layer/usr/bin/langc"}
    assert natives.made() == {"usr/bin/langc", "lib/libhalf.so.1"}
    made = (natives.place / "staging/layer/usr/bin/langc").read_bytes()
    assert read_elf(made).interpreter == f"/.xbuild/{NATIVE}/ld"


def test_libraries_of_the_private_tree_serve_modules_too(natives: Natives) -> None:
    natives.module("liba-lang", "a")
    natives.library("root")
    (natives.private / NATIVE / "lib/libhalf.so.1").write_bytes(b"changed when it was copied")
    natives.make("liba-lang")
    assert "lib/libhalf.so.1" not in natives.made()


@pytest.mark.parametrize("reason", ["another version is in the private tree", "lacks a library", "two of one name"])
def test_a_module_is_left_out(natives: Natives, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    natives.module("liba-lang", "a")
    natives.module("liba-lang", "plain", needs=False)
    if reason != "lacks a library":
        natives.library("unpacked")
    if reason == "another version is in the private tree":
        natives.library("root", b"older")
        (natives.private / NATIVE / "lib/libhalf.so.1").write_bytes(b"")
    if reason == "two of one name":
        (natives.place / "staging/layer/lib").mkdir(parents=True)
        shutil.rmtree(natives.place / "staging/layer")
        natives.module("liba-lang", "sub/b")
        where = natives.place / f"unpacked/usr/lib/{OWN}/lang/sub/b.so"
        where.write_bytes((DATA / "armhf-runpath").read_bytes())
        natives.library("unpacked", b"other", "/usr/lib")
        assert set(natives.make("liba-lang")) == {"a", "plain"}
        assert "needs another libhalf.so.1 than what is there" in capsys.readouterr().err
        return
    assert set(natives.make("liba-lang")) == {"plain"}
    assert f"no twin for /usr/lib/{ARMHF.triplet}/lang/a.so" in capsys.readouterr().err
    assert natives.made() == {f"usr/lib/{ARMHF.triplet}/lang/plain.so"}


def test_thousands_of_modules_fit_into_the_table() -> None:
    place = f"/usr/lib/{ARMHF.triplet}/perl5/5.40/auto/Some/Long/Name/Of/A/Module"
    entries = [
        Entry(f"{place}/{number}.so", f"/.xbuild/layer{place}/{number}.so", module=True)
        for number in range(5000)
    ]
    encode(entries, near="/.xbuild", far="/far/.xbuild", record=True)
