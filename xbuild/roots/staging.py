"""Artifacts of other recipes as layers over a root: what they hold is there as if it had been installed last.

A file of theirs goes before the distribution's, also where that lies in another directory that is looked at first: the
distribution has its libraries, and headers that differ by machine, in directories named by the target's triplet. There
a link leads to the artifact's own. Debian packages in an artifact are installed by the root's dpkg, and wheels as
`wheelfiles.py` has it. This module and that one decide what a build sees, so both are in the keys of builds that need
it.
"""

from __future__ import annotations

import filecmp
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from xbuild.base import log
from xbuild.base.digest import file_sha256, json_contents, key_of
from xbuild.base.errors import MachineError, UsageError
from xbuild.base.walk import Node, shown, walk
from xbuild.formats.debian import Tree, merged
from xbuild.roots import apt, wheelfiles
from xbuild.roots.distribution import Roots
from xbuild.roots.making import Foreign
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.run import give_tree, machine_view
from xbuild.store.local import LAYOUT

MOST: Final = 200
"""How many artifacts can lie over a root: overlayfs takes its layers in one page of text (mount(2))."""

_LINKED = ("", "usr", "var")
"""Directories in which a distribution has links to others: /lib is usr/lib, /var/run is /run."""
_SHOWN = 8
_ABOUT = "replaced.json"
_LDCONFIG = "ldconfig && rm -f /var/cache/ldconfig/aux-cache"
_PACKAGES, _WHEELS = "packages", "wheels"
_SEEN_AT = "/tmp/packages"
# No service starts in a root (`apt.CUSTOMIZE`), and nothing asks.
_INSTALL = f"""
export DEBIAN_FRONTEND=noninteractive
dpkg --force-unsafe-io --force-confnew --log=/dev/null --install {_SEEN_AT}/*/*.deb < /dev/null
rm -f /var/lib/dpkg/status-old /var/log/alternatives.log
"""
_UNMET = "all packages of a recipe are installed; what they depend on is named in its `depends: packages`"

_UNPACK = """
archive=$1 folder=$2
shift 2
tar --force-local --zstd -xf "$archive" -C "$folder"
while [ $# -gt 0 ]; do
    if [ -d "$folder/$1" ] && [ ! -L "$folder/$1" ]; then
        place=$folder
        for part in $(printf %s "$2" | tr / ' '); do
            place=$place/$part
            if [ -L "$place" ]; then echo "$2 is a link in it" >&2; exit 1; fi
        done
        mkdir -p "$place"
        cp -alf "$folder/$1/." "$place/"
        rm -rf "$folder/$1"
    fi
    shift 2
done
cd "$folder"
aside() {
    for file in ./*."$1"; do
        [ -f "$file" ] && [ ! -L "$file" ] || continue
        mkdir -p "../$2"
        chmod 644 "$file"
        mv "$file" "../$2"
    done
}
rm -f ./*-dbgsym_*.deb
aside deb packages
aside whl wheels
# What dpkg-buildpackage makes beside packages is for an archive.
[ ! -d ../packages ] || rm -f ./*.ddeb ./*.udeb ./*.changes ./*.buildinfo
"""
# Set-user-id bits are for the finished system: here nobody is to gain rights by them. All is open to be looked at.
_OPEN = """
if [ -d "$2" ]; then
    cp -a "$2/." "$1/"
    rm -rf "$2"
fi
chown -hR 0:0 "$1"
chmod -R u-s,g-s,u+rwX,go+rX "$1"
"""


@dataclass(frozen=True)
class Artifact:
    """A packed artifact. name: of its recipe; sha256: of the file `archive`."""

    name: str
    sha256: str
    archive: Path


@dataclass(frozen=True)
class Staging:
    """Layers, topmost first, to lie over a root. replaced: for each artifact by name, the paths of the distribution's
    that its files go before, by package.
    """

    layers: tuple[Path, ...]
    replaced: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)


