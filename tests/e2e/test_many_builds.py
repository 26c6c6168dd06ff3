"""Many builds by one command: order, failures, cut-off, one budget of jobs, kills, two at once."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.e2e.command_line import Xbuild, wait_for
from tests.e2e.test_interruptions import _ONCE, nothing_is_left

pytestmark = pytest.mark.e2e

# Fails unless make has its jobs from the pipe. Where gcc's link-time optimisation finds none it warns.
MAKEFILE = """
all:
	@echo '$(MAKEFLAGS)' | grep -o fifo:/run/xbuild-jobs
	@gcc -O2 -flto=jobserver -flto-partition=max -o main main.c 2>&1
"""
PARTS = "".join(f"__attribute__((noipa)) int f{one}(int x) {{ return x + {one}; }}\n" for one in range(3))
MAIN = f"{PARTS}int main(int count, char **words) {{ (void)words; return f0(f1(f2(count))); }}\n"


def chain(xbuild: Xbuild, text: str = "42") -> None:
    """`bottom`, `left` and `right` that need it, `bad`, and `after`, which needs that."""
    xbuild.recipe("bottom", build={"compile": f"echo {text} > answer"})
    for name in ("left", "right"):
        build = {"compile": f"cat /usr/share/answer > answer; echo {name} >> answer",
                 "install": 'install -D -m 644 answer "$DESTDIR/usr/share/answer-of-$NAME"'}  # fmt: skip
        outputs = [{"path": f"usr/share/answer-of-{name}"}]
        xbuild.recipe(name, build=build, depends={"recipes": ["bottom"]}, outputs=outputs)
    xbuild.recipe("bad", build={"compile": "echo no more; exit 7"})
    xbuild.recipe("after", depends={"recipes": ["bad"]})


def left_to_the_preset(file: Path) -> None:
    """Take the compile phase out of a recipe. Of the preset's own it is known that make takes all jobs."""
    value = yaml.safe_load(file.read_text())
    del value["build"]["compile"]
    file.write_text(yaml.safe_dump(value, sort_keys=False))


def also(*names: str) -> list[str]:
    return [word for name in names for word in ("--also", name)]


def statuses(told: Any) -> dict[str, str]:
    return {one["title"].partition(" ")[0]: one["status"] for one in told["builds"]}


def test_a_graph_with_a_failure_and_a_cut(xbuild: Xbuild, tmp_path: Path) -> None:
    chain(xbuild)
    files = ("--junit", str(tmp_path / "junit.xml"), "--page", str(tmp_path / "page.html"))
    words = ("build", "left", *also("right", "after"), "--target", "armhf", "-j", "3", "--keep-going", "--json")
    said = xbuild(*words, *files, code=3)
    told = said.json
    assert statuses(told) == {
        "bottom": "built", "left": "built", "right": "built", "bad": "failed", "after": "skipped"
    }  # fmt: skip
    by_name = {one["title"].partition(" ")[0]: one for one in told["builds"]}
    assert by_name["after"]["because"] == "bad for armhf"
    assert Path(by_name["bad"]["log"]).read_text() == "no more\n"
    assert {path.name for path in (xbuild.project / "dist").glob("*.zst")} == {
        "left-1-armhf.tar.zst", "right-1-armhf.tar.zst"
    }  # fmt: skip
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert [suite.attrib[name] for name in ("tests", "failures", "skipped")] == ["5", "1", "1"]
    assert "What needs what" in (tmp_path / "page.html").read_text()
    # Other ways, the same bytes: what needs it is looked at, and not built.
    chain(xbuild, "42 | cat")
    plan = xbuild("build", "left", *also("right"), "--target", "armhf", "--plan").out
    assert plan.count("known after bottom") == 2
    again = xbuild("build", "left", *also("right"), "--target", "armhf", "--json").json
    assert statuses(again) == {"bottom": "built", "left": "up-to-date", "right": "up-to-date"}


def test_make_takes_its_jobs_from_the_budget(xbuild: Xbuild) -> None:
    for name in ("one", "two"):
        file = xbuild.recipe(name, files={"Makefile": MAKEFILE, "answer": "none\n", "main.c": MAIN})
        left_to_the_preset(file)
    told = xbuild("build", "one", *also("two"), "--target", "armhf", "-j", "2", "--json").json
    assert statuses(told) == {"one": "built", "two": "built"}
    for one in told["builds"]:
        [log] = (Path(one["records"]).parent / "logs").glob("*-compile.log")
        assert log.read_text() == "fifo:/run/xbuild-jobs\n"


def test_killed_and_given_again(xbuild: Xbuild) -> None:
    names = ("one", "two")
    for number, name in enumerate(names):
        xbuild.recipe(name, build={"compile": _ONCE.format(f"9874{number}")})
    words = ("build", "one", *also("two"), "--target", "armhf", "-j", "2")
    process = xbuild.start(*words)
    for name in names:
        wait_for(f"the phase of {name}", lambda name=name: xbuild.log(name=name) == "started\n")  # type: ignore[misc]
    process.kill()
    xbuild.ended(process, code=-9)
    nothing_is_left(xbuild, "sleep 9874")
    told = xbuild(*words, "--json").json
    assert [(one["status"], one["reason"]) for one in told["builds"]] == [("built", "it was interrupted here")] * 2


@pytest.mark.long
def test_two_at_once_build_nothing_twice(xbuild: Xbuild) -> None:
    for name in ("one", "two", "three"):
        xbuild.recipe(name, build={"compile": "sleep 3; echo 42 > answer"})
    words = ("build", "one", *also("two", "three"), "--target", "armhf", "-j", "2", "--json")
    processes = [xbuild.start(*words) for _ in range(2)]
    told = [statuses(xbuild.ended(process).json) for process in processes]
    for name in ("one", "two", "three"):
        assert sorted(one[name] for one in told) == ["built", "up-to-date"]


CRATES = {
    "Makefile": "all:\n\tchmod +x noting\n\tRUSTC_WRAPPER=./noting CARGO_HOME=home cargo build --offline --release\n"
    "\t@echo noted $$(cat notes)\n",
    "Cargo.toml": '[workspace]\nmembers = ["crate*"]\nresolver = "2"\n[profile.release]\ncodegen-units = 1\n',
    "noting": "#!/bin/sh\ncase \" $* \" in *' --crate-name crate'*) ;; *) exec \"$@\" ;; esac\n"
    'echo 1 >> /build/src/notes; "$@"; code=$?; echo -1 >> /build/src/notes; exit $code\n',
    **{f"crate{one}/Cargo.toml": f'[package]\nname = "crate{one}"\nversion = "1.0.0"\n' for one in range(4)},
    **{f"crate{one}/src/lib.rs": f"pub fn it() -> u32 {{ {one} }}\n" for one in range(4)},
}
"""Four crates that need nothing, each compiled by one thread; what is started in rustc's place notes begin and end."""


@pytest.mark.long
@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_cargo_takes_its_jobs_from_the_budget(xbuild: Xbuild, jobs: int) -> None:
    install = 'install -D -m 644 notes "$DESTDIR/usr/share/answer"'
    left_to_the_preset(xbuild.recipe(files=CRATES, build={"install": install}, depends={"packages": ["cargo"]}))
    xbuild.recipe("short")
    xbuild("build", "short", *also("tiny"), "--target", "armhf", "-j", str(jobs))
    _, notes = xbuild("log", "tiny", "--target", "armhf", "--phase", "compile").out.split("noted ")
    running = list(accumulate(map(int, notes.split())))
    assert (len(running), max(running)) == (8, jobs)
