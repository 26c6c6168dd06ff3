"""What is asked about packages that were built: an install that leaves nothing behind, their own tests of themselves
installed, and what lintian says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.errors import CheckError, UsageError
from xbuild.base.paths import BUILD, BUILDER, project
from xbuild.base.yamlfile import did_you_mean
from xbuild.build.work import fetched
from xbuild.model.load import load_policy, load_toolchain
from xbuild.model.native import here
from xbuild.model.toolchain import Toolchain
from xbuild.packages.build import Built
from xbuild.roots.distribution import Roots
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.run import Sandbox, capture
from xbuild.sandbox.view import TMP, RootView
from xbuild.session.shell import trial
from xbuild.sources import lay_out
from xbuild.store.local import writing_below

_SEEN = BUILD
_TAIL = 30
_STRICT = "lintian=fail"

_SOURCES = "own.list"
"""What names the user's own repositories, in the directory that a trial sees."""

_UPDATE = f"""
cp "$1/{_SOURCES}" /etc/apt/sources.list.d/
apt-get -qq -o Dpkg::Use-Pty=false update
"""
# As piuparts does it: what the packages depend on is there before, so what is left or lost is theirs.
_INSTALL = r"""
cd "$1"
names=$(for deb in *.deb; do dpkg-deb -f "$deb" Package; done)
needed=$(for deb in *.deb; do dpkg-deb -f "$deb" Pre-Depends Depends | sed 's/^[A-Za-z-]*: //' | tr ',\n' '\n\n'; done |
    sed 's/^ *//; s/ *$//' | grep . | sort -u | while IFS= read -r relation; do
        first=${relation%%[ :(|]*}
        case " $(echo $names) " in *" $first "*) ;; *) printf '%s, ' "$relation" ;; esac
    done)
[ -z "$needed" ] || apt-get -qq -o Dpkg::Use-Pty=false -y --no-install-recommends satisfy "${needed%, }"
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp \
        -o -path "$1" -o -path /.xbuild -o -path /var/cache -o -path /var/log -o -path /var/lib/apt \
        -o -path /var/lib/dpkg \) -prune \
        -o ! -name '*-' ! -path /etc/ld.so.cache -printf '%y %m %U:%G %p %l\n' | sort
}
files "$1" > /tmp/before
apt-get -qq -o Dpkg::Use-Pty=false -y --no-install-recommends install $(printf './%s ' *.deb)
dpkg --audit > /tmp/audit
[ ! -s /tmp/audit ] || { cat /tmp/audit; exit 1; }
for name in $names; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$name")" = "ii " ] || { echo "$name is not installed"; exit 1; }
done
echo "xbuild: installed"
apt-get -qq -o Dpkg::Use-Pty=false -y purge $names
files "$1" > /tmp/after
diff /tmp/before /tmp/after | sed -n 's/^</xbuild: lost or changed:/p; s/^>/xbuild: left or changed:/p' > /tmp/told
cat /tmp/told
[ ! -s /tmp/told ] || exit 1
"""

# What a test must not do to this system, such as to reboot it, autopkgtest leaves out by itself.
_AUTOPKGTEST = r"""
# Without it nobody may become that user.
echo 'builder:*:19000:0:99999:7:::' >> /etc/shadow
tests=$(find "$1/source" -maxdepth 1 -name '*.dsc')
autopkgtest --no-built-binaries --user=builder "$1"/*.deb "${tests:-$1/source}" -- null
"""
_NEEDED = ("autopkgtest", "dpkg-dev")
_PASSED, _NO_TESTS, _FAILED = (0, 2, 8), 8, (4, 6, 12, 14)
"""What autopkgtest ends with: all passed, or some were skipped, or there are none; some failed, or cannot be read."""


@dataclass(frozen=True)
class Trials:
    """Which of the tools are to be asked, in this order. strict: errors of lintian count."""

    names: tuple[str, ...] = ()
    strict: bool = False

    def of(self, built: Built) -> list[Trial]:
        """What they say of what was built. Raises CheckError if something does not pass that has to."""
        found: list[Trial] = []
        for name in self.names:
            found.append(_TRIALS[name](built))
            if name != "lintian" or self.strict:
                found[-1].require()
        return found


def trials_of(words: Sequence[str]) -> Trials:
    """The trials of these names. Raises UsageError if there is none of one."""
    known = (*_TRIALS, _STRICT)
    for word in words:
        if word not in known:
            raise UsageError(f"no trial {word!r}{did_you_mean(word, known)}", hint=", ".join(known))
    return Trials(tuple(dict.fromkeys(word.partition("=")[0] for word in words)), _STRICT in words)


