"""A disk that is full: the cache on a small file system of its own, in a namespace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.command_line import CHECKOUT, Xbuild
from tests.e2e.sourcepackage import made
from xbuild.formats.deb import opened
from xbuild.formats.elf import read_elf
from xbuild.sandbox.mounts import Proc
from xbuild.sandbox.run import Sandbox, capture

pytestmark = pytest.mark.e2e

_MEBIBYTES = 64

# The caller is root in here, so xbuild in it takes root's range of ids, which is to be the one that is there; and
# the cache must not lie below a directory of the user, who is another one in here. So the roots come in one by one;
# what the builds write goes to the small file system.
_SMALL = """
echo root:0:65536 > "$1/ids"
for file in /etc/subuid /etc/subgid; do mount --bind "$1/ids" "$file"; done
mount -t tmpfs -o size=$2,mode=755 small /mnt
mkdir /mnt/cache
for kind in indexes resolved roots layers twins machines; do
    mkdir -m 700 "/mnt/cache/$kind"
    for entry in "$3/$kind"/*; do
        [ -d "$entry" ] || continue
        mkdir "/mnt/cache/$kind/${entry##*/}"
        mount --rbind "$entry" "/mnt/cache/$kind/${entry##*/}"
    done
done
export XBUILD_CACHE=/mnt/cache
shift 3
"""
_FILL = f"head -c {3 * _MEBIBYTES}M /dev/zero > /mnt/filler\n"
_MORE_ROOM = "rm /mnt/filler\n"
_BUILD = '"$@" build tiny --target armhf || echo "code $?"\n'
_IN_A_MACHINE = '"$@" build tiny --target arm64 --mode system || echo "code $?"\n'


def on_a_small_disk(xbuild: Xbuild, tmp_path: Path, script: str, size: int = _MEBIBYTES) -> str:
    """What `script` says, with a cache of `size` MiB; its words `"$@"` start xbuild."""
    env = xbuild.environment({"PATH": os.environ["PATH"]})
    command = ["sh", "-euc", _SMALL + script, "sh", str(tmp_path), f"{size}m", str(xbuild.cache)]
    where = Sandbox(mounts=(Proc(),), env=env, cwd=str(CHECKOUT), network=True)
    # The roots of the shared cache have to be there already: a small disk cannot hold them.
    xbuild("shell", "bare", "--target", "armhf", "--", "true")
    _, said = capture(where, [*command, sys.executable, "-m", "invoke"])
    return said.decode()


def test_a_phase_that_fills_the_disk(xbuild: Xbuild, tmp_path: Path) -> None:
    path = xbuild.recipe()
    mended = xbuild.project / "mended.yml"
    mended.write_text(path.read_text())
    xbuild.recipe(build={"compile": f"dd if=/dev/zero of=big bs=1M count={2 * _MEBIBYTES}; echo 42 > answer"})
    again = f'"$@" clean\ncp "{mended}" "{path}"\n' + _BUILD
    said = on_a_small_disk(xbuild, tmp_path, _BUILD + again)
    # Not even the log can say it.
    first, _, second = said.partition("code 4\n")
    assert "error: disk full: " in first, said
    assert re.search(r"hint: free some space, or run: .*invoke clean\n", first)
    # As the hint says, and then the same command.
    assert "dist/tiny-1-armhf.tar.zst" in second
    assert "Traceback" not in said


@pytest.mark.long
def test_many_builds_when_one_fills_the_disk(xbuild: Xbuild, tmp_path: Path) -> None:
    """The others fail as well, for what they write has no room; nothing half-made counts afterwards."""
    fills = f"dd if=/dev/zero of=big bs=1M count={2 * _MEBIBYTES}; echo 42 > answer"
    waits = "for _ in $(seq 60); do [ \"$(df --output=avail . | tail -1)\" -gt 0 ] || break; sleep 0.5; done\n"
    names = ("tiny", "other", "third")
    for name in names:
        xbuild.recipe(name)
        (xbuild.project / f"{name}.yml").write_text((xbuild.project / f"recipes/{name}.yml").read_text())
        writes = "dd if=/dev/zero of=more bs=1M count=4; echo 42 > answer"
        xbuild.recipe(name, build={"compile": fills if name == "tiny" else waits + writes})
    many = '"$@" build tiny --also other --also third --target armhf -j 3 --keep-going || echo "code $?"\n'
    mended = "".join(f'cp "{xbuild.project}/{name}.yml" "{xbuild.project}/recipes/{name}.yml"\n' for name in names)
    said = on_a_small_disk(xbuild, tmp_path, many + '"$@" clean\n' + mended + many)
    first, _, second = said.partition("code 4\n")
    assert "3 of 3 builds failed: " in first, said
    assert len({*re.findall(r"dist/(\w+)-1-armhf\.tar\.zst", second)} & {*names}) == 3, said
    assert "Traceback" not in said


def test_a_phase_that_meets_a_full_disk_elsewhere(xbuild: Xbuild) -> None:
    """/dev/full is as a disk that is full, but for the log."""
    xbuild.recipe(build={"compile": "cat README > /dev/full"})
    said = xbuild.fails("tiny", code=3)
    assert "No space left on device" in said
    assert " -m invoke clean` frees what the store can make again" in said


def test_a_debian_package_without_room_for_its_source(xbuild: Xbuild, tmp_path: Path) -> None:
    said = on_a_small_disk(xbuild, tmp_path, f'"$@" deb "{made(tmp_path)}" --target armhf || echo "code $?"\n')
    assert "error: disk full: " in said
    assert re.search(r"tiny_1\.0\.dsc: [0-9]+ bytes, and there is room for 0", said)
    assert said.endswith("code 4\n")


def fetched(dsc: Path) -> Path:
    """The directory that is the source of a package: nothing is fetched for it, which needs more room than there is."""
    subprocess.run(["tar", "-C", dsc.parent, "-xf", dsc.with_suffix(".tar.xz")], check=True)
    return dsc.parent / "tiny-1.0"


@pytest.mark.long
def test_a_debian_package_that_fills_the_disk(xbuild: Xbuild, tmp_path: Path) -> None:
    """In the middle of its build; with room, the same command goes on, and what comes out is whole."""
    source = fetched(made(tmp_path, also=f"head -c {2 * _MEBIBYTES}M /dev/zero > big && rm big"))
    build = f'"$@" deb "{source}" --target armhf || echo "code $?"\n'
    # What it is built with is known already: to ask apt takes more than there is.
    xbuild("deb", str(source), "--target", "armhf", "--plan")
    said = on_a_small_disk(xbuild, tmp_path, _FILL + build + _MORE_ROOM + build, 4 * _MEBIBYTES)
    first, _, second = said.partition("code 4\n")
    assert "error: disk full: " in first, said
    assert re.search(r"hint: free some space, or run: .*invoke clean\n", first)
    assert not list((xbuild.project / "dist").glob("tiny_1.0_armhf/.*"))
    assert "tiny_1.0_armhf/tiny_1.0_armhf.deb" in second, said
    assert "code" not in second
    assert "Traceback" not in said
    with opened(xbuild.project / "dist/tiny_1.0_armhf/tiny_1.0_armhf.deb") as package:
        assert read_elf(package.open("usr/bin/tiny")).machine == "ARM"


@pytest.mark.long
def test_a_native_build_that_fills_the_disk(xbuild: Xbuild, tmp_path: Path) -> None:
    """A package whose native build fails is held without it; one that met a full disk has not failed."""
    fills = f"head -c {2 * _MEBIBYTES}M /dev/zero > big && rm big"
    only_native = f'test "$$(dpkg --print-architecture)" != amd64 || {{ {fills}; }}'
    source = fetched(made(tmp_path, also=only_native))
    for target in ("armhf", "amd64"):
        xbuild("deb", str(source), "--target", target, "--plan")
    xbuild("shell", "bare", "--target", "amd64", "--", "true")
    held = f'"$@" reproduce "{source}" --target armhf || echo "code $?"\n'
    said = on_a_small_disk(xbuild, tmp_path, _FILL + held + _MORE_ROOM + held, 4 * _MEBIBYTES)
    first, _, second = said.partition("code 4\n")
    assert "error: disk full: " in first, said
    assert "the native build failed" not in said
    assert "not held" in second, said
    assert "Traceback" not in said


@pytest.mark.long
def test_a_machine_whose_disk_cannot_grow(xbuild: Xbuild, tmp_path: Path) -> None:
    """Its Linux would go on with what it could not write, and read back something else."""
    xbuild.recipe(build={"compile": f"dd if=/dev/zero of=big bs=1M count={2 * _MEBIBYTES} && sync; echo 42 > answer"})
    # Makes the machine's parts, for which the small disk has no room either.
    assert xbuild("shell", "tiny", "--target", "arm64", "--mode", "system", "--", "uname").out == "Linux\n"
    said = on_a_small_disk(xbuild, tmp_path, _IN_A_MACHINE)
    # Which of them comes first depends on whether the console's text can still be kept.
    assert "error: disk full: " in said or "error: the disks of the emulated machine could not be written" in said
    assert re.search(r"run: .*invoke clean\n|is the disk full\?", said)
    assert said.endswith("code 4\n")
    assert "Traceback" not in said


@pytest.mark.long
def test_a_source_that_does_not_fit(xbuild: Xbuild, tmp_path: Path) -> None:
    xbuild.recipe(files={"big": b"\0" * (_MEBIBYTES << 20)})
    said = on_a_small_disk(xbuild, tmp_path, _BUILD)
    assert "error: disk full: " in said
    assert re.search("hint: free some space, or run: .*invoke clean", said)
    assert said.endswith("code 4\n")
    assert "Traceback" not in said


@pytest.mark.long
def test_an_artifact_that_does_not_fit(xbuild: Xbuild, tmp_path: Path) -> None:
    install = 'install -D -m 644 answer "$DESTDIR/usr/share/answer"'
    install += f'; head -c {_MEBIBYTES * 6 // 10}M /dev/urandom > "$DESTDIR/usr/share/noise"'
    xbuild.recipe(build={"install": install})
    said = on_a_small_disk(xbuild, tmp_path, _BUILD)
    assert "disk full: " in said
    assert said.endswith("code 4\n")
    assert "Traceback" not in said
    assert not (xbuild.project / "dist").exists()


def test_apt_without_room_for_what_it_knows(xbuild: Xbuild, tmp_path: Path) -> None:
    """It keeps all that an index says in a file while it looks for what is to be installed."""
    fields = "Standards-Version: 4.7.0\nBuild-Depends: hostname, base-files"
    dsc = made(tmp_path)
    control = fetched(dsc) / "debian/control"
    control.write_text(control.read_text().replace("Standards-Version: 4.7.0", fields))
    said = on_a_small_disk(xbuild, tmp_path, f'"$@" deb "{control.parents[1]}" --target armhf || echo "code $?"\n', 32)
    assert "error: disk full: " in said
    assert "saving source cache" in said or "No space left on device" in said
    assert said.endswith("code 4\n")
