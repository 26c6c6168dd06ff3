from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from xbuild.base import paths
from xbuild.base.errors import RecipeError
from xbuild.base.yamlfile import load_model
from xbuild.dispatcher.table import SIZE
from xbuild.model.load import load_toolchain
from xbuild.model.native import here
from xbuild.model.policy import Policy, Tool
from xbuild.model.toolchain import Toolchain

PROJECT = Path(__file__).parents[2]
TRIPLET = "arm-linux-gnueabihf"
OWN = here().triplet
DIST = "/usr/lib/python3/dist-packages"


@pytest.fixture(scope="module")
def default() -> Policy:
    return load_model(paths.POLICIES / "default.yml", Policy)


def of_file(policy: Policy, path: str, package: str = "") -> tuple[str, str] | None:
    """The tool that takes a native file, and the place of the twin."""
    for name, tool in policy.tools.items():
        if (place := tool.target_path(path, package, TRIPLET)) is not None:
            return name, place
    return None


@pytest.mark.parametrize(
    ("native", "package", "tool", "place"),
    [
        ("/usr/bin/bash", "bash", "bash", "/usr/bin/bash"),
        (f"/usr/bin/{TRIPLET}-gcc-14", "x", "gcc", f"/usr/bin/{TRIPLET}-gcc-14"),
        (f"/usr/bin/{TRIPLET}-g++-14", "x", "gcc", f"/usr/bin/{TRIPLET}-g++-14"),
        (f"/usr/bin/{TRIPLET}-as", "x", "binutils", f"/usr/bin/{TRIPLET}-as"),
        (f"/usr/bin/{TRIPLET}-ld.bfd", "x", "ld", f"/usr/bin/{TRIPLET}-ld.bfd"),
        (f"/usr/libexec/gcc-cross/{TRIPLET}/14/cc1plus", "x", "cc1", f"/usr/libexec/gcc/{TRIPLET}/14/cc1plus"),
        (f"/usr/lib/gcc-cross/{TRIPLET}/12/cc1", "x", "cc1", f"/usr/lib/gcc/{TRIPLET}/12/cc1"),
        (f"/usr/libexec/gcc-cross/{TRIPLET}/14/lto1", "x", "lto1", f"/usr/libexec/gcc/{TRIPLET}/14/lto1"),
        (f"/usr/lib/{OWN}/perl5/5.40/auto/X/X.so", "x", "perl-modules", f"/usr/lib/{TRIPLET}/perl5/5.40/auto/X/X.so"),
        (f"{DIST}/a/_b.cpython-313-{OWN}.so", "x", "python3-modules", f"{DIST}/a/_b.cpython-313-{TRIPLET}.so"),
        (f"{DIST}/a/_b.abi3.so", "x", "python3-modules", f"{DIST}/a/_b.abi3.so"),
    ],
)
def test_places(default: Policy, native: str, package: str, tool: str, place: str) -> None:
    assert of_file(default, native, package) == (tool, place)


@pytest.mark.parametrize(
    ("native", "package"),
    [
        ("/usr/bin/perlbug", "perl"),
        ("/usr/bin/x86_64-linux-gnu-gcc-14", "gcc-14"),
        (f"/usr/bin/{TRIPLET}-gcc-14.old", "x"),
        ("/usr/bin/sub/bash", "bash"),
        ("/usr/share/bash", "bash"),
        ("/usr/bin/gcc", "gcc"),
    ],
)
def test_what_is_no_tool(default: Policy, native: str, package: str) -> None:
    assert of_file(default, native, package) is None


@pytest.mark.parametrize("name", ["uname", "arch", "getconf", "ldd", "ldconfig", "dpkg", "lscpu"])
def test_what_answers_about_the_machine_has_no_twin(default: Policy, name: str) -> None:
    assert not default.may_have_twin(f"/usr/bin/{name}")
    assert default.may_have_twin(f"/usr/bin/not-{name}")


