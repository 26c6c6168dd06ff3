"""An exported image, unpacked with plain tools and started in a sandbox as a container's runtime would start it.

Nothing of the store is in these containers: no registration, no private tree, files with change times of their own.
tests/slow/containers.sh does the same with podman and buildah.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import CHECKOUT, Xbuild
from xbuild.base import paths
from xbuild.base.digest import file_sha256
from xbuild.dispatcher import preamble
from xbuild.export.trees import epoch_of, write_root
from xbuild.formats.debian import Tree
from xbuild.formats.record import Choice, Exec, execs, read
from xbuild.model.load import load_toolchain
from xbuild.roots.distribution import Roots
from xbuild.sandbox.mounts import Devices, Overlay, Proc, Tmpfs
from xbuild.sandbox.run import Sandbox, capture, give_tree, machine_view, remove_tree, run, take_back
from xbuild.session.run import roots_of
from xbuild.store.local import Store
from xbuild.twins.privatetree import run_native

pytestmark = pytest.mark.e2e

EXE = "/proc/./self/exe"
TWINS = "/.xbuild/amd64"
PACKAGES = ("libsub-name-perl",)
"""What the image has besides: a compiled module."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """An exported image: its layout, its configuration, what the command said, and its layers unpacked."""

    layout: Path
    config: Any
    told: Any
    tree: Path


@dataclass
class Container:
    """A container of the image: layers, with a writable one on top."""

    image: Image
    place: Path
    lowers: list[Path] = field(default_factory=list)
    registrations: tuple[str, ...] = ()

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, uid: int = 0, entry: bool = True
    ) -> tuple[int, str]:
        """Run `command` by the image's entry point, or without it; give its returncode and what it said."""
        upper, work, root = (self.place / name for name in ("upper", "work", "root"))
        for path in (upper, work, root):
            if not path.exists():
                give_tree(0, [path])
        lowers = tuple(str(path) for path in (*self.lowers, self.image.tree))
        where = Sandbox(
            mounts=(Overlay(lowers, str(upper), str(work)), Proc(), Devices(), Tmpfs("/tmp", "1777")),
            mount_point=root,
            registrations=self.registrations,
            env={"PATH": PATH, **(env or {})},
            uid=uid,
            gid=uid,
        )
        returncode, said = capture(where, [*(self.image.config["Entrypoint"] if entry else ()), *command])
        return returncode, said.decode()

    def says(self, script: str, **options: Any) -> str:
        """What shell text, which must succeed, says, run as RUN would run it; without the last newline."""
        shell: Sequence[str] = self.image.config["Shell"][1:]
        returncode, said = self.run(*shell, script, **options)
        assert returncode == 0, said
        return said.removesuffix("\n")

    def recorded(self, script: str, **options: Any) -> tuple[str, list[Exec]]:
        """What shell text says, and its execs."""
        said = self.says(script, env={"XBUILD_RECORD": "/var/record"}, **options)
        file = self.place / "upper/var/record"
        assert read(file).whole
        with file.open("rb") as stream:
            return said, list(execs(stream.fileno()))

    def commit(self) -> None:
        """Make what was written a layer below, copied as a registry would: all its files are new ones."""
        layer = self.place / f"layer{len(self.lowers)}"
        script = 'cp -a --no-preserve=links "$1" "$2" && rm -r "$1"'
        run(machine_view(), ["sh", "-euc", script, "sh", self.place / "upper", layer])
        self.lowers.insert(0, layer)


@pytest.fixture(scope="module")
def command_line(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Xbuild:
    return Xbuild(CHECKOUT, cache)


@pytest.fixture(scope="module")
def image(command_line: Xbuild) -> Iterator[Image]:
    """The image of armhf."""
    place = Path(tempfile.mkdtemp(prefix="xbuild-test-"))
    place.chmod(0o755)
    layout, tree = place / "oci", _made(place / "tree")
    words = ("--target", "armhf", "--packages", ",".join(PACKAGES), "--compression", "zstd")
    told = command_line("export", *words, "--oci", str(layout), "--json").json
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]).read_text())
    for layer in manifest["layers"]:
        archive = _blob(layout, layer["digest"])
        run(machine_view(), ["tar", "--zstd", "-xf", archive, "-C", tree, "--same-owner", "-p"])
    give_tree(0, tops=[tree])
    config = json.loads(_blob(layout, manifest["config"]["digest"]).read_text())
    yield Image(layout, config["config"], told, tree)
    remove_tree(place)


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs/sha256" / digest.removeprefix("sha256:")


