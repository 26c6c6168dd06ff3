"""Where .deb files differ: each test plants one difference, and asks for that and no other."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import pytest

from tests.unit.commands import Run
from tests.unit.debs import TIME, Node, deb
from xbuild.proof.compare import text
from xbuild.proof.compare.contents import compare_contents
from xbuild.proof.compare.files import Counts, Difference
from xbuild.proof.compare.outcome import Pair
from xbuild.proof.compare.verdict import Found, Verdict

DATA = Path(__file__).parent / "data"
NEWS = "usr/share/doc/tool/NEWS.gz"
FILES: dict[str, bytes | Node] = {"usr/bin/tool": b"#!/bin/sh\n", NEWS: gzip.compress(b"a\nb\n")}
SCRIPTS = {"postinst": "#!/bin/sh\nset -e\n", "md5sums": "aa  usr/bin/tool\n"}


def compared(tmp_path: Path, *, files: dict[str, bytes | Node] | None = None, **changes: object) -> Found:
    one = deb(tmp_path / "one.deb", FILES, scripts=SCRIPTS)
    given = {"scripts": SCRIPTS} | changes
    other = deb(tmp_path / "other.deb", FILES | (files or {}), **given)  # type: ignore[arg-type]
    return compare_contents(one.read_bytes(), other.read_bytes())


def test_equal_ones(tmp_path: Path) -> None:
    assert compared(tmp_path).verdict is Verdict.IDENTICAL


def test_fields(tmp_path: Path) -> None:
    found = compared(tmp_path, fields={"Depends": "libc6", "Version": "1.0-2+b1"})
    assert found.sections == ("Version", "Depends")
    ((name, member),) = found.members
    assert (name, member.sections) == ("DEBIAN/control", ("Version", "Depends"))
    assert "+Depends: libc6" in member.lines


def test_a_script(tmp_path: Path) -> None:
    found = compared(tmp_path, scripts={**SCRIPTS, "postinst": "#!/bin/sh\nset -eu\n"})
    ((name, member),) = found.members
    assert (name, member.verdict, member.sections) == ("DEBIAN/postinst", Verdict.DIFFERENT, ("contents",))
    assert member.lines == ("@@ -1,2 +1,2 @@", " #!/bin/sh", "-set -e", "+set -eu")


def test_sums_follow_from_files(tmp_path: Path) -> None:
    scripts = {**SCRIPTS, "md5sums": "bb  usr/bin/tool\n"}
    found = compared(tmp_path, files={"usr/bin/tool": b"#!/bin/bash\n"}, scripts=scripts)
    assert dict(found.members)["DEBIAN/md5sums"].verdict is Verdict.SAME
    found = compared(tmp_path, scripts={**SCRIPTS, "md5sums": "aa  usr/bin/other\n"})
    assert dict(found.members)["DEBIAN/md5sums"].verdict is Verdict.DIFFERENT


@pytest.mark.parametrize(
    ("node", "section", "detail"),
    [
        (Node(b"#!/bin/sh\n", mode=0o4755), "mode", "mode: 0755, 4755"),
        (Node(b"#!/bin/sh\n", mode=0o755, mtime=TIME + 1), "time", "time: 2025-06-15 15:06:40, 2025-06-15 15:06:41"),
        (Node(kind=tarfile.SYMTYPE, target="sh", mode=0o755), "kind", "kind: file, link; target: , sh"),
    ],
)
def test_attributes(tmp_path: Path, node: Node, section: str, detail: str) -> None:
    found = compared(tmp_path, files={"usr/bin/tool": node})
    ((name, member),) = found.members
    assert (name, member.sections[0], member.detail) == ("usr/bin/tool", section, detail)


def test_packed_texts_are_unpacked(tmp_path: Path) -> None:
    found = compared(tmp_path, files={NEWS: gzip.compress(b"a\nc\n")})
    ((_, member),) = found.members
    assert member.lines == ("@@ -1,2 +1,2 @@", " a", "-b", "+c")
    found = compared(tmp_path, files={NEWS: gzip.compress(b"a\nb\n", mtime=7)})
    assert found.members[0][1].sections == ("gzip's own header or packing",)


def test_only_one_has_it(tmp_path: Path) -> None:
    found = compared(tmp_path, files={"usr/bin/more": b""})
    assert found.members == (("usr/bin/more", Found(Verdict.ONLY, ("only in the second",))),)


def test_packing(tmp_path: Path) -> None:
    assert compared(tmp_path, kind=".gz").sections[0].startswith("compression: control.tar.xz data.tar.xz, control")
    one = deb(tmp_path / "one.deb", FILES).read_bytes()
    assert compare_contents(one, one.replace(str(TIME).encode(), str(TIME + 1).encode(), 1)).sections == ("packing",)


def test_programs_are_compared_by_section(tmp_path: Path) -> None:
    program = next(file for file in sorted(DATA.iterdir()) if file.read_bytes()[:4] == b"\x7fELF").read_bytes()
    changed = program.replace(b"GCC:", b"gcc:")
    assert changed != program
    one = deb(tmp_path / "one.deb", {"usr/bin/x": program}).read_bytes()
    other = deb(tmp_path / "other.deb", {"usr/bin/x": changed}).read_bytes()
    found = compare_contents(one, other)
    assert (found.verdict, found.sections) == (Verdict.SAME, (".comment",))


def test_a_damaged_one_is_told(tmp_path: Path) -> None:
    whole = deb(tmp_path / "one.deb", FILES).read_bytes()
    found = compare_contents(whole, whole[:-100])
    assert found.verdict is Verdict.DIFFERENT
    assert found.sections[0].startswith("broken .deb file: ")


def test_the_report_tells_members(tmp_path: Path) -> None:
    found = compared(tmp_path, fields={"Depends": "libc6"}, files={"usr/bin/tool": b"#!/bin/bash\n"})
    item = Difference("artifact", "t_1_armhf.deb", found.verdict, found.sections, members=found.members, contents=True)
    pair = Pair(("substituted", "emulated"), Counts(0, 0, 1, 0), None, (item,))
    lines = [line.strip() for line in text._pair_lines(pair)]
    assert "in t_1_armhf.deb:" in lines
    assert "DEBIAN/control: different (Depends)" in lines
    assert "+#!/bin/bash" in lines
    told = json.loads(json.dumps(item.as_json()))
    assert [member["name"] for member in told["members"]] == ["DEBIAN/control", "usr/bin/tool"]
    assert told["members"][1]["lines"][-1] == "+#!/bin/bash"


def test_two_files_by_the_command(tmp_path: Path, xbuild: Run) -> None:
    (tmp_path / "other").mkdir()
    one = str(deb(tmp_path / "a.deb", {"usr/bin/x": b"1", "usr/bin/y": b"2"}))
    files = {"usr/bin/x": b"1", "usr/bin/y": b"3"}
    other = str(deb(tmp_path / "other/a.deb", files, scripts={"postinst": "#!/bin/sh\n"}))
    same = xbuild("compare", one, "--against", one, "--json")
    assert (same.code, same.value["verdict"], same.value["files"]) == (0, "identical", [one, one])
    differs = xbuild("compare", one, "--against", other, "--json")
    assert (differs.code, differs.value["verdict"]) == (5, "different")
    assert [member["name"] for member in differs.value["members"]] == ["DEBIAN/postinst", "usr/bin/y"]
    assert "usr/bin/y: different" in xbuild("compare", one, "--against", other).out
    gone = xbuild("compare", one, "--against", str(tmp_path / "none"), "--json")
    assert (gone.code, gone.value["error"]["message"]) == (2, f"{tmp_path / 'none'}: No such file or directory")
