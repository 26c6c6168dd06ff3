"""The page of a comparison: what it says, and that it is whole, safe and needs nothing beside it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from xbuild.base.errors import UsageError
from xbuild.build.modes.distcc import Summary
from xbuild.cli.many import Many
from xbuild.cli.pages import require_writable, written
from xbuild.proof import report
from xbuild.proof.compare.files import Counts, Difference
from xbuild.proof.compare.outcome import Again, Comparison, Cpu, ModeRun, Pair, with_own
from xbuild.proof.compare.verdict import Verdict
from xbuild.proof.report.compare import headline
from xbuild.proof.report.timeline import timeline

FAST = ModeRun(
    "substituted",
    "built",
    (("unpack", 0.5), ("configure", 20.0), ("compile", 20.0)),
    bytes=100,
    files=3,
    objects=300,
    cpu={"configure": Cpu(5.0, 15.0, 20.0)},
)
SLOW = ModeRun("emulated", "up-to-date", (("unpack", 0.5), ("configure", 360.0), ("compile", 660.0)), files=3)
FAILED = ModeRun(
    "distcc",
    "failed",
    (("unpack", 0.5), ("configure", 3.0)),
    message="zlib 1.3.1 for armhf (distcc): phase 'configure' failed",
    details=("configure: error: <no> compiler", "log:    /x/02-configure.log"),
    log="/x/02-configure.log",
)
MODES = ("substituted", "emulated")
GOOD = Pair(MODES, Counts(3, 0, 0, 0), Counts(300, 0, 0, 0), ())
LINES = tuple(
    Difference("objects", f"src/{number:03}.o", Verdict.SAME, (".debug_line",), contents=True) for number in range(300)
)
TEXT = Difference("artifact", "usr/share/<answer>", Verdict.DIFFERENT, ("contents",), contents=True)
PROGRAM = Difference("artifact", "usr/bin/x", Verdict.DIFFERENT, (".text",), contents=True)


def comparison(*modes: ModeRun, pairs: tuple[Pair, ...] = (GOOD,), again: Again | None = None) -> Comparison:
    return Comparison(
        "zlib", "1.3.1", "armhf", "trixie", "zlib-1.3.1-armhf", modes or (FAST, SLOW), pairs, again,
        environment=(("gcc", "14.2.0-19", "14.2.0-19 amd64"),), machine="2 x CPU", commands=("invoke compare zlib",),
    )  # fmt: skip


def unequal(*differences: Difference) -> Pair:
    return Pair(MODES, Counts(1, 0, 2, 0), Counts(0, 300, 0, 0), differences, ("src/config.h",))


class Elements(HTMLParser):
    """Checks that every element is closed, and counts them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, _attributes: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line"):
            assert self.open.pop() == tag


def page(known: Comparison) -> str:
    text = report.compare_page(known)
    Elements(text)
    assert re.findall(r"<script|<link|<img|src=|@import|url\(|https?:", text) == []
    return text


def test_what_distcc_compiled_where_is_told() -> None:
    text = page(comparison(FAST, replace(SLOW, mode="distcc", distcc=Summary(remote=44))))
    assert "distcc: 44 compiled by the server" in text
    assert "What distcc's server compiles natively is not in it." in text
    assert "distcc" not in page(comparison(FAST, SLOW))


def test_equal_modes() -> None:
    found = headline(comparison())
    assert (found.kind, found.word) == ("good", "Identical")
    assert found.sentences == (
        "The substituted and the emulated build gave the same 3 files, and the same 300 objects in the build trees, "
        "byte for byte.",
    )


def test_the_verdict_comes_first() -> None:
    text = page(comparison())
    assert text.index("✓ Identical") < text.index("<table>")
    assert "25.2 ×" in text
    assert "invoke compare zlib" in text
    assert "14.2.0-19 amd64" in text


def test_only_debug_information_differs() -> None:
    found = headline(comparison(pairs=(unequal(*LINES),)))
    assert (found.kind, found.word) == ("fair", "Same code and data")
    sentence = "300 files have other bytes in the substituted and the emulated build, but only in .debug_line."
    assert found.sentences == (sentence,)


def test_code_differs() -> None:
    found = headline(comparison(pairs=(unequal(PROGRAM, TEXT, LINES[0]),)))
    assert (found.kind, found.word) == ("bad", "Different")
    assert found.sentences == (
        "2 files differ between the substituted and the emulated build. 1 file more differs only in what is said about "
        "the code.",
    )


def test_what_differs_by_itself_is_said_first_and_not_blamed_on_the_mode() -> None:
    again = Again("substituted", frozenset({("artifact", TEXT.path)}))
    assert again.differing is not None
    both = headline(comparison(pairs=(with_own(unequal(TEXT, PROGRAM), again.differing),), again=again))
    assert (both.kind, both.word) == ("bad", "Different")
    assert both.sentences[0].startswith("Built twice in mode substituted, 1 file came out different")
    assert both.sentences[1] == "1 file differs between the substituted and the emulated build."
    known = comparison(pairs=(with_own(unequal(TEXT), again.differing),), again=again)
    alone = headline(known)
    assert (alone.kind, alone.word) == ("fair", "Not reproducible by itself")
    assert alone.sentences[1] == "Nothing else differs between the substituted and the emulated build."
    assert "two builds in one and the same mode" in page(known)


