"""An entry that serves the whole machine: plain qemu everywhere, but where root has laid a build's dispatcher."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.integration.conftest import Armhf, Target
from xbuild.base import paths
from xbuild.binfmt import magic_mask, registration, serving
from xbuild.dispatcher import preamble
from xbuild.doctor import programs
from xbuild.formats.elf import ElfError
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.run import Sandbox, capture, give_tree, remove_tree, take_back
from xbuild.twins.privatetree import run_native

pytestmark = pytest.mark.integration

EXE = "/proc/./self/exe"
"""Not the way to write it with which programs are emulated; the emulator's answer is itself."""
NOT_CALLED = 126
"""The exit code of a dispatcher without a table: who is told so, was handed on to it."""


@dataclass(frozen=True)
class Served:
    """A target root, in the hands of an entry as the machine would have it."""

    target: Target
    qemu: Path

    def sandbox(self, *, build: bool, flags: str = "FPO", uid: int = 0) -> Sandbox:
        """build: as in a build, with its dispatcher in the private directory."""
        plain = self.target.sandbox(uid=uid)
        line = registration("qemu-arm", *magic_mask(self.target.armhf.toolchain.elf), str(self.qemu), flags)
        hidden = () if build else (Bind(str(self.target.dispatcher), paths.DISPATCH, readonly=True),)
        mounts = tuple(mount for mount in plain.mounts if mount not in hidden)
        return replace(plain, mounts=mounts, registrations=(line,))

    def run(self, *command: str, build: bool = True, flags: str = "FPO", uid: int = 0) -> tuple[int, str]:
        """What `command` says."""
        returncode, said = capture(self.sandbox(build=build, flags=flags, uid=uid), command)
        return returncode, said.decode()

    def sh(self, script: str, *, build: bool = True, flags: str = "FPO", uid: int = 0) -> str:
        """What the script says, which must succeed."""
        returncode, said = self.run("sh", "-euc", script, build=build, flags=flags, uid=uid)
        assert returncode == 0, said
        return said.removesuffix("\n")


@pytest.fixture(scope="session")
def compiled(armhf: Armhf) -> Iterator[Path]:
    """preamble.c, compiled as binfmt.install does it, but by the native root's gcc."""
    folder = Path(tempfile.mkdtemp(prefix="xbuild-test-"))
    folder.chmod(0o755)
    (folder / "private").mkdir()
    for name in preamble.SOURCES:
        shutil.copy(paths.DISPATCHER / name, folder)
    give_tree(0, [folder])
    run_native(armhf.natives.trees["amd64"], folder, preamble.COMPILE.format("preamble"), {})
    yield folder / "preamble"
    remove_tree(folder)


@pytest.fixture
def served(target: Target, place: Path, compiled: Path) -> Served:
    """With all twins."""
    qemu = place / "qemu-arm"
    plain = target.armhf.natives.private / "qemu"
    qemu.write_bytes(preamble.prefixed(plain.read_bytes(), compiled.read_bytes()))
    qemu.chmod(0o755)
    give_tree(0, tops=[target.dispatcher])
    return Served(target, qemu)


def test_in_a_build_twins_run(served: Served) -> None:
    assert served.sh(f"readlink {EXE}; cp /bin/readlink /tmp/own; /tmp/own {EXE}").splitlines() == [
        "/.xbuild/amd64/usr/bin/readlink",
        "/.xbuild/qemu",
    ]
    assert {known.path for known in served.target.execs() if not known.native} == {"/tmp/own"}


def test_elsewhere_it_is_plain_qemu(served: Served) -> None:
    assert served.sh(f"readlink {EXE}", build=False).endswith("/qemu-arm")
    assert served.target.execs() == ()


def test_the_numbers_of_descriptors_are_those_of_plain_qemu(served: Served) -> None:
    """Here it finds the directory, and in it a dispatcher that cannot be started."""
    program = "cp /usr/bin/ls /tmp/ls; /tmp/ls /proc/self/fd"
    said = served.sh(program, build=False)
    plain = replace(served, qemu=served.target.armhf.natives.private / "qemu")
    assert said == plain.sh(program, build=False)
    assert "3" in said.split()


