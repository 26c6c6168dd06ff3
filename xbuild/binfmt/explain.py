"""Tells what the kernel does with a file that is to be started, and why it fails, by the kernel's own rules.

The order of things is that of exec_binprm and search_binary_handler (fs/exec.c): binfmt_misc, `#!`, ELF; what they
start is loaded in the same way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from xbuild.binfmt import architectures, header, rooted
from xbuild.binfmt.answer import Answer, Comparison, Forecast
from xbuild.binfmt.entry import WINDOW, Entry
from xbuild.binfmt.header import Header
from xbuild.binfmt.hints import hints_for, near
from xbuild.binfmt.kernel import State
from xbuild.binfmt.rooted import Rooted
from xbuild.formats import libraries
from xbuild.formats.elf import ELF_MAGIC

_MAX_DEPTH = 5
"""So many times may a program be replaced by another one that is to run it (exec_binprm)."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class _End(Exception):
    """The program does not run: how, a word for the cause, the text, the errno of execve."""

    def __init__(self, verdict: Forecast, cause: str, text: str, fault: int = 0) -> None:
        super().__init__(text)
        self.verdict = verdict
        self.cause = cause
        self.fault = fault


def refuse(cause: str, text: str, fault: int) -> NoReturn:
    raise _End("refused", cause, text, fault)


def die(cause: str, text: str) -> NoReturn:
    raise _End("dies", cause, text)


def runs_32_bit(proc: Path = Path("/proc")) -> bool:
    """Whether a 64-bit x86 kernel also runs 32-bit programs (CONFIG_IA32_EMULATION, and not switched off at boot)."""
    words = (proc / "cmdline").read_text().split() if (proc / "cmdline").exists() else []
    off = {"ia32_emulation=0", "ia32_emulation=off", "ia32_emulation=n", "ia32_emulation=false"}
    return (proc / "sys/abi/vsyscall32").exists() and not off & set(words)


