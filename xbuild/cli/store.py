"""Tasks about the store: what it holds, whether that is sound, what can go, and entries that travel."""

from __future__ import annotations

from pathlib import Path

from xbuild.base import log
from xbuild.base.errors import CheckError, UsageError
from xbuild.cli import sharing
from xbuild.cli.arguments import number
from xbuild.cli.chosen import chosen_by, kinds_of
from xbuild.cli.guard import guarded
from xbuild.cli.sharing import PLACE
from xbuild.cli.task import Context, task
from xbuild.session import kept
from xbuild.store import carry, usage, verify
from xbuild.store.own import open_store

_KIND = "only this kind: roots, layers, twins, artifacts ..."


_SHARED = f"a shared store instead of yours: {PLACE}"


@task(name="ls", help={"kind": _KIND, "store": _SHARED, "json": "write one JSON object to stdout, and nothing else"})
@guarded
def ls(_c: Context, kind: str = "", store: str = "", json: bool = False) -> None:
    """List what the store holds, with sizes and when each was last used; or the records of a shared one."""
    log.configure(json=json)
    if store:
        sharing.show_records(store, [kind] if kind else [], json=json)
        return
    own = open_store()
    entries = usage.held(own, kinds_of(kind, usage.LISTED))
    total = sum(entry.size for entry in entries)
    if json:
        log.result({"store": str(own.root), "bytes": total, "entries": [entry.as_json() for entry in entries]})
        return
    _table(entries)
    log.output(f"{log.human_size(total)} in {own.root}")


def _table(entries: list[usage.Held] | tuple[usage.Held, ...]) -> None:
    rows = [
        (f"{one.kind}/{one.name}", log.human_size(one.size), usage.shown_time(one.used), "yes" if one.in_use else "",
         one.what)
        for one in entries
    ]  # fmt: skip
    log.table(("entry", "size", "last used", "in use", "what"), rows)


@task(
    name="verify",
    help={
        "kind": _KIND,
        "remove": "remove what is damaged: it is made anew",
        "store": _SHARED,
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def verify_(_c: Context, kind: str = "", remove: bool = False, store: str = "", json: bool = False) -> None:
    """Check each file of the store against the record of its making; of a shared one, signatures and sums."""
    log.configure(json=json)
    if store:
        sharing.verify_records(store, [kind] if kind else [], remove=remove)
        return
    own = open_store()
    with log.step("verify"):
        seen = verify.verify(own, kinds_of(kind))
    bad = [one for one in seen if one.faults]
    for one in bad:
        log.output(f"{one.kind}/{one.name}: {'; '.join(one.faults)}")
    if partly := sum(one.partly for one in seen):
        log.info(f"of {partly} entries only a few files have sums: an older xbuild made them, or they have none")
    gone = verify.remove(own, bad) if remove else []
    for one in gone:
        log.info(f"{one.kind}/{one.name} is removed")
    log.result({"entries": [one.as_json() for one in seen], "removed": [f"{one.kind}/{one.name}" for one in gone]})
    if bad:
        hint = None if remove else "`invoke store.verify --remove` removes them, and they are made anew"
        raise CheckError(f"{len(bad)} of {len(seen)} entries are not as they were made", hint=hint)
    log.output(f"{len(seen)} entries are as they were made")


@task(
    help={
        "older": "remove what was not used for this many DAYS",
        "size": "remove what was not used longest, until the rest takes at most SIZE, such as 20G",
        "dry-run": "only tell what would be removed",
        "store": f"{_SHARED}; age is then that of the signature",
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def gc(
    _c: Context, older: str = "", size: str = "", dry_run: bool = False, store: str = "", json: bool = False
) -> None:
    """Remove what has not been used for long; imported roots and kept systems stay, and what they stand on."""
    log.configure(json=json)
    if not older and not size:
        raise UsageError("nothing says what to remove", hint="--older DAYS, or --size 20G: what the store may take")
    days, most = number("--older", older) or None, usage.size_of(size) if size else None
    if store:
        sharing.collect_records(store, days, most, dry=dry_run)
        return
    own = open_store()
    spare = {system.root for system in kept.all_kept(own)}
    done = usage.collect(own, spare, days=days, size=most, dry=dry_run)
    if json:
        gone = [entry.as_json() for entry in done.gone]
        log.result({"removed": gone, "freed": done.freed, "left": done.left, "dry_run": dry_run})
        return
    if done.gone:
        _table(done.gone)
    log.output(f"{'would free' if dry_run else 'freed'} {log.human_size(done.freed)}, {log.human_size(done.left)} stay")
    if most is not None and done.left > most:
        log.warn("what is left takes more than --size: it is in use, or yours (`root.list` shows imported roots)")


@task(
    positional=["entry"],
    help={
        "entry": "KIND/NAME as `store.ls` shows it, or a kind; several separated by commas",
        "output": "write to FILE; if it is there, it is replaced",
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def pack(_c: Context, entry: str, output: str = "", json: bool = False) -> None:
    """Write entries to one file, for another store on another machine."""
    log.configure(json=json)
    if entry.startswith("-") or not output:
        raise UsageError("an entry and a file are needed", hint="invoke store.pack ENTRY,ENTRY --output FILE")
    store = open_store()
    chosen = chosen_by(store, entry)
    with log.step(f"pack {len(chosen)} entries"):
        packed = carry.pack(store, chosen, Path(output).absolute())
    size = packed.file.stat().st_size
    for one in packed.entries:
        log.output(one.name)
    log.output(f"{packed.file}: {log.human_size(size)}, sha256 {packed.sha256}")
    told = [
        {**one.as_json(), "contents": digest} for one, digest in zip(packed.entries, packed.contents, strict=True)
    ]
    log.result({"file": str(packed.file), "bytes": size, "sha256": packed.sha256, "entries": told})


@task(
    positional=["file"],
    help={"file": "what `store.pack` has written", "json": "write one JSON object to stdout, and nothing else"},
)
@guarded
def unpack(_c: Context, file: str, json: bool = False) -> None:
    """Take the entries of a file into the store; nothing in the file is trusted before it is looked at."""
    log.configure(json=json)
    if file.startswith("-") or not file:
        raise UsageError("a file is needed", hint="invoke store.unpack FILE")
    with log.step("unpack"):
        taken = carry.unpack(open_store(), Path(file).absolute())
    for one in taken:
        log.output(f"{one.name}{' was there already' if one.present else ''}")
    log.result({"entries": [one.as_json() for one in taken]})


TASKS = (ls, verify_, gc, pack, unpack, *sharing.TASKS)
