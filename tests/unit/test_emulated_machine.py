"""How an emulated machine is started, and what is made of the ways in which it can end."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from xbuild.base import paths
from xbuild.base.errors import MachineError, UsageError
from xbuild.build.modes.system.machine import TREES, EmulatedMachine, Ended, crc_of, judge
from xbuild.build.modes.system.parts import TOOLS, Kernel, Parts
from xbuild.build.modes.system.talk import Said
from xbuild.model.load import load_toolchain
from xbuild.model.toolchain import MachineSpec
from xbuild.roots.distribution import Roots
from xbuild.store.local import Store

CHECKOUT = paths.PACKAGE.parent
KERNEL = Kernel(Path("/k/vmlinuz"), Path("/k/initrd"), ("/modules/a.ko",), "linux-image-1 1.2")


def system_of(target: str) -> MachineSpec:
    found = load_toolchain(target, CHECKOUT).system
    assert found is not None
    return found


def a_machine(target: str = "armhf", jobs: int = 2) -> EmulatedMachine:
    return EmulatedMachine(system_of(target), Path("/emulator"), KERNEL, Path("/d/root.img"), jobs=jobs)


def after(words: list[str], option: str) -> list[str]:
    return [words[number + 1] for number, word in enumerate(words) if word == option]


@pytest.mark.parametrize(
    ("target", "binary", "machine"),
    [("armhf", "qemu-system-arm", "virt,highmem=off"), ("arm64", "qemu-system-aarch64", "virt")],
)
def test_the_command_line_is_the_toolchain_s(target: str, binary: str, machine: str) -> None:
    words = a_machine(target).command_line()
    assert words[0] == f"/usr/bin/{binary}"
    assert after(words, "-machine") == [machine]
    assert after(words, "-cpu") == [system_of(target).cpu]
    assert after(words, "-m") == ["2048"]
    (boot,) = after(words, "-append")
    assert {"console=ttyAMA0", "panic=-1", "rdinit=/init"} <= set(boot.split())
    assert "-no-reboot" in words


def test_the_machine_has_no_network_and_nothing_that_was_not_asked_for() -> None:
    words = a_machine().command_line()
    assert "-nodefaults" in words
    assert not {"-netdev", "-nic", "-net", "-monitor", "-usb", "-fsdev", "-virtfs"} & set(words)
    assert not [word for word in after(words, "-device") if "net" in word]


def test_the_root_and_what_goes_in_are_read_only_and_a_full_disk_is_told() -> None:
    drives = {drive.split("id=")[1].split(",")[0]: drive for drive in after(a_machine().command_line(), "-drive")}
    assert set(drives) == {"root", "in", "work", "out"}
    assert all("readonly=on" in drives[name] for name in ("root", "in"))
    # QEMU's default stops the machine, which then waits for somebody who makes room.
    assert all("werror=report" in drives[name] for name in ("work", "out"))


@pytest.mark.parametrize(("jobs", "cores"), [(1, 1), (2, 2), (8, 8), (64, 8)])
def test_it_has_as_many_processors_as_there_are_jobs(jobs: int, cores: int) -> None:
    assert after(a_machine(jobs=jobs).command_line(), "-smp") == [str(cores)]


def test_it_is_described_in_words() -> None:
    text = "\n".join(a_machine("arm64").describe())
    assert "qemu-system-aarch64 virt cortex-a72, 2 processors, 2048 MiB, no network" in text
    assert "linux-image-1 1.2" in text


def test_all_that_a_build_can_write_to_goes_in_and_comes_back() -> None:
    assert TREES == ("build", "tmp", "var/tmp", "run")


def test_a_target_without_a_machine_says_so(tmp_path: Path) -> None:
    toolchain = load_toolchain("armhf", CHECKOUT).model_copy(update={"system": None})
    with pytest.raises(UsageError, match="armhf has no machine") as caught:
        Parts(Roots(Store(tmp_path), toolchain, None))
    assert "toolchains/armhf.yml" in (caught.value.hint or "")


def test_targets_of_one_suite_share_the_emulator(tmp_path: Path) -> None:
    values = [
        Parts(Roots(Store(tmp_path), load_toolchain(target, CHECKOUT), None)).emulator_value()
        for target in ("armhf", "arm64")
    ]
    assert values[0] == values[1]
    assert set(TOOLS) < set(values[0]["packages"])
    other = load_toolchain("armhf", CHECKOUT).with_suite("bookworm")
    assert Parts(Roots(Store(tmp_path), other, None)).emulator_value() != values[0]


def test_the_kernel_s_key_holds_its_package_and_our_init(tmp_path: Path) -> None:
    parts = Parts(Roots(Store(tmp_path), load_toolchain("armhf", CHECKOUT), None))
    value = parts.kernel_value()
    assert set(value["package"]) == {"linux-image-armmp"}
    assert {"init.c", "init.h", "cpio.py", "modules.py"} <= set(value["makers"])


def test_the_checksum_is_that_of_the_first_bytes(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"abc" * 1000 + b"rest")
    assert crc_of(file, 3000) == zlib.crc32(b"abc" * 1000)
    assert crc_of(file, 0) == 0
    assert crc_of(file, 3005) is None


class Stand:
    """A place where a machine has ended, with what its console and its emulator said."""

    def __init__(self, place: Path, console: str = "", log: str = "") -> None:
        (place / "disks").mkdir()
        (place / "disks/console").write_text(console)
        self.place = place
        self.log = place / "log"
        self.log.write_text(log)

    def judged(self, said: Said, silence: str | None = None) -> MachineError:
        with pytest.raises(MachineError) as caught:
            judge(Ended(said, silence), system_of("armhf"), self.place, self.log)  # type: ignore[arg-type]
        assert caught.value.hint
        return caught.value


@pytest.mark.parametrize("code", [0, 1, 127, -9])
def test_a_command_that_has_ended_is_no_fault_of_the_machine(tmp_path: Path, code: int) -> None:
    stand = Stand(tmp_path)
    said = Said(ready=True, code=code, free=5 << 20, done=True)
    judge(Ended(said, None), system_of("armhf"), stand.place, stand.log)
    assert Ended(said, None).code == code


def test_an_idle_command_is_the_caller_s_matter(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    ended = Ended(Said(ready=True), "idle")
    judge(ended, system_of("armhf"), stand.place, stand.log)
    assert ended.code is None


def test_a_kernel_that_does_not_boot_shows_its_console(tmp_path: Path) -> None:
    error = Stand(tmp_path, "Booting Linux\nhm\n").judged(Said(), "boot")
    assert "was not ready after 300 s" in error.message
    assert error.details == ("Booting Linux", "hm")
    assert "boot-limit" in (error.hint or "")


def test_a_panic_is_told_with_the_end_of_the_console(tmp_path: Path) -> None:
    console = "".join(f"line {number}\n" for number in range(100)) + "Kernel panic - not syncing\n"
    (tmp_path / "a").mkdir()
    error = Stand(tmp_path / "a", console).judged(Said())
    assert error.message == "the emulated machine ended before it was ready"
    assert error.details[-1] == "Kernel panic - not syncing"
    assert len(error.details) == 25
    (tmp_path / "b").mkdir()
    assert "while the command ran" in Stand(tmp_path / "b", console).judged(Said(ready=True)).message


def test_an_end_without_the_results_is_none(tmp_path: Path) -> None:
    assert "while the command ran" in Stand(tmp_path).judged(Said(ready=True, code=0)).message


def test_a_dead_kernel_is_told(tmp_path: Path) -> None:
    assert "has not shown any life" in Stand(tmp_path).judged(Said(ready=True), "dead").message


def test_what_init_could_not_do_is_told(tmp_path: Path) -> None:
    error = Stand(tmp_path).judged(Said(ready=True, error="unpacking: tar ended with 2", done=True))
    assert error.message == "the emulated machine: unpacking: tar ended with 2"


def test_an_emulator_that_does_not_start_says_why(tmp_path: Path) -> None:
    error = Stand(tmp_path, "", "qemu-system-arm: cannot set up guest memory\n").judged(Said())
    assert error.details == ("qemu-system-arm: cannot set up guest memory",)
    assert "memory" in (error.hint or "")


@pytest.mark.parametrize(
    ("console", "hint"),
    [
        ("I/O error, dev vdb, sector 5\n", "disk full"),
        ("Out of memory: Killed process 55 (cc1)\n", "memory: ..."),
    ],
)
def test_the_hint_fits_what_the_console_says(tmp_path: Path, console: str, hint: str) -> None:
    assert hint in (Stand(tmp_path, console).judged(Said(ready=True)).hint or "")


def test_a_command_that_ended_well_on_a_broken_disk_did_not(tmp_path: Path) -> None:
    said = Said(ready=True, code=0, free=5000, done=True)
    error = Stand(tmp_path, "I/O error, dev vdb, sector 5 op 0x1:(WRITE)\n").judged(said)
    assert error.message == "the disks of the emulated machine could not be written"


def test_a_command_that_filled_the_machine_s_disk_is_told(tmp_path: Path) -> None:
    error = Stand(tmp_path).judged(Said(ready=True, code=1, free=4096, done=True))
    assert "the disk of the emulated machine is full" in error.message
    assert "disk: ..." in (error.hint or "")
