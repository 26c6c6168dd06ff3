"""Workers on other machines by ssh: each lives as long as its connection."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from xbuild.base import log, process
from xbuild.base.errors import MachineError
from xbuild.cluster import certificates

_WAIT = 20
"""Seconds for a connection to be made; TCP's own limit is two minutes."""
_LOOK = 0.5
"""Seconds between two looks at which connections there are."""


def workers(address: str, machines: Sequence[str], place: Path, program: str, words: Sequence[str]) -> None:
    """Have each of `machines` work for `address` until we are interrupted, or none works any more.

    program: what xbuild is called there. words: options of each worker. Certificates go over stdin, into no file that
    stays. Raises MachineError if the last one has ended.
    """
    text = certificates.bundle(place, "worker").encode() + b"\n"
    with contextlib.ExitStack() as stack:
        running = {name: _started(name, address, program, words, text, stack) for name in dict.fromkeys(machines)}
        codes: dict[str, int] = {}
        while len(codes) < len(running):
            for name, child in running.items():
                if name not in codes and (code := child.wait(0)) is not None:
                    codes[name] = code
                    log.warn(f"{name} has stopped working ({process.describe_exit(code)}); what it said stands above")
            time.sleep(_LOOK)
    details = [f"{name}: {process.describe_exit(code)}" for name, code in codes.items()]
    tried = process.show(["ssh", machines[0], program, "doctor"])
    hint = f"is xbuild there ({tried})? --program names another one"
    raise MachineError("all machines have stopped working", details=details, hint=hint)


def _started(
    name: str, address: str, program: str, words: Sequence[str], text: bytes, stack: contextlib.ExitStack
) -> process.Child:  # fmt: skip
    reading, writing = os.pipe()
    stack.callback(os.close, writing)
    options = {"BatchMode": "yes", "ConnectTimeout": str(_WAIT), "ServerAliveInterval": "15"}
    command = ["ssh", "-T", *(word for pair in options.items() for word in ("-o", "=".join(pair))), "--", name]
    # The shell there reads it once more; the program may be several words.
    there = [*shlex.split(program), "cluster.worker", address, "--certificates", "-", *words]
    try:
        child = process.started([*command, process.show(there)], env=dict(os.environ), input=reading)
        begun = stack.enter_context(child)
    finally:
        os.close(reading)
    # It ends when this closes.
    os.write(writing, text)
    return begun