class Explainer:
    """Explains files.

    state: what the kernel has. root: the directory that the program has for `/`. uname: the machine, as `uname -m`
    says it. narrow: whether a 64-bit x86 kernel runs 32-bit programs. environ: of the program.
    """

    def __init__(
        self,
        state: State,
        root: Path = Path("/"),
        *,
        uname: str | None = None,
        narrow: bool | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._state = state
        self._root = root
        self._uname = os.uname().machine if uname is None else uname
        self._narrow = runs_32_bit() if narrow is None else narrow
        self._environ = os.environ if environ is None else environ
        self._answer = Answer("", "")

    def explain(self, file: str) -> Answer:
        """What comes of starting `file`, absolute inside the root."""
        self._answer = answer = Answer(file, str(self._root), certain=self._state.certain)
        try:
            found = rooted.find(file, self._root)
            if found.fault:
                refuse(found.code, found.reason, found.fault)
            if found.inside != file:
                answer.chain.append(f"{file} is {found.inside}")
            self._load(found.outside, file, 0)
            answer.verdict, answer.cause, answer.text = "runs", "ok", answer.chain[-1]
        except _End as end:
            answer.verdict, answer.cause, answer.text = end.verdict, end.cause, str(end)
            answer.fault = end.fault
            if self._state.remark:
                answer.notes.append(f"binfmt_misc: {self._state.remark}")
        answer.hints += hints_for(answer, self._architecture(file))
        return answer

    def _architecture(self, file: str) -> str | None:
        outside = rooted.exists(file, self._root)
        with contextlib.suppress(OSError):
            known = header.read(outside) if outside is not None and outside.is_file() else None
            return known.architecture if known else None
        return None

    def _load(self, file: Path, called: str, depth: int) -> None:
        """Go on as the kernel does with an opened file; `called` is the path that it is known by."""
        if depth > _MAX_DEPTH:
            refuse("loop", f"more than {_MAX_DEPTH} programs, each to run the one before", errno.ELOOP)
        try:
            with file.open("rb") as stream:
                start = stream.read(WINDOW)
        except OSError as error:
            text = f"{called} may be executed but not read by you ({error.strerror})"
            raise _End("unknown", "unreadable", f"{text}: an emulator gets it only by the flag O") from error
        entry = self._taken(start, called)
        if entry is not None:
            self._by_entry(entry, file, start, called, depth)
        elif start.startswith(b"#!"):
            self._script(start, called, depth)
        elif start.startswith(ELF_MAGIC):
            known = header.read(file)
            assert known is not None
            self._elf(known, start, called)
        else:
            self._no_program(start, called)

    def _taken(self, start: bytes, called: str) -> Entry | None:
        instance = self._state.effective
        if instance is None or not instance.enabled:
            return None
        return next((entry for entry in instance.entries if entry.enabled and entry.takes(start, called)), None)

    def _by_entry(self, entry: Entry, file: Path, start: bytes, called: str, depth: int) -> None:
        answer = self._answer
        flags = entry.flags or "none"
        answer.chain.append(f"binfmt_misc: the entry {entry.name} (flags {flags}) has {entry.interpreter} run {called}")
        if entry.kind == "M":
            answer.comparisons.append(Comparison(entry, start))
        others = [other.name for other in self._later(entry) if other.takes(start, called)]
        if others:
            answer.notes.append(f"the newest entry that fits counts; {', '.join(others)} would fit too")
        program = self._interpreter_of(entry)
        if program is None:
            answer.notes.append(f"{entry.interpreter} is no longer there; what was opened at registration runs on")
        else:
            try:
                self._load(program, entry.interpreter, depth + 1)
            except _End as end:
                if end.cause in ("loop", "unreadable"):
                    raise
                cause = end.cause if end.cause.startswith("interpreter-") else f"interpreter-{end.cause}"
                text = f"the interpreter of the entry {entry.name} cannot run: {end}"
                raise _End(end.verdict, cause, text, end.fault) from end
        self._under_emulator(entry, file, called)

    def _later(self, entry: Entry) -> list[Entry]:
        instance = self._state.effective
        assert instance is not None
        after = instance.entries[instance.entries.index(entry) + 1 :]
        return [other for other in after if other.enabled]

    def _interpreter_of(self, entry: Entry) -> Path | None:
        if "F" in entry.flags:
            # Opened by its path on the machine, long before; that it is there no more does not matter.
            opened = Path(entry.interpreter)
            return opened if opened.is_file() else None
        found = rooted.find(entry.interpreter, self._root)
        if found.fault:
            code = {errno.ENOENT: "missing", errno.EACCES: "not-executable"}.get(found.fault, "missing")
            where = "" if str(self._root) == "/" else f" in the root {self._root}, and the entry has no flag F"
            text = f"the entry {entry.name} takes it, but its interpreter cannot be opened{where}: {found.reason}"
            refuse(f"interpreter-{code}", text, found.fault)
        return found.outside

    def _script(self, start: bytes, called: str, depth: int) -> None:
        name, argument = _shebang(start, called)
        text = os.fsdecode(name)
        self._answer.chain.append(f"#!: {text} runs {called}")
        # A relative one is looked up from the working directory, for which `/` stands here.
        found = rooted.find(text, self._root)
        if found.fault:
            if text.endswith("\r"):
                said = f"its first line ends with a carriage return, so the kernel looks for {text!r}"
                refuse("script-line-ends", said, found.fault)
            code = "script-interpreter-missing" if found.fault == errno.ENOENT else f"script-interpreter-{found.code}"
            refuse(code, f"the interpreter in its first line, {text}: {found.reason}", found.fault)
        self._load(found.outside, text, depth + 1)
        if Path(text).name == "env" and argument:
            self._env(argument)

    def _env(self, argument: str) -> None:
        words = argument.split()
        words = words[1:] if words[:1] == ["-S"] else words[:1]
        program = next((word for word in words if "=" not in word and not word.startswith("-")), "")
        folders = self._environ.get("PATH", _PATH).split(":")
        if not program or "/" in program:
            return
        if not any(rooted.exists(f"{folder}/{program}", self._root) for folder in folders if folder.startswith("/")):
            die("script-interpreter-missing", f"env finds no {program!r} in PATH (exit code 127)")

    def _no_program(self, start: bytes, called: str) -> None:
        if not start:
            refuse("empty", f"{called} is empty (a shell runs it as a script without commands)", errno.ENOEXEC)
        if re.match(rb"\xef\xbb\xbf#!", start):
            text = f"{called} begins with a byte order mark, so that #! is not at its start"
            refuse("byte-order-mark", text, errno.ENOEXEC)
        near(self._answer, self._state, start, called)
        if b"\0" in start:
            text = f"{called} is data: it is neither ELF nor a script, and no entry takes it"
            refuse("no-program", text, errno.ENOEXEC)
        text = f"{called} is text without #! at its start (a shell runs it as its own script, others do not)"
        refuse("no-interpreter-line", text, errno.ENOEXEC)

    def _elf(self, known: Header, start: bytes, called: str) -> None:
        name = known.architecture
        if known.short and known.fault == known.short:
            refuse("truncated", f"{called} is cut off: {known.short}", errno.ENOEXEC)
        if known.e_type not in header.RUNNABLE and known.elf_class:
            refuse("not-a-program", f"{called}: {known.fault}", errno.ENOEXEC)
        native = name is not None and architectures.runs_natively(name, self._uname)
        if not native or (name == "i386" and self._uname == "x86_64" and not self._narrow):
            self._foreign(known, start, called)
        if known.fault:
            refuse("broken", f"{called} is broken: {known.fault}", errno.ENOEXEC)
        self._answer.chain.append(f"the kernel loads {called} ({known.describe()})")
        if known.interpreter is not None:
            self._loader(known, called)
        self._loaded(known, called, "SIGSEGV or SIGBUS ends it")

    def _foreign(self, known: Header, start: bytes, called: str) -> NoReturn:
        what = f"{called} is for another machine ({known.describe()})"
        state, instance = self._state, self._state.effective
        if instance is None and not state.certain:
            text = f"{what}, and whether an entry of binfmt_misc takes it cannot be seen: {state.remark}"
            raise _End("unknown", "entries-not-visible", text)
        if not state.supported:
            refuse("binfmt-absent", f"{what}, and the kernel has no binfmt_misc", errno.ENOEXEC)
        near(self._answer, state, start, called)
        fitting = [entry for entry in instance.entries if entry.takes(start, called)] if instance else []
        if fitting and instance and not instance.enabled:
            text = f"{what}; the entry {fitting[0].name} would take it, but binfmt_misc is disabled as a whole"
            refuse("binfmt-disabled", text, errno.ENOEXEC)
        if fitting:
            text = f"{what}; the entry {fitting[0].name} would take it, but it is disabled"
            refuse("entry-disabled", text, errno.ENOEXEC)
        refuse("no-entry", f"{what}, and no entry of binfmt_misc takes it", errno.ENOEXEC)

    def _loader(self, known: Header, called: str) -> None:
        assert known.interpreter is not None
        found = rooted.find(known.interpreter, self._root)
        if found.fault:
            text = f"{called} is there, but the loader that it names is not usable: {found.reason}"
            code = "loader-missing" if found.fault == errno.ENOENT else "loader-not-executable"
            refuse(code, text, found.fault)
        loader = header.read(found.outside)
        if loader is None or (loader.machine, loader.data) != (known.machine, known.data):
            said = loader.describe() if loader else "no ELF file"
            # A header's length could not be read: elf_read (fs/binfmt_elf.c).
            short = found.outside.stat().st_size < header.SIZE[known.elf_class]
            text = f"the loader of {called}, {found.inside}, is {said}"
            refuse("loader-wrong", text, errno.EIO if short else errno.ELIBBAD)
        self._answer.chain.append(f"its loader is {found.inside}")

    def _loaded(self, known: Header, called: str, end: str) -> None:
        """What befalls a program once it has been started, by the kernel or an emulator."""
        if known.short:
            die("truncated", f"{called} is cut off: {known.short}; {end}")
        if known.interpreter is None:
            if known.e_type == 3 and known.entry == 0:
                die("library", f"{called} is a library without an entry point; {end}")
            return
        more = [folder for folder in self._environ.get("LD_LIBRARY_PATH", "").split(":") if folder.startswith("/")]
        lacking = [f"{name}, needed by {user}" for name, user in libraries.missing(called, Rooted(self._root), more)]
        if lacking:
            die("library-missing", f"its loader does not find {'; '.join(lacking)} (exit code 127)")

    def _under_emulator(self, entry: Entry, file: Path, called: str) -> None:
        known = header.read(file)
        if known is None:
            return
        if entry.interpreter.endswith("-binfmt-P") and "P" not in entry.flags:
            text = f"{entry.interpreter} wants argv[0] as a word of its own, but {entry.name} has no flag P"
            die("flag-p-missing", text)
        if entry.architecture and known.architecture and entry.architecture != known.architecture:
            text = f"{called} is for {known.architecture}, but the entry {entry.name} for {entry.architecture} takes it"
            die("wrong-entry", text)
        if known.fault:
            die("truncated" if known.short else "broken", f"{called}: {known.fault}; the emulator refuses it")
        mode = file.stat().st_mode
        if mode & (stat.S_ISUID | stat.S_ISGID) and "C" not in entry.flags:
            self._answer.notes.append("its setuid or setgid bit has no effect: the entry has no flag C")
        if known.interpreter is not None and not self._emulated_loader(known):
            text = f"{entry.interpreter} starts, but does not find the loader that {called} names: {known.interpreter}"
            die("loader-missing", text)
        self._loaded(known, called, "the emulator refuses it or crashes")

    def _emulated_loader(self, known: Header) -> bool:
        assert known.interpreter is not None
        # qemu's -L: its variable, and the places that distributions compile in.
        name = known.architecture or ""
        prefixes = ("", self._environ.get("QEMU_LD_PREFIX", ""), f"/etc/qemu-binfmt/{name}", f"/usr/gnemul/qemu-{name}")
        return any(rooted.exists(prefix + known.interpreter, self._root) for prefix in prefixes)


def _shebang(start: bytes, called: str) -> tuple[bytes, str]:
    """Interpreter and argument of a script's first line, as load_script (fs/binfmt_script.c) cuts them."""
    line, newline, _ = start[2:].partition(b"\n")
    line = line.partition(b"\0")[0] if not newline else line
    text = line.strip(b" \t")
    if not text:
        refuse("script-interpreter-missing", f"{called}: there is nothing behind #!", errno.ENOEXEC)
    name, _, argument = text.replace(b"\t", b" ").partition(b" ")
    if not newline and len(start) == WINDOW and name == text and b"\0" not in start:
        refuse("script-line-too-long", f"{called}: its #! line is longer than {WINDOW} bytes", errno.ENOEXEC)
    return name, os.fsdecode(argument.strip())


def which(word: str) -> str:
    """The file that `word` of a command line means: a path, or a program in PATH; absolute."""
    if "/" not in word and not Path(word).exists():
        word = shutil.which(word) or word
    return str(Path(word).absolute())
