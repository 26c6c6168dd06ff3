"""The task that exports container images."""

from __future__ import annotations

from pathlib import Path

from xbuild.base import log
from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.cli.arguments import FOREIGN, names
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.doctor import require
from xbuild.export import Export, Exported, Wish, layer_compression
from xbuild.export.image import COMPRESSIONS, Compression


def _compression(word: str) -> Compression:
    for known in COMPRESSIONS:
        if known == word:
            return known
    raise UsageError(f"unknown compression {word!r}{did_you_mean(word, COMPRESSIONS)}", hint=" or ".join(COMPRESSIONS))


def _place(oci: str, tar: str) -> Path:
    if bool(oci) == bool(tar):
        raise UsageError("export wants either --oci DIRECTORY or --tar FILE", hint="for example --tar image.tar")
    return Path(oci or tar).absolute()


@task(
    help={
        "target": FOREIGN,
        "oci": "write an OCI image layout: a directory that is not there yet",
        "tar": "write one file for `docker load` and `podman load`; with --layer a .tar, .tar.gz or .tar.zst for ADD",
        "layer": "write only the overlay with the native tools, for an image of your own",
        "packages": "install also these packages of the distribution, separated by commas",
        "suite": "another release of the distribution, e.g. bookworm",
        "name": "the image's name, REPOSITORY:TAG (default: localhost/xbuild-TARGET:SUITE)",
        "compression": "compress the layers by gzip (the default; everything reads it) or zstd (faster, smaller)",
        "json": "write one JSON object to stdout, and nothing else",
        "verbose": "tell more",
        "yes": "install what the machine lacks without asking",
    },
)
@guarded
def export(
    _c: Context,
    target: str = "armhf",
    oci: str = "",
    tar: str = "",
    layer: bool = False,
    packages: str = "",
    suite: str = "",
    name: str = "",
    compression: str = "gzip",
    json: bool = False,
    verbose: bool = False,
    yes: bool = False,
) -> None:
    """Write the target root with its native tools as a container image; or, with --layer, the native tools alone."""
    log.configure(json=json, verbose=int(verbose))
    place = _place(oci, tar)
    chosen = tuple(sorted(names("--packages", packages))) if packages else ()
    export = Export(Wish(target, suite or None, chosen, layer, name, _compression(compression)))
    if layer and tar:
        layer_compression(place)
    require(assume_yes=yes)
    result = export.to_layout(place) if oci else export.to_layer(place) if layer else export.to_archive(place)
    log.result(result.as_json())
    if not json:
        _tell(result)


def _tell(result: Exported) -> None:
    variant = f"/{result.platform.variant}" if result.platform.variant else ""
    log.output(f"{result.path}: {result.name or 'layer'} for linux/{result.platform.architecture}{variant}")
    for layer in result.layers:
        log.output(f"  {log.human_size(layer.blob.size)}  sha256:{layer.blob.digest[:12]}  {layer.history}")
    log.output(f"  {result.twins} native tools, sha256 {result.digest}")
