"""Whom a server of compilers answers."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from xbuild.base.errors import UsageError
from xbuild.build import admission
from xbuild.build.admission import QUESTION, Door, Serving, may_ask
from xbuild.build.compilerserver import SERVER
from xbuild.cli.cluster import networks


@pytest.mark.parametrize(
    ("peer", "may"),
    [
        ("192.0.2.7", True),
        ("192.0.2.255", True),
        ("192.0.3.7", False),
        ("::ffff:192.0.2.7", True),
        ("::ffff:192.0.3.7", False),
        ("2001:db8::1", True),
        ("fe80::1%eth0", False),
        ("127.0.0.1", False),
    ],
)
def test_only_machines_that_are_named(peer: str, may: bool) -> None:
    wanted = Serving("0.0.0.0", 0, [ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")], 1)
    assert may_ask(peer, wanted) is may


def test_on_loopback_the_machine_itself_may() -> None:
    for listen in ("127.0.0.1", "::1"):
        wanted = Serving(listen, 0, networks(listen, ""), 1)
        assert may_ask(listen, wanted)
        assert not may_ask("192.0.2.7", wanted)


def test_an_address_within_its_network_is_taken_for_the_network() -> None:
    assert networks("0.0.0.0", "192.0.2.7/24,198.51.100.1") == [ip_network("192.0.2.0/24"), ip_network("198.51.100.1")]


@pytest.mark.parametrize(("listen", "allow"), [("0.0.0.0", ""), ("::", ""), ("box", "192.0.2.0/24"), ("::1", "box")])
def test_who_may_ask_is_to_be_said(listen: str, allow: str) -> None:
    with pytest.raises(UsageError, match="--listen"):
        networks(listen, allow)


@pytest.mark.parametrize(
    ("word", "name", "port"),
    [
        ("192.0.2.7/8", "192.0.2.7", None),
        ("192.0.2.7:99/8,lzo", "192.0.2.7", "99"),
        ("[2001:db8::1]:99", "[2001:db8::1]", "99"),
        ("build-2.example/4", "build-2.example", None),
        ("build2,cpp", "build2", None),
        ("localhost/2", "localhost", None),
    ],
)
def test_machines_that_can_be_asked(word: str, name: str, port: str | None) -> None:
    found = SERVER.match(word)
    assert found is not None
    assert (found["name"], found["port"]) == (name, port)


@pytest.mark.parametrize("word", ["@build2", "user@build2", "user@build2:/usr/bin/distccd", "--randomize", "+zeroconf"])
def test_words_that_name_none(word: str) -> None:
    assert SERVER.match(word) is None


LOOPBACK = [ip_network("127.0.0.0/8")]
Ask = Callable[[], socket.socket]


class Behind:
    """What a door leads to. It says back what it hears, and hangs up after END."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def reach(self) -> socket.socket:
        return socket.create_connection(self.listening.getsockname())

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._say, args=(self.listening.accept()[0],), daemon=True).start()

    def _say(self, one: socket.socket) -> None:
        with one, contextlib.suppress(OSError):
            while heard := one.recv(1000):
                one.sendall(heard)
                if heard == b"END":
                    break


@pytest.fixture
def behind() -> Iterator[Behind]:
    found = Behind()
    yield found
    found.listening.close()


@pytest.fixture
def ask(behind: Behind) -> Iterator[Ask]:
    """Connect to a door for one job at a time."""
    door, over = Door(Serving("127.0.0.1", 0, LOOPBACK, 1), "yes", behind.reach), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as open_:
        listening.settimeout(0.05)

        def accept() -> None:
            while not over.is_set():
                door.accept(listening)

        thread = threading.Thread(target=accept)
        thread.start()

        def connected() -> socket.socket:
            one = socket.create_connection(listening.getsockname(), timeout=20)
            return open_.enter_context(one)

        yield connected
        over.set()
        thread.join()


def says(one: socket.socket, text: bytes) -> bytes:
    one.sendall(text)
    return one.recv(100)


def test_a_question_is_answered_while_all_jobs_are_taken(ask: Ask) -> None:
    assert says(ask(), b"DIST") == b"DIST"
    assert says(ask(), QUESTION) == b"yes"


def test_the_next_one_gets_the_job_when_a_client_has_gone(ask: Ask) -> None:
    first, second = ask(), ask()
    assert says(first, b"DIST1") == b"DIST1"
    second.sendall(b"DIST2")
    first.close()
    assert second.recv(100) == b"DIST2"


def test_a_client_that_stays_keeps_no_job_when_the_server_has_ended(ask: Ask) -> None:
    """Nothing tells that it knows."""
    first, second = ask(), ask()
    assert says(first, b"DIST1") == b"DIST1"
    assert says(first, b"END") == b"END"
    assert says(second, b"DIST2") == b"DIST2"
    assert first.recv(100) == b""


def test_a_client_that_hangs_keeps_no_job(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be stopped in the middle of what it sends: the server waits for the rest."""
    monkeypatch.setattr(admission, "_LONGEST", 0.5)
    first, second = ask(), ask()
    assert says(first, b"DIST1") == b"DIST1"
    second.sendall(b"DIST2")
    assert second.recv(100) == b"DIST2"
    assert first.recv(100) == b""


def test_a_silent_client_is_sent_away(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_SILENCE", 0.2)
    assert ask().recv(100) == b""


def test_more_connections_than_there_may_be_are_sent_away(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_CONNECTIONS", 2)
    door = Door(Serving("127.0.0.1", 0, LOOPBACK, 1), "yes", behind.reach)
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as open_:
        found = []
        for _ in range(3):
            one = socket.create_connection(listening.getsockname(), timeout=20)
            found.append(open_.enter_context(one))
            door.accept(listening)
        assert found[2].recv(100) == b""
        assert says(found[1], b"DIST") == b"DIST"


class Lacking:
    """A socket for which the process has no descriptor left."""

    def accept(self) -> None:
        raise OSError(errno.EMFILE, "Too many open files")


def test_a_lack_of_descriptors_ends_nothing(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_PAUSE", 0)
    Door(Serving("127.0.0.1", 0, LOOPBACK, 1), "yes", behind.reach).accept(Lacking())  # type: ignore[arg-type]
