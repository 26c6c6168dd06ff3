"""Clusters without a network: certificates, addresses, what is sent where and how often, what is said on the way."""

from __future__ import annotations

import datetime
import json
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xbuild.base import log
from xbuild.base.errors import MachineError, UsageError
from xbuild.cluster import certificates, crew, preflight
from xbuild.cluster.certificates import Files
from xbuild.cluster.crew import Cluster
from xbuild.cluster.serving import require_closed
from xbuild.cluster.settings import CONFIGURATION, address_of, configured, own_address
from xbuild.graph.crew import Elsewhere, Order
from xbuild.graph.run import Ended, Run
from xbuild.graph.scheduler import State, Task


def checked(authority: Path, certificate: Path, purpose: str) -> bool:
    command = ["openssl", "verify", "-purpose", purpose, "-CAfile", str(authority), str(certificate)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_certificates_are_of_one_authority_and_closed(tmp_path: Path) -> None:
    place = tmp_path / "c"
    made = certificates.make(place)
    assert {file.name for file in made} == {
        "ca.pem", "ca.key", *(f"{role}.{kind}" for role in certificates.ROLES for kind in ("pem", "key"))
    }  # fmt: skip
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in made} == {0o600}
    for role in certificates.ROLES:
        Files(place, role).require()
        assert checked(place / "ca.pem", place / f"{role}.pem", "sslclient")
        # A client's cannot stand for the scheduler.
        assert checked(place / "ca.pem", place / f"{role}.pem", "sslserver") == (role != "client")
    assert not checked(place / "ca.pem", certificates.make(tmp_path / "d")[0], "sslclient")


def test_certificates_are_renewed_by_the_same_authority(tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in certificates.make(tmp_path)}
    after = {file.name: file.read_bytes() for file in certificates.make(tmp_path)}
    assert {name for name in before if before[name] == after[name]} == {"ca.pem", "ca.key"}
    certificates.make(tmp_path, again=True)
    assert (tmp_path / "ca.pem").read_bytes() != before["ca.pem"]
    (tmp_path / "ca.key").unlink()
    with pytest.raises(UsageError, match="not its key"):
        certificates.make(tmp_path)


def test_certificates_that_do_not_count_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"ca\.pem is missing"):
        certificates.security(tmp_path, "worker")
    certificates.make(tmp_path, days=2)
    assert certificates.security(tmp_path, "worker").require_encryption
    (tmp_path / "worker.key").chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others"):
        certificates.security(tmp_path, "worker")
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)
    monkeypatch.setattr(certificates, "_now", lambda: later)
    with pytest.raises(UsageError, match="expired"):
        certificates.security(tmp_path, "client")


def test_certificates_travel_as_one_text(tmp_path: Path) -> None:
    certificates.make(tmp_path / "a")
    (tmp_path / "b").mkdir()
    certificates.unbundled(certificates.bundle(tmp_path / "a", "worker"), tmp_path / "b", "worker")
    Files(tmp_path / "b", "worker").require()
    ssl.create_default_context(cafile=tmp_path / "b" / "ca.pem").load_cert_chain(
        tmp_path / "b" / "worker.pem", tmp_path / "b" / "worker.key"
    )
    with pytest.raises(UsageError, match="no certificates"):
        certificates.unbundled("x", tmp_path / "b", "worker")


@pytest.mark.parametrize(
    ("word", "address"),
    [
        ("x", "tls://x:8786"), ("x:1", "tls://x:1"), ("tls://10.0.0.1:2", "tls://10.0.0.1:2"),
        ("tls://[::1]:2", "tls://[::1]:2"), ("tcp://127.0.0.1:3", "tcp://127.0.0.1:3"),
    ],
)  # fmt: skip
def test_addresses(word: str, address: str) -> None:
    assert address_of(word) == address


@pytest.mark.parametrize("word", ["", "tcp://192.0.2.1:3", "http://x", "tls://", "x:port", "tls://x/y"])
def test_addresses_that_are_none(word: str) -> None:
    with pytest.raises(UsageError):
        address_of(word)


