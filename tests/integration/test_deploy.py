"""What is sent to a board and what goes from there, with a real sshd that is asked by a real ssh."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from xbuild.base.errors import MachineError, UsageError
from xbuild.build.artifact import pack
from xbuild.build.request import Request
from xbuild.build.subject import Subject, read
from xbuild.deploy.board import LISTS
from xbuild.deploy.deploy import Deployed, Packed, deploy_archives
from xbuild.deploy.plan import Listed
from xbuild.store.local import Store

PROJECT = Path(__file__).parents[2]
TOOLS = ("sh", "tar", "xargs", "stat", "sha256sum", "readlink", "mkdir", "mv", "cat", "rm", "rmdir", "chmod")
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
needs_sshd = pytest.mark.skipif(
    not (SSHD and all(map(shutil.which, ("ssh", "ssh-keygen", "zstd"))) and os.geteuid() != 0),
    reason="needs openssh-server, openssh-client and zstd; and root's sshd wants a user of its own",
)
WAYS = ["tar", *(["rsync"] if shutil.which("rsync") else []), *(["busybox"] if shutil.which("busybox") else [])]
"""What the board has: tar alone, rsync too, or nothing but busybox."""


class Machine(NamedTuple):
    """A board. top: what is deployed to. bin: all programs that it has."""

    top: Path
    bin: Path
    way: str


@pytest.fixture(params=WAYS)
def board(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """An sshd of the test's own, called `board`."""
    folder = tmp_path / "sshd"
    (folder / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox") if request.param == "busybox" else None
    for name in (*TOOLS, *(["rsync"] if request.param == "rsync" else [])):
        if found := busybox or shutil.which(name):
            (folder / "bin" / name).symlink_to(found)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nSetEnv PATH={folder}/bin\n"
    )
    (folder / "config").write_text(
        f"Host board\nHostName 127.0.0.1\nPort {port}\nIdentityFile {folder}/user\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {folder}/known\nStrictHostKeyChecking accept-new\n"
    )
    _own_ssh(folder, monkeypatch)
    assert SSHD is not None
    with (folder / "log").open("wb") as log:
        sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
        try:
            _await(port, sshd)
            (tmp_path / "top").mkdir()
            yield Machine(tmp_path / "top", folder / "bin", request.param)
        finally:
            sshd.terminate()
            sshd.wait()


def _own_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's ssh, with a configuration of the test's: he has no HOME for it (ssh goes by the password file)."""
    program = folder / "own" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def _await(port: int, sshd: subprocess.Popen[bytes]) -> None:
    while sshd.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("sshd has ended")


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setenv("XBUILD_PROJECT", str(PROJECT))
    return read(Request("zlib", "armhf"), Store(tmp_path / "store"))


ODD = "usr/share/-odd\n'name' \\ \"x\""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What was built: names that are hostile, modes, links."""
    top = tmp_path / "tree"
    (top / "usr/bin").mkdir(parents=True)
    (top / "usr/share/empty").mkdir(parents=True)
    (top / "usr/bin/hello").write_bytes(b"hello" * 1000)
    (top / "usr/bin/hello").chmod(0o4755)
    (top / "usr/bin/hi").symlink_to("hello")
    (top / "usr/bin/nowhere").symlink_to("/no/where\nat all")
    (top / ODD).write_text("odd")
    (top / "usr/share/ro").write_text("read only")
    (top / "usr/share/ro").chmod(0o444)
    os.link(top / "usr/bin/hello", top / "usr/bin/zz")
    return top


Deploy = Callable[..., Deployed]


@pytest.fixture
def deploy(subject: Subject, board: Machine, tree: Path, tmp_path: Path) -> Deploy:
    """Packs the tree as it is now, and deploys that."""

    def deployed(directory: str | None = None, *, dry_run: bool = False) -> Deployed:
        archive = tmp_path / "zlib-1.3.1-armhf.tar.zst"
        pack(tree, archive, 1_700_000_000)
        found = deploy_archives(subject, "board", directory or str(board.top), [archive], dry_run=dry_run)
        assert found.by in (None, "rsync" if board.way == "rsync" else "tar")
        return found

    return deployed