def test_three_modes_of_which_two_are_equal() -> None:
    third = replace(FAST, mode="distcc")
    other = unequal(PROGRAM)
    pairs = (replace(GOOD, modes=("substituted", "distcc")), other, replace(other, modes=("distcc", "emulated")))
    known = comparison(FAST, third, SLOW, pairs=pairs)
    assert headline(known).sentences == (
        "1 file differs between the substituted, the distcc and the emulated build.",
        "The substituted and the distcc build are identical.",
    )
    assert page(known).count('<span class="badge good">✓ identical</span>') == 1


def test_a_mode_that_failed() -> None:
    known = comparison(FAST, FAILED, SLOW)
    found = headline(known)
    assert (found.kind, found.word) == ("bad", "Distcc failed")
    assert found.sentences[0] == "distcc: phase 'configure' failed."
    assert found.sentences[1].endswith("byte for byte.")
    text = page(known)
    assert "configure: error: &lt;no&gt; compiler" in text
    assert "/x/02-configure.log" in text


def test_every_mode_failed() -> None:
    known = comparison(FAILED, replace(FAILED, mode="emulated"), pairs=())
    assert headline(known).word == "Every build failed"
    page(known)


def test_a_mode_alone_built_twice() -> None:
    known = comparison(FAST, pairs=(), again=Again("substituted", frozenset()))
    assert headline(known).sentences == ("Built twice in mode substituted, it came out the same both times.",)
    assert "Pairs of modes" not in page(known)


def test_many_like_differences_are_one_fold() -> None:
    text = page(comparison(pairs=(unequal(*LINES, TEXT),)))
    # One for the objects, one for the text file, one for generated files.
    assert Elements(text).seen.count("details") == 3
    assert "300 files" in text
    assert "src/000.o, src/001.o, src/002.o and 297 more" in text
    assert "src/299.o" in text
    assert len(text) < 60_000


def test_names_and_contents_are_escaped() -> None:
    pair = replace(unequal(TEXT, replace(PROGRAM, path="usr/\udcff")), texts={TEXT.path: ["-<b>", "+</pre>"]})
    inspected = {(MODES, TEXT.path): "<script>"}
    text = page(replace(comparison(pairs=(pair,)), inspected=inspected))
    assert "usr/share/&lt;answer&gt;" in text
    assert "-&lt;b&gt;\n+&lt;/pre&gt;" in text
    assert "&lt;script&gt;" in text
    assert "usr/\\xff" in text


def test_bars_have_one_scale() -> None:
    fast, slow = timeline((FAST, SLOW)).rows
    assert [(bar.name, bar.left) for bar in slow.bars] == [("unpack", 0.0), ("configure", 0.049), ("compile", 35.326)]
    assert sum(bar.width for bar in slow.bars) == pytest.approx(100, abs=0.01)
    assert fast.bars[1].width == pytest.approx(100 * 20 / 1020.5, abs=0.001)
    # A name stands in a bar only if it fits in on paper.
    assert [bar.label for bar in slow.bars] == ["", "configure", "compile"]
    assert [bar.label for bar in fast.bars] == ["", "", ""]
    assert (fast.bars[1].share, fast.bars[2].share) == (0.25, None)
    assert fast.bars[1].emulated == pytest.approx(fast.bars[1].width / 4, abs=0.001)


@pytest.mark.parametrize(
    ("longest", "marks"),
    [
        (0.4, [0, 0.1, 0.2, 0.3, 0.4]),
        (40.5, [0, 10, 20, 30, 40]),
        (1020.5, [0, 300, 600, 900]),
        (7 * 3600, [0, 3600, 7200, 10800, 14400, 18000, 21600, 25200]),
    ],
)
def test_marks_at_round_times(longest: float, marks: list[float]) -> None:
    found = timeline((replace(SLOW, phases=(("compile", longest),)),)).marks
    assert [mark.seconds for mark in found] == pytest.approx(marks)
    assert found[-1].place <= 100


def test_no_bars_without_times() -> None:
    assert timeline((replace(FAILED, phases=()),)).rows == ()
    assert "Where the time went" not in page(comparison(replace(FAILED, phases=()), pairs=()))


def test_the_step_that_failed_is_marked() -> None:
    assert [bar.failed for bar in timeline((FAILED,)).rows[0].bars] == [False, True]


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "page.html"
    require_writable(str(file), "")
    assert not file.parent.exists()
    written(file, "one ✓")
    assert written(str(file), "two \udcff") == str(file)
    assert file.read_text() == "two \\udcff"
    assert list(file.parent.iterdir()) == [file]


def test_a_page_that_cannot_be_written_is_refused_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("none")
    names = [str(tmp_path), *(str(tmp_path / name / "deep" / "x.html") for name in ("file", "dangling"))]
    for name in names:
        with pytest.raises(UsageError, match="cannot write"):
            require_writable("", name)
        with pytest.raises(UsageError, match="cannot write"):
            Many("builds", 1, junit=name)
        # What was done is told all the same.
        assert written(name, "") is None
        assert f"warning: cannot write {name}: " in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write all")
def test_a_page_where_one_may_not_write_is_refused_before(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir(mode=0o500)
    with pytest.raises(UsageError, match=r"cannot write .*own/deep/x.html") as caught:
        require_writable(str(tmp_path / "own" / "deep" / "x.html"))
    assert caught.value.hint == f"is {tmp_path / 'own'} a directory that you can write to?"
