"""The canaries in a real armhf root: they pass where all is right, and each turns red where its thing is broken.

Broken in two ways: a program changed to see what a faulty emulator shows; and faulty emulators, file systems, limits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import Armhf
from xbuild.base import paths
from xbuild.base.errors import MachineError
from xbuild.build import canary
from xbuild.build.canary.cases import CASES, COMPILER, Case
from xbuild.build.canary.examine import SOURCE, Examined, cage, examine
from xbuild.build.environment import WorkPlace
from xbuild.sandbox import idmap
from xbuild.sandbox.mounts import Bind, Tmpfs
from xbuild.sandbox.run import Sandbox, remove_tree
from xbuild.store.local import Store

pytestmark = pytest.mark.integration

MEMORY = Path("/dev/shm")
NARROW = "readdir-narrow"
QEMU = "/run/qemu"
"""Where, inside, the real emulator lies when another one takes its place."""


class Trial:
    """A work place in which canaries are tried. path: an empty directory."""

    def __init__(self, armhf: Armhf, path: Path) -> None:
        self.armhf = armhf
        self.place = WorkPlace(path / "canaries")
        self.where: Sandbox = cage(armhf.roots, armhf.pairs.table, self.place)

    def findings(self, *names: str, source: str | None = None, seconds: float = 60) -> dict[str, Examined]:
        """What became of the canaries `names` (all, if none), and of the compiler's; source: of their program."""
        cases = [case for case in CASES if not names or case.name in names]
        file = SOURCE
        if source is not None:
            file = self.place.path / "changed.c"
            file.write_text(source)
        found = examine(self.where, self.place, cases=cases, source=file, seconds=seconds)
        return {finding.name: finding for finding in found}

    def with_qemu(self, script: str) -> None:
        """Let `script` run in the emulator's place; $QEMU is the real one, $ARGS all its words with spaces around."""
        wrapper = self.place.path / "wrapper"
        interpreter = f"{paths.PRIVATE}/amd64/usr/bin/dash"
        wrapper.write_text(f'#!{interpreter}\nARGS=" $* "\n{script}\nexec {QEMU} "$@"\n')
        wrapper.chmod(0o755)
        qemu = str(self.armhf.natives.private / "qemu")
        more = (Bind(qemu, QEMU), Bind(str(wrapper), f"{paths.PRIVATE}/qemu"))
        self.where = replace(self.where, mounts=(*self.where.mounts, *more))


@pytest.fixture
def trial(armhf: Armhf, place: Path) -> Trial:
    """A trial on the file system that temporary files are on."""
    return Trial(armhf, place)


@pytest.fixture
def memory(armhf: Armhf) -> Iterator[Path]:
    """An empty directory on a tmpfs."""
    if not MEMORY.is_dir() or canary.file_system(MEMORY)["type"] != "tmpfs":
        pytest.skip(f"{MEMORY} is no tmpfs here")
    path = Path(tempfile.mkdtemp(prefix="xbuild-test-", dir=MEMORY))
    path.chmod(0o755)
    yield idmap.own(path)
    remove_tree(path)


@pytest.fixture
def hashed(place: Path) -> Path:
    """An empty directory on ext4, which tells 64-bit programs, and so qemu, positions that need 64 bits."""
    if canary.file_system(place)["type"] != "ext4":
        pytest.skip(f"{place} is not on ext4")
    return place


def statuses(findings: dict[str, Examined]) -> dict[str, str]:
    return {name: finding.status for name, finding in findings.items()}


def test_all_is_right_here(trial: Trial) -> None:
    found = trial.findings()
    # Whether this one passes is the file system's matter.
    narrow = found.pop(NARROW)
    assert statuses(found) == {case.name: "passed" for case in (COMPILER, *CASES) if case.name != NARROW}
    assert narrow.status in ("passed", "failed")
    assert not narrow.required


