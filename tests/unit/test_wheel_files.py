"""Wheels as files: names, tags, RECORD, the check of what a build gave, and what differs between two."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.unit.test_check import DATA
from tests.unit.wheelfiles import wheel
from xbuild.base.errors import CheckError
from xbuild.build.check import check_tree
from xbuild.formats.wheel import WheelError, is_wheel, name_of, opened, wrong_platform
from xbuild.model.load import load_toolchain
from xbuild.proof.compare.contents import compare_contents
from xbuild.proof.compare.verdict import Verdict
from xbuild.wheels.build import verified
from xbuild.wheels.recipe import Options

ARMHF = load_toolchain("armhf", Path(__file__).parents[2])
MINE = "thing-1.0-cp313-cp313-manylinux_2_31_armv7l.whl"


@pytest.mark.parametrize(
    ("file", "kind", "project", "tags"),
    [
        ("six-1.16.0-py2.py3-none-any.whl", "pure", "six", {"py2-none-any", "py3-none-any"}),
        ("psutil-7.0.0-cp36-abi3-linux_armv7l.whl", "abi3", "psutil", {"cp36-abi3-linux_armv7l"}),
        ("A_b.c-1.0-3-cp313-cp313-linux_aarch64.whl", "compiled", "a-b-c", {"cp313-cp313-linux_aarch64"}),
        (
            "x-1-cp313-cp313-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
            "compiled",
            "x",
            {"cp313-cp313-manylinux2014_aarch64", "cp313-cp313-manylinux_2_17_aarch64"},
        ),
    ],
)
def test_what_a_name_says(file: str, kind: str, project: str, tags: set[str]) -> None:
    name = name_of(file)
    assert (name.kind, name.project) == (kind, project)
    assert name.tags == frozenset(tags)


@pytest.mark.parametrize("file", ["thing.whl", "a-1-b-c.whl", "a-1-x-py3-none-any-y.whl", "a-1-py3-none-any.zip", ""])
def test_what_is_no_name(file: str) -> None:
    with pytest.raises(WheelError):
        name_of(file)


def test_platforms_of_another_machine() -> None:
    right = ("any", "linux_armv7l", "manylinux2014_armv7l", "manylinux_2_31_armv7l", "musllinux_1_2_armv7l")
    wrong = ("linux_x86_64", "manylinux_2_31_aarch64", "macosx_11_0_arm64", "win32", "linux_armv7", "linux_armv6l")
    assert [tag for tag in right if wrong_platform(tag, "armv7l")] == []
    assert [tag for tag in wrong if not wrong_platform(tag, "armv7l")] == []


def test_a_wheel_read(tmp_path: Path) -> None:
    files = {
        "thing/__init__.py": b"x = 1\n",
        "thing/_a.cpython-313-arm-linux-gnueabihf.so": b"",
        "_thing.abi3.so": b"",
        "other.py": b"",
        "thing.libs/libz-0123.so.1": b"",
        "thing-1.0.data/purelib/third/__init__.py": b"",
        "thing-1.0.data/scripts/run.py": b"",
        "data/deep/none.py": b"",
    }
    with opened(wheel(tmp_path, MINE, files, metadata="Requires-Python: >=3.8\n\nName: no\n")) as found:
        assert found.faults() == []
        assert found.modules() == ["_thing", "other", "thing", "third"]
        assert found.bundled() == ["libz-0123.so.1"]
        assert (found.field("Requires-Python"), found.field("name")) == ([">=3.8"], ["thing"])
        assert found.tags == name_of(MINE).tags


def test_libraries_that_it_does_not_bring(tmp_path: Path) -> None:
    program = (DATA / "armhf-pie").read_bytes()
    lacking = {"thing/a.so": program, "thing/cut.so": program[:200], "thing/text.py": b"libx.so"}
    with opened(wheel(tmp_path, MINE, lacking)) as found:
        assert found.needed() == ["libhalf.so.1"]
    with opened(wheel(tmp_path, MINE, lacking | {"thing.libs/libhalf.so.1": b""})) as found:
        assert found.needed() == []


def test_what_record_does_not_say(tmp_path: Path) -> None:
    path = "thing/__init__.py"
    for line, fault in ((f"{path},sha256=AAAA,0", "is not what RECORD"), ("", "RECORD has no"),
                        (f"{path},,9", "is not what RECORD"), ("gone.py,,", "RECORD has gone.py")):  # fmt: skip
        with opened(wheel(tmp_path, record={path: line})) as found:
            assert fault in found.faults()[0]


def test_what_is_no_wheel(tmp_path: Path) -> None:
    whole = wheel(tmp_path).read_bytes()
    assert is_wheel(whole)
    for data in (b"", b"PK\x03\x04", whole[:200], whole[:-30]):
        assert not is_wheel(data)
        with pytest.raises(WheelError), opened(data):
            pass
    outside = tmp_path / "outside-1-py3-none-any.whl"
    with zipfile.ZipFile(outside, "w") as archive:
        archive.writestr("../x.py", "")
    with pytest.raises(WheelError, match="no member may be"), opened(outside):
        pass
    with zipfile.ZipFile(outside, "w") as archive:
        archive.writestr("x.py", "")
    with pytest.raises(WheelError, match="0 directories"), opened(outside):
        pass


def found(tree: Path, *patterns: str) -> set[tuple[str, str]]:
    return {(one.path, one.rule) for one in check_tree(tree, ARMHF, frozenset(), data=patterns).findings}


def test_a_wheel_that_built_for_this_machine_behind_our_back(tmp_path: Path) -> None:
    wheel(tmp_path, MINE, {"thing/_a.so": (DATA / "amd64-static").read_bytes()})
    assert found(tmp_path) == {(f"{MINE}: ./thing/_a.so", "machine")}
    assert found(tmp_path, "thing/_a.so") == set()


def test_tags_that_are_not_true(tmp_path: Path) -> None:
    code = (DATA / "libhalf.so.1").read_bytes()
    wheel(tmp_path, "a-1-py3-none-any.whl", {"a.so": code})
    wheel(tmp_path, "b-1-cp313-cp313-linux_x86_64.whl", {"b.so": code})
    wheel(tmp_path, "c-1-cp313-cp313-linux_armv7l.whl", {"c.so": code, "d.so": b"\x7fELF\x01"})
    (tmp_path / "d-1-py3-none-any.whl").write_bytes(b"nothing")
    # An installer's own, or a test's: not what was built.
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "e.whl").write_bytes(b"nothing")
    wanted = {("a-1-py3-none-any.whl", "tag"), ("b-1-cp313-cp313-linux_x86_64.whl", "tag"),
              ("c-1-cp313-cp313-linux_armv7l.whl: ./d.so", "broken"), ("d-1-py3-none-any.whl", "broken")}  # fmt: skip
    assert {one for one in found(tmp_path) if one[1] != "needed"} == wanted


def test_what_a_wheel_must_be_to_leave(tmp_path: Path) -> None:
    with verified(wheel(tmp_path, MINE, {"a.so": b""}), "armv7l", tagged=True) as good:
        assert good.modules() == ["a"]
    for name, tags, machine, fault in (
        (MINE, ("cp313-cp313-linux_armv7l",), "armv7l", "WHEEL has the tags"),
        (MINE, (), "aarch64", "is for another machine"),
    ):
        with pytest.raises(CheckError) as caught, verified(wheel(tmp_path, name, tags=tags), machine, tagged=True):
            pass
        assert fault in "\n".join(caught.value.details)
    plain = wheel(tmp_path, "thing-1.0-cp313-cp313-linux_armv7l.whl", {"a.so": b""})
    wanted = Options().tagged
    with pytest.raises(CheckError, match="no index takes the tag") as caught, verified(plain, "armv7l", tagged=wanted):
        pass
    assert "--linux-tag" in (caught.value.hint or "")
    for asked in (Options(linux_tag=True), Options(repair=False)):
        with verified(plain, "armv7l", tagged=asked.tagged):
            pass


def test_where_two_wheels_differ(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    files = {"thing/__init__.py": b"x = 1\n", "thing/data": b"same"}
    a = wheel(tmp_path, files=files).read_bytes()
    b = wheel(tmp_path / "b", files={**files, "thing/__init__.py": b"x = 2\n", "thing/more": b""}).read_bytes()
    known = compare_contents(a, b)
    members = {name: one for name, one in known.members}
    assert known.verdict is Verdict.DIFFERENT
    assert set(members) == {"thing/__init__.py", "thing/more", "thing-1.0.dist-info/RECORD"}
    assert "+x = 2" in members["thing/__init__.py"].lines
    only = compare_contents(a, wheel(tmp_path / "b", files=dict(reversed(files.items()))).read_bytes())
    assert "order of members" in only.sections


def test_a_record_that_only_repeats_what_differs(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    a = wheel(tmp_path, files={"x.txt": b"1"}).read_bytes()
    b = wheel(tmp_path / "b", files={"x.txt": b"2"}).read_bytes()
    members = {name: one.verdict for name, one in compare_contents(a, b).members}
    assert members == {"x.txt": Verdict.DIFFERENT, "thing-1.0.dist-info/RECORD": Verdict.SAME}