def _made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.fixture
def container(image: Image) -> Iterator[Container]:
    place = Path(tempfile.mkdtemp(prefix="xbuild-test-"))
    place.chmod(0o755)
    yield Container(image, place)
    remove_tree(place)


@pytest.fixture(scope="module")
def machines_qemu(image: Image) -> Iterator[Path]:
    """What `binfmt.install --system --dispatcher` registers: qemu with the preamble before it."""
    toolchain = load_toolchain("armhf", CHECKOUT)
    native = roots_of(toolchain, Store(paths.cache(), remove_tree)).natives().tree
    place = Path(tempfile.mkdtemp(prefix="xbuild-test-"))
    place.chmod(0o755)
    _made(place / "private")
    for name in preamble.SOURCES:
        (place / name).write_bytes((paths.DISPATCHER / name).read_bytes())
    give_tree(0, [place])
    run_native(native, place, preamble.COMPILE.format("preamble"), {})
    take_back(place)
    qemu = place / "qemu-arm"
    qemu.write_bytes(preamble.prefixed((image.tree / ".xbuild/qemu").read_bytes(), (place / "preamble").read_bytes()))
    qemu.chmod(0o755)
    yield qemu
    remove_tree(place)


MAKEFILE = r"""
printf 'all: hello\n\t./hello\nhello: hello.c\n\tgcc -O2 -o $@ $<\n' > Makefile
printf '#include <stdio.h>\nint main(void) { puts("ARM " __VERSION__); return 0; }\n' > hello.c
"""


def test_a_build_in_a_container_is_native_but_for_what_it_built(container: Container) -> None:
    said, execs = container.recorded(f"cd /tmp; {MAKEFILE} make; readlink {EXE}; uname -m; od -An -tu1 -j18 -N1 hello")
    # e_machine of 32-bit ARM is 40 (<elf.h>).
    assert said.splitlines()[1:3] == ["./hello", said.splitlines()[2]]
    assert said.splitlines()[2].startswith("ARM 14.")
    assert [line.strip() for line in said.splitlines()[3:]] == [f"{TWINS}/usr/bin/readlink", "armv7l", "40"]
    native = {known.path.rpartition("/")[2] for known in execs if known.native}
    wanted = {"dash", "make", "arm-linux-gnueabihf-gcc-14", "cc1", "arm-linux-gnueabihf-as", "collect2", "readlink"}
    assert wanted <= native
    assert [known.path for known in execs if not known.native] == ["/tmp/hello", "/usr/bin/uname", "/usr/bin/od"]


def test_a_compiled_module_is_native_too(container: Container) -> None:
    said, execs = container.recorded("perl -MSub::Name -e 'print $INC{qq(Sub/Name.pm)}'")
    assert said == "/usr/lib/arm-linux-gnueabihf/perl5/5.40/Sub/Name.pm"
    perls = [known for known in execs if known.path == "/usr/bin/perl"]
    assert [(known.verdict, known.native) for known in perls] == [(Choice.TWIN, True)]


def test_the_same_without_native_tools(container: Container) -> None:
    said = container.says(f"readlink {EXE}; /.xbuild/enter --status || true", env={"XBUILD_ENTER": "emulated"})
    own = "registration: this container's own"
    assert said.splitlines() == ["/.xbuild/qemu", own, "/bin/sh: emulated, by /.xbuild/qemu"]


