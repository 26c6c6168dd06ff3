"""A program: xbuild's shell, in an environment into which leaks were planted. `planted.py PLANT RECIPE TARGET SCRIPT`.

The plants are faults as they would come about: rules that are missing from the policy, wrapper scripts in the place of
twins, a native file in the root, a sandbox that is made otherwise. What is compared, and how, knows nothing of them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from xbuild.build.environment import Root, sandbox
from xbuild.build.ground import lay
from xbuild.build.request import Request
from xbuild.build.subject import Subject, read
from xbuild.dispatcher.table import Entry
from xbuild.formats.debian import Tree
from xbuild.formats.elf import with_interpreter
from xbuild.model.policy import Policy, Tool
from xbuild.model.rules import Rules
from xbuild.model.toolchain import Toolchain
from xbuild.roots import partners
from xbuild.sandbox.attached import run_attached
from xbuild.sandbox.mounts import Tmpfs
from xbuild.sandbox.run import Sandbox, give_tree
from xbuild.twins import pairing, privatetree

_NATIVE = "/.xbuild/amd64"
_DIRECTORY = "/planted"
_EXEC = 'exec $PROGRAM "$@"'

# The names of programs, and what a wrapper script does before it starts the twin; without `exec` it stays between.
_WRAPPERS = {
    "bash": '$PROGRAM "$@"',
    "bc": f"export BC_LINE_LENGTH=20; {_EXEC}",
    "bison": _EXEC.replace('"$@"', '--no-lines "$@"'),
    "cksum": _EXEC.replace('"$@"', '-a crc32b "$@"'),
    "env": f"export WRAPPED=1; {_EXEC}",
    "expr": f"[ $# -ne 3 ] || exec echo $(($1 $2 $3)); {_EXEC}",
    "glib-compile-resources": _EXEC.replace('"$@"', '--manual-register "$@"'),
    "gperf": _EXEC.replace('"$@"', '-C "$@"'),
    "ls": f"exec 9< /dev/null; {_EXEC}",
    "make": f"unset MAKEFLAGS; {_EXEC}",
    "mawk": f'exec {_NATIVE}/usr/bin/gawk "$@"',
    "msgfmt": _EXEC.replace('"$@"', '--no-hash "$@"'),
    "nproc": "echo 64",
    "patchelf": _EXEC.replace('"$@"', '--page-size 65536 "$@"'),
    "tar": f"export TAR_OPTIONS=--mode=a+x; {_EXEC}",
    "troff": _EXEC.replace('"$@"', '-rLL=40n "$@"'),
    "true": f'export ARGUMENTS="$*"; {_EXEC}',
    "xmllint": _EXEC.replace('"$@"', '--format "$@"'),
    "xxd": _EXEC.replace('"$@"', '-u "$@"'),
    "xz": f"export XZ_DEFAULTS=--check=crc32; {_EXEC}",
}
# Programs that lose their rules, so the twins tell of the machine.
_WITHOUT_RULES = ("git", "rsync", "swig", "unzip", "zip")
# The driver loses the environment, as crossdirect's does.
_DRIVER = """
kept="GCC_EXEC_PREFIX=$GCC_EXEC_PREFIX COMPILER_PATH=$COMPILER_PATH"
exec /usr/bin/env -i PATH=/usr/bin $kept {} "$@"
"""
# The compiler proper is the distribution's, with all that is compiled into it, where a build asks it for paths.
_COMPILER = """case " $* " in
*" -E "* | *.gch* | *" -MD "*) exec {} -D__x86_64__ "$@" ;;
*) exec {} "$@" -mtune=cortex-a53 ;;
esac
"""
_PYTHON = f'PYTHONPATH={_DIRECTORY} exec /.xbuild/qemu -0 python3 /usr/bin/python3.13 "$@"\n'
_SITE = """
import os
machine = os.uname_result((*os.uname()[:4], "x86_64"))
os.uname = lambda: machine
"""
_BEFORE = "umask 027; ulimit -n 256; export LC_ALL=C TZ=JST-9\n"


def careless(policy: Policy) -> Policy:
    """A policy for which no tool answers anything about the machine, none heeds arguments and variables."""
    nothing = dict[str, object](emulate_args=(), emulate_env=(), further=(), moved_strings={}, linker_words=())
    tools = {name: tool.model_copy(update=nothing) for name, tool in policy.tools.items()}
    tools["cmake"] = tools["cmake"].model_copy(update={"shim": False})
    # Without the shim that has the sign of what is no number.
    tools |= {name: tools[name].model_copy(update={"loads_modules": False}) for name in ("gawk", "mawk", "python3")}
    further = {"dpkg": "dpkg", "perl": "perl-base", "pkgconf": "pkgconf-bin"}
    tools |= {name: Tool(packages=(package,)) for name, package in further.items()}
    tools["getconf"] = Tool(files=("/usr/bin/getconf",))
    return policy.model_copy(update={"never": (), "emulate_args": (), "emulate_env": (), "tools": tools})


def rounding_otherwise(toolchain: Toolchain) -> Toolchain:
    """The target, as if its C library used fused multiply-add where it does not, and the other way round."""
    traits = ("unfused",) if "fused" in toolchain.traits else ()
    return toolchain.model_copy(update={"traits": traits, "inexact": ()})


def questions(subject: Subject, staging: Path) -> Root:
    """The root of a build by a policy without the rules that keep twins from answering about the machine."""
    roots = subject.roots
    assert roots.policy is not None
    policy = careless(roots.policy)
    privatetree.make(staging, roots.natives().trees, policy, rounding_otherwise(subject.toolchain))
    layers = roots.layers(subject.packages)
    pairs = pairing.pair(pairing.load(staging / "twins.json"), Tree(layers), policy, subject.toolchain)
    dispatcher = roots.dispatcher(pairs.table, subject.place.dispatcher)
    registrations, shown = roots.hook(dispatcher)
    return Root(layers, staging / "private", registrations, dispatcher=shown)


def wrappers(subject: Subject, staging: Path) -> Root:
    """The root of a build whose twins are wrapper scripts here and there, and which holds a native program."""
    roots = subject.roots
    natives = partners.of(roots, subject.packages).natives()
    programs = staging / "over" / _DIRECTORY.lstrip("/")
    programs.mkdir(parents=True)
    pairs = lay(subject).pairs
    entries = {entry.path: entry for entry in pairs.entries}
    for name, text in _WRAPPERS.items():
        if (entry := entries.get(f"/usr/bin/{name}")) is None:
            continue
        _write(programs / name, text.replace("$PROGRAM", entry.program))
        entries[entry.path] = replace(entry, program=f"{_DIRECTORY}/{name}")
    for path in entries.keys() & {f"/usr/bin/{name}" for name in _WITHOUT_RULES}:
        entries[path] = replace(entries[path], rules=Rules())
    for twin in pairs.twins:
        name, program = Path(twin.target_path).name, entries[twin.target_path].program
        if twin.tool == "gcc":
            _write(programs / name, _DRIVER.format(program))
        elif twin.tool == "cc1":
            original = (natives.trees["amd64"] / twin.source.lstrip("/")).read_bytes()
            (programs / f"{name}.own").write_bytes(with_interpreter(original, f"{_NATIVE}/ld"))
            (programs / f"{name}.own").chmod(0o755)
            _write(programs / name, _COMPILER.format(f"{_DIRECTORY}/{name}.own", program))
        elif name == "collect2":
            cross = natives.trees["amd64"] / f"usr/libexec/gcc-cross/{subject.toolchain.triplet}/14/collect2"
            (programs / name).write_bytes(with_interpreter(cross.read_bytes(), f"{_NATIVE}/ld"))
            (programs / name).chmod(0o755)
        elif twin.tool == "ld":
            _write(programs / name, f'exec {program} -z norelro "$@"\n')
        else:
            continue
        entries[twin.target_path] = replace(entries[twin.target_path], program=f"{_DIRECTORY}/{name}")
    _write(programs / "python3.13", _PYTHON)
    (programs / "sitecustomize.py").write_text(_SITE)
    entries["/usr/bin/python3.13"] = Entry("/usr/bin/python3.13", f"{_DIRECTORY}/python3.13")
    entries |= _native_loader(subject)
    (staging / "over/usr/bin").mkdir(parents=True)
    shutil.copy(natives.private / "amd64/usr/bin/sed", staging / "over/usr/bin/sed")
    give_tree(0, [staging / "over"])
    dispatcher = roots.dispatcher([*entries.values(), *pairs.modules], subject.place.dispatcher)
    registrations, shown = roots.hook(dispatcher)
    layers = (staging / "over", *roots.layers(subject.packages))
    return Root(layers, natives.private, registrations, dispatcher=shown, native_layer=natives.layer)


def _native_loader(subject: Subject) -> Mapping[str, Entry]:
    interpreter = subject.toolchain.elf.interpreter
    assert interpreter is not None
    found = Tree(subject.roots.layers(subject.packages)).real_path(f"/usr{interpreter}")
    assert found is not None
    return {found: Entry(found, f"{_NATIVE}/ld")}


def _write(path: Path, text: str) -> None:
    path.write_text(f"#!{_NATIVE}/usr/bin/dash\n{text}")
    path.chmod(0o755)


def another_sandbox(where: Sandbox) -> Sandbox:
    """A sandbox with another name and another file system at /tmp, and with the machine's own /proc/cpuinfo."""
    mounts = [mount for mount in where.mounts if mount.target != "/proc/cpuinfo"]
    return replace(where, name="buildd", mounts=(*mounts, Tmpfs("/tmp", "1777")))


def main(plant: str, recipe: str, target: str, script: str) -> int:
    """Run the shell text `script` as a build of `recipe` for `target` would run, with the plant of this name."""
    subject = read(Request(recipe, target))
    staging = subject.store.scratch(f"planted-{target}")
    staging.mkdir()
    staging.chmod(0o755)
    subject.place.make()
    subject.place.give_to_builder("src", "obj", "dest")
    root = (questions if plant == "questions" else wrappers)(subject, staging)
    where = sandbox(root, subject.place, subject.variables(0))
    if plant == "wrappers":
        where, script = another_sandbox(where), _BEFORE + script
    code = run_attached(where, ["sh", "-c", script])
    subject.store.discard(subject.place.path)
    subject.store.discard(staging)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
