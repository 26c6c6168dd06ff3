"""A scheduler and two workers with TLS on loopback: what listens where, who gets in, and a worker that is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xbuild.cluster import certificates

pytestmark = pytest.mark.integration
CLIENT = Path(__file__).with_name("cluster_tasks.py")
XBUILD = (sys.executable, "-m", "xbuild")


class Cluster:
    """A started cluster. address: of its scheduler; env: for its clients."""

    def __init__(self, place: Path, env: dict[str, str]) -> None:
        self.place = place
        self.env = env
        self.said = place / "said"
        words = ["cluster.start", "--workers", "2", "--jobs", "2", "--port", "0", "--dashboard", "0"]
        with self.said.open("wb") as said:
            self.process = subprocess.Popen([*XBUILD, *words], env=env, stdout=said, stderr=said)
        self.address = ""

    def wait_until_there(self) -> None:
        """Until both workers have joined."""
        while self.said.read_text().count(" works for ") < 2:
            assert self.process.poll() is None, self.said.read_text()
            time.sleep(0.1)
        line = next(line for line in self.said.read_text().splitlines() if line.startswith("cluster: "))
        self.address = line.partition(" ")[2]

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def client(
        self, *words: str, env: dict[str, str] | None = None, place: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Tasks of `cluster_tasks.py`."""
        command = [sys.executable, str(CLIENT), self.address, str(place or self.place), *words]
        return subprocess.Popen(command, env=env or self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def told(client: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What it has told."""
    out, err = client.communicate()
    assert client.returncode == 0, err.decode()
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    place = tmp_path_factory.mktemp("cluster")
    found = Cluster(place, {**os.environ, certificates.VARIABLE: str(place / "certificates")})
    try:
        found.wait_until_there()
        yield found
    finally:
        pids = [found.process.pid, *found.workers()]
        found.process.terminate()
        code = found.process.wait()
    assert code == 0, found.said.read_text()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def listening(pid: int) -> list[str]:
    """The addresses, in hex as in /proc/net/tcp, at which a process listens."""
    own = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            own.add(str(file.readlink()))
        except OSError:
            continue
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return [fields[1].partition(":")[0] for fields in lines if fields[3] == "0A" and f"socket:[{fields[9]}]" in own]


def test_nothing_listens_beyond_loopback(cluster: Cluster) -> None:
    found = [listening(pid) for pid in (cluster.process.pid, *cluster.workers())]
    assert all(found)
    assert {address for addresses in found for address in addresses} == {"0100007F"}


def test_nobody_gets_in_without_a_certificate_of_the_authority(cluster: Cluster, tmp_path: Path) -> None:
    name, _, port = cluster.address.removeprefix("tls://").partition(":")
    certificates.make(tmp_path / "other")
    stranger = ssl.create_default_context(cafile=cluster.place / "certificates" / "ca.pem")
    stranger.check_hostname = False
    stranger.load_cert_chain(tmp_path / "other" / "client.pem", tmp_path / "other" / "client.key")
    # TLS 1.3 tells of a certificate that is refused at the first read.
    with (
        socket.create_connection((name, int(port))) as plain,
        stranger.wrap_socket(plain) as encrypted,
        pytest.raises(OSError, match=r"(?i)alert"),
    ):
        encrypted.recv(1)
    command = [*XBUILD, "cluster.status", cluster.address, "--certificates", str(tmp_path / "other"), "--json"]
    done = subprocess.run(command, env=cluster.env, capture_output=True, check=False)
    assert done.returncode == 4
    assert "does not answer" in json.loads(done.stdout)["error"]["message"]
    command = [*XBUILD, "cluster.status", cluster.address.replace("tls:", "tcp:"), "--json"]
    assert subprocess.run(command, env=cluster.env, capture_output=True, check=False).returncode == 4


def test_a_port_that_is_taken_is_told(cluster: Cluster) -> None:
    command = [*XBUILD, "cluster.start", "--workers", "0", "--port", cluster.address.rpartition(":")[2]]
    done = subprocess.run(command, env=cluster.env, capture_output=True, check=False, text=True)
    assert (done.returncode, "already in use" in done.stderr) == (4, True)


def test_our_commands_run_there_and_what_they_say_comes_back(cluster: Cluster) -> None:
    found = told(cluster.client("3", "0", "commands"))
    assert {status for status, _, code in found["tasks"].values() if code == 0} == {"ok"}
    assert (cluster.place / "logs" / "t0.log").read_text().startswith("$ xbuild build zlib --plan")


def test_clients_that_send_the_same_at_once_do_not_meet(cluster: Cluster, tmp_path: Path) -> None:
    """Four builds of one name on four slots of two workers; each client hears of his own."""
    places = [tmp_path / str(number) for number in range(4)]
    for place in places:
        place.mkdir()
    clients = [cluster.client("1", "0", "commands", str(tmp_path / "go"), place=place) for place in places]
    while not all((place / "ready").exists() for place in places):
        assert [client.poll() for client in clients] == [None] * 4
        time.sleep(0.05)
    (tmp_path / "go").touch()
    for client, place in zip(clients, places, strict=True):
        assert [(status, code) for status, _, code in told(client)["tasks"].values()] == [("ok", 0)]
        assert (place / "logs/t0.log").read_text().count("$ xbuild build zlib --plan") == 1


def test_a_killed_worker_costs_time_only(cluster: Cluster) -> None:
    client = cluster.client("12", "0.5")
    while not list(cluster.place.glob("began-*")):
        time.sleep(0.05)
    killed = cluster.workers()[0]
    while not any(file.read_text() == str(killed) for file in cluster.place.glob("began-*")):
        time.sleep(0.02)
    os.kill(killed, signal.SIGKILL)
    found = told(client)
    assert {status for status, _, _ in found["tasks"].values()} == {"slept"}
    # What had begun on it began again.
    assert list(cluster.place.glob("began-*-2"))
    while len(cluster.workers()) < 2:
        time.sleep(0.1)


def test_a_client_that_is_gone_leaves_no_task(cluster: Cluster) -> None:
    client = cluster.client("4", "60", "commands")
    client.kill()
    client.communicate()
    found: dict[str, Any] = {"workers": [{"running": 1}]}
    while any(worker["running"] for worker in found["workers"]):
        command = [*XBUILD, "cluster.status", cluster.address, "--json"]
        found = json.loads(subprocess.run(command, env=cluster.env, capture_output=True, check=True).stdout)
