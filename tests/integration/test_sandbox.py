"""Sandboxes with the real kernel: what is inside, what is not, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ENV, Armhf
from xbuild.base.errors import MachineError, PhaseError
from xbuild.sandbox import idmap
from xbuild.sandbox.mounts import Bind, Devices, Overlay, Proc, Tmpfs
from xbuild.sandbox.run import Sandbox, capture, give_tree, machine_view, remove_tree, run, run_logged

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def native(armhf: Armhf) -> Path:
    """A finished x86-64 root."""
    return armhf.natives.trees["amd64"]


@pytest.fixture
def private(native: Path) -> Callable[..., Sandbox]:
    """Makes sandboxes that see the native root, read-only, and nothing else."""

    def make(*further: Any, **changes: Any) -> Sandbox:
        mounts = (Overlay((str(native),), None, None), Proc(), Devices(), Tmpfs("/tmp", "1777"), *further)
        return Sandbox(**{"mounts": mounts, "mount_point": native, "env": ENV, **changes})

    return make


def says(sandbox: Sandbox, script: str) -> str:
    returncode, said = capture(sandbox, ["bash", "-euc", script])
    assert returncode == 0, said.decode()
    return said.decode()


def fails(sandbox: Sandbox, script: str) -> str:
    returncode, said = capture(sandbox, ["bash", "-euc", script])
    assert returncode != 0, said.decode()
    return said.decode()


def rooted(native: Path, place: Path, lowers: tuple[str, ...]) -> Sandbox:
    for name in ("upper", "work", "root"):
        (place / name).mkdir(exist_ok=True)
    give_tree(0, tops=[place / name for name in ("upper", "work", "root")])
    overlay = Overlay(lowers, str(place / "upper"), str(place / "work"))
    return Sandbox(mounts=(overlay, Proc(), Devices()), mount_point=place / "root", env=ENV)


@pytest.mark.parametrize("uid", [0, 1000])
def test_ids(private: Callable[..., Sandbox], uid: int) -> None:
    assert says(private(uid=uid, gid=uid), "id -u; id -g; id -G").split() == [str(uid)] * 3


def test_root_inside_is_not_root_outside(private: Callable[..., Sandbox]) -> None:
    inside, outside, count = says(private(), "cat /proc/self/uid_map").splitlines()[0].split()
    assert inside == "0"
    assert outside == str(idmap.find().root[0]) != "0"
    assert int(count) in (1, 65536)


def test_the_user_is_not_in_somebody_elses_system(private: Callable[..., Sandbox]) -> None:
    # Root in it could give him a set-uid program; nothing inside stands for him.
    spans = [tuple(map(int, line.split()[1:])) for line in says(private(), "cat /proc/self/uid_map").splitlines()]
    assert all(not first <= os.geteuid() < first + count for first, count in spans)
    assert "Invalid argument" in fails(private(), "touch /tmp/a; chown 65536 /tmp/a")


def test_pid_1_has_nothing_open_outside(private: Callable[..., Sandbox], place: Path) -> None:
    script = 'for fd in /proc/1/fd/*; do if [ -d "$fd" ]; then echo "$fd"; fi; done; ls /proc/1/cwd/etc/debian_version'
    assert says(private(Bind(str(place), "/mnt")), script) == "/proc/1/cwd/etc/debian_version\n"


def test_all_ids_of_a_debian_root_are_there(private: Callable[..., Sandbox]) -> None:
    said = says(private(), "touch /tmp/a; chown 65534:65534 /tmp/a; chown 1:65535 /tmp/a; stat -c '%u %g' /tmp/a")
    assert said == "1 65535\n"


def test_nothing_of_the_machine_is_seen(private: Callable[..., Sandbox], place: Path) -> None:
    (place / "secret").write_text("secret")
    (place / "secret").chmod(0o644)
    for path in (place / "secret", Path(__file__)):
        for seen in (str(path), f"/proc/1/root{path}", f"/proc/1/cwd{path}", f"/..{path}"):
            assert "No such file or directory" in fails(private(), f"ls -d '{seen}'")


def test_no_descriptor_of_ours_gets_in(private: Callable[..., Sandbox]) -> None:
    with Path(__file__).open() as stream:
        os.set_inheritable(stream.fileno(), True)
        assert says(private(), "cd /proc/self/fd; echo *") == "0 1 2 3\n"


def test_environment_is_just_what_is_given(private: Callable[..., Sandbox]) -> None:
    returncode, said = capture(private(env={"PATH": ENV["PATH"], "A": "ä\n"}), ["env", "-0"])
    assert (returncode, said.decode()) == (0, f"PATH={ENV['PATH']}\0A=ä\n\0")


def test_there_is_no_network_but_the_loopback(private: Callable[..., Sandbox]) -> None:
    names = [line.split(":")[0].strip() for line in says(private(), "cat /proc/net/dev").splitlines()[2:]]
    assert names == ["lo"]
    # 192.0.2.0/24 is nobody's (RFC 5737). A refusal on the loopback shows that it is up.
    assert "Network is unreachable" in fails(private(), "exec 3<>/dev/tcp/192.0.2.1/80")
    assert "Connection refused" in fails(private(), "exec 3<>/dev/tcp/127.0.0.1/9")


def test_the_network_can_be_had(private: Callable[..., Sandbox]) -> None:
    mine = sorted(path.name for path in Path("/sys/class/net").iterdir() if path.is_dir())
    said = says(private(network=True), "cat /proc/net/dev").splitlines()[2:]
    assert sorted(line.split(":")[0].strip() for line in said) == mine


def test_hostname(private: Callable[..., Sandbox]) -> None:
    assert says(private(), "cat /proc/sys/kernel/hostname; echo $HOSTNAME").split() == ["xbuild", "xbuild"]


def test_other_processes_are_not_seen(private: Callable[..., Sandbox]) -> None:
    # bash and its substitution at the most, besides pid 1.
    pids = says(private(), "cd /proc; echo [0-9]*").split()
    assert pids[0] == "1"
    assert len(pids) <= 3


@pytest.mark.parametrize("path", ["kernel/hostname", "kernel/core_pattern", "vm/overcommit_memory"])
def test_settings_of_the_kernel_are_read_only(private: Callable[..., Sandbox], path: str) -> None:
    assert "Read-only file system" in fails(private(), f"echo x > /proc/sys/{path}")


def test_the_registration_is_not_seen(private: Callable[..., Sandbox], armhf: Armhf) -> None:
    registrations = armhf.roots.registrations(armhf.natives.dispatcher)
    assert says(private(registrations=registrations), "ls -A /proc/sys/fs/binfmt_misc") == ""


def test_a_read_only_root(private: Callable[..., Sandbox]) -> None:
    assert "Read-only file system" in fails(private(), "touch /usr/x")
    assert says(private(), "echo a >/tmp/a; stat -c %a /tmp /tmp/a; cat /tmp/a").split() == ["1777", "644", "a"]


def test_devices(private: Callable[..., Sandbox]) -> None:
    script = """
    head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x >/dev/null
    echo z >/dev/full || echo full; touch /dev/shm/a; echo /dev/*
    """
    said = says(private(uid=1000, gid=1000), script)
    assert said.split()[:2] == ["3", "3"]
    assert "full" in said
    assert "sd" not in said.splitlines()[-1]
    assert set(said.splitlines()[-1].split()) == {
        f"/dev/{name}"
        for name in [
            "fd",
            "full",
            "null",
            "ptmx",
            "pts",
            "random",
            "shm",
            "stderr",
            "stdin",
            "stdout",
            "tty",
            "urandom",
            "zero",
        ]
    }


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_the_builder_can_open_its_own_output(private: Callable[..., Sandbox], name: str) -> None:
    command = ["bash", "-c", f"echo said >>/dev/{name}"]
    assert capture(private(uid=1000, gid=1000), command) == (0, b"said\n")


def test_binds(private: Callable[..., Sandbox], place: Path) -> None:
    (place / "file").write_text("old")
    give_tree(0, tops=[place, place / "file"])
    says(private(Bind(str(place), "/mnt")), "cat /mnt/file; echo new >/mnt/file")
    assert (place / "file").read_text() == "new\n"
    assert "Read-only" in fails(private(Bind(str(place), "/mnt", readonly=True)), "echo newer >/mnt/file")


def test_locked_programs_gain_no_rights(private: Callable[..., Sandbox]) -> None:
    assert says(private(locked=True), "grep NoNewPrivs /proc/self/status").split()[1] == "1"
    assert says(private(), "grep NoNewPrivs /proc/self/status").split()[1] == "0"


def test_signals_are_as_if_nobody_had_touched_them(private: Callable[..., Sandbox]) -> None:
    """Python ignores two, and this process may have been started with others ignored or blocked."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        _, said = capture(private(), ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGHUP, before)
    assert said.decode().split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_the_first_process_tells_nothing_of_the_machine(private: Callable[..., Sandbox]) -> None:
    assert says(private(), "tr -d '\\0' < /proc/1/cmdline") == "xbuild"


def test_umask_and_directory(private: Callable[..., Sandbox]) -> None:
    old = os.umask(0o077)
    try:
        assert says(private(cwd="/usr/lib"), "umask; pwd").split() == ["0022", "/usr/lib"]
    finally:
        os.umask(old)


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_codes(private: Callable[..., Sandbox], code: int) -> None:
    assert run(private(), ["bash", "-c", f"exit {code}"], check=False) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT, signal.SIGPIPE])
def test_signals(private: Callable[..., Sandbox], number: signal.Signals) -> None:
    assert run(private(), ["bash", "-c", f"kill -{number.value} $$"], check=False) == -number


def test_failures_are_told(private: Callable[..., Sandbox], place: Path) -> None:
    with pytest.raises(PhaseError, match=r"bash -c 'exit 3': exit code 3"):
        run(private(), ["bash", "-c", "exit 3"])
    returncode, said = capture(private(), ["no-such-program"])
    assert returncode == 127
    assert b"xbuild: cannot run no-such-program" in said
    with pytest.raises(MachineError, match=r"could not be set up: .*/nowhere"):
        run(private(Bind("/nowhere", "/mnt")), ["true"])
    assert "cannot run true" in capture(private(cwd="/nowhere"), ["true"])[1].decode()


