"""Entries of binfmt_misc in every format; the texts are what kernel, systemd and binfmt-support 2.2.2 wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base.errors import UsageError
from xbuild.binfmt.entry import Entry, escaped, unescaped
from xbuild.binfmt.formats import parse, parse_file
from xbuild.binfmt.render import render

PROC = """enabled
interpreter /usr/libexec/qemu-binfmt/arm-binfmt-P
flags: POF
offset 0
magic 7f454c4601010100000000000000000002002800
mask ffffffffffffff00fffffffffffffffffeffffff
"""

PROC_EXTENSION = "disabled\ninterpreter /bin/cat\nflags: \nextension .foo\n"

BINFMT_D = """# a comment
; another one

:python3.11:M::\\xa7\\x0d\\x0d\\x0a::/usr/bin/python3.11:
  :py:E::py::/usr/bin/python3:P
"""

BINFMTS = """package openjdk-17
interpreter /usr/bin/jexec
magic PK\\x03\\x04
offset 2
mask \\xff\\xff\\xff\\x0f
credentials yes
preserve yes
fix_binary no
"""

ADMIN = "xbuild\nmagic\n2\n\\x7f\\x45\\x4c\\x46X\\x0a\n\\xff\\xff\\xff\\xff\\xff\\x00\n/bin/echo\n\nno\nyes\nyes\n"
ADMIN_LOCAL = ":\nextension\n0\nfoo\n\n/bin/cat\n\n\nyes\n\n"


def one(text: str, form: str = "", name: str = "x") -> tuple[str, Entry]:
    found, entries = parse(text.encode(), name, "here", form)
    assert len(entries) == 1
    return found, entries[0]


def test_kernel() -> None:
    form, entry = one(PROC, name="qemu-arm")
    assert form == "proc"
    assert (entry.name, entry.flags, entry.enabled, entry.architecture) == ("qemu-arm", "POF", True, "arm")
    assert entry.interpreter == "/usr/libexec/qemu-binfmt/arm-binfmt-P"
    form, entry = one(PROC_EXTENSION)
    assert (entry.kind, entry.extension, entry.enabled, entry.flags) == ("E", "foo", False, "")


def test_binfmt_d() -> None:
    form, entries = parse(BINFMT_D.encode(), "x", "here")
    assert form == "binfmt.d"
    assert [(entry.name, entry.kind, entry.magic, entry.extension, entry.flags) for entry in entries] == [
        ("python3.11", "M", b"\xa7\r\r\n", "", ""),
        ("py", "E", b"", "py", "P"),
    ]
    assert entries[0].mask == b"\xff" * 4


def test_binfmt_support() -> None:
    form, entry = one(BINFMTS, name="jar")
    assert form == "binfmts"
    assert (entry.name, entry.package, entry.offset, entry.magic) == ("jar", "openjdk-17", 2, b"PK\x03\x04")
    assert (entry.mask, entry.flags) == (b"\xff\xff\xff\x0f", "CP")


def test_what_binfmt_support_keeps() -> None:
    form, entry = one(ADMIN)
    assert form == "admin"
    assert (entry.package, entry.offset, entry.magic, entry.flags) == ("xbuild", 2, b"\x7fELFX\n", "PF")
    form, entry = one(ADMIN_LOCAL)
    assert (form, entry.package, entry.kind, entry.extension, entry.flags) == ("admin", None, "E", "foo", "P")


@pytest.mark.parametrize("delimiter", [":", ",", "|"])
def test_any_delimiter(delimiter: str) -> None:
    form, entry = one(":jar:M:1:PK::/usr/bin/jexec:".replace(":", delimiter))
    assert (form, entry.name, entry.offset, entry.magic) == ("register", "jar", 1, b"PK")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (":x:M::AB::/bin/x", "a registration is :name:type:offset:magic:mask:interpreter:flags, with 7 fields, not 6"),
        (":x:Q::AB::/bin/x:", "here:1: the type is M or E, not 'Q'"),
        (":x:M:a:AB::/bin/x:", "here:1: the offset is a number of bytes, not 'a'"),
        (":x:M::AB:\\xff:/bin/x:", "here:1: mask has 1 bytes, magic 2"),
        (":x:M::\\xf:\\xff:/bin/x:", "here:1: incomplete escape"),
        (":x:M::::/bin/x:", "here:1: the magic is empty"),
        (":x:M:255:AB::/bin/x:", "the kernel compares the first 256 bytes of a file; this magic ends at byte 257"),
        (":x:M::AB:::", "here:1: an entry needs an interpreter"),
        (":x:M::AB::/bin/x:Q", "here:1: binfmt_misc flags are letters of POCF, not 'Q'"),
        (":status:M::AB::/bin/x:", "here:1: not a name for a binfmt_misc entry"),
        (":x:E::a/b::/bin/x:", "here:1: not an extension: 'a/b'"),
        ("# only\n:x:M::AB::/bin/x:Q", "here:2: binfmt_misc flags"),
        ("", "here:1: "),
        ("package a\nmagick PK\n", "here:2: unknown option 'magick'; did you mean 'magic'?"),
        ("package a\npackage b\n", "here:2: package is there twice"),
        ("package a\ninterpreter /x\n", "either a magic or an extension"),
        ("enabled\nsurprise\n", "here:2: not a line of an entry of the kernel"),
        ("enabled\ninterpreter /x\nmagic zz\n", "no hex digits"),
        ("\0\1", "here: not a text file"),
    ],
)
def test_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text.encode(), "x", "here", "register" if not text else "")
    assert said in caught.value.message


def test_unknown_format() -> None:
    with pytest.raises(UsageError, match="unknown format 'registr'; did you mean 'register'"):
        parse(b"", "x", "here", "registr")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        parse_file(tmp_path / "none")


MAGICS = st.binary(min_size=1, max_size=60)
TEXT = st.from_regex(r"[a-z0-9_/.+-]{1,20}", fullmatch=True)


@given(MAGICS, st.data())
def test_what_is_rendered_reads_back(magic: bytes, data: st.DataObject) -> None:
    mask = data.draw(st.binary(min_size=len(magic), max_size=len(magic)))
    offset = data.draw(st.integers(0, 256 - len(magic)))
    flags = "".join(flag for flag in "FPC" if data.draw(st.booleans()))
    entry = Entry("name", "M", "/" + data.draw(TEXT), flags, offset=offset, magic=magic, mask=mask)
    rendered = render(entry)
    for text in (rendered.register, rendered.binfmt_d, rendered.binfmt_support):
        read = one(text, name="name")[1]
        assert read.same_effect(entry)
        assert read.name == "name"


@given(st.binary(max_size=40))
def test_escapes(data: bytes) -> None:
    assert unescaped(escaped(data)) == data


@given(MAGICS, st.binary(max_size=300), st.integers(0, 200), st.data())
def test_takes_is_what_the_comparison_says(magic: bytes, start: bytes, offset: int, data: st.DataObject) -> None:
    from xbuild.binfmt.answer import Comparison

    mask = data.draw(st.binary(min_size=len(magic), max_size=len(magic)))
    offset = min(offset, 256 - len(magic))
    planted = start[:offset].ljust(offset, b"\0") + magic + start[offset + len(magic) :]
    entry = Entry("x", "M", "/x", offset=offset, magic=magic, mask=mask)
    either, comparison = (Comparison(entry, contents) for contents in (start, planted))
    assert either.takes == all(item[5] for item in either.each())
    assert comparison.takes
    assert all(item[5] for item in comparison.each())
    assert sum(len(line.split("file ")[1].split()[0]) for line in comparison.lines()) == 2 * len(magic)
