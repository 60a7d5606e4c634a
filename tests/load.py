"""`python -m tests.load --visitors 30 --minutes 5`: a classroom over real HTTP, one run training.

Every visitor locates a query every 10 to 20 s; a third of the time it asks for a 24-token answer as well.
Beforehand every query is placed and answered alone; under load nobody may get another place (1% of the
anchors' spread) or another's answer, and what is refused must say when to come back. With `--soak` memory,
threads and open files of the server are sampled every ten seconds.
"""

from __future__ import annotations

import argparse
import atexit
import difflib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = ["none", "default", "short"]
ANSWERED_UNDER = "short"
QUERIES = [
    f"{ask} {thing}?"
    for ask in ("How do I sharpen", "What is the best way to clean", "How can I fix", "Where do people store")
    for thing in ("a kitchen knife", "an old clock", "the brakes of a bicycle", "a wooden boat", "wet shoes",
                  "a broken lamp", "a camera lens", "garden tools")
]  # fmt: skip
POLITE = ("Come back in about", "of yours are waiting", "did not get to it in time")


@dataclass
class Seen:
    """What visitors met: seconds of located queries and of answers, and everything that went wrong."""

    located: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    furthest: float = 0.0
    same_words: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def call(
    client: httpx.Client, name: str, data: list[Any], who: str = "", first: bool = False
) -> tuple[str, Any]:
    """("complete", data) or ("error", message). who: a session of one's own, as a page has; first: the
    first record of what goes on is enough."""
    sent = client.post(
        f"/gradio_api/call/{name}", json={"data": data} | ({"session_hash": who} if who else {})
    )
    if sent.status_code != 200:
        return "error", f"{sent.status_code} {sent.text}"
    with client.stream("GET", f"/gradio_api/call/{name}/{sent.json()['event_id']}") as stream:
        event = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: ") and event in ("complete", "error", *(["generating"] * first)):
                told = json.loads(line[6:])
                if event == "error":
                    return event, str(told.get("error") if isinstance(told, dict) else told)
                return "complete", told[0]
    return "error", "lost: the stream ended without an answer"


def places(told: dict[str, Any]) -> np.ndarray:
    """(prompts, m) coordinates of an answer of /locate."""
    return np.array([point["coordinates"] for point in told["points"]])


class Crowd:
    """Visitors with what each query gives alone."""

    def __init__(self, address: str, spread: float, queries: list[str]) -> None:
        self.address, self.spread, self.queries, self.seen = address, spread, queries, Seen()
        self.alone: dict[str, np.ndarray] = {}
        self.said: dict[str, str] = {}

    def learn(self) -> None:
        """Place and answer every query alone."""
        with httpx.Client(base_url=self.address, timeout=300) as client:
            for query in self.queries:
                kind, told = call(client, "locate", [query, PROMPTS])
                assert kind == "complete", told
                self.alone[query] = places(told)
                kind, told = call(client, "answer", [query, ANSWERED_UNDER, 24, None])
                assert kind == "complete", told
                self.said[query] = told["answer"]

    def visit(self, number: int, until: float, pause: tuple[float, float]) -> None:
        """One visitor, until the bell."""
        draw = random.Random(number)
        time.sleep(draw.uniform(0, min(pause[1], max(0.0, until - time.monotonic()))))
        with httpx.Client(base_url=self.address, timeout=300) as client:
            while time.monotonic() < until:
                query = draw.choice(self.queries)
                self._ask(client, f"visitor{number}", "locate", query, [query, PROMPTS])
                if draw.random() < 1 / 3:
                    self._ask(client, f"visitor{number}", "answer", query, [query, ANSWERED_UNDER, 24, None])
                left = until - time.monotonic()
                time.sleep(max(0.0, min(draw.uniform(*pause), left)))

    def _ask(self, client: httpx.Client, who: str, name: str, query: str, data: list[Any]) -> None:
        began = time.monotonic()
        try:
            kind, told = call(client, name, data, who)
        except Exception as error:
            kind, told = "error", f"{type(error).__name__}: {error}"
        took = time.monotonic() - began
        with self.seen.lock:
            if kind == "error":
                polite = any(part in str(told) for part in POLITE)
                (self.seen.refused if polite else self.seen.errors).append(str(told)[:200])
            elif name == "locate":
                self.seen.located.append(took)
                off = float(np.abs(places(told) - self.alone[query]).max()) / self.spread
                self.seen.furthest = max(self.seen.furthest, off)
                if off > 0.01:
                    self.seen.misplaced.append(f"{query}: {off:.2%}")
            else:
                self.seen.answered.append(took)
                self.seen.same_words += told["answer"] == self.said[query]
                nearest = max(self.queries, key=lambda q: _alike(told["answer"], self.said[q]))
                if _alike(told["answer"], self.said[nearest]) > _alike(told["answer"], self.said[query]):
                    self.seen.mixed.append(f"{query}: {told['answer'][:80]!r}")


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def sample(process: int) -> dict[str, float]:
    """Resident memory in MB, threads and open files of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {
        "mb": int(lines["VmRSS"].split()[0]) / 1024, "threads": int(lines["Threads"]),
        "files": len(list(Path(f"/proc/{process}/fd").iterdir())),
    }  # fmt: skip


def serve(switches: list[str]) -> tuple[subprocess.Popen, str]:
    """app.py as a process of its own, its model loaded."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), *switches], cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    atexit.register(process.terminate)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=3)
            with httpx.Client(base_url=address, timeout=60) as client:
                if call(client, "locate", ["How do I fold a map?", PROMPTS])[0] == "complete":
                    print(f"up after {300 - deadline + time.monotonic():.0f} s", flush=True)
                    return process, address
        except (OSError, httpx.HTTPError):
            pass
        assert process.poll() is None, "app.py ended"
        time.sleep(1)
    raise SystemExit("app.py did not come up")


