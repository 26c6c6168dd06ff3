"""Verdicts on packages: each test plants one cause in a pair of .deb files, and asks for that cause; or plants none."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.unit.debs import Node, deb
from xbuild.base.errors import EXIT_CHECK, EXIT_PHASE, UsageError
from xbuild.proof.report import reproduce_page
from xbuild.proof.reproduce import text
from xbuild.proof.reproduce.archive import Reference, history, rebuild_entry
from xbuild.proof.reproduce.causes import Known
from xbuild.proof.reproduce.hold import Against, hold, with_emulated
from xbuild.proof.reproduce.lists import read_list
from xbuild.proof.reproduce.verdict import Cause, Explained, Held, Row, Word, counts, fault, mean_ratio

DATA = Path(__file__).parent / "data"
NAME = "tool_1.0-2_armhf.deb"
DAY = 86400
SINCE = 1_750_000_000
"""What the .deb files of these tests are dated."""
OLDER = {"binutils": [("2.44-3", SINCE + 30 * DAY), ("2.43-1", SINCE - 9 * DAY), ("2.42-1", SINCE - 90 * DAY)]}
MADE = {"binutils": [("2.44-3", SINCE + DAY)], "gcc-14": [("14.2.0-19", SINCE - DAY)]}


def text_of(data: bytes) -> tuple[int, int]:
    """Where the code of an ELF file is, and how long; 0 if it is not in the file."""
    found = ELFFile(io.BytesIO(data)).get_section_by_name(".text")
    return (found["sh_offset"], found["sh_size"]) if found and found["sh_type"] == "SHT_PROGBITS" else (0, 0)


def program() -> bytes:
    """A program or library for ARM, linked."""
    for file in sorted(DATA.iterdir()):
        data = file.read_bytes() if file.is_file() else b""
        if data[:5] == b"\x7fELF\1" and struct.unpack_from("<H", data, 16)[0] in (2, 3) and text_of(data)[1]:
            return data
    raise AssertionError("no such file in tests/unit/data")


def relaid(data: bytes) -> bytes:
    """`data`, an ELF file of 32 bits, with other alignments of its loaded segments."""
    start, size, count = *struct.unpack_from("<I", data, 28), *struct.unpack_from("<HH", data, 42)
    made = bytearray(data)
    for number in range(count):
        place = start + number * size
        if struct.unpack_from("<I", data, place)[0] == 1:
            struct.pack_into("<I", made, place + 28, 0x1000 if data[place + 29] != 0x10 else 0x10000)
    return bytes(made)


def changed(data: bytes) -> bytes:
    """`data` with another byte in the middle of its code."""
    start, size = text_of(data)
    place = start + size // 2
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def otherwise_debugged(data: bytes) -> bytes:
    """`data` with another build id."""
    section = ELFFile(io.BytesIO(data)).get_section_by_name(".note.gnu.build-id")
    assert section
    end = section["sh_offset"] + section["sh_size"]
    return data[: end - 1] + bytes([data[end - 1] ^ 1]) + data[end:]


def held(
    tmp_path: Path,
    theirs: Mapping[str, bytes | Node],
    ours: Mapping[str, bytes | Node],
    known: Known | None = None,
    *,
    scripts: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
    fields: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
) -> Held:
    """Ours, held against theirs."""
    (tmp_path / "archive").mkdir(exist_ok=True)
    other = deb(tmp_path / "archive" / NAME, theirs, scripts=scripts[0], fields=fields[0])
    own = deb(tmp_path / NAME, ours, scripts=scripts[1], fields=fields[1])
    sha256 = hashlib.sha256(other.read_bytes()).hexdigest()
    reference = Reference("tool", "1.0-2", "armhf", sha256, "1.0-2", file=other)
    against = Against([reference], "1.0-2", lambda one: one.file or Path(), known or Known())
    (found,) = hold([own], against)
    return found


def only(found: Held) -> Cause:
    """The one cause that explains all."""
    assert found.word is Word.CAUSE, found.explained
    (cause,) = found.explained.causes
    return cause


def test_identical(tmp_path: Path) -> None:
    assert held(tmp_path, {"usr/bin/x": b"x"}, {"usr/bin/x": b"x"}).word is Word.IDENTICAL


def test_a_difference_without_a_cause(tmp_path: Path) -> None:
    found = held(tmp_path, {"usr/bin/x": b"\0x"}, {"usr/bin/x": b"\0y"}, Known(tools=OLDER, control=frozenset()))
    assert (found.word, found.explained.left) == (Word.UNEXPLAINED, ("usr/bin/x",))
    assert replace(found, emulated=True).word is Word.NOT_OURS
    assert replace(found, emulated=False).word is Word.OURS


def script(version: str, more: str = "") -> dict[str, str]:
    block = f"# Automatically added by dh_installmenu/{version}\nupdate-menus\n{more}"
    return {"postinst": f"#!/bin/sh\nset -e\n{block}# End automatically added section\n"}


def test_another_debhelper(tmp_path: Path) -> None:
    cause = only(held(tmp_path, {}, {}, scripts=(script("13.24.1"), script("13.24.2"))))
    assert cause.kind == "debhelper"
    assert "13.24.1 in the archive's, 13.24.2 here" in cause.text
    assert cause.evidence == (
        "DEBIAN/postinst: added by dh_installmenu/13.24.1 in the archive's, by dh_installmenu/13.24.2 here",
    )
    # Our own version must be that of the package here, else the root's debhelper did not write it.
    known = Known(ours={"debhelper": "13.24.2"})
    assert only(held(tmp_path, {}, {}, known, scripts=(script("13.24.1"), script("13.24.2")))).kind == "debhelper"
    assert held(tmp_path, {}, {}, known, scripts=(script("13.24.1"), script("13.11"))).word is Word.UNEXPLAINED
    triggers = [{"triggers": f"# Triggers added by dh_makeshlibs/{v}\nactivate x\n"} for v in ("13.19", "13.24.2")]
    assert only(held(tmp_path, {}, {}, scripts=(triggers[0], triggers[1]))).kind == "debhelper"
    # What it adds may be other words, too; but not with the same version, and nothing outside of its sections.
    assert only(held(tmp_path, {}, {}, scripts=(script("13.1"), script("13.2", "more\n")))).kind == "debhelper"
    assert held(tmp_path, {}, {}, scripts=(script("13.1"), script("13.1", "more\n"))).word is Word.UNEXPLAINED
    other = {"postinst": script("13.2")["postinst"].replace("set -e", "set -x")}
    assert held(tmp_path, {}, {}, scripts=(script("13.1"), other)).word is Word.UNEXPLAINED


def test_another_compiler_by_its_own_words(tmp_path: Path) -> None:
    one = program() + b"GCC: (Debian 14.2.0-18) 14.2.0\0"
    other = program() + b"GCC: (Debian 14.2.0-19) 14.2.0\0"
    cause = only(held(tmp_path, {"usr/bin/x": one}, {"usr/bin/x": other}))
    assert cause.kind == "compiler"
    assert "14.2.0-18" in cause.text
    assert "14.2.0-19" in cause.text


def test_another_linker(tmp_path: Path) -> None:
    both = {"usr/bin/x": program()}, {"usr/bin/x": relaid(program())}
    cause = only(held(tmp_path, *both, Known(tools=OLDER)))
    assert cause.kind == "linker"
    assert "binutils 2.43-1 on 2025-06-15, 2.44-3 of 2025-07-15 here" in cause.text
    assert any("loaded segments: " in line for line in cause.evidence)
    assert any("as much code and data in both" in line for line in cause.evidence)
    # Its being newer is what proves it, and the native build may say otherwise.
    assert held(tmp_path, *both).word is Word.UNEXPLAINED
    assert held(tmp_path, *both, Known(tools=MADE)).word is Word.UNEXPLAINED
    assert held(tmp_path, *both, Known(tools=OLDER, control=frozenset())).word is Word.UNEXPLAINED
    assert only(held(tmp_path, *both, Known(tools=OLDER, control=frozenset({"usr/bin/x"})))).kind == "linker"


def test_other_debug_symbols(tmp_path: Path) -> None:
    plain = (DATA / "armhf-pie").read_bytes()
    both = {"usr/bin/x": plain}, {"usr/bin/x": otherwise_debugged(plain)}
    native = frozenset({"usr/bin/x"})
    cause = only(held(tmp_path, *both, Known(tools=MADE, control=native)))
    assert cause.kind == "debug symbols"
    assert "usr/bin/x: the native build differs from the archive's in the same file" in cause.evidence
    # Without that a twin may have written them.
    assert held(tmp_path, *both, Known(tools=MADE)).word is Word.UNEXPLAINED
    assert held(tmp_path, *both, Known(tools=MADE, control=frozenset())).word is Word.UNEXPLAINED
    more = both[0], {"usr/bin/x": changed(otherwise_debugged(plain))}
    assert held(tmp_path, *more, Known(tools=MADE, control=native)).word is Word.UNEXPLAINED


def test_code_needs_a_native_build_that_differs_too(tmp_path: Path) -> None:
    both = {"usr/bin/x": program()}, {"usr/bin/x": changed(program())}
    assert held(tmp_path, *both, Known(tools=OLDER)).word is Word.UNEXPLAINED
    assert held(tmp_path, *both, Known(tools=MADE, control=frozenset({"usr/bin/x"}))).word is Word.UNEXPLAINED
    assert only(held(tmp_path, *both, Known(tools=OLDER, native=True))).kind == "compiler"
    assert held(tmp_path, *both, Known(tools=MADE, native=True)).word is Word.UNEXPLAINED
    cause = only(held(tmp_path, *both, Known(tools=OLDER, control=frozenset({"usr/bin/x"}))))
    assert cause.kind == "compiler"
    assert "usr/bin/x: the native build differs from the archive's in the same file" in cause.evidence


@pytest.mark.parametrize(
    ("one", "other", "kind", "said"),
    [
        ("at /build/x-Ab12/x-1 now", "at /build/reproducible-path/x-1 now", "path", "/build/x-Ab12/x-1 in the"),
        ("generated by help2man 1.49.2.", "generated by help2man 1.49.3.", "tool", "help2man 1.49.2 in the archive's"),
        ('.TH X 1 "March 2024"', '.TH X 1 "March 2025"', "time", "March 2024 in the archive's"),
        ("built 2024-10-02 10:11", "built 2025-10-02 10:12", "time", "2024-10-02"),
    ],
)
def test_texts(tmp_path: Path, one: str, other: str, kind: str, said: str) -> None:
    path = "usr/share/man/man1/x.1.gz"
    packed = [gzip.compress(f"first\n{line}\nlast\n".encode(), mtime=0) for line in (one, other)]
    cause = only(held(tmp_path, {path: packed[0]}, {path: packed[1]}))
    assert cause.kind == kind
    assert said in cause.text
    # One line without a cause, and there is none.
    packed[1] = gzip.compress(f"first\n{other}\nother\n".encode(), mtime=0)
    assert held(tmp_path, {path: packed[0]}, {path: packed[1]}).word is Word.UNEXPLAINED


def test_times_of_files_and_of_packing(tmp_path: Path) -> None:
    assert only(held(tmp_path, {"x": Node(b"x")}, {"x": Node(b"x", mtime=5)})).kind == "time"
    packed = [gzip.compress(b"x", mtime=when) for when in (1, 2)]
    assert only(held(tmp_path, {"x.gz": packed[0]}, {"x.gz": packed[1]})).kind == "time"
    assert held(tmp_path, {"x": Node(b"x")}, {"x": Node(b"x", mode=0o600)}).word is Word.UNEXPLAINED


def test_a_path_in_a_binary_file(tmp_path: Path) -> None:
    files = [{"x": b"\0\1/build/x-%s/x-1\0" % word} for word in (b"Ab12cd", b"reproducible")]
    assert only(held(tmp_path, files[0], files[1])).kind == "path"


def test_what_follows_from_other_files(tmp_path: Path) -> None:
    fields = ({"Installed-Size": "10"}, {"Installed-Size": "11"})
    sums = ({"md5sums": "aa  x\n"}, {"md5sums": "bb  x\n"})
    found = held(tmp_path, {"x": Node(b"x")}, {"x": Node(b"x", mtime=5)}, scripts=sums, fields=fields)
    assert only(found).members == ("x",)
    assert held(tmp_path, {}, {}, fields=fields).word is Word.UNEXPLAINED


def test_a_man_page_names_its_perl(tmp_path: Path) -> None:
    pages = [{"usr/share/man/x": f'.TH x 3pm 2024-10-15 "perl v5.40.{number}" "Docs"\n'.encode()} for number in (0, 1)]
    found = held(tmp_path, pages[0], pages[1], Known(ours={"perl": "5.40.1-6+deb13u1"}))
    assert only(found).kind == "tool"
    other = held(tmp_path, pages[0], pages[1], Known(ours={"perl": "5.40.2-1", "x": "5.40.1-1"}))
    assert other.word is Word.UNEXPLAINED


def test_fields(tmp_path: Path) -> None:
    fields = ({"Depends": "libc6 (>= 2.34), liba"}, {"Depends": "libc6 (>= 2.38), liba"})
    known = Known(tools={"libc6": [("2.38-2", SINCE + 19 * DAY), ("2.38-1", SINCE + 9 * DAY), ("2.37-1", SINCE - DAY)]})
    assert only(held(tmp_path, {}, {}, known, fields=fields)).kind == "library"
    assert held(tmp_path, {}, {}, fields=fields).word is Word.UNEXPLAINED
    # There was such a library already.
    early = Known(tools={"libc6": [("2.38-2", SINCE + 9 * DAY), ("2.38-1", SINCE - DAY)]})
    assert held(tmp_path, {}, {}, early, fields=fields).word is Word.UNEXPLAINED
    perls = ({"Depends": "perl (>= 5.40.0-6), perlapi-5.40.0"}, {"Depends": "perl (>= 5.40.1-6), perlapi-5.40.1"})
    versions = [("5.40.1-6", SINCE + 19 * DAY), ("5.40.1-1", SINCE + 9 * DAY), ("5.40.0-6", SINCE - DAY)]
    assert only(held(tmp_path, {}, {}, Known(tools={"perl": versions}), fields=perls)).kind == "library"
    versions = [("5.40.1-6", SINCE + 19 * DAY), ("5.40.1-1", SINCE - DAY)]
    assert held(tmp_path, {}, {}, Known(tools={"perl": versions}), fields=perls).word is Word.UNEXPLAINED
    # But it was not the one that is there, as a symbol tells.
    linked = [{"usr/bin/x": (DATA / f"armhf-half-{number}").read_bytes()} for number in (1, 2)]
    halves = ({"Depends": "libhalf1 (>= 1)"}, {"Depends": "libhalf1 (>= 2)"})
    told = held(tmp_path, linked[0], linked[1], Known(**vars(early) | {"since": SINCE}), fields=halves).explained
    (cause,) = (cause for cause in told.causes if cause.kind == "library")
    assert "usr/bin/x: half@HALF_1 in the archive's, half@HALF_2 here" in cause.text
    same = held(tmp_path, linked[0], linked[0], early, fields=halves)
    assert same.word is Word.UNEXPLAINED
    other = (fields[0], {"Depends": "libc6 (>= 2.38), libb"})
    assert held(tmp_path, {}, {}, known, fields=other).word is Word.UNEXPLAINED
    built = ({"Built-Using": "glibc (= 2.40-3)"}, {"Built-Using": "glibc (= 2.41-12)"})
    assert only(held(tmp_path, {}, {}, fields=built)).kind == "built in"


def test_what_a_buildinfo_says(tmp_path: Path) -> None:
    known = Known(ours={"gcc-14": "14.2.0-19", "sed": "1"}, theirs={"gcc-14": "14.2.0-17", "sed": "1"})
    both = {"usr/bin/x": program()}, {"usr/bin/x": changed(program())}
    cause = only(held(tmp_path, *both, known))
    assert cause.evidence == ("usr/bin/x: gcc-14 14.2.0-17 by its .buildinfo, 14.2.0-19 here",)
    alike = replace(known, theirs={**known.ours, "sed": "2"})
    assert held(tmp_path, *both, alike).word is Word.UNEXPLAINED


def test_what_is_not_held(tmp_path: Path) -> None:
    fields = {"Package": "tool-dbgsym"}
    file = deb(tmp_path / "tool-dbgsym_1.0-2_armhf.deb", fields=fields)
    own = deb(tmp_path / NAME)
    others = [Reference("tool", "1.1-1", "armhf", "0" * 64, "1.1-1")]
    others += [Reference("lib", "1.0-2", "armhf", "1" * 64, "1.0-2")]
    found = {one.name: one for one in hold([file, own], Against(others, "1.0-2", lambda _: Path(), Known()))}
    assert (found[file.name].word, found[file.name].note) == (Word.NOT_HELD, "debug symbols are in another archive")
    assert (found[NAME].word, found[NAME].note) == (Word.NOT_HELD, "the archive's is built from version 1.1-1")
    # What the archive has and this build did not give is no small thing.
    assert found["lib_1.0-2_armhf.deb"].word is Word.UNEXPLAINED


def test_emulated_bytes(tmp_path: Path) -> None:
    found = held(tmp_path, {}, {"x": b"x"})
    (same,) = with_emulated([found], [tmp_path / NAME])
    (other,) = with_emulated([found], [deb(tmp_path / "archive" / NAME, {"x": b"z"})])
    (gone,) = with_emulated([found], [])
    assert (same.emulated, other.word, gone.word) == (True, Word.OURS, Word.OURS)


GOOD = Held("a.deb", "1", "1")
CAUSE = Cause("debhelper", "another | debhelper", ("x",), ("y",))
ROWS = [
    Row("less", "668-1", "armhf", "substituted", seconds={"native": 10.0, "substituted": 12.0}, debs=(GOOD,)),
    Row("dash", "1", "armhf", "substituted", "/r.yml", seconds={"native": 10.0, "substituted": 14.7, "emulated": 147.0},
        debs=(Held("d.deb", "1", "2", explained=Explained((CAUSE,))), Held("d-dbgsym.deb", "1"))),
]  # fmt: skip


def test_rows_are_kept_as_they_are() -> None:
    assert [Row.read(json.loads(json.dumps(row.as_json()))) for row in ROWS] == ROWS
    assert ROWS[1].as_json()["verdicts"] == {"d.deb": "cause proved", "d-dbgsym.deb": "not held"}
    with pytest.raises(ValueError, match="source"):
        Row.read({"version": "1"})


def test_sums_over_rows() -> None:
    assert counts(ROWS) == {Word.IDENTICAL: 1, Word.CAUSE: 1, Word.NOT_HELD: 1}
    mean = mean_ratio(ROWS)
    assert mean is not None
    assert mean == pytest.approx((1.2 * 1.47) ** 0.5)
    assert ROWS[1].slower == pytest.approx(10)
    assert fault(ROWS) is None
    bad = replace(ROWS[1], debs=(Held("d.deb", "1", "2", explained=Explained((), ("usr/bin/d",)), emulated=False),))
    error = fault([ROWS[0], bad])
    assert error is not None
    assert (error.exit_code, error.details) == (EXIT_CHECK, ("d.deb: ours (usr/bin/d)",))
    assert error.hint == "invoke bisect /r.yml --target armhf"
    unexplained = fault([replace(bad, debs=(replace(bad.debs[0], emulated=None),))])
    assert unexplained is not None
    assert "--emulated" in (unexplained.hint or "")
    failed = fault([replace(ROWS[0], debs=(), failed="phase 'compile' failed", exit_code=EXIT_PHASE)])
    assert failed is not None
    assert (failed.exit_code, failed.message) == (EXIT_PHASE, "phase 'compile' failed")


def test_tables_and_pages() -> None:
    table = text.markdown(ROWS)
    assert "| less | 668-1 | armhf | 10.0 s | 12.0 s | 1.20 |  | identical: a.deb |" in table
    assert "| 2m 27s (10.0 x) | cause proved (debhelper): d.deb; 1 not held |" in table
    assert "- dash: another \\| debhelper" in table
    page = reproduce_page([*ROWS, Row("bad", "", "arm64", "substituted", failed="<b>no</b>")])
    assert "&lt;b&gt;no&lt;/b&gt;" in page
    assert "another | debhelper" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "  another | debhelper" in list(text.held_lines(ROWS[1].debs[0]))


def test_lists(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("# all\nless  # a comment\n\ndash=1-2\nless\n")
    assert read_list(file) == ["less", "dash=1-2"]
    file.write_text("# none\n")
    with pytest.raises(UsageError, match="names no source"):
        read_list(file)
    with pytest.raises(UsageError, match="No such file"):
        read_list(tmp_path / "none")


def test_histories() -> None:
    changelog = "a (2-1) sid; urgency=low\n\n  * x\n\n -- A <a@b.c>  Mon, 03 Mar 2025 22:01:22 +0100\n\na (1-1) sid\n"
    changelog += "\n -- B <a@b.c>  no date at all\n\na (0-1) sid\n\n -- C <c@d>  Thu, 01 Jan 1970 00:00:09 +0000\n"
    assert history(changelog) == [("2-1", 1741035682), ("0-1", 9)]


def test_a_rebuild(tmp_path: Path) -> None:
    entry = "tools (1.0-2+b1) sid; binary-only=yes\n\n  * Rebuild.\n\n -- B <b@c>  Mon, 03 Mar 2025 22:01:22 +0100"
    path = "usr/share/doc/tool/changelog.Debian.armhf.gz"
    file = deb(tmp_path / "a.deb", {path: gzip.compress(f"{entry}\n\ntools (1.0-2) sid\n".encode())})
    assert rebuild_entry(file) == entry
    with pytest.raises(UsageError, match="is a rebuild"):
        rebuild_entry(deb(tmp_path / "b.deb"))
    rebuilt = Reference("tool", "1:1.0-2+b1", "armhf", "", "1:1.0-2")
    assert (rebuilt.is_rebuild, replace(rebuilt, version="1:1.0-2").is_rebuild) == (True, False)
    assert not replace(rebuilt, version="7").is_rebuild


def _changelog(*years: int) -> str:
    return "\n\n".join(f"tool ({year}) sid; urgency=low\n\n  * x\n\n -- A <a@b>  Mon, 01 Jan {year} 10:00:00 +0000"
                       for year in years) + "\n"  # fmt: skip


def test_old_entries_that_debhelper_leaves_out(tmp_path: Path) -> None:
    place = "usr/share/doc/tool"
    mark = "\n# Older entries have been removed from this changelog.\n# To read the complete changelog use `apt`.\n"
    trimmed = {f"{place}/changelog.Debian.gz": gzip.compress((_changelog(2025, 2024) + mark).encode())}
    whole = gzip.compress(_changelog(2025, 2024, 2001).encode())
    news = {f"{place}/NEWS.Debian.gz": gzip.compress(_changelog(2002, 1999).encode())}
    known = Known(tools={"debhelper": [("13.24.2", SINCE + 30 * DAY), ("13.3", SINCE - 99 * DAY)]})
    theirs = {f"{place}/changelog.Debian.gz": whole, **news}
    cause = only(held(tmp_path, theirs, trimmed, known))
    assert cause.kind == "debhelper"
    assert "debhelper 13.3 on" in cause.text
    assert sorted(cause.members) == sorted(theirs)
    assert cause.evidence[-1].endswith("oldest entries left out here: 1")
    # Not where that debhelper was there already, news of later were lost, or something else differs.
    for other, built, given in [
        (Known(tools={"debhelper": [("13.24.2", SINCE - DAY)]}), trimmed, theirs),
        (known, trimmed, {**theirs, f"{place}/NEWS.Debian.gz": gzip.compress(_changelog(2025).encode())}),
        (known, {f"{place}/changelog.Debian.gz": gzip.compress((_changelog(2025) + "x" + mark).encode())}, theirs),
        (known, {f"{place}/changelog.Debian.gz": gzip.compress(_changelog(2025, 2024).encode())}, theirs),
    ]:
        assert held(tmp_path, given, built, other).word is Word.UNEXPLAINED
