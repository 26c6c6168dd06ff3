"""Phases that run as root: of the system that they see, and of nothing else."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild

pytestmark = pytest.mark.e2e

INSTALL = """
install -D -m 644 answer "$DESTDIR/usr/share/answer"
install -d -o 33 -g 33 -m 2750 "$DESTDIR/var/lib/tiny"
install -o 1 -g 4 -m 600 answer "$DESTDIR/var/lib/tiny/secret"
install -D -m 4755 /usr/bin/true "$DESTDIR/usr/bin/gains"
ln -s answer "$DESTDIR/usr/share/link"
chown -h 5:6 "$DESTDIR/usr/share/link"
setpriv --reuid builder --regid builder --clear-groups id -u > "$DESTDIR/usr/share/who"
cat "$DESTDIR/var/lib/tiny/secret"
echo "I am $(id -u) $USER $LOGNAME"
"""

# Each word of `tried` is what root of a board could do, and root here must not.
ESCAPE = """
tried() { if "$@" 2> /dev/null; then echo "DONE: $*"; fi; }
tried mount -t tmpfs none /mnt
tried umount /build/dest
tried mknod node b 8 0
tried chroot / true
tried touch /usr/evil /etc/evil /.xbuild/evil /build/evil /build/run/evil
tried mv /build/dest /build/other
tried mv /build/run /tmp/run
tried rm -rf /build/run
tried ls /proc/1/root/
tried readlink /proc/1/exe
kill -KILL 1 # which the kernel does not do
tried cat /proc/1/environ
tried sh -c 'echo evil > /proc/sys/kernel/core_pattern'
tried chown root:root /usr/bin/true
tried setcap cap_chown+ep answer
grep -E 'Cap(Eff|Bnd)|NoNewPrivs' /proc/self/status
ls -A /home /media /mnt /srv
"""


def owners(artifact: str | Path) -> dict[str, tuple[int, int, int]]:
    """Of each name in an artifact the mode, uid and gid."""
    done = subprocess.run(["zstd", "-dcq", artifact], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        return {member.name: (member.mode, member.uid, member.gid) for member in tar}


def test_owners_are_real_and_the_same_whoever_runs_it(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"install": INSTALL, "as-root": ["install"], "keep-owners": True})
    made = {mode: xbuild.build("tiny", "--mode", mode) for mode in ("substituted", "emulated")}
    assert made["substituted"]["sha256"] == made["emulated"]["sha256"]
    found = owners(made["substituted"]["artifact"])
    assert found["var/lib/tiny"] == (0o2750, 33, 33)
    assert found["var/lib/tiny/secret"] == (0o600, 1, 4)
    assert found["usr/bin/gains"] == (0o4755, 0, 0)
    assert found["usr/share/link"][1:] == (5, 6)
    assert found["usr/share/answer"] == (0o644, 0, 0)


def test_the_builder_builds_and_root_installs(xbuild: Xbuild) -> None:
    """Without `keep-owners` all is root's, as ever; after a shell, and a second try, too."""
    build = {"compile": "id -u > answer", "as-root": ["install"]}
    xbuild.recipe(build={**build, "install": f"{INSTALL}\nfalse"})
    said = xbuild.fails("tiny", code=3)
    assert "I am 0 root root" in said
    assert "invoke shell tiny --target armhf --as-root" in said
    assert xbuild("shell", "tiny", "--target", "armhf", "--as-root", "--", "id -u; echo $USER").out == "0\nroot\n"
    look = xbuild("shell", "tiny", "--target", "armhf", "--", "id -u; stat -c %u:%g $DESTDIR/var/lib/tiny").out
    assert look == "1000\n33:33\n"
    xbuild.recipe(build={**build, "install": INSTALL})
    built = xbuild.build("tiny", "--keep")
    assert {ids for _, *ids in map(list, owners(built["artifact"]).values()) if ids != [0, 0]} == set()
    assert (xbuild.place() / "build/src/answer").read_text() == "1000\n"
    assert (xbuild.place() / "build/dest/usr/share/who").read_text() == "1000\n"


def test_root_of_a_phase_sees_and_does_nothing_outside_it(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": f"echo 42 > answer\n{ESCAPE}", "as-root": ["compile"]})
    xbuild.build("tiny", "--keep")
    said = xbuild.log()
    assert "DONE" not in said
    # CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SETGID, CAP_SETUID (capabilities(7)).
    mask = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7))
    assert f"CapEff:\t{mask:016x}\nCapBnd:\t{mask:016x}\nNoNewPrivs:\t1\n" in said
    assert said.endswith("/home:\n\n/media:\n\n/mnt:\n\n/srv:\n")


def test_no_shell_is_root_s_where_no_phase_is(xbuild: Xbuild) -> None:
    xbuild.recipe()
    said = xbuild("shell", "tiny", "--target", "armhf", "--as-root", "--", "true", code=2).err
    assert "no phase of tiny 1 for armhf runs as root" in said
    xbuild.recipe(build={"keep-owners": True})
    assert "'keep-owners' wants a phase in 'as-root'" in xbuild.fails("tiny", code=2)