def test_the_compilers_are_one_group(default: Policy) -> None:
    for name in ("gcc", "cc1", "lto1", "collect2", "lto-wrapper", "lto-plugin", "binutils", "ld"):
        assert default.group_of(name) == "compilers"
    assert default.group_of("sed") == "sed"


@pytest.mark.parametrize(
    "argument",
    ["-v", "--verbose", "-###", "-dumpmachine", "-print-search-dirs", "-march=native", "-Wp,-v", "-Wp,-MD,x,-v"],
)
def test_questions_to_the_compiler_are_emulated(default: Policy, argument: str) -> None:
    # No pattern has `?` or `[`, so that they mean to Python what they mean to the dispatcher.
    assert any(fnmatchcase(argument, pattern) for pattern in default.tools["gcc"].emulate_args)


@pytest.mark.parametrize(
    "argument",
    ["-c", "-Wp,-MD,a-v", "-Wp,-D_FORTIFY_SOURCE=3", "-Wp,-D_GLIBCXX_ASSERTIONS", "-Wa,-mthumb", "/proc/self"],
)
def test_what_is_no_question_is_not(default: Policy, argument: str) -> None:
    patterns = (*default.emulate_args, *default.tools["gcc"].emulate_args)
    assert not any(fnmatchcase(argument, pattern) for pattern in patterns)


# dpkg-buildflags (hardening=+all), libtool.m4, ltmain.sh, CMake's GNU and Linux modules with GenerateExportHeader and
# CheckLinkerFlag, meson's linkers.py and its dynamic linker of GNU, CPython's and OpenSSL's configure, Rust and cgo.
BUILD_SYSTEMS = """
-z,relro -z,now -z,defs -z,noexecstack -z,origin -z,nodelete -z,pack-relative-relocs -O1 -S,-O1 --as-needed
--no-as-needed --push-state,--as-needed --pop-state --no-undefined --allow-shlib-undefined
--no-allow-shlib-undefined --unresolved-symbols=ignore-in-object-files -soname -soname,libx.so.1 -soname=libx.so.1
-h,libx.so.1 -rpath,/usr/lib -rpath=/usr/lib --rpath,/build:/usr/lib -rpath-link,../lib -R/usr/lib
--enable-new-dtags --disable-new-dtags --whole-archive --no-whole-archive --whole-archive,liba.a,--no-whole-archive
-Bstatic -Bdynamic -Bsymbolic -Bsymbolic-functions -Bsymbolic-non-weak-functions -export-dynamic --export-dynamic -E
--dynamic-list=x.list --dynamic-list,x.list --version-script=x.map --version-script,x.map --undefined-version
--no-undefined-version -retain-symbols-file,x --retain-symbols-file=x --gc-sections --no-gc-sections --start-group
--end-group -( -) --build-id --build-id=sha1 --build-id=none --hash-style=gnu --sort-common --exclude-libs,ALL
--wrap=malloc --wrap,malloc --defsym=a=b -u,main --undefined=main --entry=main -e,main --fatal-warnings
--no-fatal-warnings --no-warn-mismatch --no-warn-search-mismatch --warn-common --no-warn-rwx-segments
--warn-unresolved-symbols --no-keep-memory --strip-all --strip-debug -s -S -x -X -r -N -n --image-base=0
-Ttext=0x1000 -T,x.lds --section-start=.a=0 -melf32 -m,armelf_linux_eabi --compress-debug-sections=zlib
--no-copy-dt-needed-entries --add-needed --no-add-needed -dynamic-linker,/lib/ld.so --dynamic-linker=/lib/ld.so -dn
-dy -d,y --emit-relocs -q --relax --no-relax --fix-cortex-a53-843419 --fix-cortex-a8 --be8 --eh-frame-hdr
--no-eh-frame-hdr --error-unresolved-symbols --allow-multiple-definition --reduce-memory-overheads -init,f -fini,f
--no-dynamic-linker --package-metadata={} -pie --pic-executable -static -shared -nostdlib -L/usr/lib -lm
"""
TELLING = """
-M -Map=m -Map,m --Map=m -O1,-Map=m --print-map -t --trace -z,now,-t --trace-symbol=main -y,main --cref --verbose
--verbose=2 --help --target-help --version -v -V -O1,-v --dependency-file=d --dependency-file,d -dependency-file=d
--depend=d --print-gc-sections --gc-sections,--print-gc-sections --print-memory-usage --print-output-format
--print-sysroot --stats --reproduce=r.tar --map=m --print-icf-sections --why-live=main --threads --sysroot=/ @words
-c,script --unknown-of-tomorrow --tell-all
"""


