from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from xbuild import doctor
from xbuild.base.errors import EXIT_MACHINE, MachineError
from xbuild.binfmt import magic_mask, serving
from xbuild.doctor import install, machine, programs, trials
from xbuild.doctor.probe import Probe
from xbuild.formats.elf import read_elf
from xbuild.sandbox import seccomp

OS_RELEASE = """
# comment
PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
NAME='Debian GNU/Linux'
VERSION_ID="13"
ID=debian
BROKEN="no end
"""


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def proc(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_os_release() -> None:
    values = machine.parse_os_release(OS_RELEASE)
    assert values["PRETTY_NAME"] == "Debian GNU/Linux 13 (trixie)"
    assert values["NAME"] == "Debian GNU/Linux"
    assert (values["ID"], values["VERSION_ID"]) == ("debian", "13")
    assert "# comment" not in values


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (OS_RELEASE, "ok", "Debian GNU/Linux 13 (trixie)"),
        ('ID=ubuntu\nVERSION_ID="24.04"\n', "ok", "ubuntu"),
        ('ID=ubuntu\nVERSION_ID="22.04"\n', "warn", "not tested"),
        ("ID=debian\nPRETTY_NAME='Debian GNU/Linux forky/sid'\n", "warn", "forky/sid: not tested"),
        ("", "warn", "unknown: not tested"),
    ],
)
def test_distribution(tmp_path: Path, text: str, status: str, said: str) -> None:
    (tmp_path / "os-release").write_text(text)
    probe = machine.distribution((tmp_path / "absent", tmp_path / "os-release"))
    assert probe.status == status
    assert said in probe.text


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.12.43+deb13-amd64", (6, 12)), ("6.7.0-rc1", (6, 7)), ("10.0", (10, 0)), ("six", None)],
)
def test_parse_kernel(release: str, version: tuple[int, int] | None) -> None:
    assert serving.parse_kernel(release) == version


@pytest.mark.parametrize(
    ("release", "status"),
    [("6.6.99", "fail"), ("6.7.0", "ok"), ("6.10.1", "ok"), ("5.15.0-91-generic", "fail")],
)
def test_kernel(monkeypatch: pytest.MonkeyPatch, release: str, status: str) -> None:
    monkeypatch.setattr(machine, "served_targets", lambda: [])
    monkeypatch.delenv("XBUILD_BINFMT", raising=False)
    probe = machine.kernel(release)
    assert probe.status == status
    assert release in probe.text
    if status == "fail":
        assert "only the target amd64" in probe.text
        assert "binfmt.install armhf --system --dispatcher" in (probe.hint or "")


def test_an_old_kernel_whose_machine_serves_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "served_targets", lambda: ["armhf"])
    probe = machine.kernel("6.1.0")
    assert (probe.status, probe.text) == ("ok", "Linux 6.1.0; the machine's own binfmt_misc serves armhf")


def test_architecture() -> None:
    assert machine.architecture("x86_64").status == "ok"
    assert machine.architecture("aarch64").status == "ok"
    assert machine.architecture("ppc64le").status == "fail"


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "10000"),
    ],
)
def test_setting_in_the_way(tmp_path: Path, ordinary: None, name: str, value: str, remedy: str) -> None:
    root = proc(tmp_path, {f"sys/{name.replace('.', '/')}": f"{value}\n"})
    (probe,) = machine.settings(works=False, proc=root)
    assert probe.status == "fail"
    assert f"{name} = {value}" in probe.text
    assert probe.hint
    assert probe.hint.startswith(f"sudo sysctl -w {name}={remedy};")
    (probe,) = machine.settings(works=True, proc=root)
    assert probe.status == "ok"
    assert f"{name} = {value}" in probe.text


def test_settings_that_do_not_bind_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    names = {"sys/kernel/unprivileged_userns_clone": "0", "sys/user/max_user_namespaces": "0"}
    found = machine.settings(works=False, proc=proc(tmp_path, names))
    assert [probe.status for probe in found] == ["ok", "fail"]


def test_binfmt_module(tmp_path: Path) -> None:
    absent = proc(tmp_path, {"filesystems": "nodev\tproc\n\text4\n"})
    probe = machine.binfmt_module(works=False, proc=absent)
    assert probe.status == "fail"
    assert probe.hint
    assert probe.hint.endswith("modprobe binfmt_misc")
    assert machine.binfmt_module(works=True, proc=absent).status == "ok"
    there = proc(tmp_path, {"filesystems": "nodev\tbinfmt_misc\n"})
    assert machine.binfmt_module(works=False, proc=there).status == "ok"


def test_confinement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("container", raising=False)
    free = proc(tmp_path, {"self/status": "Name:\tx\nNoNewPrivs:\t0\nSeccomp:\t0\n"})
    assert machine.confinement(works=False, proc=free, root=tmp_path).status == "ok"
    held = proc(tmp_path, {"self/status": "NoNewPrivs:\t1\nSeccomp:\t2\n", "run/.containerenv": ""})
    probe = machine.confinement(works=False, proc=held, root=tmp_path)
    assert probe.status == "warn"
    assert probe.text.startswith("podman container, seccomp filter, no_new_privs:")
    assert machine.confinement(works=True, proc=held, root=tmp_path).status == "ok"


def test_programs_names_packages(monkeypatch: pytest.MonkeyPatch, ordinary: None) -> None:
    monkeypatch.setattr(install, "NEEDS", (install.Need("some-package", ("no-such-program",)),))
    probe = machine.programs()
    assert probe.status == "fail"
    assert probe.text == "no no-such-program (package some-package)"
    assert (probe.hint or "").endswith("apt-get install -y --no-install-recommends some-package")


