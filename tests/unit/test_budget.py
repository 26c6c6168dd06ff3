"""One budget of jobs for many builds: pipes that tokens go through, with clients that take, give back, die, and lie."""

from __future__ import annotations

import os
import random
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbuild.graph.jobserver import Jobserver


class Client:
    """What a build does with its pipe, without a process."""

    def __init__(self, path: Path) -> None:
        self.pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.has = 0

    def take(self) -> bool:
        with suppress(BlockingIOError):
            self.has += len(os.read(self.pipe, 1))
            return True
        return False

    def give(self) -> None:
        os.write(self.pipe, b"+")
        self.has -= 1

    def die(self) -> None:
        if self.pipe >= 0:
            os.close(self.pipe)
        self.pipe = -1

    __del__ = die


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def turns(server: Jobserver, count: int = 3) -> None:
    for _ in range(count):
        server.turn()


def test_one_build_gets_all(place: Path) -> None:
    server = Jobserver(place, 4)
    client = Client(server.begin("a"))
    turns(server)
    assert [client.take() for _ in range(4)] == [True, True, True, False]
    turns(server)
    assert (server.held("a"), server.free) == (4, 0)
    client.die()
    server.end("a")
    assert server.free == 4
    assert list(place.iterdir()) == []


def test_a_pipe_can_be_used_by_users_inside(place: Path) -> None:
    server = Jobserver(place, 1)
    mode = server.begin("a").stat().st_mode
    server.close()
    assert stat.S_ISFIFO(mode)
    assert stat.S_IMODE(mode) == 0o666


def test_no_build_begins_without_a_job(place: Path) -> None:
    server = Jobserver(place, 1)
    server.begin("a")
    with pytest.raises(ValueError, match="no job is free"):
        server.begin("b")
    server.close()


def test_tokens_that_lie_unread_go_to_who_wants_them(place: Path) -> None:
    server = Jobserver(place, 4)
    idle, busy = Client(server.begin("idle")), Client(server.begin("busy"))
    turns(server, 1)
    taken = 0
    for _ in range(6):
        while busy.take():
            taken += 1
        turns(server, 1)
    assert taken == 2
    busy.give()
    busy.give()
    taken = 0
    for _ in range(6):
        taken += idle.take()
        turns(server, 1)
    assert taken == 2
    server.close()


def test_one_that_begins_comes_before_tokens_that_lie(place: Path) -> None:
    server = Jobserver(place, 2)
    client = Client(server.begin("a"))
    turns(server)
    assert server.free == 0
    server.turn(starting=1)
    assert server.free == 1
    assert not client.take()
    server.begin("b")
    server.close()


def test_a_token_in_use_is_claimed_when_it_comes_back(place: Path) -> None:
    server = Jobserver(place, 2)
    client = Client(server.begin("a"))
    turns(server)
    assert client.take()
    server.turn(starting=1)
    assert server.free == 0
    [descriptor] = server.contended(starting=1)
    server.claim([descriptor])
    assert server.free == 0
    client.give()
    server.claim([descriptor])
    assert server.free == 1
    server.close()


def test_who_has_more_than_his_share_gives_some_to_the_hungry(place: Path) -> None:
    server = Jobserver(place, 5)
    first = Client(server.begin("first"))
    turns(server)
    while first.take():
        pass
    first.give()
    server.turn(starting=1)
    second = Client(server.begin("second"))
    turns(server)
    assert first.has == 3
    claimed = server.contended()
    assert len(claimed) == 1
    first.give()
    server.claim(claimed)
    server.turn()
    assert second.take()
    turns(server)
    assert server.contended() == []
    server.close()


def test_one_that_wants_nothing_is_not_offered_others_tokens_all_the_time(place: Path) -> None:
    server = Jobserver(place, 5)
    first, _second = Client(server.begin("first")), Client(server.begin("second"))
    for _ in range(5):
        turns(server, 1)
        while first.take():
            pass
    assert (first.has, server.contended()) == (3, [])
    # Perhaps it is hungry by now.
    turns(server, 25)
    assert len(server.contended()) == 1
    server.close()


def test_who_puts_in_more_than_he_took_gains_nothing(place: Path) -> None:
    server = Jobserver(place, 3)
    liar, other = Client(server.begin("liar")), Client(server.begin("other"))
    os.write(liar.pipe, b"+" * 100)
    turns(server)
    got = sum(one.take() for one in (liar, other) for _ in range(50))
    assert got <= 3 - 2
    server.close()


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10**9))
def test_never_more_jobs_than_there_are(tmp_path_factory: pytest.TempPathFactory, jobs: int, seed: int) -> None:
    """Builds come, take, give, and die with what they have: the sum is never more, and all comes back."""
    chance = random.Random(seed)
    server = Jobserver(tmp_path_factory.mktemp("jobs"), jobs)
    clients: dict[str, Client] = {}
    for number in range(200):
        waiting = chance.randrange(3)
        match chance.randrange(8):
            case 0 if server.free:
                clients[f"b{number}"] = Client(server.begin(f"b{number}", chance.random()))
            case 1 if clients:
                name = chance.choice(list(clients))
                clients.pop(name).die()
                server.end(name)
            case 2 | 3 | 4 if clients:
                chance.choice(list(clients.values())).take()
            case 5 if clients:
                client = chance.choice(list(clients.values()))
                if client.has:
                    client.give()
            case 6:
                server.claim(server.contended(waiting))
            case _:
                server.turn(waiting)
        assert len(clients) + sum(client.has for client in clients.values()) <= jobs
        assert server.free >= 0
    for name, client in clients.items():
        client.die()
        server.end(name)
    assert server.free == jobs


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(2, 6))
def test_a_token_comes_to_each_who_wants_it(tmp_path_factory: pytest.TempPathFactory, jobs: int, builds: int) -> None:
    """However many there are that want none: nobody waits for ever while tokens lie."""
    builds = min(builds, jobs - 1)
    server = Jobserver(tmp_path_factory.mktemp("jobs"), jobs)
    clients = [Client(server.begin(f"b{number}")) for number in range(builds)]
    turns(server, 5)
    wanting = clients[-1]
    for _ in range(4 * builds):
        turns(server, 1)
        if wanting.take():
            break
    assert wanting.has == 1
    server.close()
