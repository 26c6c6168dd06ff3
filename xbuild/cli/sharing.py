"""Tasks about shared stores: what goes there and comes from there, and whose records are used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xbuild.base import log
from xbuild.base.errors import CheckError, UsageError, called
from xbuild.cli.chosen import chosen_by
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.store.carry import TRAVELLING
from xbuild.store.local import Store
from xbuild.store.own import open_store
from xbuild.store.shared import entries, named, survey, trust
from xbuild.store.shared.place import Place
from xbuild.store.shared.shared import Shared
from xbuild.store.usage import shown_time

PLACE = "a directory, sftp://, https:// or s3://"
ADDRESS = f"a shared store: {PLACE} (default: those of XBUILD_STORE)"


def shared_of(word: str) -> Shared:
    """The stores that --store or XBUILD_STORE names. Raises UsageError."""
    urls = tuple(word.split()) or named()
    if not urls:
        raise UsageError("no shared store is named", hint="--store URL, or XBUILD_STORE")
    return Shared(urls)


def show_records(word: str, kinds: Sequence[str], *, json: bool) -> None:
    """List the records of shared stores."""
    shared = shared_of(word)
    found = [(place, survey.seen(place, shared.keys, kinds)) for place in shared.places]
    told = [{"store": place.shown, "records": [one.as_json() for one in all_]} for place, all_ in found]
    log.result({"shared": told})
    if json:
        return
    for place, all_ in found:
        rows = [
            (f"{one.kind}/{one.key[:20]}", log.human_size(one.size), shown_time(one.record.made.timestamp()),
             one.record.signer) if one.record and one.record.made else (f"{one.kind}/{one.key[:20]}", "", "", one.fault)
            for one in all_
        ]  # fmt: skip
        log.table(("entry", "size", "signed", "by"), rows)
        log.output(f"{len(all_)} records in {place.shown}")


def verify_records(word: str, kinds: Sequence[str], *, remove: bool) -> None:
    """Hold each record against its signature, and each blob against its sum. Raises CheckError."""
    shared = shared_of(word)
    found: list[tuple[Place, survey.Seen]] = []
    for place in shared.places:
        with log.step(f"verify {place.shown}"):
            found += [(place, one) for one in survey.verified(place, shared.keys, kinds)]
    bad = [(place, one) for place, one in found if one.fault]
    for place, one in bad:
        log.output(f"{one.kind}/{one.key[:20]} in {place.shown}: {one.fault}")
        if remove:
            place.remove(one.name)
    gone = [one.name for _, one in bad] if remove else []
    log.result({"records": [one.as_json() for _, one in found], "removed": gone})
    if bad:
        hint = None if remove else "xbuild uses nothing of them; --remove removes them"
        raise CheckError(f"{len(bad)} of {len(found)} records cannot be used", hint=hint)
    log.output(f"{len(found)} records are right, and so are their blobs")


def collect_records(word: str, days: int | None, size: int | None, *, dry: bool) -> None:
    """Remove what is old from the first shared store that may be written."""
    shared = shared_of(word)
    place = next((place for place in shared.places if place.writable), None)
    if place is None:
        raise UsageError("none of these stores can be written", hint="name a directory, sftp: or s3:")
    done = survey.collect(place, shared.keys, days=days, size=size, dry=dry)
    for name in done.names:
        log.output(name)
    gone = list(done.names)
    log.result({"shared_removed": gone, "freed": done.freed, "left": done.left, "dry_run": dry})
    log.output(f"{'would free' if dry else 'freed'} {log.human_size(done.freed)}, {log.human_size(done.left)} stay")


def _all(store: Store) -> list[tuple[str, str]]:
    return [(kind, key) for kind in TRAVELLING for _, key, _ in store.finished(kind)]


@task(
    positional=["entry"],
    help={
        "entry": "KIND/NAME as `store.ls` shows it, or a kind; several separated by commas; none: all that travels",
        "store": ADDRESS,
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def push(_c: Context, entry: str, store: str = "", json: bool = False) -> None:
    """Write entries of the store to a shared one, signed by your key."""
    log.configure(json=json)
    shared, own = shared_of(store), open_store()
    shared.keys.require_key()
    told = []
    for kind, key in chosen_by(own, entry) if entry else _all(own):
        with log.step(f"push {kind}/{key[:20]}"):
            blob = entries.push(own, shared, kind, key)
        told.append({"kind": kind, "key": key, "sha256": blob.sha256, "bytes": blob.size})
        log.output(f"{kind}/{key[:20]}  {log.human_size(blob.size)}")
    log.result({"entries": told})


def _offered(shared: Shared, word: str) -> list[tuple[str, str]]:
    """Kind and key of the records that `word` names; a whole key is asked for, also where nothing can be listed."""
    kind, _, name = word.rpartition("/")
    if kind in TRAVELLING and len(name) == 64:
        return [(kind, name)]
    if word in TRAVELLING:
        kind, name = word, ""
    known = [one for place in shared.places for one in survey.seen(place, shared.keys, (kind,) if kind else ())]
    found = [(one.kind, one.key) for one in known if one.record and one.kind in TRAVELLING and one.key.startswith(name)]
    found = list(dict.fromkeys(found))
    if not found or (len(found) > 1 and name):
        what = "is the beginning of several entries" if found else "is no entry of a shared store"
        raise UsageError(f"{word!r} {what}", hint="`invoke store.ls --store URL` shows what there is")
    return found


@task(
    positional=["entry"],
    help={
        "entry": "KIND/NAME as `store.ls --store` shows it, or a kind; several separated by commas",
        "store": ADDRESS,
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def pull(_c: Context, entry: str, store: str = "", json: bool = False) -> None:
    """Take entries of a shared store into the store; a build does so by itself for what it needs."""
    log.configure(json=json)
    if entry.startswith("-") or not entry:
        raise UsageError("an entry is needed", hint="invoke store.pull KIND/NAME --store URL")
    shared, own = shared_of(store), open_store()
    told = []
    for kind, key in [found for word in entry.split(",") for found in _offered(shared, word.strip())]:
        present = own.get(kind, key) is not None
        if not present:
            with log.step(f"pull {kind}/{key[:20]}"):
                done = entries.pull(own, shared, kind, key)
            if not done:
                raise CheckError(f"{kind}/{key[:20]} could not be fetched", hint="the reason stands above")
        log.output(f"{kind}/{key[:20]}{' was there already' if present else ''}")
        told.append({"kind": kind, "key": key, "present": present})
    log.result({"entries": told})


@task(
    name="keys",
    help={
        "new": "make a key to sign by, which is trusted here",
        "name": "name of the key (default: USER@MACHINE)",
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def keys_(_c: Context, new: bool = False, name: str = "", json: bool = False) -> None:
    """Show the key that you sign by; others trust it by `store.trust`."""
    log.configure(json=json)
    known = trust.Keys.of_user()
    if new:
        trust.make(known, name or trust.default_name())
    elif name:
        raise UsageError("--name is for --new")
    public = known.key.with_suffix(".pub")
    known.require_key()
    line = public.read_text().strip()
    log.output(line)
    log.output(called(f"others trust it by: invoke store.trust {public.name}"))
    log.result({"file": str(public), "public": line, "signer": known.own})


@task(
    name="trust",
    positional=["key"],
    help={
        "key": "a file with a public key; with --revoke also a name; none: show who is trusted",
        "name": "name of the signer (default: the key's comment)",
        "revoke": "never again use what this key has signed",
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def trust_(_c: Context, key: str, name: str = "", revoke: bool = False, json: bool = False) -> None:
    """Show whose records of shared stores are used; trust a key, or revoke one."""
    log.configure(json=json)
    known = trust.Keys.of_user()
    if revoke and not key:
        raise UsageError("whose key is to be revoked?", hint="invoke store.trust NAME --revoke")
    if revoke:
        trust.revoke(known, key)
    elif key:
        trust.add(known, Path(key), name)
    rows = trust.listed(known)
    log.table(
        ("name", "key", "options", ""),
        [(one.name, one.fingerprint, one.options, "revoked" if one.revoked else "") for one in rows],
    )
    log.output(f"{len(rows)} keys in {known.allowed}")
    log.result({"file": str(known.allowed), "keys": [one.as_json() for one in rows]})


TASKS = (push, pull, keys_, trust_)
