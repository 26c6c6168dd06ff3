"""`invoke shell` without a recipe: a system of the target to work in, kept by name or thrown away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild, mounts, own_sleep, processes, wait_for
from tests.e2e.foreign import Terminal
from xbuild.sandbox.run import remove_tree

pytestmark = pytest.mark.e2e


@pytest.fixture
def system(xbuild: Xbuild) -> Iterator[Xbuild]:
    """xbuild, whose kept systems go after the test."""
    yield xbuild
    remove_tree(xbuild.cache / "kept")


def inside(xbuild: Xbuild, script: str, *words: str, code: int = 0) -> str:
    """What the shell text says in the armhf system."""
    return xbuild("shell", "--target", "armhf", *words, "--", script, code=code).out


def test_it_is_a_whole_system_and_the_user_is_its_root(system: Xbuild, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("secret")
    script = "id -u; uname -m; pwd; echo $HOME; hostname; getent hosts $(hostname) | cut -d' ' -f1"
    said = inside(system, script).split()
    assert said == ["0", "armv7l", "/root", "/root", "armhf", "127.0.1.1"]
    assert inside(system, "useradd -m somebody && su somebody -c 'id -un'") == "somebody\n"
    # Of the user's own files nothing is seen unless he says so.
    assert inside(system, f"cat {tmp_path}/mine", code=1) == ""
    assert inside(system, f"cat {tmp_path}/mine", "--bind", str(tmp_path)) == "secret"
    assert inside(system, "exit 42", code=42) == ""
    assert inside(system, "kill -TERM $$", code=143) == ""


@pytest.mark.parametrize("mode", ["substituted", "emulated"])
def test_set_user_id_programs(system: Xbuild, mode: str) -> None:
    """What sudo and its kin need."""
    script = "cp /usr/bin/id /usr/bin/rootid; chmod 4755 /usr/bin/rootid; useradd -u 1234 somebody"
    said = inside(system, f"{script}; su somebody -c 'rootid -u; id -u'", "--mode", mode).split()
    assert said == ["0", "1234"]


def test_changes_are_thrown_away(system: Xbuild) -> None:
    inside(system, "echo mine > /etc/mine-98754; rm /usr/bin/sed")
    assert inside(system, "test -e /etc/mine-98754 || echo a | sed s/a/b/") == "b\n"
    # A build that runs beside has its own there.
    assert list((system.cache / "tmp").glob("*/upper/etc/mine-98754")) == []


@pytest.mark.long
def test_changes_are_kept_by_name(system: Xbuild) -> None:
    inside(system, "echo mine > /etc/mine; rm -r /usr/share/doc", "--keep", "tools")
    assert inside(system, "cat /etc/mine; ls -d /usr/share/*", "--keep", "tools").splitlines()[0] == "mine"
    assert "/usr/share/doc" not in inside(system, "ls -d /usr/share/*", "--keep", "tools").splitlines()
    assert inside(system, "test -e /etc/mine || ls -d /usr/share/doc", "--keep", "other") == "/usr/share/doc\n"
    assert system("run", "--keep", "tools", "--", "cat", "/etc/mine").out == "mine\n"
    listed = system("root.list", "--json").json["kept"]
    assert [(known["name"], known["target"], known["suite"]) for known in listed] == [
        ("other", "armhf", "trixie"),
        ("tools", "armhf", "trixie"),
    ]
    assert "tools" in system("root.list").out
    said = system("shell", "--target", "arm64", "--keep", "tools", "--", "true", code=2).err
    assert "the kept system 'tools' is one of armhf (trixie), not of arm64 (trixie)" in said
    system("root.remove", "tools")
    assert "did you mean" in system("root.remove", "othre", code=2).err
    assert [known["name"] for known in system("root.list", "--json").json["kept"]] == ["other"]


@pytest.mark.long
def test_a_package_is_installed(system: Xbuild) -> None:
    script = "apt-get install -qy hello || { apt-get update -q && apt-get install -qy hello; }; hello"
    assert inside(system, script, "--keep", "tools").endswith("Hello, world!\n")
    assert system("run", "--keep", "tools", "--", "hello").out == "Hello, world!\n"


def test_a_kept_program_that_was_overwritten_has_no_twin(system: Xbuild) -> None:
    """Also in the next session, which finds it as it is by now. One that is only copied still has."""
    inside(system, "cat /usr/bin/cat > /usr/bin/sed; touch /usr/bin/readlink", "--keep", "tools")
    assert inside(system, "echo a | sed -; readlink /proc/./self/exe", "--keep", "tools").split() == [
        "a",
        "/.xbuild/amd64/usr/bin/readlink",
    ]


def test_two_at_once(system: Xbuild) -> None:
    begun = system.start("shell", "--keep", "tools", "--", "touch /begun; sleep 98751")
    wait_for("the first", lambda: (system.cache / "kept/tools/upper/begun").exists())
    said = system("shell", "--keep", "tools", "--", "true", code=4).err
    assert "there is another xbuild that uses the kept system tools" in said
    assert "tools" in system("root.remove", "tools", code=4).err
    begun.send_signal(signal.SIGTERM)
    system.ended(begun, code=143)


def test_a_kill_leaves_it_usable_and_said(system: Xbuild) -> None:
    """As in the middle of apt: dpkg has begun to unpack a package."""
    change = "/^Package: sed$/,/^$/s/^Status: .*/Status: install reinstreq half-installed/"
    script, sleep = f"sed -i '{change}' /var/lib/dpkg/status", own_sleep(98752)
    begun = system.start("shell", "--keep", "tools", "--", f"{script}; touch /begun; {sleep}")
    wait_for("the first", lambda: (system.cache / "kept/tools/upper/begun").exists())
    begun.kill()
    system.ended(begun, code=-9)
    wait_for("its end", lambda: processes(sleep) == [])
    assert mounts(system.cache) == []
    said = system("shell", "--keep", "tools", "--", "ls /begun")
    assert said.out == "/begun\n"
    assert "a session in 'tools' ended while packages were installed: sed" in said.err


def test_the_root_of_a_kept_system_stays(system: Xbuild) -> None:
    """Its changes fit no other: when it is another one by now, nothing is mixed."""
    inside(system, "true", "--keep", "tools")
    about = system.cache / "kept/tools/about.json"
    text = about.read_text()
    about.write_text(text.replace('"base": "', '"base": "0'))
    said = system("shell", "--keep", "tools", "--", "true", code=4).err
    assert "its changes no longer fit" in said
    about.write_text("{")
    assert "damaged" in system("shell", "--keep", "tools", "--", "true", code=4).err


def test_somebody_sits_at_it(system: Xbuild) -> None:
    terminal = Terminal(system, ["shell", "--target", "armhf", "--keep", "tools"])
    terminal.wait_for("(tools)root@armhf:~# ")
    terminal.type("tty; stty size; uname -m\n")
    said = terminal.wait_for("armv7l\r\n").splitlines()
    assert said[-3:-1] == ["/dev/pts/0", "33 101"]
    terminal.resize(44, 120)
    terminal.type(f"{own_sleep(98753)}\n")
    wait_for("sleep", lambda: processes(own_sleep(98753)))
    terminal.type("\x03")
    terminal.type("stty size; ps -e | wc -l; exit 3\n")
    terminal.wait_for("44 120\r\n")
    assert terminal.ended() == 3


def test_the_window_is_closed(system: Xbuild) -> None:
    """A hung up terminal ends the session in order."""
    script = "trap 'touch /hung-up; exit' HUP; echo ready; while :; do sleep 0.1; done"
    terminal = Terminal(system, ["shell", "--keep", "tools", "--", script])
    terminal.wait_for("ready")
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.ended() == 129
    assert (system.cache / "kept/tools/upper/hung-up").exists()
