"""How commands end."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.commands import Run
from xbuild.base import log
from xbuild.base.errors import MachineError, XbuildError


def failing(monkeypatch: pytest.MonkeyPatch, fail: Callable[[], None]) -> None:
    """Let `list` end by `fail`."""
    monkeypatch.setattr("xbuild.cli.listing.recipe_names", lambda _project: fail())


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_a_fault_of_the_machine(xbuild: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, raising(MachineError("no\x1b[2J disk", details=["a"], hint="buy one")))
    ended = xbuild("list", "--json")
    assert ended.code == 4
    error = json.loads(ended.out)["error"]
    assert (error["kind"], error["message"], error["hint"]) == ("machine", "no\x1b[2J disk", "buy one")
    assert ended.err.split("\n")[:3] == ["error: no\\x1b[2J disk", "  a", "  hint: buy one"]


def test_a_bug_shows_where(xbuild: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, raising(RuntimeError("what?")))
    ended = xbuild("list")
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert "RuntimeError: what?" in ended.err
    assert "this is a bug in xbuild" in ended.err


class Loop:
    """What has no end."""

    def __repr__(self) -> str:
        return repr(self)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/store/x"), 4, "error: /store/x: Permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "hint: free some space"),
        (OSError(errno.EMFILE, "Too many open files"), 4, "(ulimit -n)"),
        (OSError(errno.EFBIG, "File too large"), 4, "(ulimit -f)"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), 4, "hint: name a place that can be written to\n"),
        (FileExistsError(errno.EEXIST, "File exists", "/a\ne: b", None, "/c"), 4, "error: /a\\ne: b -> /c: File"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", str(Path.cwd() / "list")), 2, "list: Is a directory"),
        (MemoryError(), 4, "not enough memory"),
        (RecursionError("maximum"), 2, "nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "has the wrong encoding"),
        (RuntimeError("Symlink loop from '/x'"), 2, "Symlink loop from '/x'"),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, "this is a bug in xbuild"),
        (OSError("of no number"), 1, "this is a bug in xbuild"),
        (KeyError("x"), 1, "this is a bug in xbuild"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_whose_fault_it_is(
    xbuild: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["xbuild", "list"])
    failing(monkeypatch, raising(error))
    ended = xbuild("list")
    assert ended.code == code
    assert said in ended.err
    assert ("Traceback" in ended.err) == (code == 1)


def test_another_store_helps_only_where_the_store_is_at_fault(
    xbuild: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XBUILD_CACHE", str(tmp_path / "store"))
    for name, hinted in ((tmp_path / "store" / "tmp", True), (tmp_path, True), (tmp_path / "other", False)):
        for number in (errno.EACCES, errno.EPERM, errno.EROFS):
            failing(monkeypatch, raising(OSError(number, "no", str(name))))
            assert ("XBUILD_CACHE names another store" in xbuild("list").err) == hinted


def test_real_faults(xbuild: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, lambda: repr(Loop()))  # type: ignore[arg-type]
    assert xbuild("list").code == 2
    failing(monkeypatch, lambda: "x" * sys.maxsize)  # type: ignore[arg-type]
    assert xbuild("list").code == 4
    failing(monkeypatch, lambda: os.open("/nowhere", os.O_RDONLY))  # type: ignore[arg-type]
    ended = xbuild("list")
    assert ended.code == 4
    assert "xbuild met it in cli/listing.py:" in ended.err


def test_interrupted(xbuild: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, raising(KeyboardInterrupt()))
    ended = xbuild("list")
    assert ended.code == 130
    assert "interrupted" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminated(xbuild: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    failing(monkeypatch, lambda: os.kill(os.getpid(), number))
    ended = xbuild("list")
    assert ended.code == 130
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_at_the_end_takes_neither_code_nor_words(
    xbuild: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    failing(monkeypatch, raising(MachineError("no room")))
    tell = log.error

    def late(fault: XbuildError) -> None:
        os.kill(os.getpid(), number)
        tell(fault)

    monkeypatch.setattr(log, "error", late)
    ended = xbuild("list")
    assert (ended.code, ended.err) == (4, "error: no room\n")


def test_a_reader_that_has_seen_enough(cache: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code = "from xbuild.cli.program import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "list"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