@dataclass(frozen=True)
class Trial:
    """What a tool said. name: of the option. passed: whether there is nothing to complain of."""

    name: str
    passed: bool
    lines: tuple[str, ...]

    def require(self) -> None:
        """Raise CheckError if it did not pass."""
        if not self.passed:
            raise CheckError(f"trial {self.name}: it did not pass", details=self.lines[-_TAIL:])


def lintian(built: Built) -> Trial:
    """What lintian says of what was built; it passes without errors. It only looks, so it is the machine's own."""
    (changes,) = (file for file in built.files if file.suffix == ".changes")
    suite = built.subject.toolchain.distribution.suite
    roots = _roots(built, load_toolchain(here().name, project()).with_suite(suite))
    store = roots.store
    with store.in_use(), writing_below(store.root), log.step("lintian"):
        shown = Bind(str(changes.parent), _SEEN, readonly=True)
        view = RootView(tuple(roots.layers(("lintian",))), shown=(shown,), empty=(TMP,))
        env = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "TMPDIR": "/tmp"}
        sandbox = Sandbox(
            view.mounts(), store.directory("mnt"), env=env, cwd="/tmp", uid=BUILDER, gid=BUILDER, locked=True
        )
        code, said = capture(sandbox, ["lintian", "--no-cfg", "--fail-on", "error", f"{_SEEN}/{changes.name}"])
    lines = tuple(said.decode(errors="replace").splitlines())
    counts = {kind: sum(line.startswith(f"{kind}: ") for line in lines) for kind in "EW"}
    log.info(f"lintian: {counts['E']} errors, {counts['W']} warnings")
    if code not in (0, 2) or (code and not counts["E"]):
        raise CheckError(f"lintian could not look at {changes.name}", details=lines[-_TAIL:])
    return Trial("lintian", code == 0, lines)


def install(built: Built) -> Trial:
    """Install the packages in a plain root of the target, and purge them: nothing may fail, nothing be left or lost."""
    code, lines = _tried("install", built, _INSTALL)
    return Trial("install", code == 0, lines)


def autopkgtest(built: Built) -> Trial:
    """Run the tests that the source has for its packages once they are installed (debian/tests), in a plain root."""

    def with_source(folder: Path) -> None:
        # As it was built: a directory is what it was then, or this raises.
        for source, archive in zip(built.subject.recipe.sources, fetched(built.subject), strict=True):
            lay_out(source, archive, folder / "source")

    code, lines = _tried("autopkgtest", built, _AUTOPKGTEST, _NEEDED, with_source)
    if code not in (*_PASSED, *_FAILED):
        raise CheckError(f"autopkgtest could not be run, and ended with {code}", details=lines[-_TAIL:])
    if code == _NO_TESTS:
        log.info(f"autopkgtest: {built.package.name} has no tests, or none that can be run here")
    return Trial("autopkgtest", code in _PASSED, lines)


_TRIALS: Mapping[str, Callable[[Built], Trial]] = {
    "install": install, "autopkgtest": autopkgtest, "lintian": lintian
}  # fmt: skip


def _tried(
    name: str,
    built: Built,
    script: str,
    packages: Sequence[str] = (),
    fill: Callable[[Path], None] = lambda _: None,
) -> tuple[int, tuple[str, ...]]:
    """What `script` gives and says in a plain root of the target, with the built packages in the directory $1.

    packages: what is installed there besides. fill: puts more into the directory.
    """
    roots = _roots(built, built.subject.toolchain, plain=True)
    with roots.store.lock("trial", shared=True, describe="tries packages"), writing_below(roots.store.root):
        folder = roots.store.scratch("trial")
        try:
            folder.mkdir()
            folder.chmod(0o755)
            for file in built.debs:
                if file.suffix == ".deb":
                    shutil.copyfile(file, folder / file.name)
            own = [line for one in roots.resolver.repositories for line in one.lines(roots.toolchain.architecture)]
            (folder / _SOURCES).write_text("".join(f"{line}\n" for line in own))
            fill(folder)
            with log.step(name):
                code, said = trial(roots, ["sh", "-euc", _UPDATE + script, "sh", str(folder)], (folder,), packages)
        finally:
            roots.store.discard(folder)
    return code, tuple(line for line in said.split("\n") if not line.startswith("(Reading database"))


def _roots(built: Built, toolchain: Toolchain, *, plain: bool = False) -> Roots:
    """Roots of `toolchain` from the archive, and the repositories, that the packages were built from."""
    known = built.subject.roots.resolver
    more: dict[str, Any] = {"snapshot": known.archive.snapshot, "repositories": known.repositories}
    return Roots(built.subject.store, toolchain, load_policy(toolchain), plain=plain, **more)
