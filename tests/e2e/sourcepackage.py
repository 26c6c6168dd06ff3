"""Debian source packages of a test's own, made without Debian's tools."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTROL = """\
Source: tiny
Section: utils
Priority: optional
Maintainer: A Person <person@a.example>
Standards-Version: 4.7.0
Rules-Requires-Root: {root}

Package: tiny
Architecture: any
Description: a program
 It says a word.

Package: tiny-udeb
Package-Type: udeb
Section: debian-installer
Architecture: any
Description: the same program

Package: tiny-doc
Architecture: all
Description: what it says
 And why.
"""
_CHANGELOG = """\
tiny (1:1.0) unstable; urgency=medium

  * All of it.

 -- A Person <person@a.example>  Fri, 05 Jul 2024 10:00:00 +0000
"""
# Without debhelper, so that there is no layer to make.
_RULES = """\
#!/usr/bin/make -f
export SOURCE_DATE_EPOCH ?= 1720173600
define package
	mkdir -p debian/$(1)/DEBIAN debian/$(1)/$(2)
	cp $(3) debian/$(1)/$(2)/
	test ! -e debian/$(1).postinst || install -m 755 debian/$(1).postinst debian/$(1)/DEBIAN/postinst
	dpkg-gencontrol -p$(1) -Pdebian/$(1)
	dpkg-deb --root-owner-group --build debian/$(1) ../$$(sed -n 's/^\\($(1)_[^ ]*\\) .*/\\1/p' debian/files)
endef
clean:
	rm -rf tiny built debian/tiny debian/tiny-udeb debian/tiny-doc debian/files
build: build-arch build-indep
build-indep:
build-arch: built
built:
	test "$$(id -u)" != 0
	cc -g -O2 $(CPPFLAGS) -o tiny tiny.c
	{also}
	case " $$DEB_BUILD_OPTIONS " in *" nocheck "*) ;; *) $(MAKE) -f debian/rules check ;; esac
	touch $@
check:
	./tiny
binary: binary-arch binary-indep
binary-arch: build-arch
	test "$$(id -u)" = {uid} || test {uid} != 0
	$(call package,tiny,usr/bin,tiny {more})
	$(call package,tiny-udeb,usr/bin,tiny)
binary-indep:
	$(call package,tiny-doc,usr/share/tiny,debian/control)
.PHONY: build build-arch build-indep binary binary-arch binary-indep check clean
"""
_PROGRAM = '#include <stdio.h>\nint main(void) { puts("a word"); return 0; }\n'


_DSC = """\
Format: {format}
Source: tiny
Binary: tiny, tiny-udeb, tiny-doc
Architecture: any all
Version: 1:{version}
Maintainer: A Person <person@a.example>
Standards-Version: 4.7.0
Package-List:
 tiny deb utils optional arch=any
 tiny-doc deb utils optional arch=all
 tiny-udeb udeb debian-installer optional arch=any
Checksums-Sha256:{sha256}
Files:{md5}
"""


def made(
    folder: Path,
    *,
    files: Mapping[str, bytes] | None = None,
    more: str = "",
    root: str = "no",
    name: str = "tiny",
    needs: str = "",
    parts: Sequence[str] | None = None,
    also: str = ":",
) -> Path:
    """A source package in `folder`: its .dsc. more: files that the package has beside the program.

    needs: a relation to a package like this one, whose program its tests run; it needs that installed, too. parts: it
    has an upstream archive, and one more for each of these directories; None: it is native. also: a command that its
    build runs after the compiler.
    """

    def own(text: str) -> str:
        text = text.replace("tiny", name)
        if not needs:
            return text
        text = text.replace("Standards-Version", f"Build-Depends: {needs}\nStandards-Version")
        text = text.replace("Description: a program", f"Depends: {needs}\nDescription: a program")
        return text.replace("check:\n", f"check:\n\t{needs.split()[0]} | grep word\n")

    version, kind = ("1.0", "native") if parts is None else ("1.0-1", "quilt")
    rules = _RULES.replace("{uid}", "0" if root != "no" else "1000").replace("{more}", more)
    rules = rules.replace("{also}", also)
    contents = {
        "tiny.c": _PROGRAM.encode(),
        "debian/control": own(_CONTROL.format(root=root)).encode(),
        "debian/changelog": own(_CHANGELOG).replace("1.0", version).encode(),
        "debian/rules": own(rules).encode(),
        "debian/source/format": f"3.0 ({kind})\n".encode(),
        **(files or {}),
    }
    archives: dict[str, dict[str, bytes]] = {}
    for path, data in contents.items():
        part = "native" if parts is None else path.partition("/")[0]
        archives.setdefault(part if part in ("native", "debian", *(parts or ())) else "orig", {})[own(path)] = data
    sums = {"sha256": "", "md5": ""}
    for part, held in archives.items():
        ending = {"native": "", "debian": "-1.debian", "orig": ".orig"}.get(part, f".orig-{part}")
        file = _packed(folder / own(f"tiny_1.0{ending}.tar.xz"), held, f"{part}/", own("tiny-1.0/"))
        for algorithm in sums:
            digest = hashlib.new(algorithm, file.read_bytes()).hexdigest()
            sums[algorithm] += f"\n {digest} {file.stat().st_size} {file.name}"
    dsc = folder / own(f"tiny_{version}.dsc")
    text = _DSC.format(format=f"3.0 ({kind})", version=version, **sums)
    dsc.write_text(own(text))
    return dsc


def _packed(file: Path, contents: Mapping[str, bytes], part: str, top: str) -> Path:
    """An archive whose one directory is `part`, where all names begin with that, else `top`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for path, data in contents.items():
            member = tarfile.TarInfo(path if path.startswith(part) else f"{top}{path}")
            member.size, member.mtime = len(data), 1720173600
            member.mode = 0o755 if path.endswith("rules") else 0o644
            tar.addfile(member, io.BytesIO(data))
    file.write_bytes(buffer.getvalue())
    return file
