"""Sources that are git repositories: the tree of a commit as a checkout gives it, and what `git describe` needs."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from xbuild.base import process
from xbuild.base.errors import PhaseError, SourceError
from xbuild.sources.download import shown
from xbuild.sources.trees import archive_tree, tree_hash

# What git sets for the hooks and commands it runs, and what would lead us into that other repository.
REPOSITORY = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
)
# Below 1000 bytes/s for 20 s counts as dead, as for downloads; and git must not stop to ask for a password.
_FETCH = {"GIT_TERMINAL_PROMPT": "0", "GIT_HTTP_LOW_SPEED_LIMIT": "1000", "GIT_HTTP_LOW_SPEED_TIME": "20"}
_OWN = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "HOME": os.devnull,
    "XDG_CONFIG_HOME": os.devnull,
}
_GITLINK = "160000"
"""The mode of a submodule in a tree: gitrepository-layout(5), git-fast-import(1)."""
_MOST_SUBMODULES = 10
"""How deep submodules may lie in submodules: a repository can be one of its own."""
_LATEST = 1 << 33
"""Seconds since 1970, the year 2242: a commit can have any time, a file can not."""

# Owners, inodes and change times are other ones after each unpacking: only times and sizes say that a file changed.
_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = false
\tcheckStat = minimal
\ttrustctime = false
"""
_TAG = "object {commit}\ntype commit\ntag {name}\ntagger xbuild <xbuild> 0 +0000\n\n{name}\n"


class Tag(NamedTuple):
    """A tag whose commit is the source's or one before it. annotated: those alone count for a plain `git describe`."""

    name: str
    annotated: bool