def test_32_bit_offsets_on_ext4(armhf: Armhf, hashed: Path) -> None:
    finding = Trial(armhf, hashed).findings(NARROW)[NARROW]
    assert finding.status == "failed"
    assert "readdir found 0 of 300 files" in finding.detail
    assert "XBUILD_CACHE" in (finding.remedy or "")


def test_32_bit_offsets_in_memory(armhf: Armhf, memory: Path) -> None:
    """The remedy helps."""
    assert Trial(armhf, memory).findings(NARROW)[NARROW].status == "passed"


# What a compiler without large-file support makes of the program, as Debian 12's is.
OLD = "#undef _FILE_OFFSET_BITS\n#undef _TIME_BITS\n" + SOURCE.read_text()


def test_a_root_whose_programs_all_have_32_bit_offsets(armhf: Armhf, hashed: Path, memory: Path) -> None:
    found = Trial(armhf, hashed).findings("readdir", NARROW, source=OLD)
    assert statuses(found) == {"compiler": "passed", "readdir": "failed", NARROW: "skipped"}
    with pytest.raises(MachineError, match="canary readdir: readdir found 0 of 300 files") as caught:
        canary.require(tuple(found.values()), armhf.toolchain)
    assert "XBUILD_CACHE" in (caught.value.hint or "")
    found = Trial(armhf, memory).findings("readdir", NARROW, source=OLD)
    assert statuses(found) == {"compiler": "passed", "readdir": "passed", NARROW: "skipped"}


def planted(name: str, plant: str) -> str:
    """The canaries' program with `plant` after the last header that `name` needs, so that no header is changed."""
    head, last, rest = SOURCE.read_text().partition(f"#include <{'unistd' if name == 'readdir' else 'sys/wait'}.h>\n")
    assert rest
    return f"{head}{last}{plant}\n{rest}"


@pytest.mark.parametrize(
    ("name", "plant", "seen"),
    [
        ("readdir", "#define readdir(directory) (errno = EOVERFLOW, (void *)0)", "found 0 of 300 files (Value too"),
        ("readdir", "#define readdir(directory) (found == 200 ? (void *)0 : readdir(directory))", "found 200 of 300"),
        ("fork", "#define execv(path, words) _exit(0)", "not exit code 40"),
        ("fork", "#define fork() (errno = ENOSYS, -1)", "fork: Function not implemented"),
        ("vfork", "#define execl(...) _exit(0)", "/bin/false: the child's status is 0, not exit code 1"),
        ("posix_spawn", "#define posix_spawn_file_actions_adddup2(...) 0", "sh, spawned, said , not 42"),
        ("posix_spawn", "#define posix_spawn(pid, ...) (*(pid) = fork()) ? 0 : (_exit(0), 0)", "not exit code 1"),
        ("threads", "#define __thread", "its own variable is not its own"),
        ("threads", "#define pthread_create(...) EAGAIN", "pthread_create: Resource temporarily unavailable"),
        ("signals", "#define sigaltstack(...) 0", "the handler had another stack"),
        ("signals", "#define sigprocmask(...) 0", "a blocked signal came through"),
        ("signals", "#define raise(number) _exit(128 + number)", "a child that dies by signal 15 has status"),
        ("signals", "#define read(...) 0", "a timer did not interrupt read"),
        ("locks", "#define flock(...) 0", "flock of a locked file"),
        ("locks", "#undef F_OFD_SETLK\n#define F_OFD_SETLK F_SETLK", "F_OFD_SETLK locked what another open file has"),
        ("locks", "#define getpid() 1", "fcntl F_GETLK told of a lock of process"),
        ("setuid", "#define setresuid(...) 0", "a file is 0:1000's, not 1000:1000's"),
        ("setuid", "#define fchown(...) (errno = EINVAL, -1)", "could give a file away"),
    ],
)
def test_a_fault_turns_its_canary_red(trial: Trial, name: str, plant: str, seen: str) -> None:
    finding = trial.findings(name, source=planted(name, plant))[name]
    assert finding.status == "failed"
    assert seen in finding.detail
    assert finding.remedy
    assert finding.required