def test_nothing_is_open_without_encryption() -> None:
    require_closed("127.0.0.1", encrypted=False)
    require_closed("0.0.0.0", encrypted=True)
    with pytest.raises(UsageError, match="run programs"):
        require_closed("0.0.0.0", encrypted=False)
    # A worker of this machine's scheduler listens where only this machine reaches it.
    assert own_address("tls://127.0.0.1:8786") == "127.0.0.1"


def test_dask_goes_by_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask.config

    with configured():
        assert {name: dask.config.get(name) for name in CONFIGURATION} == dict(CONFIGURATION)
    assert dask.config.get("distributed.scheduler.work-stealing") is True


def test_versions_and_clock_are_compared() -> None:
    own = preflight.Versions.here()
    same = {"versions": vars(own), "time": time.time()}
    assert preflight.strangeness(same) == []
    other = {"versions": {**vars(own), "own": "0.0.1 (0123)"}, "time": time.time() + 300}
    assert [line.split(" ")[0] for line in preflight.strangeness(other)] == ["xbuild", "this"]
    assert "behind" in preflight.strangeness(other)[1]


def test_a_machine_without_room_may_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = preflight.obstacles(tmp_path / "store")
    monkeypatch.setattr(preflight, "LEAST", 1 << 60)
    (told,) = [line for line in preflight.obstacles(tmp_path / "store") if line not in before]
    assert "MiB free; a worker needs" in told


WORKERS = [
    {"name": f"w{n}~0", "address": f"tls://w{n}", "slots": 1, "jobs": 2, "memory": 1 << 30, "targets": ["armhf"]}
    for n in (1, 2)
]


class Line:
    """A connection whose other end is `answer`: it gets each task as it is sent, and gives what comes of it."""

    def __init__(self, answer: Callable[[dict[str, Any], Mapping[str, Any]], tuple[str, Any]]) -> None:
        self.answer = answer
        self.tasks: list[tuple[dict[str, Any], Mapping[str, Any]]] = []
        self.workers: list[dict[str, Any]] = WORKERS
        self.lost = False
        self.closed = False

    def open(self, _topic: str, hear: Callable[[Any], None]) -> None:
        self.hear = hear

    def reopen(self, _seconds: float) -> None:
        self.lost = False

    def hello(self) -> dict[str, Any]:
        return {"workers": self.workers, "refused": [], "dashboard": ""}

    def submit(self, _function: object, text: str, *, done: Callable[[str, Any], None], **options: Any) -> object:
        words = json.loads(text)
        self.tasks.append((words, options))
        done(*self.answer(words, options))
        return None

    def say(self, words: Mapping[str, Any], number: int, kind: str, **facts: Any) -> None:
        task = {"name": words["name"], "attempt": words["attempt"], "number": number, "kind": kind}
        self.hear({**task, "time": time.time() - 3600, **facts})

    def close(self, _topic: str) -> None:
        self.closed = True


class Quiet:
    def began(self, ended: Ended, running: object) -> None:
        pass

    def finished(self, ended: Ended) -> None:
        pass

    def looked(self) -> None:
        pass


def order(name: str, *needs: str, target: str = "armhf", memory: int | None = None) -> Order:
    elsewhere = Elsewhere(target, lambda: {"words": []}, lambda value: {**value, "here": True})
    return Order(Task(name, needs, 1.0, memory), name, (), elsewhere=elsewhere)


def ran(line: Line, place: Path, *orders: Order) -> list[Ended]:
    cluster = Cluster(line, lambda _: {})  # type: ignore[arg-type]
    run = Run(orders, place, Quiet(), jobs=1, crew=cluster, keep_going=True)
    found = run.run()
    assert line.closed
    return found


def well(said: int = 0, where: str = "w1", code: int = 0, **value: Any) -> tuple[str, Any]:
    return "finished", {"code": code, "value": {"status": "built", **value}, "said": said, "where": where}