def test_owners_and_rights_are_those_of_the_root(container: Container) -> None:
    assert container.says("stat -c '%u %g %a' /etc/shadow /usr/bin/passwd /var/mail /tmp").splitlines() == [
        "0 42 640", "0 0 4755", "0 8 2775", "0 0 1777",
    ]  # fmt: skip
    assert container.says("id -u; chown 33:33 /etc/motd; stat -c %u:%g /etc/motd").splitlines() == ["0", "33:33"]
    assert container.says("ls /var/lib/apt/lists /build /run; cat /etc/resolv.conf 2>/dev/null || true").split() == [
        "/build:", "/run:", "/var/lib/apt/lists:",
    ]  # fmt: skip


def test_another_user(container: Container) -> None:
    said = container.says(f"id -u; readlink {EXE}; touch /tmp/x; stat -c %u /tmp/x", uid=1000)
    assert said.splitlines() == ["1000", f"{TWINS}/usr/bin/readlink", "1000"]


def test_exit_codes(container: Container) -> None:
    assert container.run("sh", "-c", "exit 42") == (42, "")
    assert container.run("sh", "-c", "kill -TERM $$")[0] == -15
    returncode, said = container.run("no-such-program")
    assert (returncode, said) == (127, "xbuild: cannot run no-such-program: No such file or directory\n")


def test_the_command_has_no_rights_over_the_tools(container: Container) -> None:
    returncode, said = container.run("sh", "-c", "touch /.xbuild/x; umount /.xbuild; umount /.xbuild/run/binfmt")
    assert returncode != 0
    assert said.count("Read-only file system") == 1
    assert said.count("must be superuser") == 2


