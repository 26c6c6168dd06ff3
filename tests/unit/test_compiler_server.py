"""Whom a server of compilers answers."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from xbuild.base.errors import UsageError
from xbuild.build.compilerserver import SERVER, Serving, may_ask
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
