"""What becomes of canaries' findings, without running any: those are tried by tests/integration/test_canaries.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from xbuild.base import log, paths
from xbuild.base.errors import EXIT_MACHINE, MachineError, UsageError
from xbuild.build import canary
from xbuild.build.canary.cases import CASES, COMPILER, Case
from xbuild.build.canary.examine import SOURCE, Examined, Status
from xbuild.build.environment import WorkPlace
from xbuild.model.load import load_toolchain
from xbuild.roots.distribution import Roots
from xbuild.roots.imported import Imported
from xbuild.roots.imported.facts import Facts
from xbuild.store.local import KINDS, Store

ARMHF = load_toolchain("armhf", paths.PACKAGE.parent)
AMD64 = load_toolchain("amd64", paths.PACKAGE.parent)


def finding(name: str, status: Status, *, required: bool = True) -> Examined:
    detail = "" if status == "passed" else f"{name} went wrong"
    return Examined(name, f"{name} works", status, detail, f"mend {name}" if status == "failed" else None, required)


class Cages:
    """Stands for the sandboxes: counts the examinations, each of which gives `findings`."""

    def __init__(self, *findings: Examined) -> None:
        self.findings = list(findings)
        self.file_system = "ext4"
        self.places: list[Path] = []

    def inputs(self, _roots: Roots, _work: Path) -> dict[str, str]:
        return {"file-system": self.file_system}

    def cage(self, _roots: Roots, _entries: object, place: WorkPlace) -> WorkPlace:
        place.path.mkdir()
        return place

    def examine(self, _where: object, place: WorkPlace, **_cases: object) -> list[Examined]:
        self.places.append(place.path)
        return self.findings


@pytest.fixture
def cages(monkeypatch: pytest.MonkeyPatch) -> Cages:
    known = Cages(finding("one", "passed"), finding("two", "skipped"))
    for name in ("inputs", "cage", "examine"):
        monkeypatch.setattr(canary, name, getattr(known, name))
    return known


def run(store: Path) -> tuple[Examined, ...]:
    known = Store(store)
    return canary.run(known, Roots(known, ARMHF, None), (), store / "work")


def test_what_passed_is_remembered(tmp_path: Path, cages: Cages) -> None:
    assert run(tmp_path) == run(tmp_path) == tuple(cages.findings)
    (place,) = cages.places
    assert place.parent == tmp_path / "work"
    assert not place.exists()
    (entry,) = (tmp_path / "canaries").iterdir()
    # `invoke clean` holds the lock of this name while it removes the work place.
    assert place.name == f"canaries-{entry.name}"


def test_another_file_system_is_another_question(tmp_path: Path, cages: Cages) -> None:
    run(tmp_path)
    cages.file_system = "nfs4"
    run(tmp_path)
    assert len(cages.places) == 2


def test_a_failure_is_not_remembered(tmp_path: Path, cages: Cages) -> None:
    good = cages.findings
    cages.findings = [finding("fork", "failed"), finding("locks", "failed"), finding("threads", "passed")]
    with pytest.raises(MachineError) as caught:
        run(tmp_path)
    assert caught.value.exit_code == EXIT_MACHINE
    assert caught.value.message == "programs for armhf do not run correctly here: canary fork: fork went wrong"
    assert caught.value.details == ("canary locks: locks went wrong; mend locks",)
    assert caught.value.hint == "mend fork"
    assert not cages.places[0].exists()
    cages.findings = good
    assert run(tmp_path) == tuple(good)


def test_what_no_build_needs_by_itself_is_only_told(
    tmp_path: Path, cages: Cages, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(log, "detail", said.append)
    cages.findings = [finding("one", "passed"), finding("readdir-narrow", "failed", required=False)]
    run(tmp_path)
    said.clear()
    assert run(tmp_path) == tuple(cages.findings)
    assert said == ["a build that needs this fails: readdir-narrow works; mend readdir-narrow"]


def test_a_native_target_has_none(tmp_path: Path, cages: Cages) -> None:
    store = Store(tmp_path)
    assert canary.run(store, Roots(store, AMD64, None), (), tmp_path / "work") == ()
    assert cages.places == []
    assert list(tmp_path.iterdir()) == []


def test_a_root_without_mkdir_says_so(tmp_path: Path, cages: Cages) -> None:
    tree, store = tmp_path / "root", Store(tmp_path / "store")
    (tree / "bin").mkdir(parents=True)
    for name in ("busybox", "cat", "ln", "rm"):
        (tree / "bin" / name).touch()
    facts = Facts("ARM", 32, "little", "hard", None, "musl", "x", "X", "other", None, merged=False)
    roots = Roots(store, ARMHF, None, imported=Imported("board", "", tree, facts, "0", ""))
    with pytest.raises(UsageError, match="imported root board lacks mkdir, so nothing can be built in it") as caught:
        canary.run(store, roots, (), tmp_path / "work")
    assert caught.value.hint is not None
    assert cages.places == []
    (tree / "bin/mkdir").symlink_to("/bin/busybox")
    assert canary.run(store, roots, (), tmp_path / "work") == tuple(cages.findings)


def test_the_store_knows_the_kind() -> None:
    assert canary.KIND in KINDS


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid shared:5 - proc proc rw
24 22 0:27 / /home rw - btrfs /dev/vdb rw,subvol=/home
25 24 8:1 / /home/a\\040b rw shared:7 master:2 - xfs /dev/sda1 rw
26 24 0:40 / /home/over rw - tmpfs below rw
27 26 0:41 / /home/over rw - nfs4 server:/x\\040y rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ("ext4", "254:0", "/dev/vda")),
        ("/homes/work", ("ext4", "254:0", "/dev/vda")),
        ("/home", ("btrfs", "0:27", "/dev/vdb")),
        ("/home/me/work", ("btrfs", "0:27", "/dev/vdb")),
        ("/home/a b/work", ("xfs", "8:1", "/dev/sda1")),
        ("/home/over/work", ("nfs4", "0:41", "server:/x\\040y")),
    ],
)
def test_file_systems(tmp_path: Path, path: str, expected: tuple[str, str, str]) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    found = canary.file_system(Path(path), tmp_path / "mountinfo")
    assert (found["type"], found["device"], found["source"]) == expected


def test_the_machine_has_file_systems(tmp_path: Path) -> None:
    found = canary.file_system(tmp_path)
    assert "?" not in found.values()
    assert canary.file_system(Path("/proc"))["type"] == "proc"


def test_findings_are_json(tmp_path: Path, cages: Cages) -> None:
    run(tmp_path)
    (entry,) = (tmp_path / "canaries").iterdir()
    first = json.loads((entry / "findings.json").read_text())[0]
    assert first == {
        "name": "one", "proves": "one works", "status": "passed", "detail": "", "remedy": None, "required": True,
    }  # fmt: skip


@pytest.mark.parametrize("case", [COMPILER, *CASES], ids=lambda case: case.name)
def test_every_canary_has_a_meaning_and_a_remedy(case: Case) -> None:
    assert case.proves
    assert case.remedy


def test_the_program_knows_what_is_asked_of_it() -> None:
    known = set(re.findall(r'\{"(\w+)", \w+\}', SOURCE.read_text()))
    assert {case.command[1] for case in CASES if case.command[0] == "./canary"} == known
