"""Where every error ends: shown once, in its own words, with the exit code that the README documents."""

from __future__ import annotations

import functools
import signal
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

from invoke.exceptions import Exit

from xbuild import log
from xbuild.errors import EXIT_BUG, EXIT_INTERRUPTED, XbuildError
from xbuild.paths import fix_umask

P = ParamSpec("P")


class _Terminated(BaseException):
    """SIGTERM or SIGHUP: end in order, as for ^C."""


def _terminate(number: int, _frame: object) -> None:
    raise _Terminated(number)


def _hear_no_more() -> None:
    """The end has begun: what comes now must neither take its exit code nor cut its words short."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def guarded(task: Callable[P, int | None]) -> Callable[P, None]:
    """Make `task` end the program with the right exit code; what it returns is an exit code too (None: 0)."""

    @functools.wraps(task)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Ignored stays ignored: that is what nohup is for.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _terminate)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        fix_umask()
        try:
            try:
                code = task(*args, **kwargs)
            finally:
                _hear_no_more()
        except XbuildError as error:
            log.error(error)
            code = error.exit_code
        except (KeyboardInterrupt, _Terminated):
            log.warn("interrupted; a build goes on where it stopped when the same command is given again")
            code = EXIT_INTERRUPTED
        except (Exit, SystemExit):
            raise
        except Exception:
            log.warn(f"{traceback.format_exc()}\nthis is a bug in xbuild; please report it with the lines above")
            code = EXIT_BUG
        if code:
            sys.exit(code)

    return wrapper
