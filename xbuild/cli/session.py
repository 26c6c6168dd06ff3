"""The tasks that run a foreign program, and open a foreign system.

What only one of them needs is loaded in it: `run` is to be there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xbuild.base import log, paths
from xbuild.base.errors import UsageError
from xbuild.cli.arguments import COMMON, EMULATE, REPO, emulated, names, request_of, switch, words_after
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.doctor import require
from xbuild.model.load import load_toolchain
from xbuild.session.run import RunOptions
from xbuild.session.run import run as run_program

if TYPE_CHECKING:
    from xbuild.build.request import Request

_NO_RECIPE = ""
_BARE = str(paths.PACKAGE / "bare.yml")


def _exit_code(returncode: int) -> int:
    """As a shell tells it: 128 and the signal's number for what a signal has ended."""
    return returncode if returncode >= 0 else 128 - returncode


@task(
    help={
        "target": "target, such as armhf (default: the one whose program it is, armhf for a script)",
        "suite": COMMON["suite"],
        "snapshot": COMMON["snapshot"],
        "sysroot": "use this directory as /, not the target root; such as /usr/arm-linux-gnueabihf",
        "keep": "run in this system, which `shell --keep NAME` has made, not in the plain root",
        "native": "run the root's programs that it starts natively where possible: on (the default) or off",
        "emulate": EMULATE,
        "trace": "tell afterwards, on stderr, which programs ran and how",
        "verbose": "tell more",
    },
)
@guarded
def run(
    c: Context,
    target: str = "",
    suite: str = "",
    snapshot: str = "",
    sysroot: str = "",
    keep: str = "",
    native: str = "on",
    emulate: str = "",
    trace: bool = False,
    verbose: bool = False,
) -> int:
    """Run one program that was built for another machine, with your files; end with its exit code."""
    log.configure(theirs=True, verbose=int(verbose))
    words = words_after(c.remainder)
    if not words or not words[0]:
        raise UsageError("there is no program to run", hint="invoke run --target armhf -- ./program its arguments")
    if sysroot and keep:
        raise UsageError("--sysroot and --keep cannot be given together", hint="leave out one of them")
    require(native=bool(target) and load_toolchain(target, paths.project()).native)
    options = RunOptions(
        target=target or None,
        suite=suite or None,
        snapshot=snapshot or None,
        sysroot=Path(sysroot).absolute() if sysroot else None,
        keep=keep or None,
        native=switch("--native", native),
        emulate=emulated(emulate),
        trace=trace,
    )
    return _exit_code(run_program(words, options))


@task(
    help={
        "target": "target, such as armhf (default: the one whose program it is)",
        "suite": COMMON["suite"],
        "sysroot": "use this directory as /, not the target root",
        "keep": "run in this system, which `shell --keep NAME` has made, not in the plain root",
        "verbose": "tell more",
    },
)
@guarded
def debug(
    c: Context, target: str = "", suite: str = "", sysroot: str = "", keep: str = "", verbose: bool = False
) -> int:
    """Debug a program that was built for another machine, by gdb, with your files; end with gdb's exit code."""
    from xbuild.session.debug import debug as debug_program

    log.configure(theirs=True, verbose=int(verbose))
    if sysroot and keep:
        raise UsageError("--sysroot and --keep cannot be given together", hint="leave out one of them")
    require(native=bool(target) and load_toolchain(target, paths.project()).native)
    options = RunOptions(
        target=target or None,
        suite=suite or None,
        sysroot=Path(sysroot).absolute() if sysroot else None,
        keep=keep or None,
    )
    return _exit_code(debug_program(words_after(c.remainder), options))


@task(
    positional=["recipe"],
    help={
        **COMMON,
        "recipe": "open the shell where this recipe is built; none: in a whole system",
        "root": COMMON["root"],
        "emulate": EMULATE,
        "artifact": "lay the recipe's finished artifact over the root",
        "as_root": "with a recipe: open the shell as root, as a phase that runs as root",
        "repo": f"with a recipe: {REPO}",
        "keep": "without a recipe: keep the changes under this name, to go on with them later",
        "bind": "without a recipe: show these directories inside, at the same paths; separated by commas",
        "verbose": "tell more",
    },
    iterable=["repo"],
)
@guarded
def shell(
    c: Context, recipe: str, target: str = "armhf", mode: str = "substituted", suite: str = "", snapshot: str = "",
    root: str = "", emulate: str = "", artifact: bool = False, as_root: bool = False, keep: str = "", bind: str = "",
    repo: Sequence[str] | None = None, verbose: bool = False,
) -> int:  # fmt: skip
    """Open a shell in a system of the target, or where a recipe is built; or run there what stands after `--`."""
    log.configure(verbose=int(verbose))
    words = words_after(c.remainder)
    if recipe == _NO_RECIPE:
        if artifact or as_root or repo:
            raise UsageError("--artifact, --as-root and --repo are for a shell with a recipe")
        from xbuild.session.shell import ShellOptions
        from xbuild.session.shell import shell as open_shell

        options = ShellOptions(
            target=target,
            suite=suite or None,
            snapshot=snapshot or None,
            keep=keep or None,
            root=root or None,
            native=_bare_mode(mode, target),
            emulate=emulated(emulate),
            binds=tuple(Path(name).absolute() for name in names("--bind", bind)) if bind else (),
        )
        require(native=load_toolchain(target, paths.project()).native)
        return _exit_code(open_shell(_command(words), options))
    if keep or bind:
        raise UsageError("--keep and --bind are for a shell without a recipe")
    more: dict[str, Any] = {"snapshot": snapshot or None, "emulate": emulated(emulate), "repositories": repo or ()}
    request = request_of(_BARE if recipe == "bare" else recipe, target, mode, suite, root, **more)
    return _of_build(request, words, artifact=artifact, as_root=as_root)


def _of_build(request: Request, words: list[str], *, artifact: bool, as_root: bool) -> int:
    from xbuild.build.environment import VARIABLES
    from xbuild.build.shell import shell as build_shell
    from xbuild.build.standing import built, not_built
    from xbuild.build.subject import read

    subject = read(request)
    # Before anything is installed for what cannot be done.
    if artifact and not built(subject):
        raise not_built(subject)
    require(native=subject.toolchain.native)
    return build_shell(subject, _command(words, f". {VARIABLES}; "), with_artifact=artifact, as_root=as_root)


def _command(words: list[str], before: str = "") -> list[str]:
    """The words after `--`, of which a single one is shell text, which `before` goes ahead of."""
    return ["sh", "-c", before + words[0]] if len(words) == 1 else words


def _bare_mode(mode: str, target: str) -> bool:
    """Whether programs have twins in a shell without a recipe. Raises UsageError for a mode that is for builds."""
    from xbuild.build.modes.table import mode_of

    chosen = mode_of(mode)
    if not chosen.bare:
        raise UsageError(
            f"mode {mode} is for a shell with a recipe",
            hint=f"`invoke shell bare --target {target} --mode {mode} -- COMMAND`; `bare` stands for no recipe",
        )
    return chosen.twins
