"""Twins that ask for a library of the target in the middle of their work: a build begins anew, a session tells."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild, own_sleep, processes, unpacked, wait_for

pytestmark = pytest.mark.e2e

PERL = "/usr/bin/perl"
# perl has said something when it asks for a library that the build has made; what it then says is lost on nobody.
_LOAD = 'DynaLoader::dl_load_file("/build/src/x.so")'
_ASKS = f'$|=1; print "begun\\n"; require DynaLoader; print {_LOAD} ? "42\\n" : "no\\n"'
# The source is consumed, and there are traces of the first try everywhere it may write.
_LOOK = "ls $at/trace >> traces 2>/dev/null || true; touch $at/trace"
_TRACES = f"for at in /tmp /var/tmp /run /build/obj . ; do {_LOOK}; done"
_LATE = {
    "configure": f"cc -shared -o x.so x.c; rm x.c; {_TRACES}",
    "compile": f"perl -e '{_ASKS}' > answer || true",
    "install": 'install -D -m 644 answer "$DESTDIR/usr/share/answer"; cp traces "$DESTDIR/usr/share/traces"',
}


def late(xbuild: Xbuild, **fields: Any) -> None:
    """A recipe whose perl asks too late, and does not tell."""
    xbuild.recipe(files={"x.c": "int x;\n"}, build=_LATE, **fields)


def taught(xbuild: Xbuild) -> list[str]:
    """The programs that the next build begins emulated, as the plan tells them."""
    told = xbuild("build", "tiny", "--plan", "--json").json["taught"]
    assert told == xbuild("why", "tiny", "--json").json["taught"]
    return [one["program"] for one in told]


def test_a_build_begins_anew_is_taught_and_forgets(xbuild: Xbuild) -> None:
    late(xbuild)
    said = xbuild("build", "tiny", "--json")
    first = said.json
    assert "in phase 'compile': /usr/bin/perl asked for a library that is only there for the target" in said.err
    assert said.err.count("the build begins again, with that emulated") == 1
    assert first["anew"] == [{"phase": "compile", "programs": [PERL]}]
    files = unpacked(first["artifact"])
    assert {"usr/share/answer", "usr/share/traces"} <= {name.removeprefix("./") for name in files}
    # Nothing of the first try: neither in the tree nor in the record.
    manifest = json.loads(Path(first["manifest"]).read_text())
    assert manifest["emulated-late"] == [PERL]
    assert (manifest["ran-emulated"][PERL], PERL in manifest["ran-native"]) == (1, False)
    assert manifest["ran-native"]["/usr/bin/rm"] == 1
    assert xbuild.build("tiny", "--mode", "emulated")["sha256"] == first["sha256"]
    assert taught(xbuild) == [PERL]
    assert "lets it be tried again" in xbuild("why", "tiny", "--exec", "perl").out
    reasons = {one["program"]: one["emulated"]["reasons"] for one in xbuild("trace", "tiny", "--json").json["programs"]}
    assert reasons[PERL] == {"late": 1}
    xbuild("clean")
    said = xbuild("build", "tiny", "--json")
    assert (said.json["anew"], said.json["sha256"]) == ([], first["sha256"])
    assert f"{PERL} runs emulated: in the middle of its work it asked" in said.err
    assert f"forgotten, for armhf: {PERL}" in xbuild("forget", "tiny").out
    assert taught(xbuild) == []
    xbuild("clean")
    assert xbuild.build("tiny")["anew"] == first["anew"]
    # By hand the same as by what was met.
    xbuild("forget", "tiny", "--target", "armhf")
    assert xbuild.build("tiny", "--emulate", "perl")["sha256"] == first["sha256"]
    assert "did you mean 'perl'?" in xbuild.fails("tiny", "--emulate", "prl", code=2)


def test_the_users_own_tree_is_not_thrown_away(xbuild: Xbuild) -> None:
    late(xbuild)
    first = xbuild.build("tiny", "--keep")
    xbuild("forget", "tiny")
    mine = xbuild.place() / "build/src/x.so"
    said = xbuild.fails("tiny", "--keep", "--from", "compile", code=3)
    assert "invoke build tiny --target armhf    (from the beginning, with that emulated)" in said
    assert mine.exists()
    assert xbuild.build("tiny", "--keep", "--from", "unpack")["sha256"] == first["sha256"]


def test_a_phase_that_would_wait_for_ever_and_a_build_that_was_killed(xbuild: Xbuild) -> None:
    """Nobody goes on from the tree that a late perl has left, however it came to that."""
    early, wait = own_sleep(98762), own_sleep(98761)
    # It is never idle.
    compile_ = f"{_LATE['compile']}; until grep -q 42 answer; do sleep 0.01; done"
    xbuild.recipe(files={"x.c": "int x;\n"}, build={**_LATE, "compile": compile_})
    first = xbuild.build("tiny")
    assert first["anew"] == [{"phase": "compile", "programs": [PERL]}]
    xbuild("forget", "tiny")
    xbuild("clean")
    compile_ = f"timeout 5 {early} || {_LATE['compile']}; grep -q 42 answer || {wait}"
    xbuild.recipe(files={"x.c": "int x;\n"}, build={**_LATE, "compile": compile_})
    killed = xbuild.start("build", "tiny")
    wait_for("perl is to come", lambda: processes(early))
    # It must not look before it is killed.
    killed.send_signal(signal.SIGSTOP)
    wait_for("perl has ended", lambda: processes(wait))
    killed.kill()
    xbuild.ended(killed, code=-9)
    wait_for("all of it has ended", lambda: not processes(wait))
    again = xbuild.build("tiny")
    assert (again["anew"], again["sha256"]) == (first["anew"], first["sha256"])


def test_a_check_of_what_was_made_is_asked_once_more(xbuild: Xbuild) -> None:
    script = f"#!/usr/bin/perl\n{_ASKS.replace('/build/src', '/usr/lib')}"
    install = 'install -D x.so "$DESTDIR/usr/lib/x.so"; install -D it "$DESTDIR/usr/bin/it"'
    build = {"compile": "cc -shared -o x.so x.c", "install": install}
    outputs = [{"path": "usr/bin/it", "kind": "executable", "run": [], "prints": "42"}]
    xbuild.recipe(files={"x.c": "int x;\n", "it": script}, build=build, outputs=outputs)
    assert xbuild.build("tiny")["anew"] == []
    assert taught(xbuild) == []


@pytest.mark.long
def test_a_session_ends_with_the_switch_that_helps(xbuild: Xbuild) -> None:
    ask = _ASKS.replace("/build/src/x.so", "/usr/lib/arm-linux-gnueabihf/libz.so.1")
    for words in (("run",), ("shell",)):
        said = xbuild(*words, "--", "sh", "-c", f"perl -e '{ask}' || true; exit 5", code=3)
        assert said.out == "begun\n"
        assert "error: in this session: /usr/bin/perl asked for a library that is only there for the target" in said.err
        assert "hint: the same once more with  --emulate perl\n" in said.err
        said = xbuild(*words, "--emulate", "perl", "--", "sh", "-c", f"perl -e '{ask}' || true; exit 5", code=5)
        assert said.out == "begun\n42\n"
    late(xbuild)
    said = xbuild("shell", "tiny", "--", f"perl -e '{ask}' || true", code=3)
    assert "hint: the same once more with  --emulate perl\n" in said.err
    assert xbuild("shell", "tiny", "--emulate", "perl", "--", f"perl -e '{ask}'").out == "begun\n42\n"
