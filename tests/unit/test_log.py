import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base import follow, log
from xbuild.base.errors import XbuildError
from xbuild.base.text import clean


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    log.configure()
    yield
    log.configure()


def on_terminal(code: str, **environment: str) -> str:
    """What a Python that runs `code` writes to its stderr, a terminal."""
    master, slave = pty.openpty()
    names = {"TERM": "xterm-256color", "PATH": os.environ["PATH"], **environment}
    child = subprocess.Popen([sys.executable, "-c", code], stderr=slave, stdout=subprocess.DEVNULL, env=names)
    os.close(slave)
    text = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        text += chunk
    os.close(master)
    assert child.wait() == 0, text
    return text.decode()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (12.34, "12.3 s"), (59.96, "1m 00s"), (842, "14m 02s"), (3599.6, "1h 00m")],
)
def test_human_time(seconds: float, text: str) -> None:
    assert log.human_time(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1048575, "1.0 MiB"), (1 << 42, "4.0 TiB")],
)
def test_human_size(size: int, text: str) -> None:
    assert log.human_size(size) == text


@given(st.integers(0, 1 << 50))
def test_human_size_is_near(size: int) -> None:
    amount, unit = log.human_size(size).split()
    scale = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)
    assert abs(float(amount) * scale - size) <= 0.051 * scale
    assert float(amount) < 1024 or unit == "TiB"


def test_talk_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("one [bold]two[/bold] :smile:")
    log.detail("hidden")
    log.warn("three")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "one [bold]two[/bold] :smile:\nwarning: three\n"


def test_detail_is_for_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(verbose=1)
    log.detail("shown")
    assert capsys.readouterr().err == "shown\n"


def test_error_has_message_details_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    log.error(XbuildError("a.yml:3:1: wrong", details=["first", "second"], hint="do this"))
    assert capsys.readouterr().err == "error: a.yml:3:1: wrong\n  first\n  second\n  hint: do this\n"


def test_long_lines_are_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("/" + "x" * 500)
    assert capsys.readouterr().err == "/" + "x" * 500 + "\n"


@given(st.text())
def test_no_control_codes_pass(text: str) -> None:
    cleaned = clean(text)
    assert not any((c < " " and c not in "\t\n") or "\x7f" <= c <= "\x9f" for c in cleaned)


def test_colours_of_a_log_do_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    log.error(XbuildError("failed", details=["\x1b[01m\x1b[Ka.c:1:\x1b[m \x1b]8;;http://x\x1b\\bad\x1b]8;;\x07\r"]))
    assert capsys.readouterr().err == "error: failed\n  a.c:1: bad\n"


FORGED = "a\nerror: b\x1b[2J\r\u202e\u2028c"
SHOWN = r"a\nerror: b\x1b[2J\r\u202e\u2028c"