def test_a_link_as_mount_point_is_refused(native: Path, place: Path) -> None:
    sandbox = rooted(native, place, (str(native),))
    run(machine_view(), ["ln", "-s", place, place / "upper/out"])
    further = (*sandbox.mounts, Tmpfs("/out/new"))
    with pytest.raises(MachineError, match="is a symbolic link"):
        run(Sandbox(mounts=further, mount_point=sandbox.mount_point, env=ENV), ["true"])
    assert not (place / "new").exists()


def test_what_the_command_leaves_running_dies_with_it(private: Callable[..., Sandbox]) -> None:
    started = time.monotonic()
    assert run(private(), ["bash", "-c", "sleep 100 & disown; exit 5"], check=False) == 5
    assert time.monotonic() - started < 5


def test_overlay(native: Path, place: Path) -> None:
    sandbox = rooted(native, place, (str(native),))
    says(sandbox, "rm -r /usr/share/doc; rm /etc/passwd; mkdir /usr/share/doc; echo x > /usr/share/doc/y; mv /opt /o")
    assert says(sandbox, "ls /usr/share/doc; ls -d /o; ls /etc/passwd 2>/dev/null || true").split() == ["y", "/o"]
    assert (native / "etc/passwd").is_file()
    assert len(list((native / "usr/share/doc").iterdir())) > 5


