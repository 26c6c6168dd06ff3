from __future__ import annotations

from pathlib import Path

import pytest

from xbuild.base.digest import file_sha256
from xbuild.base.errors import MachineError
from xbuild.build.environment import WorkPlace
from xbuild.build.modes import distcc, masquerade
from xbuild.build.modes.mode import CLIENT_LOG
from xbuild.formats.debian import Tree
from xbuild.model.load import load_toolchain
from xbuild.roots.distribution import Roots
from xbuild.store.local import Store

PROJECT = Path(__file__).parents[2]
ARMHF, ARM64 = (load_toolchain(name, PROJECT) for name in ("armhf", "arm64"))

# Lines of a real log, with the debugging talk left out that nobody looks at.
LOG = """\
distcc[72] (dcc_scan_args) scanning arguments: gcc -v
distcc[72] exec on localhost: gcc -v
distcc[72] compile (null) on localhost completed ok
distcc[87] (dcc_scan_args) scanning arguments: gcc -c -O3 a.c
distcc[87] compile from a.c to a.o
distcc[87] exec on 127.0.0.1:3632/2: gcc -c -O3 a.c -o a.o
distcc[87] cpp a.c on localhost completed ok
distcc[87] compile a.c on 127.0.0.1:3632/2 completed ok
distcc[107] (dcc_scan_args) scanning arguments: gcc -c -O3 ztest7.c
distcc[107] compile from ztest7.c to ztest7.o
distcc[107] cpp ztest7.c on localhost failed
distcc[107] ERROR: compile ztest7.c on 127.0.0.1:3632/2 failed
distcc[107] (dcc_build_somewhere) Warning: remote compilation of 'ztest7.c' failed, retrying locally
distcc[107] Warning: failed to distribute ztest7.c to 127.0.0.1:3632/2, running locally instead
distcc[107] exec on localhost: gcc -c -O3 ztest7.c -o ztest7.o
distcc[107] ERROR: compile ztest7.c on localhost failed
distcc[90] (dcc_scan_args) scanning arguments: gcc -c b.c
distcc[90] compile from b.c to b.o
distcc[90] (dcc_build_somewhere) Warning: failed to distribute, running locally instead
distcc[90] exec on localhost: gcc -c b.c -o b.o
distcc[90] compile b.c on localhost completed ok
distcc[91] (kept here) -fstack-usage: gcc -c -fstack-usage b.c
distcc[90] (dcc_scan_args) scanning arguments: gcc -o b b.o
distcc[90] compile (null) on localhost completed ok
"""


@pytest.fixture
def place(tmp_path: Path) -> WorkPlace:
    found = WorkPlace(tmp_path / "work")
    for folder in (found.logs, found.path / "scratch" / "run", found.path / "scratch" / "var-tmp"):
        folder.mkdir(parents=True)
    return found


def tree(path: Path, *names: str) -> Tree:
    """A tree with these programs."""
    (path / "usr/bin").mkdir(parents=True)
    for name in names:
        (path / "usr/bin" / name).touch()
    return Tree([path])


def test_what_was_compiled_where(place: WorkPlace) -> None:
    (place.logs / CLIENT_LOG).write_text(LOG)
    found = distcc.summary(place)
    assert (found.remote, found.fallback, found.failed, found.local) == (1, 1, 1, 3)
    assert found.files == ["b.c"]
    assert str(found).startswith("distcc: 1 compiled by the server, 1 that should have been were compiled here")


def test_without_a_log_nothing_was_compiled(place: WorkPlace) -> None:
    assert distcc.summary(place) == distcc.Summary()


def test_the_client_finds_its_directory_and_its_names(place: WorkPlace, tmp_path: Path) -> None:
    names = ("cc", "c++", "gcc", "g++-14", "arm-linux-gnueabihf-gcc-14", "gcc-ar", "aarch64-linux-gnu-gcc", "distcc")
    for _ in range(2):
        target = tree(tmp_path / "root", *names) if not (tmp_path / "root").exists() else Tree([tmp_path / "root"])
        distcc.prepare(place, distcc.compilers(target, ARMHF))
    names_there = sorted(path.name for path in (place.path / "scratch/run/distcc").glob("[!.]*"))
    assert names_there == sorted(["cc", "c++", "gcc", "g++-14", "arm-linux-gnueabihf-gcc-14"])
    # The log is one file with two names: what the client writes is kept with the other logs.
    inside = place.path / "scratch/var-tmp/distcc" / CLIENT_LOG
    assert inside.samefile(place.logs / CLIENT_LOG)


def test_the_server_has_the_targets_word_size(place: WorkPlace, tmp_path: Path) -> None:
    target = tree(tmp_path / "root", "cc", "c++", "gcc-14", "arm-linux-gnueabihf-gcc")
    for name in ("amd64", "i386"):
        tree(tmp_path / name, "distccd")
    trees = {name: tmp_path / name for name in ("amd64", "i386")}
    found = distcc.service(ARMHF, trees, distcc.compilers(target, ARMHF), place, 3)
    assert found.where.mount_point == tmp_path / "i386"
    assert found.where.uid != 0
    assert found.command[-2:] == ("--jobs", "3")
    links = {path.name: str(path.readlink()) for path in (place.path / "distccd/bin").iterdir()}
    assert links == {
        "cc": "/usr/bin/arm-linux-gnueabihf-gcc",
        "c++": "/usr/bin/arm-linux-gnueabihf-g++",
        "gcc-14": "/usr/bin/arm-linux-gnueabihf-gcc-14",
        "arm-linux-gnueabihf-gcc": "/usr/bin/arm-linux-gnueabihf-gcc",
    }
    assert distcc.service(ARM64, trees, ["cc"], place, 3).where.mount_point == tmp_path / "amd64"


def test_a_native_root_without_the_server(place: WorkPlace, tmp_path: Path) -> None:
    tree(tmp_path / "root", "cc")
    with pytest.raises(MachineError, match="has no /usr/bin/distccd") as caught:
        distcc.service(ARM64, {"amd64": tmp_path / "root"}, [], place, 1)
    assert "toolchains/arm64.yml" in (caught.value.hint or "")


def test_own_machines(tmp_path: Path) -> None:
    known = {"PATH": "/usr/bin"}
    own = distcc.variables(known, ["@box", "127.0.0.1:99/4"], 2)
    assert own["DISTCC_HOSTS"] == "@box 127.0.0.1:99/4"
    assert own["PATH"] == "/run/distcc:/usr/bin"
    assert distcc.variables(known, [], 2)["DISTCC_HOSTS"] == "127.0.0.1:3632/2"
    roots = Roots(Store(tmp_path), ARMHF, None)
    kept = {"masquerade": file_sha256(Path(masquerade.__file__))}
    assert distcc.MODE.inputs(roots, ["box"]) == {"distcc-hosts": ["box"], **kept}
    assert distcc.MODE.inputs(roots, []) == kept
