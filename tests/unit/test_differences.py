"""What `why` says of packages that have changed."""

from __future__ import annotations

import pytest

from xbuild.store.differences import diff_values

ONE, TWO = "11" * 32, "22" * 32


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (f"1:1.3-1 armhf {ONE}", f"1:1.3-2 armhf {TWO}", "zlib1g 1:1.3-1 -> 1:1.3-2 in the target root"),
        (None, f"1:1.3-2 armhf {TWO}", "zlib1g 1:1.3-2 is new in the target root"),
        (f"1:1.3-1 armhf {ONE}", None, "zlib1g 1:1.3-1 is gone from the target root"),
        (f"1.3 armhf {ONE}", f"1.3 all {TWO}", "zlib1g 1.3 of armhf -> all in the target root"),
        (
            f"1.3 armhf {ONE}",
            f"1.3 armhf {TWO}",
            f"zlib1g 1.3 in the target root is another file of the same version: sha256 {ONE[:12]} -> {TWO[:12]}",
        ),
        (f"1.3 armhf {ONE}", "1.3", f"contents.target root.zlib1g: '1.3 armhf {ONE}' -> '1.3'"),
        ("1.3", "1.4", "contents.target root.zlib1g: '1.3' -> '1.4'"),
    ],
)
def test_a_package_is_told_by_name_and_version(old: str | None, new: str | None, line: str) -> None:
    values = [
        {"contents": {"target root": {"python3.13": f"1 armhf {ONE}", **({"zlib1g": text} if text else {})}}}
        for text in (old, new)
    ]
    assert diff_values(*values) == [line]
    assert diff_values(values[0], values[0]) == []