def test_arguments_and_argv0_are_kept(served: Served) -> None:
    line = "exec -a foo {} /proc/self/cmdline -- '' 'a b'"
    for build, program in ((True, "/usr/bin/cat"), (True, "/tmp/cat"), (False, "/usr/bin/cat")):
        script = f"cp /usr/bin/cat /tmp/cat; {line.format(program)}"
        assert served.run("bash", "-c", script, build=build)[1].startswith("foo\0/proc/self/cmdline\0--\0\0a b\0")


def test_a_changed_file_is_emulated(served: Served) -> None:
    assert served.sh(f"touch /usr/bin/readlink; readlink {EXE}") == "/.xbuild/qemu"


def test_whoever_has_the_preamble_can_be_told(served: Served) -> None:
    assert serving.has_preamble(served.qemu)
    assert not serving.has_preamble(served.target.armhf.natives.private / "qemu")


def test_what_cannot_have_it(served: Served, compiled: Path) -> None:
    with pytest.raises(ElfError, match="cannot put the preamble before this program"):
        preamble.prefixed(served.qemu.read_bytes(), b"\x7fELF")
    dynamic = (served.target.armhf.natives.trees["amd64"] / "usr/bin/true").read_bytes()
    with pytest.raises(ElfError, match="it is dynamic; a static one is needed"):
        preamble.prefixed(dynamic, compiled.read_bytes())


REFUSED = (
    "rm -r .xbuild",
    "rm .xbuild/dispatch",
    "chown 1000 .xbuild/dispatch",
    "chown 1000 .xbuild",
    "chmod g+w .xbuild/dispatch",
    "chmod o+w .xbuild",
    "chmod u+s .xbuild/dispatch",
    "chmod g+s .xbuild/dispatch",
    "mv .xbuild/dispatch d; ln -s /d .xbuild/dispatch",
    "mv .xbuild x; ln -s x .xbuild",
    "rm .xbuild/dispatch; mkdir .xbuild/dispatch",
    "rm .xbuild/dispatch; mkfifo .xbuild/dispatch",
    ": > .xbuild/dispatch",
)
"""What must not be run, made of a root in which it would be."""

# In each root lies a dispatcher that says that it was called.
ROOTS = """
mkdir -p /usr/roots
number=0
while read -r change; do
    number=$((number + 1))
    root=/usr/roots/$number
    mkdir -p $root/.xbuild
    cp /arm42 $root/arm42
    cp /empty-dispatcher $root/.xbuild/dispatch
    cd $root
    eval "$change"
    code=0
    chroot --userspec=USER:USER $root /arm42 < /dev/null 2> /dev/null || code=$?
    echo $code
done
"""


def in_roots(served: Served, changes: Sequence[str], user: int = 0) -> list[int]:
    """The exit code of an ARM program in a root with each of the changes."""
    upper = served.target.upper
    take_back(upper)
    (upper / "arm42").write_bytes(programs.arm())
    shutil.copy(served.target.armhf.natives.dispatcher, upper / "empty-dispatcher")
    for name in ("arm42", "empty-dispatcher"):
        (upper / name).chmod(0o755)
    give_tree(0, tops=[upper, upper / "arm42", upper / "empty-dispatcher"])
    text = "".join(change + "\n" for change in changes)
    script = f"cat <<'EOF' | (\n{text}EOF\n{ROOTS.replace('USER', str(user))})"
    return [int(line) for line in served.sh(script).splitlines()]


def test_what_is_not_roots_own_is_passed_over(served: Served) -> None:
    ends = dict(zip((":", *REFUSED), in_roots(served, (":", *REFUSED)), strict=True))
    assert ends == {":": NOT_CALLED, **dict.fromkeys(REFUSED, programs.EXIT)}


def test_the_file_of_a_program_that_cannot_be_read_is_handed_to_nobody(served: Served) -> None:
    assert in_roots(served, ("chmod 0111 arm42", "chmod 0555 arm42"), user=1000) == [programs.EXIT, NOT_CALLED]


@pytest.mark.parametrize(("flags", "uid"), [("FPO", "1000"), ("FPC", "0")])
def test_setuid_programs_give_no_rights_without_flag_c(served: Served, flags: str, uid: str) -> None:
    """With C they would, which shows that the question is asked rightly; `binfmt.install` never sets it with this."""
    served.sh("cp /usr/bin/id /usr/bin/rootid; chmod 4755 /usr/bin/rootid")
    for build in (True, False):
        assert served.run("/usr/bin/rootid", "-u", build=build, flags=flags, uid=1000) == (0, f"{uid}\n")