@dataclass(frozen=True)
class Checkout:
    """A work tree of `commit` (40 hex digits) of `repository` in the directory `tree`."""

    repository: str
    commit: str
    tree: Path

    def make(self, *, depth: int = 0, local: bool = True) -> None:
        """Fetch the commit, and lay out its files and those of its submodules.

        depth: of submodules. local: it may lie on this machine. Raises SourceError if something cannot be had.
        """
        self.tree.mkdir(exist_ok=True)
        try:
            self._git("init", "--quiet", "--template=")
            self._git("remote", "add", "--", "origin", self.repository)
            self._fetch(local=local)
            self._git("-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", self.commit)
            modules = list(self._submodules())
        except PhaseError as error:
            raise self._failed(error, "get") from error
        for path, address, commit in modules:
            if depth == _MOST_SUBMODULES:
                raise SourceError(f"{shown(self.repository)}: submodules lie more than {depth} deep in each other")
            module = Checkout(address, commit, self.tree / path)
            # As git has it: what comes from elsewhere must not name repositories of this machine.
            module.make(depth=depth + 1, local=_is_local(self.repository))
            shutil.rmtree(module.tree / ".git")

    def fetch_history(self) -> None:
        """Fetch what lies before the commit, if the repository has tags: without files where its server can do that."""
        try:
            if self._git("ls-remote", "--tags", "origin", fetch=True):
                shallow = self._says("--is-shallow-repository") == "true"
                words = ("--filter=tree:0", "--tags", *(["--unshallow"] if shallow else []))
                self._git("fetch", "--quiet", "--no-write-fetch-head", *words, "origin", self.commit, fetch=True)
        except PhaseError as error:
            raise self._failed(error, "get the history of") from error

    def _fetch(self, *, local: bool) -> None:
        fetch = ["fetch", "--quiet", "--no-write-fetch-head", "--no-recurse-submodules"]
        # With the commit before it, which `git show` compares it with.
        one = [*fetch, "--no-tags", "--depth=2", "origin", self.commit]
        if self._run(one, fetch=True, local=local, check=False).returncode != 0:
            # Some servers give only what has a name: then all names.
            every = [*fetch, "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"]
            self._run(every, fetch=True, local=local)

    def _submodules(self) -> Iterator[tuple[str, str, str]]:
        """Path, address and commit of each submodule that the commit has and .gitmodules tells an address of."""
        staged = self._git("ls-files", "--stage", "-z").split("\0")
        entries = (line.partition("\t") for line in staged if line.startswith(_GITLINK))
        links = {path: head.split()[1] for head, _, path in entries}
        if not links or self._run(["cat-file", "-e", f"{self.commit}:.gitmodules"], check=False).returncode:
            return
        modules: dict[str, dict[str, str]] = {}
        for line in self._git("config", "-z", "--blob", f"{self.commit}:.gitmodules", "--list").split("\0"):
            key, _, value = line.partition("\n")
            name, _, field = key.removeprefix("submodule.").rpartition(".")
            modules.setdefault(name, {})[field] = value
        for known in modules.values():
            path, address = known.get("path", ""), known.get("url", "")
            if path in links and address and known.get("update") != "none":
                yield path, _resolved(self.repository, address), links[path]

    def nearest(self) -> tuple[Tag, ...]:
        """The tags that `git describe` and `git describe --tags` find from the commit."""
        found = []
        for option in ([], ["--tags"]):
            done = self._run(["describe", "--abbrev=0", *option, self.commit], check=False)
            found += [_text(done.stdout).strip()] if done.returncode == 0 else []
        known = {tag.name: tag for tag in self._tags()}
        return tuple(known[name] for name in dict.fromkeys(found))

    def _tags(self) -> list[Tag]:
        """All tags of the commit and of those before it, the newest first."""
        words = ("--sort=-creatordate", "--format=%(refname:strip=2) %(objecttype)", "--merged", self.commit)
        lines = (line.rpartition(" ") for line in self._git("for-each-ref", *words, "refs/tags").splitlines())
        return [Tag(name, kind == "tag") for name, _, kind in lines]

    def proven(self, sha256: str) -> tuple[Tag, ...] | None:
        """The tags with which this checkout has the digest `sha256`; None if it has it with none.

        A tag that came later may be nearer than the one that the digest was made with, which is still there.
        """
        tags = self._tags()
        pairs = ((one, other) for one in tags if one.annotated for other in tags if not other.annotated)
        tree = tree_hash(self.tree, (".git",))
        for chosen in itertools.chain([self.nearest(), ()], ((tag,) for tag in tags), pairs):
            digest = tree.copy()
            digest.update(_record(self.commit, chosen))
            if digest.hexdigest() == sha256:
                return chosen
        return None

    def digest(self) -> str:
        """sha256, in hex: `tree_digest` with one record more, of the commit and of its nearest tags."""
        digest = tree_hash(self.tree, (".git",))
        digest.update(_record(self.commit, self.nearest()))
        return digest.hexdigest()

    def archive(self, target: Path) -> None:
        """Write what `git archive --format=tar` makes of the commit to `target`."""
        self._git("archive", "--format=tar", f"--output={target}", self.commit)

    def pack(self, tags: Sequence[Tag], target: Path) -> None:
        """Write the tree as a tar file to `target`, all files dated as the commit, with a .git of its own.

        That holds the commit's files; the commits before it if there are `tags`; and these. The checkout is of no use
        afterwards.
        """
        seconds = int(self._git("log", "-1", "--format=%ct", self.commit))
        self._lay_repository(tags)
        archive_tree(self.tree, target, seconds=max(0, min(seconds, _LATEST)))

    def _lay_repository(self, tags: Sequence[Tag]) -> None:
        made = self.tree / ".git" / "xbuild"
        for name in ("objects/pack", "refs"):
            (made / name).mkdir(parents=True)
        # A directory without files is not packed, and without this one git knows no repository.
        (made / "refs" / ".keep").touch()
        (made / "HEAD").write_text(f"{self.commit}\n")
        (made / "config").write_text(_CONFIG)
        listed = ("rev-list", "--objects", "--no-walk", "--no-object-names")
        objects = self._git(*listed, self.commit).split()
        refs = []
        for tag in tags:
            commit = self._says(f"refs/tags/{tag.name}^{{commit}}")
            text = os.fsencode(_TAG.format(commit=commit, name=tag.name))
            value = _text(self._run(["mktag"], text=text).stdout).strip() if tag.annotated else commit
            objects.append(value)
            refs.append(f"{value} refs/tags/{tag.name}\n" + (f"^{commit}\n" if tag.annotated else ""))
        if tags:
            objects += self._git("rev-list", self.commit).split()
            if parents := self._git("rev-parse", f"{self.commit}^@").split():
                objects += self._git(*listed, "--filter=blob:none", *parents).split()
        else:
            (made / "shallow").write_text(f"{self.commit}\n")
        head = "# pack-refs with: peeled fully-peeled sorted \n"
        lines = sorted(refs, key=lambda line: os.fsencode(line.partition(" ")[2]))
        (made / "packed-refs").write_bytes(os.fsencode("".join([head, *lines])))
        names = "".join(f"{name}\n" for name in dict.fromkeys(objects)).encode()
        self._run(["pack-objects", "--quiet", "--threads=1", str(made / "objects/pack/pack")], text=names)
        self._git("read-tree", f"--index-output={made / 'index'}", self.commit)
        whole = made.rename(self.tree / ".git.new")
        shutil.rmtree(self.tree / ".git")
        whole.rename(self.tree / ".git")

    def _says(self, name: str) -> str:
        return self._git("rev-parse", name).strip()

    def _git(self, *words: str, fetch: bool = False) -> str:
        return _text(self._run(words, fetch=fetch).stdout)

    def _run(
        self,
        words: Sequence[str],
        *,
        fetch: bool = False,
        local: bool = True,
        check: bool = True,
        text: bytes | None = None,
    ) -> process.Completed:
        """git, with the user's settings to fetch (proxies, logins) and with none to do anything else.

        What he set (attributes, line endings, tar.umask) would change the files. fetch: it may use the network.
        """
        users = _outer()
        own = {name: value for name, value in users.items() if not name.startswith("GIT_")} | _OWN
        foreign = {} if local else {"GIT_PROTOCOL_FROM_USER": "0"}
        command = ["git", f"--git-dir={self.tree / '.git'}", f"--work-tree={self.tree}", "-c", "gc.auto=0", *words]
        return process.run(
            command, env=users | _FETCH | foreign if fetch else own, capture=True, check=check, input=text
        )

    def _failed(self, error: PhaseError, what: str) -> SourceError:
        lines = [line.replace(self.repository, shown(self.repository)) for line in error.details]
        hint = "check the network and that the repository has the commit"
        message = f"{shown(self.repository)}: cannot {what} commit {self.commit}"
        return SourceError(message, details=lines, hint=hint)


