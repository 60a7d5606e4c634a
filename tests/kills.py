"""`python -m tests.kills`: kill -9 at random moments, go on, and compare with what an unbroken run made.

Every try is a forked process that is killed after a random share of the time an unbroken one takes. What
is left must be readable at once, and the last try must end with the very same bytes.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

import kill_jobs


def attempt(job: Callable[[Path], str], folder: Path, seconds: float | None) -> str | None:
    """Run a job in a process of its own; its hash, or None where it was killed after so many seconds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            os.write(writing, job(folder).encode())
            status = 0
        except BaseException as error:
            os.write(writing, f"error {type(error).__name__}: {error}".encode())
        finally:
            os._exit(status)
    os.close(writing)
    if seconds is not None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if os.waitpid(child, os.WNOHANG)[0]:
                child = 0
                break
            time.sleep(0.002)
        else:
            os.kill(child, signal.SIGKILL)
    if child:
        os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read().decode()
    if told.startswith("error"):
        raise AssertionError(told)
    return told or None


def campaign(name: str, kills: int, draw: random.Random, folder: Path) -> tuple[int, int]:
    """Kill a job so many times over as many runs as it takes: (kills, runs that ended); raises on a
    difference."""
    job = kill_jobs.JOBS[name]
    began = time.monotonic()
    expected = attempt(job, kill_jobs.emptied(folder / "unbroken"), None)
    takes = time.monotonic() - began
    done = ended = 0
    while done < kills:
        place = kill_jobs.emptied(folder / "killed")
        found = None
        for tries in range(1000):
            # Shorter and shorter lives would never end; every fourth one is let live.
            found = attempt(job, place, None if tries % 4 == 3 else draw.uniform(0, takes))
            if found is not None:
                break
            done += 1
            kill_jobs.whole(place)
        if found != expected:
            raise AssertionError(f"{name} ended with {found}, not {expected}")
        ended += 1
    return done, ended


def main() -> int:
    """A campaign over all jobs; a table of what was killed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=25, help="of each job (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", choices=list(kill_jobs.JOBS), action="append", help="default: all")
    asked = parser.parse_args()
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.job or kill_jobs.JOBS:
            began = time.monotonic()
            done, ended = campaign(name, asked.kills, random.Random(asked.seed), Path(folder))
            total += done
            took = time.monotonic() - began
            print(f"{name}: {done} kills, {ended} runs ended with the same hash, {took:.0f} s", flush=True)
    print(f"{total} kills, 0 differences, seed {asked.seed}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
