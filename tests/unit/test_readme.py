"""What the README tells people to type is what is tried on a fresh machine."""

from __future__ import annotations

import re
from pathlib import Path

from xbuild.doctor.install import GIT, NEEDS

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text()
RUN = (PROJECT / ".ci" / "run").read_text()

SET_UP = r"python3 -m venv .*"
TEST = r"\.venv/bin/invoke test.*"


def commands(pattern: str) -> list[str]:
    """The lines of README's code blocks, fenced or indented, that match."""
    fenced = re.findall(r"^```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()]
    lines += [line for line in README.splitlines() if line.startswith("    ")]
    return [line.strip() for line in lines if re.fullmatch(pattern, line.strip())]


def run_by_ci(name: str) -> str:
    """What .ci/run has as its variable `name`, which it runs as it stands."""
    found = re.search(rf'^readonly {name}="(.*)"$', RUN, re.MULTILINE)
    assert found
    assert re.search(rf'^as_user "time \{{ \${name}; \}}"', RUN, re.MULTILINE)
    return found[1]


def test_there_is_one_command_for_each_job() -> None:
    assert len(commands(SET_UP)) == len(commands(TEST)) == 1


def test_they_are_what_is_run_on_a_fresh_machine() -> None:
    assert commands(SET_UP) == [run_by_ci("main_job")]
    assert commands(TEST) == [run_by_ci("tests")]


def packages(name: str) -> set[str]:
    found = re.search(rf"^readonly {name}=\((.*)\)$", RUN, re.MULTILINE)
    assert found
    return set(found[1].split())


def test_the_fresh_machine_has_only_what_readme_asks_for() -> None:
    asked = re.search(r"`sudo apt-get install (.*?)`", README)
    assert asked
    # sudo is lent to the user, ps looks at what is left; boards of tests have an sshd, with rsync or busybox.
    boards = {"openssh-server", "openssh-client", "rsync", "busybox"}
    shells = {"zsh", "fish"}
    assert packages("packages") == {*asked[1].split(), "sudo", "procps", *boards, *shells}
    # apt needs the others itself, so every machine that can install has them.
    always = {"apt", "dpkg", "tar", "debian-archive-keyring"}
    needed = {need.package for need in (*NEEDS, GIT)} - packages("packages") - always
    assert needed <= packages("ours")
    assert len(re.findall("^make_bare$", RUN, re.MULTILINE)) == 2


def test_users_ask_for_the_set_up() -> None:
    assert all(commands(pattern)[0].endswith(" --yes") for pattern in (SET_UP, TEST))
    assert re.search(r"setsid --wait runuser .*\n.*\n", RUN)
    assert "main_job/ build python / build zlib }" in RUN


def test_a_skipped_test_is_a_failure_there() -> None:
    assert re.search(r'^as_user "time \{ \$tests; \}" XBUILD_REQUIRE=1$', RUN, re.MULTILINE)
