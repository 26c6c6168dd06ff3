"""An emulated machine that really boots: a build sees in it what it sees in a sandbox, and it ends in all ways.

For arm64, whose kernel is the smaller one and is ready sooner.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import load_target
from xbuild.base.errors import MachineError
from xbuild.build import environment
from xbuild.build.environment import FIXED_VARIABLES, Job, Root, WorkPlace
from xbuild.build.modes.system.machine import EmulatedMachine
from xbuild.build.modes.system.parts import Parts
from xbuild.sandbox import idmap
from xbuild.sandbox.run import give_tree, machine_view, run

pytestmark = pytest.mark.integration

# All that a build can see of its surroundings, but for the kernel's version and the processor; and but for whom devices
# and /proc belong to: in a sandbox to nobody.
PROBE = """
id; pwd; umask; env | sort; cat /proc/sys/kernel/hostname; uname -m
for path in / /* /etc/passwd /usr/bin/env /build/* /var/tmp; do
    [ "$path" = /proc ] || stat -c '%A %u %g %n' "$path"
done
stat -c '%A %t:%T %n' /proc /dev/* /dev/shm/..
tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '
grep NoNewPrivs /proc/self/status
cat /etc/hosts; getent hosts "$(hostname)"
readlink /proc/self/ns/net > /dev/null && echo namespaces
touch /usr/x 2>&1 || true
mkdir /mine 2>&1 || true
cat /over/file
echo by-name > /dev/stderr
echo lock > /dev/shm/a && cat /dev/shm/a
seq 20000 | cksum
"""

# What there was is as it was, to the nanosecond; then what there will be.
CHANGES = """
cd /build/src
stat -c '%n %a %u:%g %y %h' plain twin tool
readlink link
cmp plain twin
echo new > made
chmod 4751 made
touch -d '2001-02-03 04:05:06.789012345' made
ln made other
ln -s made third
mkdir -p deep/er
echo scratch > /var/tmp/kept
rm tool
seq 200000
exit 42
"""


@pytest.fixture(scope="module")
def target(runnable: None) -> tuple[Root, EmulatedMachine]:
    """The root of arm64 as sandboxes have it, and the machine."""
    known = load_target("arm64")
    parts = Parts(known.roots)
    disk = parts.disk(known.layers, known.roots.base_value())
    machine = EmulatedMachine(parts.system, parts.emulator(), parts.kernel(), disk, jobs=2)
    return Root(known.layers, None, ()), machine


@pytest.fixture
def work(place: Path) -> WorkPlace:
    """A work place with a source."""
    found = WorkPlace(place / "work")
    found.path.mkdir()
    found.make()
    found.source.mkdir()
    (found.source / "plain").write_text("text\n")
    (found.source / "twin").hardlink_to(found.source / "plain")
    (found.source / "link").symlink_to("plain")
    (found.source / "tool").write_text("#!/bin/sh\n")
    (found.source / "tool").chmod(0o755)
    os.utime(found.source / "plain", ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    os.utime(found.source / "tool", ns=(1_500_000_000_000_000_001, 1_500_000_000_000_000_001))
    found.give_to_builder("src", "obj", "dest")
    return found


def job(script: str, cwd: str = "/build", *, over: tuple[Path, ...] = (), changes: bool = False) -> Job:
    env = {**FIXED_VARIABLES, "ODD": "a b\n=c"}
    return Job(("sh", "-euc", script), env, cwd, over=over, changes=changes)


def logged(root: Root, work: WorkPlace, wanted: Job, name: str) -> list[str]:
    """The lines that a job, which must succeed, writes to its log."""
    log = work.logs / f"{name}.log"
    log.touch()
    code = environment.run_logged(root, work, wanted, log, idle_limit=300, on_idle=lambda _: None)
    assert code == 0, log.read_text()
    # A sandbox has the private tree; in a machine its directory belongs to the root as it was made.
    return [line for line in log.read_text().splitlines() if not line.endswith(" /.xbuild")]


def test_a_build_sees_the_same_as_in_a_sandbox(target: tuple[Root, EmulatedMachine], work: WorkPlace) -> None:
    root, machine = target
    known = load_target("arm64")
    dispatcher = known.roots.dispatcher((), work.dispatcher)
    sandboxed = replace(root, private=known.natives.private, registrations=known.roots.registrations(dispatcher))
    over = work.path / "over"
    (over / "over").mkdir(parents=True)
    (over / "over/file").write_text("laid over\n")
    give_tree(0, [over])
    wanted = logged(sandboxed, work, job(PROBE, over=(over,)), "sandbox")
    assert "laid over" in wanted
    assert logged(replace(root, machine=machine), work, job(PROBE, over=(over,)), "machine") == wanted
    assert "Linux version" in (work.logs / "machine.console").read_text()


def test_trees_go_in_and_come_back(target: tuple[Root, EmulatedMachine], work: WorkPlace) -> None:
    root, machine = target
    code, said = environment.capture(replace(root, machine=machine), work, job(CHANGES, changes=True))
    lines = said.decode().splitlines()
    assert code == 42
    assert lines[:4] == [
        "plain 644 1000:1000 2020-09-13 12:26:40.123456789 +0000 2",
        "twin 644 1000:1000 2020-09-13 12:26:40.123456789 +0000 2",
        "tool 755 1000:1000 2017-07-14 02:40:00.000000001 +0000 1",
        "plain",
    ]
    assert lines[4:] == [str(number) for number in range(1, 200001)]
    script = 'cd "$1" && stat -c "%n %a %u:%g %h" src/* && cat src/made'
    names = work.path / "names"
    with names.open("wb") as output:
        run(machine_view(), ["sh", "-euc", script, "sh", work.build], output=output)
    assert names.read_text().splitlines() == [
        "src/deep 755 1000:1000 3", "src/link 777 1000:1000 1", "src/made 4751 1000:1000 2",
        "src/other 4751 1000:1000 2", "src/plain 644 1000:1000 2", "src/third 777 1000:1000 1",
        "src/twin 644 1000:1000 2", "new",
    ]  # fmt: skip
    assert (work.source / "made").stat().st_mtime_ns == 981_173_106_789_012_345
    assert (work.scratch("var/tmp") / "kept").read_text() == "scratch\n"
    assert not (work.path / "machine").exists()


def test_root_gives_files_away_and_has_no_hand_in_our_scripts(
    target: tuple[Root, EmulatedMachine], work: WorkPlace
) -> None:
    root, machine = target
    script = """
        chown 33:34 src/tool
        ln -s /etc/passwd run/later
        mknod src/node b 8 0 2> /dev/null || echo refused
        id -u; grep CapBnd /proc/self/status
    """
    wanted = replace(job(script, changes=True), root=True)
    assert logged(replace(root, machine=machine), work, wanted, "root") == ["refused", "0", "CapBnd:\t00000000000000fb"]
    (uid, gid), tool = idmap.find().root, (work.source / "tool").stat()
    assert (tool.st_uid, tool.st_gid) == (uid + 33, gid + 34)
    assert list(work.scripts.iterdir()) == []


def test_a_kernel_that_panics_shows_its_console(target: tuple[Root, EmulatedMachine], work: WorkPlace) -> None:
    root, machine = target
    nothing = work.path / "nothing"
    nothing.touch()
    blind = EmulatedMachine(
        machine.system, machine.emulator, replace(machine.kernel, initrd=nothing), machine.disk, jobs=1
    )
    with pytest.raises(MachineError, match="ended before it was ready") as caught:
        environment.capture(replace(root, machine=blind), work, job("true"))
    assert any("Kernel panic" in line for line in caught.value.details)
    assert not (work.path / "machine").exists()


def test_a_machine_that_is_not_ready_in_time_is_ended(target: tuple[Root, EmulatedMachine], work: WorkPlace) -> None:
    root, machine = target
    system = machine.system.model_copy(update={"boot_limit": 1})
    hasty = EmulatedMachine(system, machine.emulator, machine.kernel, machine.disk, jobs=1)
    with pytest.raises(MachineError, match="was not ready after 1 s"):
        environment.capture(replace(root, machine=hasty), work, job("true"))
    assert not (work.path / "machine").exists()


def test_an_emulator_that_does_not_start_says_why(target: tuple[Root, EmulatedMachine], work: WorkPlace) -> None:
    root, machine = target
    system = machine.system.model_copy(update={"cpu": "cortex-a0"})
    odd = EmulatedMachine(system, machine.emulator, machine.kernel, machine.disk, jobs=1)
    with pytest.raises(MachineError, match="ended before it was ready") as caught:
        environment.capture(replace(root, machine=odd), work, job("true"))
    assert any("cortex-a0" in line for line in caught.value.details)