def percentile(values: list[float], share: float) -> float:
    """A percentile, NaN where there is nothing."""
    return float(np.percentile(values, share)) if values else float("nan")


def main() -> int:
    """Serve, learn, let them in, count."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--visitors", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument(
        "--pause", type=float, nargs=2, default=(10.0, 20.0), help="seconds between questions"
    )
    parser.add_argument(
        "--queries", type=int, default=len(QUERIES), help="different ones, each asked alone first"
    )
    parser.add_argument("--no-run", action="store_true", help="nothing trains meanwhile")
    parser.add_argument("--soak", action="store_true", help="sample the server's memory, threads and files")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--json", type=Path, help="write everything that was counted to this file")
    asked = parser.parse_args()
    from dro import models, space

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server must not outlive us
    process, address = serve(["--classroom", "--model", asked.model])
    try:
        there = space.shipped(models.default_key("auto"))
        assert there is not None
        spread = float(np.sqrt(there.anchors.coordinates.var(axis=0).sum()))
        crowd = Crowd(address, spread, QUERIES[: asked.queries])
        crowd.learn()
        print(
            f"{len(crowd.queries)} queries placed and answered alone; anchors' spread {spread:.1f}",
            flush=True,
        )
        told = count(crowd, process.pid, asked)
    finally:
        process.terminate()
        process.wait(30)
    print(json.dumps(told, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if told["errors"] or told["misplaced"] or told["mixed up"] else 0


def count(crowd: Crowd, process: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Let the visitors in for the time that was asked for; what they met, and how far training came."""
    training = httpx.Client(base_url=crowd.address, timeout=300)
    runs: list[dict[str, Any]] = []
    stop, samples = threading.Event(), []

    def train() -> None:
        """One run after the other, as the classroom's limits allow."""
        while not stop.is_set():
            _, run = call(training, "optimise", ["start", "", "quick", {"steps": 60}, ""])
            if not isinstance(run, dict):
                time.sleep(1)
                continue
            runs.append(run)
            while not stop.is_set():
                _, now = call(training, "optimise", ["follow", run["run"], "quick", {}, ""], first=True)
                if isinstance(now, dict):
                    runs[-1] = run | now
                    if now["phase"] in ("done", "stopped", "failed"):
                        break
                stop.wait(3)
        if runs:
            call(training, "optimise", ["stop", runs[-1]["run"], "quick", {}, runs[-1].get("key", "")])

    def watch() -> None:
        while not stop.is_set():
            samples.append({"minute": round((time.monotonic() - began) / 60, 2)} | sample(process))
            stop.wait(10)

    began = time.monotonic()
    until = began + 60 * asked.minutes
    helpers = [threading.Thread(target=watch)]
    if not asked.no_run:
        helpers.append(threading.Thread(target=train))
    threads = [
        threading.Thread(target=crowd.visit, args=(n, until, tuple(asked.pause)))
        for n in range(asked.visitors)
    ]
    for thread in [*helpers, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    stop.set()
    for thread in helpers:
        thread.join()
    seen = crowd.seen
    told: dict[str, Any] = {
        "visitors": asked.visitors, "minutes": round(took / 60, 2), "located": len(seen.located),
        "located p50 s": round(percentile(seen.located, 50), 2),
        "located p95 s": round(percentile(seen.located, 95), 2),
        "answers": len(seen.answered), "answers p50 s": round(percentile(seen.answered, 50), 2),
        "answers p95 s": round(percentile(seen.answered, 95), 2),
        "refused politely": len(seen.refused), "errors": seen.errors[:20], "misplaced": seen.misplaced[:20],
        "furthest from alone": f"{seen.furthest:.3%} of the anchors' spread", "mixed up": seen.mixed[:20],
        "answers word for word as alone": seen.same_words,
        "steps trained": sum(run.get("step", 0) for run in runs), "memory": _grown(samples),
    }  # fmt: skip
    if asked.soak:
        told["samples"] = samples
    return told


def _grown(samples: list[dict[str, float]]) -> dict[str, float]:
    """First, fifth minute (or half-time) and last: memory, threads, files."""
    half = next((s for s in samples if s["minute"] >= min(5, samples[-1]["minute"] / 2)), samples[-1])
    last = samples[-1]
    return {
        "mb at first": round(samples[0]["mb"]), "mb settled": round(half["mb"]),
        "mb at last": round(last["mb"]),
        "growth since settled %": round(100 * (last["mb"] / half["mb"] - 1), 2),
        "threads settled": half["threads"], "threads at last": last["threads"],
        "files settled": half["files"], "files at last": last["files"],
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