def stage(roots: Roots, wanted: Sequence[str], below: Sequence[Path], artifacts: Sequence[Artifact]) -> Staging:
    """The layers with `artifacts`, of which later ones lie higher; made if they are not there.

    below: the layers of the root with the packages `wanted`. Raises UsageError if two of them have different files at
    one path, or if there are more than `MOST`.
    """
    if not artifacts:
        return Staging(())
    if len(artifacts) > MOST:
        raise UsageError(f"{len(artifacts)} recipes are needed, and {MOST} can lie over a root")
    tree = roots.tree_of(below)
    links = _links(tree)
    places = {one.name: _unpacked(roots, one, links) for one in artifacts}
    packages = {name: place / _PACKAGES for name, place in places.items() if (place / _PACKAGES).is_dir()}
    trees = {name: place / "upper" for name, place in places.items()}
    value = {
        "what": "artifacts over a root",
        "root": roots.layer_value(wanted) if wanted else roots.base_value(),
        "artifacts": {one.name: one.sha256 for one in artifacts},
        "links": links,
        "layout": LAYOUT,
        "maker": makers(),
    }

    def make(staging: Path) -> None:
        with log.step(f"stage: {' '.join(trees)}"):
            _make(staging, roots, tree, trees, packages)

    place = roots.store.ensure("layers", value, f"what {', '.join(trees)} are over the root", make)
    return Staging((place / "upper", *_higher(trees)), json_contents(place / _ABOUT))


def _higher(trees: Mapping[str, Path]) -> tuple[Path, ...]:
    # One layer twice is none that overlayfs takes: two artifacts may be the same bytes.
    return tuple(dict.fromkeys(reversed(list(trees.values()))))


def makers() -> str:
    """What stands for how they are laid over a root, in keys."""
    return key_of([file_sha256(Path(file)) for file in (__file__, str(wheelfiles.__file__))])


def _links(tree: Tree) -> dict[str, str]:
    """The directories of the root that are links to others, without the `/` in front."""
    found = {}
    for folder in _LINKED:
        for name in tree.names(f"/{folder}"):
            path = f"{folder}/{name}".lstrip("/")
            place = tree.find(f"/{path}")
            if place and place.is_symlink() and (known := tree.located(f"/{path}")) and known[1].is_dir():
                found[path] = known[0].lstrip("/")
    return dict(sorted(found.items()))


def _unpacked(roots: Roots, artifact: Artifact, links: Mapping[str, str]) -> Path:
    """A directory with its files in `upper`, and Debian packages and wheels, if it has some, beside that."""
    # A link of the root that a directory lay over would be gone, with all that it leads to.
    words = [word for pair in sorted(links.items(), key=lambda pair: pair[0].count("/")) for word in pair]
    value = {"what": "artifact", "sha256": artifact.sha256, "links": dict(links), "layout": LAYOUT}
    value["maker"] = [_UNPACK, _OPEN, file_sha256(Path(str(wheelfiles.__file__)))]

    def make(staging: Path) -> None:
        if file_sha256(artifact.archive) != artifact.sha256:
            message = f"{artifact.archive} is not as it was made"
            raise MachineError(message, hint="invoke store.verify --remove    (then build again)")
        upper, laid = staging / "upper", staging / "laid"
        upper.mkdir()
        complaint = f"the artifact of {artifact.name} could not be unpacked"

        def run(script: str, *words: str) -> None:
            command = ["sh", "-euc", script, "sh", *words]
            apt.run_logged(staging, machine_view(), command, complaint, "the last line says why")

        run(_UNPACK, str(artifact.archive), str(upper), *words)
        for file in sorted((staging / _WHEELS).glob("*.whl")):
            wheelfiles.lay_out(file, laid)
        run(_OPEN, str(upper), str(laid))

    return roots.store.ensure("layers", value, f"the files of {artifact.name}", make)


@dataclass
class _Over:
    """What is to lie over root and artifacts. links: by path, where each leads; gone: paths hidden; replaced: as of
    `Staging`.
    """

    links: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    replaced: dict[str, dict[str, list[str]]] = field(default_factory=dict)


