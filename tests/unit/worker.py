"""Stands for a command of ours in tests of many at once: it takes jobs out of its pipe, and may die of it.

Words: the directory in which each job is a file, how many jobs it does, how it ends (greedy: it
waits until it has so many at once), seconds that one takes at most;
then --json --events FILE. Each job notes how many there are at once, of all workers.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def main() -> None:
    place, count, ending, longest = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    events = Path(sys.argv[sys.argv.index("--events") + 1])
    if ending in ("wait", "deaf"):
        from xbuild.base import process

        process.end_with_starter()
        if ending == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (place / f"pid-{os.getpid()}").touch()
        time.sleep(600)
    pipe = os.open(os.environ["XBUILD_JOBSERVER"], os.O_RDWR | os.O_NONBLOCK)
    own = [place / f"job-{os.getpid()}-0"]
    own[0].touch()
    chance = random.Random(os.getpid())
    with events.open("a") as file:
        file.write(json.dumps({"event": "began", "name": "work", "depth": 0, "time": time.time()}) + "\n")
    held = 0
    while ending == "greedy" and held < count:
        with suppress(BlockingIOError):
            os.read(pipe, 1)
            held += 1
            own.append(place / f"job-{os.getpid()}-{held}")
            own[-1].touch()
        time.sleep(0.01)
    for number in range(1, count + 1) if ending != "greedy" else ():
        with suppress(BlockingIOError):
            os.read(pipe, 1)
            held += 1
            own.append(place / f"job-{os.getpid()}-{number}")
            own[-1].touch()
            with (place / "most").open("a") as file:
                file.write(f"{len(list(place.glob('job-*')))}\n")
        if ending == "die" and number > count // 2:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(chance.random() * longest)
        if held and chance.random() < 0.6:
            own.pop().unlink()
            held -= 1
            os.write(pipe, b"+")
    for job in own[1:]:
        job.unlink()
        os.write(pipe, b"+")
    own[0].unlink()
    print(json.dumps({"status": "failed" if ending == "fail" else "built", "error": None}))
    sys.exit(3 if ending == "fail" else 0)


main()