def known_to_the_linker(default: Policy, words: str) -> bool:
    """As dispatcher.c asks (words.h)."""
    patterns = default.tools["gcc"].linker_words
    options = [word.removeprefix("-") if word.startswith("--") else word for word in words.split(",")]
    return all(any(fnmatchcase(word, p) for p in patterns) for word in options if word[:1] in ("-", "@"))


def test_links_that_build_systems_make_stay_native(default: Policy) -> None:
    assert [words for words in BUILD_SYSTEMS.split() if not known_to_the_linker(default, words)] == []


def test_what_makes_the_linker_tell_paths_does_not(default: Policy) -> None:
    assert [words for words in TELLING.split() if known_to_the_linker(default, words)] == []


def test_compilers_that_are_made_for_offloading(default: Policy) -> None:
    """Debian's gcc is, for arm64 and amd64; that for armhf is not."""

    def rules(tool: str, path: str, target: str) -> tuple[set[str], set[str]]:
        toolchain = load_model(PROJECT / f"toolchains/{target}.yml", Toolchain)
        path = path.replace("TRIPLET", toolchain.triplet)
        known = default.tools[tool].further_for(path, toolchain.triplet, toolchain.traits)
        without = {word for further in known for word in further.emulate_without}
        return {word for further in known for word in further.emulate_args}, without

    for target in ("arm64", "amd64"):
        arguments, without = rules("gcc", "/usr/bin/TRIPLET-gcc-14", target)
        assert {"-lm", "-fopenmp"} <= arguments
        assert without == set()
        for name in ("g++", "gfortran"):
            assert {"-c", "-E", "-S"} <= rules("gcc", f"/usr/bin/TRIPLET-{name}-14", target)[1]
        assert "-fopenmp" in rules("cc1", "/usr/libexec/gcc/TRIPLET/14/cc1plus", target)[0]
    assert rules("gcc", "/usr/bin/TRIPLET-g++-14", "armhf") == (set(), set())


def test_a_star_is_the_only_wildcard(default: Policy) -> None:
    rules = [default, *default.tools.values(), *(known for tool in default.tools.values() for known in tool.further)]
    patterns = [word for known in rules for name, words in known.lists() if name not in ("set_env", "add_args")
                for word in words]  # fmt: skip
    assert [pattern for pattern in patterns if set(pattern) & {"?", "["}] == []
    assert sum(len(pattern) + 1 for pattern in patterns) < SIZE


@pytest.mark.parametrize("target", ["armhf", "arm64"])
def test_every_identity_is_one_that_the_target_has(default: Policy, target: str) -> None:
    tools = default.tools.values()
    texts = [text for tool in tools for known in (tool.moved_strings, tool.counted_strings) for text in known.values()]
    strings = {found for text in texts for found in re.findall(r"\{[A-Z_]+\}", text)}
    assert strings == {f"{{{name}}}" for name in load_toolchain(target, PROJECT).identity}


@pytest.mark.parametrize(
    ("version", "plain"),
    [
        ("14.2.0-19", "14.2.0-19"),
        ("14.2.0-19cross1", "14.2.0-19"),
        ("14.2.0-19cross1+b2", "14.2.0-19"),
        ("5.2.37-2+b5", "5.2.37-2"),
        ("12.2.0-14+deb12u1", "12.2.0-14+deb12u1"),
        ("1+b1-2", "1+b1-2"),
    ],
)
def test_plain_version(default: Policy, version: str, plain: str) -> None:
    assert default.plain_version(version) == plain


