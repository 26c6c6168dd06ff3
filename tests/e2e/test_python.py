"""The main job: CPython for armhf. It takes minutes where the user's cache does not have it yet."""

from __future__ import annotations

import pytest

from tests.e2e.command_line import Xbuild

# The first one may have to build it.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

_IMPORTS = "import ssl, sqlite3, ctypes, lzma, bz2, readline, curses, uuid, zlib"
# Python's own tests that say most about a wrong word size, a wrong float or a wrong library.
_TESTS = ("test_json", "test_re", "test_struct", "test_ctypes", "test_sqlite3", "test_zlib", "test_decimal")


@pytest.fixture
def python(xbuild: Xbuild) -> Xbuild:
    """xbuild with the user's own cache, in which Python has been built for armhf."""
    own = Xbuild(xbuild.project, xbuild.cache.parents[1])
    own.build("python")
    return own


def run(python: Xbuild, *words: str) -> str:
    """What the artifact's Python says, unpacked over a root of the target."""
    return python("shell", "python", "--target", "armhf", "--artifact", "--", "/usr/bin/python3", *words).out


def test_it_is_what_it_says(python: Xbuild) -> None:
    script = "import platform, struct, sys, sysconfig; print(sys.version_info[:3], platform.machine(), "
    script += "struct.calcsize('P'), sysconfig.get_config_var('MULTIARCH'), sys.executable)"
    assert run(python, "-c", script) == "(3, 13, 5) armv7l 4 arm-linux-gnueabihf /usr/bin/python3\n"


def test_its_modules_are_all_there(python: Xbuild) -> None:
    script = f"{_IMPORTS}; import dbm.gnu, dbm.ndbm, _uuid; "
    script += "print(ssl.OPENSSL_VERSION.split()[0], sqlite3.sqlite_version_info[0])"
    assert run(python, "-c", script) == "OpenSSL 3\n"


@pytest.mark.long
def test_it_passes_its_own_tests(python: Xbuild) -> None:
    said = run(python, "-m", "test", "-j2", *_TESTS)
    assert f"All {len(_TESTS)} tests OK." in said
    assert said.rstrip().endswith("Result: SUCCESS")
