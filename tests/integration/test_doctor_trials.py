from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xbuild import doctor
from xbuild.base import paths
from xbuild.doctor import trials

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("runnable")]


def examine_with(prefix: list[str], store_root: Path) -> dict[str, tuple[str, str]]:
    """Status and text by name, of what a process started with `prefix` finds."""
    script = (
        "import sys; from pathlib import Path; from xbuild.doctor import examine\n"
        "for p in examine(Path(sys.argv[1]), offline=True): print(p.name, p.status, p.text, sep='\\t')"
    )
    env = {**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*prefix, sys.executable, "-c", script, str(store_root)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {name: (status, text) for name, status, text in lines}


def test_everything_is_there_and_nothing_is_left() -> None:
    root = paths.cache() / "doctor-was-here"
    found = {probe.name: probe for probe in doctor.examine(root, offline=True)}
    assert [probe for probe in found.values() if probe.status == "fail"] == []
    assert found["private binfmt_misc"].text == "mounted one and registered an entry"
    assert found["32-bit x86 programs"].text == "ran one"
    assert found["overlay"].status == "ok"
    assert found["system call dispatch"].status == ("ok" if os.uname().machine == "x86_64" else "warn")
    assert found["user namespaces"].status == "ok"
    assert not root.exists()
    left = [*paths.cache().glob(".xbuild-doctor-*"), *paths.cache().parent.glob(".xbuild-doctor-*")]
    assert left == []


def test_an_arm_program_runs_or_reaches_us() -> None:
    with trials.scrap(paths.cache()) as place:
        probe = trials.foreign_program(place, paths.cache())
    assert probe.status == "ok"
    if trials.find_qemu(paths.cache()):
        assert probe.text.startswith("ran one with ")


def test_a_wrong_qemu_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The program loops for ever.
    monkeypatch.setattr(trials, "SECONDS", 2)
    place = tmp_path / "roots" / "x" / "root" / "usr" / "bin"
    place.mkdir(parents=True)
    static = Path(__file__).parents[1] / "unit" / "data" / "amd64-static"
    shutil.copy(static, place / "qemu-arm")
    with trials.scrap(paths.cache()) as scrap:
        probe = trials.foreign_program(scrap, tmp_path)
    assert probe.status == "fail"


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_no_new_privileges_is_found_out() -> None:
    if os.geteuid() == 0:
        pytest.skip("root needs no setuid program")
    found = examine_with(["setpriv", "--no-new-privs"], paths.cache())
    assert found["user namespaces"][0] == "fail"
    assert "newuidmap" in found["user namespaces"][1]
    assert "no_new_privs" in found["confinement"][1]


def test_no_more_namespaces_is_found_out() -> None:
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    found = examine_with(["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh"], paths.cache())
    assert found["setting"] == ("fail", "user.max_user_namespaces = 0 forbids user namespaces")
    assert found["user namespaces"][0] == "fail"
    assert found["overlay"][0] == "warn"