def test_subordinate_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text("other:100000:65536\n")
        monkeypatch.setattr(install, name.upper(), tmp_path / name)
    probe = machine.subordinate_ids()
    assert probe.status == "fail"
    assert "no subordinate ids" in probe.text
    assert probe.hint
    assert probe.hint.startswith("sudo usermod --add-subuids ")
    assert "100000-" not in probe.hint
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text("54321:200000:65536\n")
    assert machine.subordinate_ids().text == "65536 uids from 200000, 65536 gids from 200000"


@pytest.mark.parametrize(
    ("data", "name", "bits"),
    [(programs.arm(), "ARM", 32), (programs.i386(), "386", 32), (programs.x86_64(), "X86_64", 64)],
)
def test_the_smallest_programs(data: bytes, name: str, bits: int) -> None:
    info = read_elf(data)
    assert (info.machine, info.elf_class, info.e_type, info.is_static) == (name, bits, "EXEC", True)
    assert len(data) < 4096


@pytest.mark.parametrize(("uname", "kind", "partner"), [("x86_64", "ARM", "386"), ("aarch64", "x86-64", "ARM")])
def test_what_is_foreign_and_what_is_not(
    uname: str, kind: str, partner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: uname)
    assert programs.foreign().kind == kind
    assert trials.foreign_name() == f"{kind} programs"
    assert read_elf(programs.partner()).machine == partner


@pytest.mark.parametrize("uname", ["x86_64", "aarch64"])
def test_the_foreign_program_is_what_is_registered(uname: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: uname)
    magic, mask = magic_mask(programs.foreign().elf)
    head = programs.foreign().data[: len(magic)]
    assert bytes(a & b for a, b in zip(head, mask, strict=True)) == bytes(
        a & b for a, b in zip(magic, mask, strict=True)
    )


def test_scrap_lies_in_the_nearest_directory_and_goes(tmp_path: Path) -> None:
    with trials.scrap(tmp_path / "not" / "yet") as place:
        assert place.parent == tmp_path.resolve()
        (place / "work" / "work").mkdir(parents=True)
        (place / "work" / "work").chmod(0)
    assert list(tmp_path.iterdir()) == []


def test_qemu_of_the_store_must_be_static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert trials.find_qemu(tmp_path) is None
    data = Path(__file__).parent / "data"
    for root, source in (("a", "armhf-pie"), ("b", "amd64-static")):
        place = tmp_path / "roots" / root / "root" / "usr" / "bin"
        place.mkdir(parents=True)
        (place / "qemu-arm").write_bytes((data / source).read_bytes())
    assert trials.find_qemu(tmp_path) == (tmp_path / "roots/b/root/usr/bin/qemu-arm").resolve()


def test_the_lack_of_system_call_dispatch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(seccomp, "try_dispatch", refuse)
    probe = trials.begin_again()
    assert probe.status == "warn"
    assert probe.text.startswith("Operation not permitted: a native tool that asks for a module of the target")


def test_a_refused_cache_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (probe,) = doctor._in_cache(tmp_path / "file", namespaces=False, binfmt=False)
    assert (probe.name, probe.status) == ("cache directory", "fail")


def test_require_tells_all(monkeypatch: pytest.MonkeyPatch, ordinary: None) -> None:
    monkeypatch.setattr(install, "lack", lambda: install.Lack({}, ids=False))
    monkeypatch.setattr(machine, "programs", lambda: Probe("programs", "fail", "no zstd", "install it"))
    monkeypatch.setattr(machine, "subordinate_ids", lambda: Probe("subordinate ids", "ok", "65535"))
    monkeypatch.setattr(machine, "kernel", lambda: Probe("kernel", "fail", "too old", "a newer one"))
    monkeypatch.setattr(machine, "architecture", lambda: Probe("architecture", "ok", "x86_64"))
    with pytest.raises(MachineError) as caught:
        doctor.require()
    assert caught.value.exit_code == EXIT_MACHINE
    assert (caught.value.message, caught.value.hint) == ("programs: no zstd", "install it")
    assert caught.value.details == ("kernel: too old (a newer one)",)
    with pytest.raises(MachineError) as caught:
        doctor.require(native=True)
    assert caught.value.details == ()


def test_require_has_one_line_for_all_that_is_installed(monkeypatch: pytest.MonkeyPatch, ordinary: None) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if name in ("sudo", "apt-get") else None)
    monkeypatch.setattr(install, "missing", lambda: {"zstd": ("zstd",)})
    monkeypatch.setattr(install, "needs_subordinate_ids", lambda: True)
    for name in ("programs", "subordinate_ids"):
        monkeypatch.setattr(machine, name, lambda: Probe("x", "fail", "lacking", "a part of it"))
    with pytest.raises(MachineError) as caught:
        doctor.require(native=True)
    assert re.fullmatch(r"sudo apt-get install .* zstd && sudo usermod --add-subuids .*", caught.value.hint or "")


def test_require_installs_only_with_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(install, "set_up", lambda *, assume_yes: asked.append(assume_yes))
    for name in ("programs", "subordinate_ids", "kernel", "architecture"):
        monkeypatch.setattr(machine, name, lambda: Probe("x", "ok", "x"))
    doctor.require()
    doctor.require(assume_yes=True)
    assert asked == [False, True]
