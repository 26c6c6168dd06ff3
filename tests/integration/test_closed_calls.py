"""What of the kernel no build needs: closed in sandboxes, with the real kernel (sandbox/seccomp.py)."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ENV, Armhf
from xbuild.doctor import programs
from xbuild.sandbox.mounts import Bind, Devices, Mount, Overlay, Proc
from xbuild.sandbox.run import Sandbox, capture, run

pytestmark = pytest.mark.integration


@pytest.fixture
def sandbox(armhf: Armhf) -> Callable[..., Sandbox]:
    """Makes sandboxes that see the native root, read-only, and nothing else."""
    native = armhf.natives.trees["amd64"]

    def make(*further: Bind, **changes: Any) -> Sandbox:
        mounts: tuple[Mount, ...] = (Overlay((str(native),), None, None), Proc(), Devices(), *further)
        return Sandbox(mounts=mounts, mount_point=native, env=ENV, **changes)

    return make


def says(where: Sandbox, script: str) -> str:
    returncode, said = capture(where, ["bash", "-euc", script])
    assert returncode == 0, said.decode()
    return said.decode()


# By what uname -m says: socket, keyctl, ioctl.
NUMBERS = {"x86_64": (41, 250, 16), "aarch64": (198, 219, 29)}
CALLS = "for (@ARGV) { my ($call, @words) = map { int } split /,/; $! = 0; syscall($call, @words); print $! + 0, ' ' }"


def test_what_no_build_needs_of_the_kernel(sandbox: Callable[..., Sandbox]) -> None:
    socket, keyctl, ioctl = NUMBERS[os.uname().machine]
    # AF_VSOCK, AF_UNIX; its session keyring; io_uring_setup with a bad address; TIOCSTI and FIONREAD on /dev/null.
    calls = f"{socket},40,1,0 {socket},1,1,0 {keyctl},0,-3,0 425,1,0 {ioctl},0,21522,0 {ioctl},0,21531,0"
    script = f"perl -e {shlex.quote(CALLS)} -- {calls}"
    expected = [errno.EAFNOSUPPORT, 0, errno.ENOSYS, errno.ENOSYS, errno.EIO, errno.ENOTTY]
    assert [int(word) for word in says(sandbox(), script).split()] == expected
    assert [int(word) for word in says(sandbox(locked=True, uid=1000, gid=1000), script).split()] == expected


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="i386 has it")
def test_no_sockets_by_i386_s_call_for_them_all(sandbox: Callable[..., Sandbox], place: Path) -> None:
    # mov eax, 102 (socketcall); mov ebx, 1 (socket); mov ecx, esp (its arguments: AF_UNIX, SOCK_STREAM, 0)
    code = bytes.fromhex("6a00 6a01 6a01 b866000000 bb01000000 89e1 cd80")
    # neg eax; mov ebx, eax; mov eax, 1 (exit); int 0x80
    (place / "program").write_bytes(programs.static_i386(code + bytes.fromhex("f7d8 89c3 b801000000 cd80")))
    (place / "program").chmod(0o755)
    shown = Bind(str(place), "/mnt")
    assert run(sandbox(shown), ["/mnt/program"], check=False) == errno.EAFNOSUPPORT


KEYED = """
import ctypes, sys
from pathlib import Path
from xbuild.sandbox.mounts import Devices, Overlay, Proc
from xbuild.sandbox.run import Sandbox, run
libc, keyctl, add_key = ctypes.CDLL(None), *map(int, sys.argv[2:])
libc.syscall(keyctl, 1, None)
key = libc.syscall(add_key, b"user", b"xbuild-test-secret", b"x", 1, -3)
if key < 0:
    sys.exit(77)
# KEYCTL_SETPERM: only for who has it in a keyring of his.
libc.syscall(keyctl, 5, key, 0x3F000000)
root = Path(sys.argv[1])
mounts = (Overlay((str(root),), None, None), Proc(), Devices())
for himself in (True, False):
    sandbox = Sandbox(mounts=mounts, mount_point=root, env={"PATH": "/usr/bin"}, himself=himself)
    print(run(sandbox, ["grep", "-q", "xbuild-test-secret", "/proc/keys"], check=False))
"""


@pytest.mark.skipif(os.geteuid() == 0, reason="root has no ids of his own inside")
def test_the_user_s_keys_are_his(armhf: Armhf) -> None:
    numbers = {"x86_64": ("250", "248"), "aarch64": ("219", "217")}[os.uname().machine]
    words = [sys.executable, "-c", KEYED, str(armhf.natives.trees["amd64"]), *numbers]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("no keys can be had here")
    assert done.stdout.split() == ["0", "1"], done.stderr
