"""A layer in which a program asks too late for a library of the target: made anew, as if it had been emulated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import Armhf
from xbuild.base import log
from xbuild.roots.enclosed import STAGING
from xbuild.roots.making import Making
from xbuild.roots.resolve import Question

pytestmark = pytest.mark.integration

# A module that no package brought has no partner. What is done before it is asked for cannot be taken back.
PERL = """
    open my $file, '>>', '/done' or die; print $file 'once'; close $file;
    require DynaLoader; DynaLoader::dl_load_file('/opt/Own.so') or die DynaLoader::dl_error();
"""
SCRIPT = """
    mkdir -p "$1/opt"
    cp "$1"/usr/lib/arm-linux-gnueabihf/perl-base/auto/Fcntl/Fcntl.so "$1/opt/Own.so"
    chroot "$1" perl -e "$2" || echo failed > "$1/failed"
"""


def test_what_came_too_late_is_made_anew_emulated(armhf: Armhf, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(log, "info", said.append)
    roots = armhf.roots
    question: Question = roots.base_question()
    answer, held = roots.resolver.place(question), roots.resolver.packages(question)
    staging = place / "staging"
    staging.mkdir()

    def work(making: Making) -> None:
        words = [f"{STAGING}/merged", PERL]
        making.with_apt(roots.base(), SCRIPT, words, answer, "the script failed", "none")

    roots._make(staging, work, held)
    assert said == [
        "/usr/bin/perl asked for a library that is only there for the target; all is made anew, with that emulated"
    ]
    assert (staging / "upper/done").read_text() == "once"
    assert not (staging / "upper/failed").exists()
    assert sorted(path.name for path in staging.iterdir()) == ["log", "upper"]