def test_what_a_worker_says_arrives_in_the_time_and_the_files_of_here(tmp_path: Path) -> None:
    def answer(words: dict[str, Any], _: object) -> tuple[str, Any]:
        began = time.time() - 3600
        line.say(words, 1, "began", where="w1")
        event = {"event": "began", "name": "configure", "depth": 0, "log": "/there/02-configure.log", "time": began}
        line.say(words, 2, "events", events=[event])
        line.say(words, 3, "log", log="/there/02-configure.log", data=b"checking\xff\n")
        line.say(words, 4, "state", memory=7, held=2)
        return well(said=4)

    line = Line(answer)
    (ended,) = ran(line, tmp_path, order("a"))
    assert (ended.state, ended.where, ended.memory, ended.value["here"]) == (State.DONE, "w1", 7, True)
    (part,) = ended.parts
    assert part.log is not None
    assert part.log.is_relative_to(tmp_path)
    assert part.log.read_bytes() == b"checking\xff\n"
    assert abs(part.began - time.time()) < 60


def test_a_lost_worker_is_no_failure_of_the_build_but_three_are(tmp_path: Path) -> None:
    def answer(words: dict[str, Any], _: object) -> tuple[str, Any]:
        line.say(words, 1, "began", where="w1")
        if words["name"] == "kills" or words["attempt"] < 3:
            return "killed", "w1~0"
        return well(said=1, where="w2")

    line = Line(answer)
    by_name = {ended.name: ended for ended in ran(line, tmp_path, order("lives"), order("kills"))}
    assert by_name["lives"].state is State.DONE
    assert by_name["kills"].code == 4
    assert "3 workers were lost" in by_name["kills"].value["error"]["message"]
    assert len([words for words, _ in line.tasks if words["name"] == "kills"]) == 3


def test_a_worker_that_is_lost_before_a_build_begins_does_not_count(tmp_path: Path) -> None:
    line = Line(lambda words, _: ("killed", "w1~0") if words["attempt"] < 9 else well())
    (ended,) = ran(line, tmp_path, order("a"))
    assert ended.state is State.DONE


def test_what_a_machine_cannot_another_one_tries(tmp_path: Path) -> None:
    full: dict[str, Any] = {"error": {"message": "No space left on device", "log": None}, "status": "failed"}

    def answer(_: dict[str, Any], options: Mapping[str, Any]) -> tuple[str, Any]:
        return well(where="w2") if options["workers"] == ["tls://w2"] else well(where="w1", code=4, **full)

    (ended,) = ran(Line(answer), tmp_path, order("a"))
    assert ended.state is State.DONE
    (ended,) = ran(Line(lambda *_: well(code=4, **full)), tmp_path, order("a"))
    assert (ended.state, ended.code) == (State.FAILED, 4)


def test_a_failed_phase_is_not_tried_again(tmp_path: Path) -> None:
    line = Line(lambda *_: well(code=3, status="failed", error={"message": "x", "log": "/there/x.log"}))
    (ended,) = ran(line, tmp_path, order("a"))
    assert (ended.code, len(line.tasks)) == (3, 1)
    assert ended.value["error"]["log"] == str(tmp_path / "a.log")


def test_what_no_worker_can_take_is_told_at_once(tmp_path: Path) -> None:
    line = Line(lambda *_: well())
    (ended, other) = ran(line, tmp_path, order("a", target="arm64"), order("b"))
    assert "no worker of the cluster builds for arm64" in ended.value["error"]["message"]
    assert (ended.code, other.state) == (4, State.DONE)
    line.workers = []
    with pytest.raises(MachineError, match="no workers"):
        Cluster(line, lambda _: {}).open()  # type: ignore[arg-type]


def test_more_memory_than_any_worker_has_is_no_reason_to_wait(tmp_path: Path) -> None:
    line = Line(lambda *_: well())
    ran(line, tmp_path, order("a", memory=1 << 40))
    assert line.tasks[0][1]["resources"] == {"memory": 1 << 30, "target-armhf": 1}


def test_a_lost_scheduler_gets_all_anew(tmp_path: Path) -> None:
    def answer(words: dict[str, Any], _: object) -> tuple[str, Any]:
        line.lost = words["attempt"] == 1
        return ("cancelled", None) if line.lost else well()

    line = Line(answer)
    found = ran(line, tmp_path, order("a"), order("b"))
    assert [ended.state for ended in found] == [State.DONE] * 2