# One byte of the note that holds the build id: the program does the same as before, but it is another one.
NOTE = "off=$(readelf -S -W /usr/bin/readlink | sed -n 's/.*build-id *NOTE *[0-9a-f]* \\([0-9a-f]*\\).*/\\1/p')"
CHANGES = {
    "other contents": "cp /usr/bin/cat /usr/bin/readlink && ln -sf cat /tmp/x",
    "the same size and times": f"""
        {NOTE}; touch -r /usr/bin/readlink /tmp/r
        printf '\\377' | dd of=/usr/bin/readlink bs=1 seek=$((0x$off + 20)) conv=notrunc status=none
        touch -r /tmp/r /usr/bin/readlink""",
    "replaced": f"""
        {NOTE}; cp -p /usr/bin/readlink /tmp/r
        printf '\\377' | dd of=/tmp/r bs=1 seek=$((0x$off + 20)) conv=notrunc status=none
        touch -r /usr/bin/readlink /tmp/r; mv /tmp/r /usr/bin/readlink""",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_program_that_was_overwritten_is_what_runs(container: Container, change: str) -> None:
    """In the container that did it, in the next one over the same files, and in one over a copy of them."""
    look = "strings -a /proc/./self/exe > /dev/null; /usr/bin/readlink /proc/./self/exe > /dev/null || true"
    for number, script in enumerate((f"{CHANGES[change]}; {look}", look, look)):
        if number == 2:
            container.commit()
        run(machine_view(), ["rm", "-f", container.place / "upper/var/record"])
        _, execs = container.recorded(script)
        verdicts = [known.verdict for known in execs if known.path == "/usr/bin/readlink"]
        assert verdicts[-1:] == [Choice.CHANGED], (number, execs)


@pytest.mark.parametrize("script", ["touch {}", "cp {} /tmp/r; rm {}; mv /tmp/r {}", "cp {} /tmp/r; cp /tmp/r {}"])
def test_a_program_with_the_same_contents_is_the_same(container: Container, script: str) -> None:
    """Change times are no sign in a container: a package that is installed anew brings the same program."""
    look = f"readlink {EXE}"
    assert container.says(f"{script.replace('{}', '/usr/bin/readlink')}; {look}") == f"{TWINS}/usr/bin/readlink"
    container.commit()
    assert container.says(look) == f"{TWINS}/usr/bin/readlink"


CHROOT = f"mkdir -p /c; mount --rbind / /c; chroot /c /.xbuild/enter readlink {EXE}"
"""The kernel gives no user namespace to a process in a chroot, so `enter` is refused there."""


def register(container: Container, interpreter: Path, flags: str) -> None:
    """Let the machine that the container is on have this entry for the target's programs."""
    line = (container.image.tree / ".xbuild/registration").read_text()
    container.registrations = (line.replace("/.xbuild/run/dispatch", str(interpreter)).removesuffix("FPO") + flags,)


def test_children_that_it_was_given_are_not_waited_for(container: Container, machines_qemu: Path) -> None:
    """Here one that ends only after the command has run; `enter` is given it by exec."""
    register(container, machines_qemu, "FPO")
    script = "mkfifo /f; (read line < /f) & exec /.xbuild/enter sh -c 'echo > /f; echo done'"
    assert container.run("sh", "-euc", script, entry=False) == (0, "done\n")


def test_an_entry_of_the_machines_that_hands_over(container: Container, machines_qemu: Path) -> None:
    """Nothing starts by `enter`, so no file was looked at before: the dispatcher compares contents at each exec."""
    register(container, machines_qemu, "FPO")
    assert container.run("readlink", EXE, entry=False) == (0, f"{TWINS}/usr/bin/readlink\n")
    status = container.run("/.xbuild/enter", "--status", entry=False)
    assert status == (0, f"registration: the machine's\n/bin/sh: native, by {TWINS}/usr/bin/dash\n")
    # Where `enter` is refused it has nothing to complain of.
    assert container.run("sh", "-euc", CHROOT, entry=False) == (0, f"{TWINS}/usr/bin/readlink\n")
    changed = CHANGES["the same size and times"]
    assert container.run("sh", "-euc", f"{changed}; readlink {EXE}", entry=False) == (0, "/.xbuild/qemu\n")


def test_where_a_registration_of_its_own_is_refused(container: Container) -> None:
    """The machine here emulates, and nothing more."""
    register(container, container.image.tree / ".xbuild/qemu", "F")
    returncode, said = container.run("sh", "-euc", CHROOT, entry=False)
    assert returncode == 0, said
    complaint, program = said.splitlines()
    assert complaint == "xbuild: no native tools here: a user namespace is refused: Operation not permitted"
    assert program.endswith("/.xbuild/qemu")
    required = {"XBUILD_ENTER": "require"}
    returncode, said = container.run("sh", "-euc", f"{CHROOT} || echo code $?", entry=False, env=required)
    assert said.splitlines()[-1] == "code 126"
    silent = container.run("sh", "-euc", CHROOT, entry=False, env={"XBUILD_ENTER": "off"})
    assert silent == (0, f"{program}\n")


def test_the_layer_is_the_upper_one_of_the_image(image: Image, command_line: Xbuild, tmp_path: Path) -> None:
    """Made a second time, it has the same bytes."""
    words = ("--packages", ",".join(PACKAGES), "--tar", str(tmp_path / "layer.tar"))
    told = command_line("export", "--layer", *words, "--json").json
    assert told["digest"] == image.told["layers"][1]["diff_id"]
    assert told["twins"] == image.told["twins"] > 100
    listed = subprocess.run(["tar", "-tvf", tmp_path / "layer.tar"], capture_output=True, text=True, check=True).stdout
    assert {line.split()[-1].split("/")[0] for line in listed.splitlines()} == {".xbuild"}
    assert "-rwxr-xr-x 0/0" in next(line for line in listed.splitlines() if line.endswith(".xbuild/enter"))


def test_the_root_has_the_same_bytes_again(image: Image, cache: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    toolchain = load_toolchain("armhf", CHECKOUT)
    layers = Roots(Store(paths.cache(), remove_tree), toolchain, None).layers(PACKAGES)
    epoch = epoch_of(Tree(layers))
    write_root(layers, tmp_path, tmp_path / "root.tar", epoch)
    assert f"sha256:{file_sha256(tmp_path / 'root.tar')}" == image.told["layers"][0]["diff_id"]
    with tarfile.open(tmp_path / "root.tar") as tar:
        assert max(member.mtime for member in tar) <= epoch
