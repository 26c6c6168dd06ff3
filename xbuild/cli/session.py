"""The tasks that run a foreign program, and open a foreign system."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from xbuild.base import log, paths
from xbuild.base.errors import UsageError
from xbuild.build.environment import VARIABLES
from xbuild.build.modes.table import mode_of
from xbuild.build.shell import shell as build_shell
from xbuild.build.subject import read
from xbuild.cli.arguments import COMMON, EMULATE, emulated, names, request_of, switch, words_after
from xbuild.cli.guard import guarded
from xbuild.doctor import require
from xbuild.model.load import load_toolchain
from xbuild.session.run import RunOptions
from xbuild.session.run import run as run_program
from xbuild.session.shell import ShellOptions
from xbuild.session.shell import shell as open_shell

_NO_RECIPE = ""
_BARE = str(paths.PACKAGE / "bare.yml")


def _exit_code(returncode: int) -> int:
    """As a shell tells it: 128 and the signal's number for what a signal has ended."""
    return returncode if returncode >= 0 else 128 - returncode


@task(
    auto_shortflags=False,
    help={
        "target": "name of a file in toolchains/ (default: the one whose program it is, armhf for a script)",
        "suite": COMMON["suite"],
        "snapshot": COMMON["snapshot"],
        "sysroot": "a directory that is / instead of the target root, such as /usr/arm-linux-gnueabihf",
        "keep": "the name of a system that `shell --keep` has made, to be / instead of the plain root",
        "native": "on (the default) or off: programs of the root that it starts run natively where they can",
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
    """Run one program made for another machine, given after `--`, with your files; end with its exit code."""
    # Stdout is the program's.
    log.configure(json=True, verbose=int(verbose))
    words = words_after(c.remainder)
    if not words:
        raise UsageError("there is no program to run", hint="invoke run --target armhf -- ./program its arguments")
    if sysroot and keep:
        raise UsageError("--sysroot and --keep both say what / is", hint="leave one away")
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
    auto_shortflags=False,
    positional=["recipe"],
    help={
        **COMMON,
        "recipe": "a recipe, for a shell as its build has it; without one the whole system",
        "root": COMMON["root"],
        "emulate": EMULATE,
        "artifact": "lay the recipe's finished artifact over the root",
        "as_root": "with a recipe: as a phase that runs as root",
        "keep": "without a recipe: keep the changes by this name, to go on with them another time",
        "bind": "without a recipe: directories to be seen inside at the same paths, separated by commas",
        "verbose": "tell more",
    },
)
@guarded
def shell(
    c: Context,
    recipe: str,
    target: str = "armhf",
    mode: str = "substituted",
    suite: str = "",
    snapshot: str = "",
    root: str = "",
    emulate: str = "",
    artifact: bool = False,
    as_root: bool = False,
    keep: str = "",
    bind: str = "",
    verbose: bool = False,
) -> int:
    """Open a system of the target; for a recipe, a shell as its build has it; or run there what is after `--`."""
    log.configure(verbose=int(verbose))
    words = words_after(c.remainder)
    if recipe == _NO_RECIPE:
        if artifact or as_root:
            raise UsageError("--artifact and --as-root are for a shell with a recipe")
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
    name = _BARE if recipe == "bare" else recipe
    without = emulated(emulate)
    subject = read(request_of(name, target, mode, suite, root, snapshot=snapshot or None, emulate=without))
    require(native=subject.toolchain.native)
    return build_shell(subject, _command(words, f". {VARIABLES}; "), with_artifact=artifact, as_root=as_root)


def _command(words: list[str], before: str = "") -> list[str]:
    """The words after `--`, of which a single one is shell text, which `before` goes ahead of."""
    return ["sh", "-c", before + words[0]] if len(words) == 1 else words


def _bare_mode(mode: str, target: str) -> bool:
    """Whether programs have twins in a shell without a recipe. Raises UsageError for a mode that is for builds."""
    chosen = mode_of(mode)
    if not chosen.bare:
        raise UsageError(
            f"mode {mode} is for a shell with a recipe",
            hint=f"invoke shell bare --target {target} --mode {mode} -- COMMAND; `bare` stands for no recipe",
        )
    return chosen.twins