def held(top: Path) -> dict[str, tuple[str, int, bytes]]:
    """What lies in a directory, without our lists."""
    found = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if not f"{name}/".startswith("var/"):
            kind = "link" if path.is_symlink() else "directory" if path.is_dir() else "file"
            data = os.fsencode(path.readlink()) if kind == "link" else path.read_bytes() if kind == "file" else b""
            found[name] = (kind, path.lstat().st_mode & 0o7777 if kind == "file" else 0, data)
    return found


@needs_sshd
def test_it_is_there_as_it_was_built(
    deploy: Deploy, board: Machine, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry = deploy(dry_run=True)
    assert (dry.dry_run, list(board.top.iterdir())) == (True, [])
    assert "has no /lib/ld-linux-armhf.so.3: programs for armhf" in capsys.readouterr().err
    (tree / "lib").mkdir()
    (tree / "lib/ld-linux-armhf.so.3").touch()
    dry, found = deploy(dry_run=True), deploy()
    assert found.plan.new == dry.plan.new
    assert ODD in found.plan.new
    assert held(board.top) == held(tree)
    assert int((board.top / "usr/bin/hello").stat().st_mtime) <= 1_700_000_000
    capsys.readouterr()
    again = deploy()
    # Below the directory counts too: it may be a board's whole system.
    assert "has no" not in capsys.readouterr().err
    assert (again.by, again.bytes, again.plan.sent, again.plan.same) == (None, 0, (), len(found.plan.new))


@needs_sshd
def test_what_changed_is_sent_and_what_went_goes(deploy: Deploy, board: Machine, tree: Path) -> None:
    (board.top / "usr/share").mkdir(parents=True)
    (board.top / "usr/share/theirs").write_text("keep")
    deploy()
    # As long as it was, and dated the same: only its contents tell.
    (tree / "usr/share/ro").chmod(0o644)
    (tree / "usr/share/ro").write_text("READ ONLY")
    (tree / ODD).unlink()
    (tree / "usr/bin/nowhere").unlink()
    (tree / "usr/share/empty").rmdir()
    (board.top / "usr/bin/nowhere").unlink()
    (board.top / "usr/bin/nowhere").symlink_to("elsewhere")
    found = deploy()
    assert found.plan.changed == ("usr/share/ro",)
    assert (found.plan.removed, found.plan.left) == ((ODD,), ("usr/bin/nowhere",))
    now = held(board.top)
    assert now.pop("usr/share/theirs")[2] == b"keep"
    assert now.pop("usr/bin/nowhere")[2] == b"elsewhere"
    assert now == held(tree)
    assert deploy().plan.sent == ()


@needs_sshd
def test_links_to_directories_stay(deploy: Deploy, board: Machine, tree: Path) -> None:
    """/lib -> usr/lib, say: nothing of what was built takes its place, and no mode of what is there changes."""
    (board.top / "real/bin").mkdir(parents=True)
    (board.top / "real").chmod(0o751)
    (board.top / "usr").symlink_to("real")
    (board.top / "real/bin/zz").write_text("of somebody else")
    found = deploy()
    assert found.plan.foreign == ("usr/bin/zz",)
    assert (board.top / "usr").readlink() == Path("real")
    assert (board.top / "real").stat().st_mode & 0o777 == 0o751
    assert (board.top / "real/bin/hello").read_bytes() == (tree / "usr/bin/hello").read_bytes()
    shutil.rmtree(tree / "usr")
    (tree / "new").mkdir()
    deploy()
    assert sorted(path.name for path in (board.top / "real").iterdir()) == ["bin"]
    assert list((board.top / "real/bin").iterdir()) == []


@needs_sshd
def test_a_running_program_is_replaced(deploy: Deploy, board: Machine, tree: Path) -> None:
    shutil.copy(shutil.which("sleep") or "", tree / "usr/bin/hello")
    deploy()
    with subprocess.Popen([board.top / "usr/bin/hello", "60"]) as running:
        try:
            (tree / "usr/bin/hello").write_text("#!/bin/sh\n")
            deploy()
        finally:
            running.kill()
    assert (board.top / "usr/bin/hello").read_text() == "#!/bin/sh\n"


@needs_sshd
def test_two_projects_share_a_directory(deploy: Deploy, board: Machine, tree: Path) -> None:
    deploy()
    listed = board.top / LISTS
    other = Listed({"usr/share/ro": ("0" * 64,)}, frozenset({"usr/share"}))
    (listed / "other-armhf.json").write_text(json.dumps(other.as_json()))
    shutil.rmtree(tree / "usr/share")
    found = deploy()
    assert "usr/share/ro" not in found.plan.removed
    assert [path.name for path in (board.top / "usr/share").iterdir()] == ["ro"]


@needs_sshd
def test_directories_of_any_kind(
    deploy: Deploy, board: Machine, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(str(board.top / "it's new/deep"))
    assert held(board.top / "it's new/deep") == held(tree)
    (board.top / "it's new/deep" / LISTS / "zlib-armhf.json").write_text("{")
    assert deploy(str(board.top / "it's new/deep")).plan.sent == ()
    assert "is damaged, or another version's" in capsys.readouterr().err
    (board.top / "file").touch()
    with pytest.raises(UsageError, match="is no directory"):
        deploy(str(board.top / "file"))
    (board.top / "usr").touch()
    with pytest.raises(UsageError, match="cannot be put into") as caught:
        deploy()
    assert caught.value.details[0] == "usr: a directory in what was built, and none there"
    assert held(board.top)["usr"] == ("file", 0o644, b"")


@needs_sshd
def test_what_the_board_refuses(deploy: Deploy, board: Machine) -> None:
    board.top.chmod(0o555)
    with pytest.raises(MachineError, match=r"a command on board failed \(exit code") as caught:
        deploy()
    assert "Permission denied" in "\n".join(caught.value.details)
    assert caught.value.exit_code == 4
    assert "--prefix DIR" in (caught.value.hint or "")
    board.top.chmod(0o755)
    (board.bin / "stat").unlink()
    deploy()
    with pytest.raises(MachineError, match=r"a command on .* failed|cannot be read"):
        deploy()


@needs_sshd
def test_a_login_that_talks(deploy: Deploy, board: Machine) -> None:
    (board.bin / "sh").unlink()
    program = board.bin / "sh"
    program.write_text(f'#!/bin/sh\necho welcome\nexec {shutil.which("sh")} "$@"\n')
    program.chmod(0o755)
    with pytest.raises(MachineError, match="cannot be read") as caught:
        deploy()
    assert "prints nothing by itself" in (caught.value.hint or "")


@needs_sshd
@pytest.mark.parametrize("fault", ["closed", "unknown", "key"])
def test_a_board_that_cannot_be_reached(deploy: Deploy, board: Machine, tmp_path: Path, fault: str) -> None:
    config = tmp_path / "sshd/config"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = {
        "closed": f"Host board\nHostName 127.0.0.1\nPort {port}\n",
        "unknown": "Host board\nHostName board.invalid\n",
        "key": config.read_text().replace(f"IdentityFile {tmp_path}/sshd/user", f"IdentityFile {tmp_path}/sshd/none"),
    }[fault]
    config.write_text(text)
    with pytest.raises(MachineError, match="board cannot be reached by ssh") as caught:
        deploy()
    assert caught.value.exit_code == 4
    assert caught.value.details
    assert caught.value.hint == "try it: ssh board true"


def test_a_tar_for_small_tars(tree: Path, tmp_path: Path) -> None:
    """Hard links whose other name is not sent become files; names of any length."""
    if shutil.which("zstd") is None:
        pytest.skip("needs zstd")
    (tree / "usr" / ("long" * 50)).write_text("long")
    archive = tmp_path / "x.tar.zst"
    pack(tree, archive, 0)
    (tmp_path / "scratch").mkdir()
    packed = Packed([archive], tmp_path / "scratch")
    for chosen in (["usr/bin/zz"], ["usr/bin/hello", "usr/bin/zz", "usr/" + "long" * 50]):
        out = tmp_path / f"out{len(chosen)}"
        out.mkdir()
        subprocess.run(["tar", "-xf", packed.chosen(chosen), "-C", out], check=True)
        assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == chosen
        assert (out / "usr/bin/zz").read_bytes() == (tree / "usr/bin/zz").read_bytes()