def test_a_cluster_that_loses_all_workers_is_not_waited_for_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "GRACE", 0.5)
    monkeypatch.setattr(crew, "_ASK", 0.1)

    def answer(*_: object) -> tuple[str, Any]:
        line.workers = []
        return "cancelled", None

    line = Line(answer)
    with pytest.raises(MachineError, match="no workers"):
        ran(line, tmp_path, order("a"))
    assert line.closed


def test_a_scheduler_that_does_not_come_back_ends_the_run_with_an_error(tmp_path: Path) -> None:
    class Gone(Line):
        def submit(self, _function: object, text: str, *, done: Callable[[str, Any], None], **options: Any) -> object:
            super().submit(_function, text, done=done, **options)
            self.lost = True
            return self

        def cancel(self, *, force: bool) -> None:
            raise RuntimeError(f"IOLoop is closed, {force}")

        def reopen(self, seconds: float) -> None:
            raise MachineError(f"it does not answer for {seconds} seconds")

    with pytest.raises(MachineError, match="it does not answer"):
        ran(Gone(lambda *_: ("cancelled", None)), tmp_path, order("a"))


def test_what_is_packed_and_fetched_holds_up_no_other_build(tmp_path: Path) -> None:
    """Each of these builds ends only when the other one has come past it."""
    packed, fetched = threading.Event(), threading.Event()

    def answer(words: dict[str, Any], _: object) -> tuple[str, Any]:
        if words["name"] == "other":
            packed.set()
        return well()

    def slowly_sent() -> dict[str, Any]:
        assert packed.wait(20)
        fetched.set()
        return {"words": []}

    def slowly_come(value: Mapping[str, Any]) -> dict[str, Any]:
        assert fetched.wait(20)
        return {**value}

    slow = replace(order("slow"), elsewhere=Elsewhere("armhf", slowly_sent, lambda value: {**value}))
    other = replace(order("other"), elsewhere=Elsewhere("armhf", lambda: {"words": []}, slowly_come))
    assert [ended.state for ended in ran(Line(answer), tmp_path, slow, other)] == [State.DONE] * 2


def test_what_a_shared_store_has_is_not_sent(tmp_path: Path) -> None:
    line = Line(lambda *_: well())
    there = Elsewhere("armhf", lambda: {"there": {"status": "up-to-date"}}, lambda value: {**value})
    first, second = ran(line, tmp_path, replace(order("a"), elsewhere=there), order("b", "a"))
    assert (first.status, first.where, second.status) == ("up-to-date", "", "built")
    assert [words["name"] for words, _ in line.tasks] == ["b"]


def test_what_cannot_be_packed_has_failed_and_a_bug_ends_the_run(tmp_path: Path) -> None:
    def fault(error: Exception) -> Order:
        def raised() -> dict[str, Any]:
            raise error

        return replace(order("a"), elsewhere=Elsewhere("armhf", raised, lambda value: {**value}))

    (ended,) = ran(Line(lambda *_: well()), tmp_path, fault(UsageError("it cannot travel")))
    assert (ended.code, ended.value["error"]["message"]) == (2, "it cannot travel")
    (ended,) = ran(Line(lambda *_: well()), tmp_path, fault(OSError(28, "No space left on device")))
    assert ended.code == 4
    with pytest.raises(ZeroDivisionError):
        ran(Line(lambda *_: well()), tmp_path, fault(ZeroDivisionError()))


def test_a_lost_scheduler_gets_nothing_that_is_still_packed(tmp_path: Path) -> None:
    back = threading.Event()

    class Coming(Line):
        def reopen(self, seconds: float) -> None:
            super().reopen(seconds)
            back.set()

    line = Coming(lambda *_: well())
    line.lost = True

    def sent() -> dict[str, Any]:
        assert back.wait(20)
        return {"words": []}

    (ended,) = ran(line, tmp_path, replace(order("a"), elsewhere=Elsewhere("armhf", sent, lambda value: {**value})))
    assert (ended.state, [words["attempt"] for words, _ in line.tasks]) == (State.DONE, [1])


def test_no_text_of_an_order_can_be_a_key(tmp_path: Path) -> None:
    """Dask puts a result in the place of an argument that is equal to a key."""
    line = Line(lambda *_: well())
    ran(line, tmp_path, order("a"))
    assert not isinstance(line.tasks[0][1]["key"], str)
    log.configure()
