"""Tasks about a cluster: a scheduler, its workers, and the certificates by which they know each other."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from xbuild.base import log, paths
from xbuild.base.errors import UsageError, called
from xbuild.cli.arguments import number
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task

# Modules of `xbuild.cluster` are imported in each function: Dask takes long to load, and need not be installed.

_CERTIFICATES = "directory of certificates (default: $XBUILD_CLUSTER, else xbuild/cluster in your configuration)"
_TARGETS = "build for these targets, separated by commas (default: all that come with xbuild)"
_SLOTS = "builds at once (default: as many as jobs)"
_JOBS = "compilers at once, of all builds together (default: as many as there are cores)"
_MEMORY = "MiB for builds (default: what is available now)"
_NO_TLS = "--no-tls: without encryption: on loopback only, where every user of the machine can then run programs as you"


def _offer(values: dict[str, str]) -> list[str]:
    """The words of a worker that offers this. Raises UsageError: there nobody would see what is wrong with them."""
    for name in ("slots", "jobs", "memory"):
        number(f"--{name}", values[name])
    return [word for name, value in values.items() if value for word in (f"--{name}", value)]


def _whole(option: str, word: str) -> int:
    """A number from 0 on. Raises UsageError."""
    return 0 if word.strip("0") == "" != word else number(option, word)


def _port(option: str, word: str) -> int:
    """Raises UsageError for what can be no port (ip(7))."""
    if (port := _whole(option, word)) > 65535:
        raise UsageError(f"{option} {word}: ports end at 65535", hint=f"{option} 0 takes a free one")
    return port


@task(
    help={
        "workers": "workers on this machine (default: one; 0: none)",
        "listen": "listen on this address of the machine (default: 127.0.0.1, so only for the machine itself)",
        "port": "listen on this port (default: 8786; 0: any)",
        "dashboard": "port of the dashboard, on loopback (default: 8787)",
        "certificates": _CERTIFICATES,
        "tls": _NO_TLS,
        "targets": _TARGETS,
        "slots": _SLOTS,
        "jobs": f"of each worker: {_JOBS}",
        "memory": _MEMORY,
        "verbose": "tell more",
    },
)
@guarded
def start(
    _c: Context, workers: str = "1", listen: str = "127.0.0.1", port: str = "8786", dashboard: str = "8787",
    certificates: str = "", tls: bool = True, targets: str = "", slots: str = "", jobs: str = "", memory: str = "",
    verbose: bool = False,
) -> None:  # fmt: skip
    """Run a cluster's scheduler on this machine, and workers; until ^C."""
    log.configure(verbose=int(verbose))
    from xbuild.cluster import certificates as authority
    from xbuild.cluster.serving import Serving, require_closed, serve
    from xbuild.cluster.settings import require

    require()
    require_closed(listen, encrypted=tls)
    count, at, page_at = _whole("--workers", workers), _port("--port", port), _port("--dashboard", dashboard)
    # Together they have the cores of the machine.
    shared = jobs or str(max(1, len(os.sched_getaffinity(0)) // max(1, count)))
    words = _offer({"targets": targets, "slots": slots, "jobs": shared, "memory": memory})
    place = authority.folder(certificates) if tls else None
    if place is not None and not authority.Files(place, "scheduler").authority.exists():
        authority.make(place)
        log.info(f"made certificates in {place}")

    def ready(address: str, page: str) -> None:
        log.info(f"cluster: {address}")
        if page:
            log.info(f"dashboard: {page}")
        log.info(called(f"to build there: `invoke build RECIPE... --cluster {address}`"))

    serve(Serving(listen, at, place, count, words, page_at), ready)


@task(
    positional=["address"],
    help={
        "address": "of the scheduler, as `cluster.start` told it: tls://MACHINE:PORT",
        "certificates": f"{_CERTIFICATES}; -: read from stdin",
        "tls": _NO_TLS,
        "name": "name of the worker (default: the machine's name)",
        "number": "its number among several of one machine",
        "targets": _TARGETS,
        "slots": _SLOTS,
        "jobs": _JOBS,
        "memory": _MEMORY,
        "verbose": "tell more",
    },
)
@guarded
def worker(
    _c: Context, address: str, certificates: str = "", tls: bool = True, name: str = "", number_: str = "",
    targets: str = "", slots: str = "", jobs: str = "", memory: str = "", verbose: bool = False,
) -> None:  # fmt: skip
    """Have this machine build for a cluster; until ^C."""
    log.configure(verbose=int(verbose))
    import contextlib

    from xbuild.cluster import certificates as authority
    from xbuild.cluster import preflight, working
    from xbuild.cluster.settings import address_of, require

    require()
    where = address_of(address, encrypted=tls)
    offer = preflight.Worker.here(
        name, number("--slots", slots), number("--jobs", jobs), number("--memory", memory) << 20, targets
    )
    if number_:
        offer = offer.numbered(number_)
    with contextlib.ExitStack() as stack:
        place: Path | None = None
        if certificates == "-":
            place = stack.enter_context(working.from_stdin())
        elif where.startswith("tls:"):
            place = authority.folder(certificates)
        working.work(working.Joining(where, offer, place))


@task(
    positional=["address", "machine"],
    help={
        "address": "of the scheduler, as the machines reach it: tls://MACHINE:PORT",
        "machine": "as ssh has it: [USER@]NAME",
        "also": "one more machine",
        "certificates": _CERTIFICATES,
        "program": "the name or path of xbuild there",
        "targets": _TARGETS,
        "slots": _SLOTS,
        "jobs": _JOBS,
        "memory": _MEMORY,
    },
    iterable=["also"],
)
@guarded
def ssh(
    _c: Context, address: str, machine: str, also: Sequence[str] | None = None, certificates: str = "",
    program: str = "xbuild", targets: str = "", slots: str = "", jobs: str = "", memory: str = "",
) -> None:  # fmt: skip
    """Have other machines build for a cluster, by ssh; until ^C. Certificates are sent, and stay nowhere."""
    log.configure()
    from xbuild.cluster import certificates as authority
    from xbuild.cluster.remote import workers
    from xbuild.cluster.settings import address_of, require

    require()
    where = address_of(address)
    if wrong := [word for word in (machine, *(also or ())) if word.startswith("-") or not word]:
        raise UsageError(f"{wrong[0]!r} is no machine", hint="invoke cluster.ssh ADDRESS MACHINE...")
    words = _offer({"targets": targets, "slots": slots, "jobs": jobs, "memory": memory})
    workers(where, [machine, *(also or ())], authority.folder(certificates), program, words)


@task(
    positional=["directory"],
    help={
        "directory": _CERTIFICATES,
        "days": "valid for this many DAYS (default: 365)",
        "again": "make a new authority; what the old one has signed is then refused",
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def certificates(_c: Context, directory: str, days: str = "", again: bool = False, json: bool = False) -> None:
    """Make, or renew, an authority of a cluster's own, and certificates for its scheduler, workers and clients."""
    log.configure(json=json)
    from xbuild.cluster import certificates as authority
    from xbuild.cluster.settings import require

    require()
    place = authority.folder(directory)
    made = authority.make(place, number("--days", days) or authority.DAYS, again=again)
    log.result({"directory": str(place), "files": [file.name for file in made]})
    for file in made if not json else ():
        log.output(str(file))


@task(
    positional=["address"],
    help={
        "address": "of the scheduler, as `cluster.start` told it: tls://MACHINE:PORT",
        "certificates": _CERTIFICATES,
        "tls": _NO_TLS,
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def status(_c: Context, address: str, certificates: str = "", tls: bool = True, json: bool = False) -> None:
    """List the workers of a cluster, and machines that were refused."""
    log.configure(json=json)
    from xbuild.cluster import certificates as authority
    from xbuild.cluster.connection import Connection
    from xbuild.cluster.settings import address_of, require

    require()
    where = address_of(address, encrypted=tls)
    connection = Connection(where, authority.folder(certificates) if where.startswith("tls:") else None)
    connection.open()
    try:
        known = connection.hello()
    finally:
        connection.close()
    workers = [{**one, "name": one["name"].partition("~")[0]} for one in known["workers"]]
    log.result({"address": where, "dashboard": known["dashboard"], "workers": workers, "refused": known["refused"]})
    if json:
        return
    columns = ("worker", "builds", "at once", "jobs", "memory", "targets", "address")
    rows = [
        (*(one[name] for name in ("name", "running", "slots", "jobs")), log.human_size(one["memory"]),
         ",".join(one["targets"]), one["address"])
        for one in workers
    ]  # fmt: skip
    log.table(columns, rows)
    for one in known["refused"]:
        when = time.strftime("%H:%M:%S", time.localtime(one["time"]))
        log.output(f"refused at {when}: {one['worker']}: {'; '.join(one['reasons'])}")
    if known["dashboard"]:
        log.output(f"dashboard, on the scheduler's machine: {known['dashboard']}")


@task(
    help={
        "target": "the target to compile for (default: armhf)",
        "listen": "listen on this address of the machine (default: 127.0.0.1, so only for the machine itself)",
        "port": "listen on this port (default: 3632, which is distcc's; 0: any)",
        "allow": "the machines that may ask, as networks or addresses, separated by commas",
        "jobs": "compilers at once (default: as many as there are cores)",
        "yes": "install what this machine lacks, without asking",
        "verbose": "tell more",
    },
)
@guarded
def compilers(
    _c: Context, target: str = "armhf", listen: str = "127.0.0.1", port: str = "", allow: str = "",
    jobs: str = "", yes: bool = False, verbose: bool = False,
) -> None:  # fmt: skip
    """Compile for builds on other machines that have --distcc-hosts; until ^C. Nothing is encrypted."""
    log.configure(verbose=int(verbose))
    from xbuild.build import compilerserver
    from xbuild.build.admission import Serving
    from xbuild.build.modes.distcc import PORT
    from xbuild.doctor import require
    from xbuild.model.load import load_toolchain
    from xbuild.session.run import roots_of
    from xbuild.store.own import open_store

    toolchain = load_toolchain(target, paths.project())
    if toolchain.native:
        raise UsageError(f"{target} needs no compilers of xbuild's", hint="its own distccd will do")
    at = _port("--port", port) if port else PORT
    many = number("--jobs", jobs) or len(os.sched_getaffinity(0))
    wanted = Serving(listen, at, networks(listen, allow), many)
    require(native=False, assume_yes=yes)
    store = open_store()

    def ready(address: str, open_: int) -> None:
        name = f"[{address}]" if ":" in address else address
        log.info(called(f"to use it: `invoke build RECIPE --target {target} --distcc-hosts {name}:{open_}/{many}`"))

    with store.in_use():
        compilerserver.serve(roots_of(toolchain, store), store, wanted, ready)


def networks(listen: str, allow: str) -> list[IPv4Network | IPv6Network]:
    """The machines that may ask. Raises UsageError for what is no address, and where others could ask and nobody says
    who may.
    """
    try:
        alone = ip_address(listen).is_loopback
        found = [ip_network(word, strict=False) for word in allow.split(",") if word]
    except ValueError as error:
        raise UsageError(f"--listen and --allow want addresses: {error}", hint="--allow 192.168.1.0/24") from error
    if not found and not alone:
        raise UsageError("who may ask is to be said with --listen", hint="--allow 192.168.1.0/24")
    return found or [ip_network("127.0.0.0/8"), ip_network("::1/128")]


TASKS = (start, worker, ssh, certificates, status, compilers)