def _make(
    staging: Path, roots: Roots, tree: Tree, trees: Mapping[str, Path], packages: Mapping[str, Path]
) -> None:
    found = _files(trees)
    over = stand_ins(tree, {path: name for path, (name, _) in found.items()}, roots.toolchain.triplet)
    upper = staging / "upper"
    _folder(upper, upper)
    for path, target in over.links.items():
        _folder((upper / path).parent, upper)
        (upper / path).symlink_to(target)
    for path in over.gone:
        _folder((upper / path).parent, upper)
        # So overlayfs marks what is not there any more; anybody may make it (mknod(2)).
        os.mknod(upper / path, stat.S_IFCHR, os.makedev(0, 0))
    script = _INSTALL if packages else ""
    if any(PurePosixPath(path).match("*.so*") for path in found) and tree.located("/usr/sbin/ldconfig"):
        script += _LDCONFIG
    if script:
        _run(staging, roots, (*_higher(trees), *tree.layers), script, packages)
    else:
        give_tree(0, [upper])
    for name, paths in _installed(upper, packages).items():
        _tell_replaced(name, paths, tree, over, found)
    told = {name: {package: sorted(paths) for package, paths in own.items()} for name, own in over.replaced.items()}
    (staging / _ABOUT).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")


def _run(
    staging: Path, roots: Roots, layers: Sequence[Path], script: str, packages: Mapping[str, Path]
) -> None:
    shown = [Bind(str(place), f"{_SEEN_AT}/{name}", readonly=True) for name, place in packages.items()]
    complaint, hint = "ldconfig failed", "--verbose tells more"
    if packages:
        complaint, hint = f"the packages of {', '.join(packages)} could not be installed", _UNMET
    making = roots.making(staging, _emulated(roots))
    making.run_over(layers, ["sh", "-euc", script], complaint, hint, shown)


def _installed(upper: Path, packages: Mapping[str, Path]) -> dict[str, list[str]]:
    """The paths that Debian packages of each recipe brought, by dpkg's own lists. Raises UsageError for one of two."""
    found: dict[str, list[str]] = {}
    whose: dict[str, str] = {}
    for name, place in packages.items():
        for file in sorted(place.glob("*.deb")):
            package = file.name.partition("_")[0]
            if (other := whose.setdefault(package, name)) != name:
                raise UsageError(f"{other} and {name} both make the package {package}")
            for listed in (upper / "var/lib/dpkg/info").glob(f"{package}[.:]*list"):
                if listed.name.partition(":")[0].removesuffix(".list") == package:
                    found.setdefault(name, []).extend(map(merged, listed.read_text().splitlines()))
    return found


def _tell_replaced(
    name: str, paths: Sequence[str], tree: Tree, over: _Over, found: Mapping[str, tuple[str, Node]]
) -> None:
    """Count what of the distribution's went. Raises UsageError where another recipe's file would lie below."""
    for path in paths:
        if (other := found.get(path[1:])) is not None:
            hint = f"leave it away in {other[0]}: after-install: rm -f \"$DESTDIR\"{shown(path)}"
            raise UsageError(f"{other[0]} and {name}, in a package, both install {shown(path[1:])}", hint=hint)
        place = tree.find(path)
        if place is not None and (place.is_symlink() or not place.is_dir()):
            over.replaced.setdefault(name, {}).setdefault(tree.owners.get(path, ""), []).append(path)


def _emulated(roots: Roots) -> Foreign | None:
    """What lets programs of the target run, without twins: one small program is all."""
    if roots.toolchain.native:
        return None
    return Foreign(roots.natives().private, lambda file, view: roots.hook(roots.dispatcher((), file, view=view)))


def _folder(place: Path, top: Path) -> None:
    """Make a directory and those above it, down to `top`, open to all whatever the umask."""
    if not place.is_dir():
        if place != top:
            _folder(place.parent, top)
        place.mkdir()
        place.chmod(0o755)


