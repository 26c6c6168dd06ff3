"""Wheels made by hand, also such as no backend would make."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path


def digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def wheel(
    folder: Path,
    name: str = "thing-1.0-py3-none-any.whl",
    files: Mapping[str, bytes] | None = None,
    *,
    tags: tuple[str, ...] = (),
    metadata: str = "",
    record: Mapping[str, str] | None = None,
) -> Path:
    """Write a wheel. tags: of WHEEL, if not those of the name. record: lines in the place of RECORD's own."""
    project, version, *_ = name.split("-")
    python, abi, platform = name.removesuffix(".whl").split("-")[-3:]
    information = f"{project}-{version}.dist-info"
    own = tags or tuple(f"{p}-{a}-{m}" for p in python.split(".") for a in abi.split(".") for m in platform.split("."))
    members = dict(files if files is not None else {f"{project}/__init__.py": b""})
    members[f"{information}/WHEEL"] = "".join(["Wheel-Version: 1.0\n", *(f"Tag: {tag}\n" for tag in own)]).encode()
    head = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n"
    members[f"{information}/METADATA"] = f"{head}{metadata}".encode()
    lines = {path: f"{path},{digest(data)},{len(data)}" for path, data in members.items()}
    lines |= {f"{information}/RECORD": f"{information}/RECORD,,", **(record or {})}
    members[f"{information}/RECORD"] = "".join(f"{line}\n" for line in lines.values() if line).encode()
    file = folder / name
    with zipfile.ZipFile(file, "w") as archive:
        for path, data in members.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), data)
    return file