@given(st.text("+b12cros-.", max_size=12))
def test_plain_version_only_shortens(version: str) -> None:
    policy = load_model(paths.POLICIES / "default.yml", Policy)
    assert version.startswith(policy.plain_version(version))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "one of packages, files, native-files is needed"),
        ({"native-files": ["/x"]}, "native-files and target-file go together"),
        ({"packages": ["x"], "target-file": "/y"}, "native-files and target-file go together"),
        ({"packages": ["x"], "width": "half"}, "any"),
        ({"packages": ["x"], "add-args": [""]}, "text that is not empty"),
        ({"packages": ["x"], "emulate-args": ["a\0b"]}, "without NUL"),
        ({"packages": ["x"], "set-env": {"A=B": "c"}}, "letters, digits and _"),
        ({"packages": ["x"], "set-env": {"A": "\0"}}, "without NUL"),
        ({"packages": ["x"], "sihm": True}, "sihm"),
    ],
)
def test_bad_tools(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        Tool.model_validate(fields)


def test_a_bad_policy_is_told_by_line(tmp_path: Path) -> None:
    text = (paths.POLICIES / "default.yml").read_text().replace("  sed: {packages: [sed]}", "  sed: {package: [sed]}")
    (tmp_path / "bad.yml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_model(tmp_path / "bad.yml", Policy)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "{package: [sed]}" in line)
    assert any(f"bad.yml:{line}:" in detail and "packages" in detail for detail in caught.value.details)


def test_the_triplet_is_no_pattern() -> None:
    tool = Tool.model_validate({"files": ["/usr/bin/{triplet}-as"]})
    assert tool.target_path("/usr/bin/a.b-as", "", "a.b") == "/usr/bin/a.b-as"
    assert tool.target_path("/usr/bin/axb-as", "", "a.b") is None


@pytest.mark.parametrize(
    "native",
    [
        f"{DIST}/_cffi_backend.cpython-313-{OWN}.so",
        f"{DIST}/gi/_gi.cpython-313-{OWN}.so",
        f"{DIST}/gi/_gi_cairo.cpython-313-{OWN}.so",
        f"{DIST}/numpy/_core/_multiarray_umath.cpython-313-{OWN}.so",
        f"/usr/lib/python3.13/lib-dynload/_ctypes.cpython-313-{OWN}.so",
        f"/usr/lib/{OWN}/perl5/5.40/auto/FFI/Platypus/Platypus.so",
        f"/usr/lib/{OWN}/perl5/5.40/auto/Glib/Object/Introspection/Introspection.so",
    ],
)
def test_what_loads_the_targets_libraries_has_no_partner(default: Policy, native: str) -> None:
    assert of_file(default, native, "x") is None


@pytest.mark.parametrize(
    ("package", "dependencies", "may"),
    [
        ("libxml-parser-perl", ["perl (>= 5.40.1-6)", "perlapi-5.40.1", "libc6 (>= 2.14)"], True),
        ("libffi-platypus-perl", ["perlapi-5.40.1"], False),
        ("libperl-dev", ["perl:any (= 5.40.1-6)", "libperl5.40 (= 5.40.1-6)"], False),
        ("python3-yaml", ["python3 (<< 3.14)", "python3 (>= 3.13~)", "python3:any"], True),
        ("python3-cryptography", ["python3-bcrypt", "python3 (>= 3~)", "python3:any"], True),
        ("python3-gi", ["python3 (<< 3.14)"], False),
        ("python3-dev", ["python3 (= 3.13.5-1)", "libpython3-dev (= 3.13.5-1)"], False),
        ("libglib2.0-dev-bin", ["python3:any", "python3-packaging"], False),
        ("debhelper", [], False),
    ],
)
def test_packages_that_may_bring_modules(default: Policy, package: str, dependencies: list[str], may: bool) -> None:
    assert default.brings_modules(package, dependencies) is may
