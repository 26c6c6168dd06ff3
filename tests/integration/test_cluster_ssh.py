"""A worker that a real ssh has started by a real sshd: how it joins, and what ends it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.test_cluster import XBUILD, Cluster, cluster, told
from tests.integration.test_deploy import PROJECT, needs_sshd
from tests.integration.test_shared_stores import SSHD, await_port, descendants, free_port, kill_all
from xbuild.base.paths import cache

__all__ = ["cluster"]

pytestmark = [pytest.mark.integration, needs_sshd]


class Board(NamedTuple):
    """An sshd, called `board`. path: for the ssh that knows it; server: its process."""

    path: str
    server: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """An sshd with keys of its own, and an ssh that goes by a configuration of the test's; `closed` has another key."""
    folder, port = tmp_path_factory.mktemp("sshd"), free_port()
    for key in ("machine", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/machine\nAuthorizedKeysFile {folder}/user.pub\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n"
        f"SetEnv XBUILD_CACHE={cache()} PYTHONPATH={PROJECT}\n"
    )
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'machine.pub').read_text()}")
    names = (("board", "user"), ("closed", "stranger"))
    (folder / "config").write_text(
        "".join(f"Host {name}\nIdentityFile {folder}/{key}\n" for name, key in names)
        + f"Host *\nHostName 127.0.0.1\nPort {port}\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
    )
    (folder / "bin").mkdir()
    program = folder / "bin/ssh"
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    program.chmod(0o755)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
        try:
            await_port(port)
            yield Board(f"{folder}/bin:{os.environ['PATH']}", server)
        finally:
            kill_all(server.pid)
            server.wait()


def by_ssh(cluster: Cluster, board: Board, *machines: str) -> subprocess.Popen[str]:
    """`cluster.ssh` of `machines`."""
    words = ["cluster.ssh", cluster.address, *machines, "--program", f"{sys.executable} -m xbuild"]
    env = {**cluster.env, "PATH": board.path}
    command = [*XBUILD, *words, "--targets", "armhf", "--slots", "1"]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def others(cluster: Cluster) -> list[dict[str, Any]]:
    """The workers that are not of `cluster.start`."""
    done = subprocess.run([*XBUILD, "cluster.status", cluster.address, "--json"], env=cluster.env, capture_output=True)
    found = json.loads(done.stdout)["workers"]
    return [one for one in found if one["name"].partition("~")[0] == socket.gethostname()]


def until(wanted: Callable[[], object], running: subprocess.Popen[str] | None = None) -> None:
    """Look until it is so."""
    end = time.monotonic() + 120
    while not wanted():
        if running is not None and running.poll() is not None:
            pytest.fail(running.communicate()[1])
        assert time.monotonic() < end
        time.sleep(0.2)


def certificates_left() -> list[Path]:
    return list((cache() / "tmp").glob("certificates-*"))


def test_a_worker_by_ssh_builds_and_ends_with_who_started_it(cluster: Cluster, board: Board) -> None:
    ssh = by_ssh(cluster, board, "board")
    until(lambda: others(cluster), ssh)
    assert [(one["targets"], one["slots"]) for one in others(cluster)] == [(["armhf"], 1)]
    assert certificates_left()
    found = told(cluster.client("15", "0.5"))
    assert socket.gethostname() in {where for _, where, _ in found["tasks"].values()}
    # It can tell nobody.
    ssh.kill()
    ssh.communicate()
    until(lambda: not others(cluster) and not certificates_left())


def test_a_connection_that_ends_ends_the_worker_and_is_told(cluster: Cluster, board: Board) -> None:
    ssh = by_ssh(cluster, board, "board", "closed")
    until(lambda: others(cluster), ssh)
    for process in descendants(board.server.pid)[:-1]:
        # What one of them has started may end with it.
        with contextlib.suppress(OSError):
            if "sshd" in Path(f"/proc/{process}/comm").read_text():
                os.kill(process, signal.SIGKILL)
    said = ssh.communicate(timeout=120)[1]
    assert ssh.returncode == 4
    assert "closed has stopped working (exit code 255)" in said
    assert "Permission denied (publickey" in said
    assert "board has stopped working" in said
    assert "error: all machines have stopped working" in said
    until(lambda: not others(cluster) and not certificates_left())