def named_commit(repository: str, name: str) -> str:
    """The commit that a branch, a tag or HEAD is in `repository` now. Raises SourceError if there is none."""
    where = shown(repository)
    words = ["git", "ls-remote", "--", repository, name, f"{name}^{{}}"]
    done = process.run(words, env={**_outer(), **_FETCH}, capture=True, check=False)
    if done.returncode != 0:
        lines = _text(done.stderr or b"").replace(repository, where).splitlines()
        raise SourceError(f"{where}: cannot be asked", details=lines[-5:], hint="check the address and the network")
    found = {ref: commit for commit, _, ref in (line.partition("\t") for line in _text(done.stdout).splitlines())}
    # A tag with a message is an object of its own; what it leads to has the name with ^{}.
    for ref in (name, f"refs/heads/{name}", f"refs/tags/{name}^{{}}", f"refs/tags/{name}", f"{name}^{{}}"):
        if ref in found:
            return found[ref]
    raise SourceError(f"{where}: it has no branch or tag {name!r}", hint="a commit is named by all of its 40 digits")


def _outer() -> dict[str, str]:
    """The user's variables, without those that lead into another repository."""
    return {name: value for name, value in os.environ.items() if name not in REPOSITORY}


def _text(data: bytes) -> str:
    return os.fsdecode(data)


def _record(commit: str, tags: Sequence[Tag]) -> bytes:
    """What a digest says of the history: the name .git, the commit, and each tag with `a` (annotated) or `t`."""
    parts = [part for tag in tags for part in ("a" if tag.annotated else "t", tag.name)]
    return os.fsencode("\0".join((".git", commit, *parts, "")))


def _is_local(repository: str) -> bool:
    scheme, found, _ = repository.partition("://")
    return scheme == "file" if found else repository.startswith(("/", "."))


def _resolved(repository: str, address: str) -> str:
    """The address of a submodule, which may be relative to that of the repository (gitmodules(5))."""
    if not address.startswith(("./", "../")):
        return address
    base = repository.rstrip("/")
    while address.startswith(("./", "../")):
        if address.startswith("../"):
            cut = max(base.rfind("/"), base.rfind(":"))
            base = base[: cut if base[cut : cut + 1] == "/" else cut + 1]
        address = address.partition("/")[2]
    return f"{base}{'' if base.endswith(':') else '/'}{address}"