def test_a_compiler_that_fails(trial: Trial) -> None:
    found = trial.findings("fork", "ldconfig", source="int main(void) { return nothing; }\n")
    assert statuses(found) == {"compiler": "failed", "fork": "skipped", "ldconfig": "passed"}
    assert "nothing" in found["compiler"].detail


def test_a_root_without_a_compiler(trial: Trial) -> None:
    # /usr/bin/cc is a link that leads there.
    trial.where = replace(trial.where, mounts=(*trial.where.mounts, Tmpfs("/etc/alternatives")))
    found = trial.findings("fork")
    assert statuses(found) == {"compiler": "skipped", "fork": "skipped"}
    canary.require(tuple(found.values()), trial.armhf.toolchain)


def test_a_full_disk_is_no_fault_of_the_emulator(trial: Trial) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        trial.findings("readdir", source=planted("readdir", "#define mkdir(...) (errno = ENOSPC, -1)"))


def killed(pattern: str) -> str:
    return f'case $ARGS in *"{pattern}"*) kill -SEGV $$; esac'


@pytest.mark.parametrize(
    ("script", "red", "seen"),
    [
        # Programs that an emulated program starts.
        ('case $ARGS in *" exit "*) exit 1; esac', ["fork", "posix_spawn"], "not exit code 4"),
        # What the qemu of 2025 did.
        (killed("/ldconfig "), ["ldconfig"], "Segmentation fault"),
        # A limit, as a container has it.
        ('case $ARGS in *" threads "*) ulimit -p 1; esac', ["threads"], "thread_create: Resource temporarily"),
    ],
    ids=["exec", "ldconfig", "limit"],
)
def test_a_faulty_emulator(trial: Trial, script: str, red: list[str], seen: str) -> None:
    trial.with_qemu(script)
    found = trial.findings("fork", "vfork", "posix_spawn", "threads", "ldconfig")
    assert [name for name, finding in found.items() if finding.status != "passed"] == red
    for name in red:
        assert seen in found[name].detail


def test_an_emulator_that_runs_nothing(trial: Trial) -> None:
    trial.with_qemu(killed("./canary"))
    found = trial.findings("locks")
    assert statuses(found) == {"compiler": "failed", "locks": "skipped"}
    assert "SIGSEGV" in found["compiler"].detail


def test_an_emulator_that_hangs(trial: Trial) -> None:
    trial.with_qemu(f'case $ARGS in *" locks "*) exec {paths.PRIVATE}/amd64/usr/bin/sleep 60; esac')
    finding = trial.findings("locks", seconds=2)["locks"]
    assert (finding.status, finding.detail) == ("failed", "no end in time")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], None]:
    """Let `run` try the canaries of these names only."""

    def only(names: Sequence[str]) -> None:
        chosen = [case for case in CASES if case.name in names]

        def examine_chosen(where: Sandbox, place: WorkPlace, *, cases: Sequence[Case]) -> list[Examined]:
            return examine(where, place, cases=[case for case in chosen if case in cases])

        monkeypatch.setattr(canary, "examine", examine_chosen)

    return only


def test_once(armhf: Armhf, place: Path, short: Callable[[Sequence[str]], None]) -> None:
    short(["locks"])
    store = Store(place, remove_tree)
    found = canary.run(store, armhf.roots, armhf.pairs.entries, place / "work")
    assert [(finding.name, finding.status) for finding in found] == [("compiler", "passed"), ("locks", "passed")]
    assert list((place / "work").iterdir()) == []
    (entry,) = (place / "canaries").iterdir()
    made = entry.stat().st_ctime_ns
    # Another mode asks the same question.
    assert canary.run(store, armhf.roots, (), place / "work") == found
    assert entry.stat().st_ctime_ns == made
