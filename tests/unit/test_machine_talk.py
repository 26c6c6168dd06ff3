"""What xbuild and the emulated machine say to each other, and when a machine is given up."""

from __future__ import annotations

from typing import Any

import pytest

from xbuild.base.errors import UsageError
from xbuild.build.modes.system.talk import BEAT_LIMIT, Said, Watch, spec


def a_spec(*command: str, env: dict[str, str] | None = None, **changes: Any) -> list[str]:
    known: dict[str, Any] = {
        "modules": ["/modules/a.ko", "/modules/b.ko"], "trees": ["build", "var/tmp"], "cwd": "/build", "user": 1000,
        "seconds": 1700000000, "name": "xbuild", "over": False, "keep": True,
    }  # fmt: skip
    data = spec(command, env or {}, **{**known, **changes})
    assert data.endswith(b"\0")
    return data[:-1].decode(errors="surrogateescape").split("\0")


def test_the_spec_says_all_that_is_to_be_done() -> None:
    said = a_spec("sh", "-c", "a=b\nc", env={"A": "1=2", "B": ""}, over=True)
    assert said == [
        "module=/modules/a.ko", "module=/modules/b.ko", "tree=build", "tree=var/tmp", "cwd=/build", "name=xbuild",
        "uid=1000", "gid=1000", "time=1700000000", "over=1", "keep=1", "env=A=1=2", "env=B=",
        "arg=sh", "arg=-c", "arg=a=b\nc",
    ]  # fmt: skip


def test_words_that_are_no_text_pass_as_they_are() -> None:
    assert a_spec("printf", "\udcff")[-1] == "arg=\udcff"


@pytest.mark.parametrize("words", [("a\0b",), ("a", "\0")])
def test_a_nul_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="holds a NUL"):
        a_spec(*words)
    with pytest.raises(UsageError, match="holds a NUL"):
        a_spec("a", env={"A": "\0"})


def heard(*chunks: bytes) -> Said:
    said = Said()
    for chunk in chunks:
        said.hear(chunk)
    return said


def test_what_is_said_is_understood_wherever_it_is_cut() -> None:
    text = b"ready\nbeat 100\nbeat 250\nexit -9\nfree 1234567890123\nout 10240 4294967295\ndone\n"
    whole = heard(text)
    assert whole.ready
    assert (whole.beats, whole.ticks) == (2, 250)
    assert (whole.code, whole.free, whole.out) == (-9, 1234567890123, (10240, 4294967295))
    assert whole.done
    assert whole.error is None
    for cut in range(len(text)):
        assert heard(text[:cut], text[cut:]) == whole


def test_a_line_without_an_end_is_not_taken_for_a_whole_one() -> None:
    assert heard(b"exit 1").code is None
    assert heard(b"exit 1", b"2\n").code == 12


def test_the_first_error_counts() -> None:
    assert heard(b"error /root: No such file\nerror another\n").error == "/root: No such file"


@pytest.mark.parametrize("line", [b"exit x\n", b"out 1 y\n", b"beat \n"])
def test_nonsense_is_an_error_and_no_crash(line: bytes) -> None:
    said = heard(line)
    assert said.error is not None
    assert "no answer" in said.error
    assert said.code is None


def test_words_of_another_version_are_passed_over() -> None:
    assert heard(b"hello\nexit 1 2\n\xff\n") == Said()


def a_watch(**limits: float) -> Watch:
    return Watch(1000.0, **{"boot_limit": 60.0, "idle_limit": 100.0, "beat_limit": 50.0, **limits})


def test_a_machine_that_never_gets_ready_is_given_up() -> None:
    watch = a_watch()
    assert watch.look(1060.0, Said(), 0) is None
    assert watch.look(1060.5, Said(), 0) == "boot"


def test_a_machine_that_is_slow_to_get_ready_is_neither_idle_nor_dead() -> None:
    watch = a_watch(boot_limit=1000.0)
    assert watch.look(1900.0, Said(), 0) is None
    assert watch.look(1901.0, Said(ready=True), 0) is None
    assert watch.idle(1901.0) == 0


def test_a_kernel_that_no_longer_beats_is_dead() -> None:
    watch = a_watch()
    assert watch.look(1010.0, Said(ready=True), 0) is None
    assert watch.look(1020.0, Said(ready=True, beats=1, ticks=10), 0) is None
    # Also while the command writes: what writes is init.
    assert watch.look(1070.0, Said(ready=True, beats=1, ticks=10), 5000) is None
    assert watch.look(1070.5, Said(ready=True, beats=1, ticks=10), 6000) == "dead"


def test_a_beat_is_waited_for_longer_than_one_takes() -> None:
    assert BEAT_LIMIT >= 60


def beats(watch: Watch, start: float, share: float, count: int) -> str | None:
    """`count` beats, 5 s apart, of a machine that uses this share of one CPU."""
    verdict = None
    for number in range(1, count + 1):
        ticks = int(share * 500 * number)
        verdict = watch.look(start + 5 * number, Said(ready=True, beats=number, ticks=ticks), 0)
        if verdict:
            break
    return verdict


def test_a_command_that_does_nothing_is_idle() -> None:
    watch = a_watch()
    watch.look(1010.0, Said(ready=True), 0)
    assert beats(watch, 1010.0, 0.01, 18) is None
    assert watch.idle(1100.0) == 90
    assert watch.look(1110.0, Said(ready=True, beats=19, ticks=91), 0) == "idle"


def test_a_silent_command_that_works_is_not() -> None:
    watch = a_watch()
    watch.look(1010.0, Said(ready=True), 0)
    assert beats(watch, 1010.0, 0.9, 100) is None


def test_output_alone_keeps_it_alive() -> None:
    watch = a_watch()
    for number in range(60):
        said = Said(ready=True, beats=number, ticks=0)
        assert watch.look(1005.0 + 5 * number, said, number) is None


def test_packing_is_no_idleness() -> None:
    watch = a_watch()
    watch.look(1010.0, Said(ready=True), 0)
    for number in range(1, 60):
        assert watch.look(1010.0 + 5 * number, Said(ready=True, beats=number, ticks=0, code=0), 0) is None
