"""Fetches the packages that were resolved, before any of their programs runs: what installs them has no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xbuild.roots import apt, enclosed, mirror
from xbuild.roots.index import CONFIG, LISTS, SOURCES, STATUS, packages_files, read_stanzas
from xbuild.sandbox import idmap
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.run import remove_tree

FETCHED = "archives"
"""The directory of what is being made that packages are fetched to; root inside owns it, and them."""

_WORK = "fetching"
# A root has more packages than a command line may have words on some machines.
_SCRIPT = """
xargs -r apt-get -qq download < names || exit 1
find . -name '*.deb' -exec mv -t "../$1" {} +
"""


def fetch(
    staging: Path,
    answer: Path,
    architecture: str,
    complaint: str,
    hint: str = apt.NETWORK,
    repositories: Sequence[Bind] = (),
) -> None:
    """Fetch all packages of `answer` into FETCHED of `staging`; apt compares their sums with the index.

    repositories: show the user's own where the addresses in `answer` say.
    Raises MachineError with `complaint`.
    """
    place, fetched = staging / _WORK, staging / FETCHED
    for path in (place, fetched):
        path.mkdir()
        path.chmod(0o755)
    text = (answer / SOURCES).read_text()
    (place / SOURCES).write_text(text)
    (place / STATUS).touch()
    inside, lists = f"{enclosed.STAGING}/{_WORK}", f"{enclosed.ANSWER}/{LISTS}"
    config = [CONFIG.format(lists=lists, architecture=architecture), 'APT::Sandbox::User "root";']
    (place / "apt.conf").write_text("\n".join([*config, 'Acquire::Retries "2";', *enclosed.transport(), ""]))
    stanzas = [
        stanza
        for file in packages_files(answer / LISTS)
        for stanza in read_stanzas(file.read_text(errors="surrogateescape"))
    ]
    (place / "names").write_text("".join(f"{stanza.name}={stanza.version}\n" for stanza in stanzas))
    for path in (place, fetched):
        idmap.own(path)
    shown = [Bind(str(answer), enclosed.ANSWER, readonly=True), *repositories]
    sandbox = enclosed.fetching(staging, mirror.of_sources(text), shown, config="apt.conf", cwd=inside)
    apt.run_logged(staging, sandbox, ["sh", "-c", _SCRIPT, "sh", FETCHED], complaint, hint)
    remove_tree(place)
    sandboxes.give_tree(0, tops=[fetched])