def _files(trees: Mapping[str, Path]) -> dict[str, tuple[str, Node]]:
    """All that the artifacts have but directories, by path; with whose it is.

    Raises UsageError where two have different things at one path.
    """
    found: dict[str, tuple[str, Node]] = {}
    folders: dict[str, tuple[str, Node]] = {}
    clashes: dict[tuple[str, str], list[str]] = {}
    for name, tree in trees.items():
        for visit in walk(tree):
            node, path = visit.node, os.fsdecode(visit.node.path)
            own, other = (folders, found) if node.kind == stat.S_IFDIR else (found, folders)
            if path in other:
                clashes.setdefault((other[path][0], name), []).append(path)
            elif path in found and not _same(trees[found[path][0]], tree, found[path][1], node):
                clashes.setdefault((found[path][0], name), []).append(path)
            own.setdefault(path, (name, node))
    for (one, two), paths in clashes.items():
        more = [f"and {len(paths) - _SHOWN} more"] if len(paths) > _SHOWN else []
        raise UsageError(
            f"{one} and {two} both install {shown(paths[0])}, and not the same",
            details=[*map(shown, paths[:_SHOWN]), *more],
            hint=f"leave it away in one of them: after-install: rm -f \"$DESTDIR\"/{shown(paths[0])}",
        )
    return found


def _same(one: Path, other: Path, first: Node, second: Node) -> bool:
    if (first.kind, first.target) != (second.kind, second.target):
        return False
    if first.kind != stat.S_IFREG:
        return True
    files = (one / os.fsdecode(first.path), other / os.fsdecode(second.path))
    return stat.S_IMODE(first.mode) == stat.S_IMODE(second.mode) and filecmp.cmp(*files, shallow=False)


def stand_ins(tree: Tree, files: Mapping[str, str], triplet: str) -> _Over:
    """What lets the `files` of artifacts go before those of the distribution in `tree`.

    files: by path, with whose they are.
    """
    over, owners = _Over(), tree.owners
    folders = (f"usr/lib/{triplet}", f"usr/include/{triplet}")

    def there(path: str) -> bool:
        place = tree.find(f"/{path}")
        return place is not None and (place.is_symlink() or not place.is_dir())

    def replace(path: str, name: str) -> None:
        package = owners.get(f"/{path}", "")
        over.replaced.setdefault(name, {}).setdefault(package, []).append(f"/{path}")

    for path, name in files.items():
        if there(path):
            replace(path, name)
        for place in _looked_at_first(path, folders):
            if place not in files and there(place):
                over.links[place] = f"/{path}"
                replace(place, name)
    for path, name in _mixtures(tree, files, folders[0]):
        if path not in files and path not in over.links and path not in over.gone:
            over.gone.add(path)
            replace(path, name)
    return over


def _looked_at_first(path: str, folders: tuple[str, str]) -> Iterator[str]:
    """The paths by which compiler, linker, loader and pkg-config find something before `path` is found."""
    libraries, headers = folders
    for above, folder in (("usr/lib/", libraries), ("usr/include/", headers), ("usr/share/pkgconfig/", "")):
        if path.startswith(above) and not path.startswith(f"{folder}/"):
            rest = path.removeprefix(above)
            yield f"{folder}/{rest}" if folder else f"{libraries}/pkgconfig/{rest}"


def _mixtures(tree: Tree, files: Mapping[str, str], libraries: str) -> Iterator[tuple[str, str]]:
    """What of the distribution would be taken together with an artifact's: half of a library, half of CMake's words.

    Each with whose artifact hides it.
    """
    places = [folder for folder in (libraries, "usr/lib") if tree.real_path(f"/{folder}")]
    for path, name in files.items():
        file = PurePosixPath(path)
        library = str(file.parent) in (libraries, "usr/lib")
        if library and file.suffix in (".so", ".a"):
            names = [file.with_suffix(suffix).name for suffix in (".so", ".a")]
            wanted = [f"{folder}/{other}" for folder in places for other in names]
            own = {PurePosixPath(known).name for known in wanted if known in files}
            yield from ((known, name) for known in wanted if tree.find(f"/{known}") and Path(known).name not in own)
        if library and ".so." in file.name:
            # ldconfig lets a name lead to the highest version that there is, whosever it is.
            links = [f"/{folder}/{file.name}" for folder in places]
            yield from ((real[1:], name) for link in links if (real := tree.real_path(link)) not in (None, link))
        if file.parent.parent.name == "cmake" and file.parts[:2] == ("usr", "lib"):
            for folder in places:
                at = f"{folder}/cmake/{file.parent.name}"
                yield from ((f"{at}/{other}", name) for other in tree.names(f"/{at}"))
