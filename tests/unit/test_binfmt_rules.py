"""What `binfmt.explain` concludes where no kernel is at hand that is like that."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from xbuild.binfmt.answer import Answer
from xbuild.binfmt.entry import Entry
from xbuild.binfmt.explain import Explainer, runs_32_bit
from xbuild.binfmt.kernel import INITIAL, Instance, State
from xbuild.binfmt.render import for_architecture
from xbuild.doctor import programs

DATA = Path(__file__).parent / "data"


def having(*entries: Entry) -> State:
    enabled = tuple(Entry(**{**vars(entry), "enabled": True}) for entry in entries)
    return State(True, Instance("system", "/b", True, enabled, INITIAL), (), True, "")


NOTHING = State(True, None, (), False, "it is hidden")


def put(root: Path, path: str, data: bytes, mode: int = 0o755) -> str:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    place.chmod(mode)
    return path


def explain(root: Path, path: str, state: State, **more: object) -> Answer:
    options = {"uname": "x86_64", "narrow": True, "environ": {}, **more}
    return Explainer(state, root, **options).explain(path)  # type: ignore[arg-type]


def test_entries_that_cannot_be_seen(tmp_path: Path) -> None:
    answer = explain(tmp_path, put(tmp_path, "/arm", programs.arm()), NOTHING)
    assert (answer.verdict, answer.cause, answer.certain) == ("unknown", "entries-not-visible", False)
    assert "it is hidden" in answer.text
    assert any("invoke run --target armhf" in hint for hint in answer.hints)


def test_a_kernel_without_binfmt_misc(tmp_path: Path) -> None:
    answer = explain(tmp_path, put(tmp_path, "/arm", programs.arm()), State(False, None, (), True, "no module"))
    assert (answer.verdict, answer.cause) == ("refused", "binfmt-absent")


@pytest.mark.parametrize(("uname", "narrow", "runs"), [
    ("x86_64", True, True), ("x86_64", False, False), ("i686", False, True), ("aarch64", True, False),
])  # fmt: skip
def test_which_machine_runs_32_bit_x86(tmp_path: Path, uname: str, narrow: bool, runs: bool) -> None:
    path = put(tmp_path, "/program", programs.i386())
    answer = explain(tmp_path, path, having(), uname=uname, narrow=narrow)
    assert (answer.verdict == "runs") is runs
    assert runs or answer.cause == "no-entry"


@pytest.mark.parametrize(
    ("command_line", "sysctl", "runs"),
    [("quiet", True, True), ("quiet", False, False), ("ia32_emulation=0", True, False)],
)
def test_whether_32_bit_programs_run(tmp_path: Path, command_line: str, sysctl: bool, runs: bool) -> None:
    (tmp_path / "cmdline").write_text(command_line + "\n")
    if sysctl:
        put(tmp_path, "sys/abi/vsyscall32", b"1\n")
    assert runs_32_bit(tmp_path) is runs


def test_an_entry_that_takes_too_much(tmp_path: Path) -> None:
    wide = for_architecture("arm", interpreter="/qemu", flags="")
    wide = Entry(**{**vars(wide), "mask": wide.mask[:18] + b"\0\0"})
    named = Entry(**{**vars(for_architecture("arm", interpreter="/qemu", flags="")), "mask": b"\xff" * 4 + bytes(16)})
    assert wide.architecture is None
    put(tmp_path, "/qemu", programs.i386())
    path = put(tmp_path, "/xtensa", programs.arm()[:18] + struct.pack("<H", 94) + programs.arm()[20:])
    assert explain(tmp_path, path, having(wide)).verdict == "refused", "it takes its interpreter, too"
    assert explain(tmp_path, path, having(named)).cause == "loop"


def test_an_entry_without_flag_p_for_an_interpreter_that_wants_it(tmp_path: Path) -> None:
    put(tmp_path, "/qemu-arm-binfmt-P", programs.i386())
    path = put(tmp_path, "/arm", programs.arm())
    for flags, cause in (("", "flag-p-missing"), ("P", "ok")):
        entry = for_architecture("arm", interpreter="/qemu-arm-binfmt-P", flags=flags)
        assert explain(tmp_path, path, having(entry)).cause == cause


def test_a_program_with_libraries(tmp_path: Path) -> None:
    put(tmp_path, "/qemu", programs.i386())
    state = having(for_architecture("arm", interpreter="/qemu", flags="P"))
    path = put(tmp_path, "/bin/pie", (DATA / "armhf-pie").read_bytes())
    answer = explain(tmp_path, path, state)
    assert (answer.verdict, answer.cause) == ("dies", "loader-missing")
    put(tmp_path, "/lib/ld-linux-armhf.so.3", (DATA / "libhalf.so.1").read_bytes())
    answer = explain(tmp_path, path, state)
    assert (answer.cause, "libhalf.so.1, needed by /bin/pie" in answer.text) == ("library-missing", True)
    # One for another machine does not count.
    put(tmp_path, "/lib/libhalf.so.1", (DATA / "amd64-static").read_bytes())
    assert explain(tmp_path, path, state).cause == "library-missing"
    put(tmp_path, "/opt/lib/libhalf.so.1", (DATA / "libhalf.so.1").read_bytes())
    assert explain(tmp_path, path, state, environ={"LD_LIBRARY_PATH": "/opt/lib"}).cause == "ok"
    put(tmp_path, "/etc/ld.so.conf", b"# more\ninclude /etc/ld.so.conf.d/*.conf\n")
    put(tmp_path, "/etc/ld.so.conf.d/opt.conf", b"/opt/lib\n")
    assert explain(tmp_path, path, state).cause == "ok"


def test_a_loader_elsewhere(tmp_path: Path) -> None:
    put(tmp_path, "/qemu", programs.i386())
    state = having(for_architecture("arm", interpreter="/qemu", flags="P"))
    path = put(tmp_path, "/bin/pie", (DATA / "armhf-pie").read_bytes())
    put(tmp_path, "/sysroot/lib/ld-linux-armhf.so.3", b"")
    assert explain(tmp_path, path, state, environ={"QEMU_LD_PREFIX": "/sysroot"}).cause == "library-missing"


def test_absolute_links_stay_in_the_root(tmp_path: Path) -> None:
    put(tmp_path, "/real/true", programs.i386())
    (tmp_path / "bin").symlink_to("/real")
    (tmp_path / "up").symlink_to("../../../real/true")
    for path in ("/bin/true", "/up", "/bin/../../real/true"):
        answer = explain(tmp_path, path, having())
        assert (answer.verdict, answer.chain[0]) == ("runs", f"{path} is /real/true")


def test_the_words_for_people(tmp_path: Path) -> None:
    state = having(for_architecture("armeb", interpreter="/qemu", flags=""))
    lines = list(explain(tmp_path, put(tmp_path, "/arm", programs.arm()), state).lines())
    assert lines[0] == f"/arm in the root {tmp_path}: execve fails: ENOEXEC, 'Exec format error'"
    assert lines[1].endswith("[no-entry]")
    assert any("byte order   file 01  magic 02  mask ff  DIFFERENT" in line for line in lines)
    assert "note: the entry qemu-armeb comes nearest; different: byte order, type, machine" in lines