def test_an_overlay_of_directories_with_odd_names(native: Path, place: Path) -> None:
    odd = place / "a:b,c\\d e"
    for path in (odd, odd / "lower"):
        path.mkdir()
        path.chmod(0o755)
    (odd / "lower/file").write_text("lower")
    sandbox = rooted(native, odd, (str(odd / "lower"), str(native)))
    assert says(sandbox, "cat /file; echo upper >/made") == "lower"
    assert (odd / "upper/made").read_text() == "upper\n"


def test_layers_hide_each_other(native: Path, place: Path) -> None:
    for name in ("low", "high"):
        (place / name).mkdir()
        (place / name / "file").write_text(name)
    readonly = Overlay((str(place / "high"), str(place / "low"), str(native)), None, None)
    (place / "root").mkdir()
    sandbox = Sandbox(mounts=(readonly, Proc(), Devices()), mount_point=place / "root", env=ENV)
    assert says(sandbox, "cat /file") == "high"
    assert "Read-only" in fails(sandbox, "touch /file")


def test_a_store_that_is_closed_to_root_inside(native: Path, place: Path) -> None:
    closed = place / "closed é\udcff"
    closed.mkdir(mode=0o700)
    (closed / "lower").mkdir()
    (closed / "lower").chmod(0o755)
    (closed / "lower/file").write_text("lower")
    (closed / "lower/file").chmod(0o644)
    if os.geteuid() == 0:
        pytest.skip("root's store belongs to root inside")
    sandbox = rooted(native, closed, (str(closed / "lower"), str(native)))
    assert says(sandbox, "cat /file; echo upper > /made") == "lower"
    assert (closed / "upper/made").stat().st_uid == idmap.find().root[0]