def test_names_speak_not_for_xbuild(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(verbose=1)
    for tell in (log.info, log.detail, log.warn, log.output):
        tell(FORGED)
    log.table([FORGED], [])
    log.error(XbuildError(FORGED, details=[FORGED], hint=FORGED))
    with log.step(FORGED):
        pass
    out, err = capsys.readouterr()
    assert out == f"{SHOWN}\n{SHOWN}\n"
    lines = err.splitlines()
    assert lines[:-1] == [
        SHOWN, SHOWN, f"warning: {SHOWN}", f"error: {SHOWN}", "  a", "  error: bc", f"  hint: {SHOWN}", f"{SHOWN} ...",
    ]  # fmt: skip


def test_what_a_program_said(capsys: pytest.CaptureFixture[str]) -> None:
    log.output_text("a\tb\x1b[31m red\nsecond \x1b]0;title\nthird\x07")
    assert capsys.readouterr().out == "a\tb red\nsecond \nthird\n"


def test_log_of_any_size(tmp_path: Path) -> None:
    """In a fraction of the memory that it takes, and as it is but for what steers a terminal."""
    file = tmp_path / "log"
    with file.open("wb") as stream:
        stream.write(b"\x1b[31mfirst\x1b[0m\n\x1b]0;no end\nsecond\n")
        stream.truncate(300 << 20)
        stream.seek(0, os.SEEK_END)
        stream.write(b"\nlast")
    code = f"""
import resource
from pathlib import Path
from xbuild.base import log
resource.setrlimit(resource.RLIMIT_AS, (250 << 20, 250 << 20))
log.output_file(Path({str(file)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.stderr == b""
    assert done.stdout.split() == [b"first", b"second", b"last"]


NO_TEXT = """
import os
from xbuild.base import log
log.output(os.fsdecode(b"\\xff \\xc3\\xa4"))
log.info(os.fsdecode(b"\\xff"))
"""


@pytest.mark.parametrize(("encoding", "letter"), [("utf-8", b"\xc3\xa4"), ("ascii", b"\\xe4"), ("latin-1", b"\xe4")])
def test_names_that_are_no_text(encoding: str, letter: bytes) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}
    done = subprocess.run([sys.executable, "-c", NO_TEXT], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, b"\\udcff " + letter + b"\n")
    assert done.stderr == b"\\udcff\n"


def test_step_tells_begin_and_end_and_indents(capsys: pytest.CaptureFixture[str]) -> None:
    with log.step("outer"):
        log.info("inside")
        with log.step("inner"):
            pass
    err = capsys.readouterr().err.splitlines()
    assert err[:3] == ["outer ...", "  inside", "  inner ..."]
    assert err[3].startswith("  inner  0.")
    assert err[4].startswith("outer  0.")
    assert err[4].endswith(" s")


def fail_in_step() -> None:
    with log.step("compile"):
        raise XbuildError("failed")


def test_step_that_fails_says_so_and_lets_the_exception_pass(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(XbuildError):
        fail_in_step()
    log.info("after")
    err = capsys.readouterr().err.splitlines()
    assert err[1].endswith(" s  (not finished)")
    assert err[2] == "after"


def test_progress_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with log.progress("file.tar.xz", 4096) as transfer:
        transfer.advance(1024)
        assert transfer.line().startswith("file.tar.xz  1.0 KiB of 4.0 KiB (25 %)  0.")
        transfer.advance(3072)
    assert "file.tar.xz  4.0 KiB  0." in capsys.readouterr().err


def test_json_mode_keeps_stdout_for_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(json=True)
    log.output("for people")
    log.table(["name"], [["zlib"]])
    with log.step("a"):
        log.result({"b": 1, "a": ["ü"]})
    out, err = capsys.readouterr()
    assert out == ""
    assert log.finish(0)["b"] == 1
    out = capsys.readouterr().out
    whole = {"schema": 1, "status": "ok", "exit_code": 0, "error": None, "warnings": []}
    assert json.loads(out) == {"a": ["ü"], "b": 1, **whole}
    log.finish(0)
    assert capsys.readouterr().out == ""
    assert "for people\nname\nzlib\n" in err
    with pytest.raises(RuntimeError):
        log.result({})


def test_plain_mode_writes_output_and_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    log.result({"a": 1})
    log.output("line")
    log.finish(0)
    assert capsys.readouterr() == ("line\n", "")


def test_table_is_aligned_by_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    log.table(["name", "size"], [["zlib", 3], ["日本", "a\nb"]])
    assert capsys.readouterr().out == "name  size\nzlib  3\n日本  a\\nb\n"


def test_empty_table_shows_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    log.table(["name", "size"], [])
    assert capsys.readouterr().out == "name  size\n"


SPIN = """
import time
from xbuild.base import log
with log.step("outer"):
    with log.step("inner"):
        time.sleep(0.6)
    with log.paused():
        print("child", file=__import__("sys").stderr)
"""


def test_terminal_gets_a_spinner_with_elapsed_time() -> None:
    text = on_terminal(SPIN)
    assert "\x1b[2K" in text
    assert any(f"{frame} inner" in text for frame in log._FRAMES)
    assert "inner  0.5 s" in text or "inner  0.6 s" in text
    assert "outer ..." not in text
    # Hidden and shown again equally often: the user's cursor comes back.
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0


def test_terminal_cursor_comes_back_after_an_exception() -> None:
    text = on_terminal(
        "from xbuild.base import log\n"
        "import contextlib, time\n"
        "with contextlib.suppress(ValueError), log.step('outer'), log.step('inner'):\n"
        "    time.sleep(0.3); raise ValueError\n"
    )
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0
    assert "\x1b[2minner  0." in text.replace("\x1b[2m  inner", "\x1b[2minner")


def test_dumb_terminal_gets_plain_lines() -> None:
    text = on_terminal(SPIN, TERM="dumb")
    assert "\x1b" not in text
    assert "outer ..." in text


def test_no_color_is_honoured() -> None:
    code = "from xbuild.base import log; log.warn('careful')"
    assert "\x1b[33m" in on_terminal(code)
    assert "\x1b[33m" not in on_terminal(code, NO_COLOR="1")


LOGGED = """
import sys, time
from pathlib import Path
from xbuild.base import log
file = Path(sys.argv[1])
log.configure(verbose=int(sys.argv[2]))
with log.step("compile", file, 100.0):
    for line in LINES:
        with file.open("ab") as stream:
            stream.write(line)
        time.sleep(0.7)
"""
ODD = "[ 2/20] \x1b[31mtw\x1b[2J\x1b[0m\x1b]0;title\x07 日本語\r\n"
LINES = [b"[1/20] one\n", ODD.encode() * 2, b"old\r" + b"x" * 3000]


def logged(verbose: int, file: Path) -> str:
    return f"import sys\nsys.argv[1:] = [{str(file)!r}, {verbose}]\nLINES = {LINES!r}\n{LOGGED}"


def test_terminal_shows_how_far_it_is_and_what_was_said_last(tmp_path: Path) -> None:
    text = on_terminal(logged(0, tmp_path / "log"), COLUMNS="60")
    assert "[1/20] one" in text
    assert " of about 1m 40s  [1/20]" in text
    assert "[ 2/20] tw 日本語" in text
    # Nothing of what steers a terminal but rich's own, and no line that is wider than it.
    assert "\x1b[2J" not in text
    assert "title" not in text
    assert "old" not in text
    assert "x" * 61 not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0
    assert " of about" not in text.splitlines()[-1]


@pytest.mark.parametrize("columns", ["1", "2", "10"])
def test_narrow_terminals(tmp_path: Path, columns: str) -> None:
    text = on_terminal(logged(0, tmp_path / "log"), COLUMNS=columns)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0


def in_a_pipe(verbose: int, file: Path, **environment: str) -> list[str]:
    names = {"PATH": os.environ["PATH"], **environment}
    command = [sys.executable, "-c", logged(verbose, file)]
    return subprocess.run(command, env=names, stderr=subprocess.PIPE, check=True).stderr.decode().split("\n")[:-1]


def test_verbose_streams_the_log(tmp_path: Path) -> None:
    begin, *lines, end = in_a_pipe(1, tmp_path / "log")
    assert (begin, end.partition("  ")[0]) == ("compile ...", "compile")
    assert lines[:3] == ["  [1/20] one", *["  [ 2/20] tw 日本語"] * 2]
    assert lines[3] == f"  {'x' * 500} ..."
    assert len(lines) == 4
    assert len(in_a_pipe(0, tmp_path / "log")) == 2
    assert "  [1/20] one" in on_terminal(logged(1, tmp_path / "other")).replace("\x1b[2m", "")


def test_sections_of_a_ci(tmp_path: Path) -> None:
    lines = in_a_pipe(1, tmp_path / "log", GITHUB_ACTIONS="true")
    assert lines[1] == "::group::compile"
    token = lines[2].removeprefix("::stop-commands::")
    assert len(token) > 20
    assert lines[-3:-1] == [f"::{token}::", "::endgroup::"]
    text = "\n".join(in_a_pipe(1, tmp_path / "log2", GITLAB_CI="true"))
    assert re.search(r"\x1b\[0Ksection_start:\d+:xbuild_compile\r\x1b\[0Kcompile\n", text)
    assert re.search(r"\x1b\[0Ksection_end:\d+:xbuild_compile\r\x1b\[0K\n", text)
    assert "::group::compile" not in "\n".join(in_a_pipe(0, tmp_path / "log3", GITHUB_ACTIONS="true"))


def test_a_sign_of_life_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "BEAT", 0.05)
    (tmp_path / "log").write_text("[ 45%] Building\n")
    with log.step("compile", tmp_path / "log"):
        for _ in range(200):
            time.sleep(0.05)
            if "[ 45%]" in capsys.readouterr().err:
                break
        else:
            pytest.fail("nothing was said")


STOPPED = """
import os, signal, sys, time
from xbuild.base import log
with log.step("outer"):
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTSTP)
    time.sleep(0.5)
assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
"""


def test_a_stopped_program_leaves_the_terminal_as_it_was() -> None:
    master, slave = pty.openpty()
    names = {"TERM": "xterm", "PATH": os.environ["PATH"]}
    # The kernel drops SIGTSTP in a process group without a parent outside it, as this one's may be in CI (POSIX 2.4.4).
    child = subprocess.Popen([sys.executable, "-c", STOPPED], stderr=slave, env=names, process_group=0)
    os.close(slave)
    assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
    text = ""
    while select.select([master], [], [], 0.5)[0]:
        text += os.read(master, 65536).decode()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    os.kill(child.pid, signal.SIGCONT)
    with contextlib.suppress(OSError):
        while chunk := os.read(master, 4096):
            text += chunk.decode()
    os.close(master)
    assert child.wait() == 0
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 2
