"""What is told of checks that ran again, and where the jobs of a build run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from xbuild.build import environment
from xbuild.build.environment import Job, Root, WorkPlace
from xbuild.build.recheck import Checked
from xbuild.proof.compare.environment import rows

PASSED = Checked("zlib 1.3.1 for armhf", "machine", Path("/a/zlib.tar.zst"), 3, True, 61.2, (), None)
FAILED = replace(PASSED, phase=False, faults=("phase 'check' failed", "last line"), log=Path("/w/check-machine.log"))


def test_what_passed_is_told_in_a_line() -> None:
    expected = "zlib 1.3.1 for armhf, in an emulated machine: check phase passed in 1m 01s; 3 outputs as promised"
    assert PASSED.lines() == [expected]
    assert PASSED.fault() is None
    without = replace(PASSED, where="sandbox", phase=None)
    assert without.lines() == ["zlib 1.3.1 for armhf, in a sandbox: no check phase; 3 outputs as promised"]
    assert without.as_json()["phase"] is None


def test_what_failed_is_an_error_with_all_faults() -> None:
    fault = FAILED.fault()
    assert fault is not None
    assert fault.exit_code == 5
    assert fault.message == "zlib 1.3.1 for armhf: checks failed in an emulated machine"
    assert fault.details == FAILED.faults
    assert FAILED.as_json() == {
        "of": "zlib 1.3.1 for armhf", "where": "machine", "artifact": "/a/zlib.tar.zst", "phase": "failed",
        "seconds": 61.2, "outputs": 3, "faults": list(FAILED.faults), "log": "/w/check-machine.log",
    }  # fmt: skip


class Recorder:
    """A machine that only writes down what it was to run."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Path, Job]] = []

    def capture(self, place: WorkPlace, job: Job) -> tuple[int, bytes]:
        self.jobs.append((place.path, job))
        return 7, b"said"

    def run_logged(
        self, place: WorkPlace, job: Job, log: Path, *, idle_limit: float, on_idle: Callable[[float], None]
    ) -> int | None:
        self.jobs.append((place.path, job))
        log.write_text("logged")
        on_idle(idle_limit)
        return None

    def describe(self) -> list[str]:
        return ["a machine"]


def test_a_machine_takes_all_jobs_but_those_with_network(tmp_path: Path) -> None:
    machine = Recorder()
    root = Root((tmp_path,), None, (), machine=machine)
    place = WorkPlace(tmp_path / "work")
    job = Job(("true",), {"A": "b"}, changes=True)
    assert environment.capture(root, place, job) == (7, b"said")
    log, idle = tmp_path / "log", list[float]()
    assert environment.run_logged(root, place, job, log, idle_limit=5, on_idle=idle.append) is None
    assert (log.read_text(), idle) == ("logged", [5])
    assert machine.jobs == [(place.path, job), (place.path, job)]
    assert environment.describe(root, place, job) == ["a machine"]
    fetching = environment.describe(root, place, replace(job, network=True))
    assert "network of the machine, uid 1000" in fetching
    assert len(machine.jobs) == 2


def test_the_kernel_of_a_machine_is_among_what_took_part() -> None:
    mode = {"kernel": "linux-image-6.12 6.12-1"}
    manifest = {"inputs": {"target root": {"make": "4.4 armhf"}, "mode": mode}, "twins": []}
    assert ("Linux (mode system)", "linux-image-6.12 6.12-1", "") in rows([manifest], "10")
    without = {"inputs": {"target root": {}, "mode": {}}, "twins": []}
    assert not [row for row in rows([without], "10") if "Linux" in row[0]]
    assert not [row for row in rows([without], "10") if "emulated" in row[0]]
    late = {**without, "emulated-late": ["/usr/bin/perl"]}
    assert ("emulated, for its twin could not go on", "/usr/bin/perl", "") in rows([without, late], "10")