def test_remove_tree(native: Path, place: Path) -> None:
    sandbox = rooted(native, place, (str(native),))
    says(sandbox, "mkdir -p /x/y; chown -R 1000:1000 /x; chmod 0 /x/y; rm -r /var/log")
    remove_tree(place / "upper")
    remove_tree(place / "work")
    assert {path.name for path in place.iterdir()} == {"root"}
    remove_tree(place / "upper")


def test_the_machine_view(runnable: None) -> None:
    assert says(machine_view(), f"ls -d '{Path(__file__).parent}'; id -u").split()[1] == "0"


def test_a_silent_idle_command_is_ended(private: Callable[..., Sandbox], tmp_path: Path) -> None:
    log, told = tmp_path / "log", list[float]()
    log.touch()
    started = time.monotonic()
    command = ["bash", "-c", "echo said; sleep 100"]
    assert run_logged(private(), command, log, idle_limit=2, on_idle=told.append) is None
    assert time.monotonic() - started < 10
    assert log.read_text() == "said\n"
    assert len(told) == 1


def test_a_silent_busy_command_is_not_ended(private: Callable[..., Sandbox], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    # As another user, in its own pid namespace: its CPU use must still be seen.
    command = ["bash", "-c", "end=$((SECONDS + 4)); while ((SECONDS < end)); do :; done; exit 7"]
    sandbox = private(uid=1000, gid=1000)
    assert run_logged(sandbox, command, log, idle_limit=2, on_idle=lambda _: None) == 7


KILLED = """
import sys
from pathlib import Path
from xbuild.sandbox.mounts import Devices, Overlay, Proc, Tmpfs
from xbuild.sandbox.run import Sandbox, run
root = Path(sys.argv[1])
mounts = (Overlay((str(root),), None, None), Proc(), Devices(), Tmpfs("/tmp"))
run(Sandbox(mounts=mounts, mount_point=root, env={"PATH": "/usr/bin"}), ["sleep", sys.argv[2]])
"""


def sleepers(seconds: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", seconds.encode()]:
            found.append(int(path.parent.name))
    return found


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_its_killed_parent(native: Path, number: signal.Signals) -> None:
    before = Path("/proc/mounts").read_text()
    # A number that tells this sleep from all others.
    seconds = str(100_000 + os.getpid())
    with subprocess.Popen([sys.executable, "-c", KILLED, str(native), seconds]) as parent:
        try:
            assert wait_until(lambda: bool(sleepers(seconds)), 20)
            parent.send_signal(number)
        except BaseException:
            parent.kill()
            raise
    assert wait_until(lambda: not sleepers(seconds), 5)
    assert Path("/proc/mounts").read_text() == before
