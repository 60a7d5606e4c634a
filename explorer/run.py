"""One optimisation run as pages see it, and as its folder keeps it."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dro import store
from dro.data import QuerySet, bundled
from dro.errors import StoreError
from dro.prompts import SOFT_PROMPT_FILE
from dro.recipes import Config
from dro.region import Region
from dro.run_folder import CONFIG_FILE, Step, read_curve
from explorer import shelf, text
from explorer.turns import Visitor

if TYPE_CHECKING:
    # torch comes with this, and the page is drawn without it.
    from dro.evaluate import Rate

WATCHED = 8
"""Queries of each class watched, from either set: 16 trained on and 16 held out in all."""
WATCH_SHARE = 0.15
"""At most this share of a run's time goes into watching."""
MEASURED_FILE, PAGE_FILE = "measured.json", "page.json"
OVER = ("done", "stopped", "failed", "interrupted")


@dataclass(frozen=True, eq=False)
class Watched:
    """The watch set: its queries, and their coordinates (n, m) at each look, by number of steps done."""

    queries: QuerySet
    trained: np.ndarray
    looks: list[tuple[int, np.ndarray]] = field(default_factory=list)

    @property
    def harmful(self) -> np.ndarray:
        return np.array([q.harmful for q in self.queries.queries])


@dataclass(eq=False)
class Run:
    """One run as pages see it. `phase` is waiting, preparing, training, saving, measuring, or one of OVER.

    expected: seconds it was expected to take. rates: on validation queries, before and after.
    region: what the frozen probe is worth on the states of those queries after training.
    version: grows with every change, so that a page redraws only what is new.
    """

    name: str
    preset: str
    config: Config
    folder: Path
    expected: float
    phase: str = "waiting"
    message: str = ""
    steps: list[Step] = field(default_factory=list)
    watched: Watched | None = None
    rates: list[Rate] = field(default_factory=list)
    region: Region | None = None
    began: float = 0.0
    seconds: float = 0.0
    version: int = 0
    usable: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    visitor: Visitor = field(default_factory=Visitor)
    created: float = field(default_factory=time.time)
    """When it was asked for, in seconds since 1970."""
    owner: str = ""
    """Hash of the key that was given to whoever began it; "" where nobody owns it."""

    def owned_by(self, keys: Iterable[object]) -> bool:
        """One of the keys is that of this run."""
        hashes = (hashlib.sha256(key.encode()).hexdigest() for key in keys if isinstance(key, str))
        return any(secrets.compare_digest(each, self.owner) for each in hashes)

    @property
    def over(self) -> bool:
        return self.phase in OVER

    def as_dict(self) -> dict[str, Any]:
        """What the interface for programs tells of it."""
        last = self.steps[-1] if self.steps else None
        return {
            "run": self.name, "phase": self.phase, "message": self.message, "preset": self.preset,
            "step": len(self.steps), "steps": self.config.steps, "usable": self.usable,
            "loss": last and last.loss, "expected_seconds": round(self.expected, 1),
            "seconds": round(self.elapsed(), 1), "results": [r.as_dict() for r in self.rates],
            "region": self.region and self.region.as_dict(),
        }  # fmt: skip

    def enter(self, phase: str) -> None:
        """Go on to another phase."""
        if phase in OVER:
            self.seconds = time.monotonic() - self.began if self.began else 0.0
        self.phase = phase
        self.version += 1

    def end_early(self) -> None:
        """Stopped before a step was taken; a run that was interrupted before can still go on."""
        self.message = "" if self.steps else text.STOPPED_EARLY
        if not self.steps:
            with contextlib.suppress(OSError):  # only the empty folder that its name was claimed by
                self.folder.rmdir()
        self.enter("interrupted" if self.steps else "stopped")

    def elapsed(self) -> float:
        """Seconds since it began, or that it took."""
        return self.seconds if self.over or not self.began else time.monotonic() - self.began


def watch_set(anchors: QuerySet, held_out: QuerySet) -> Watched:
    """The first queries of each class, half of them trained on."""
    trained, unseen = anchors.limit(WATCHED).queries, held_out.limit(WATCHED).queries
    return Watched(
        QuerySet("watched", (*trained, *unseen)),
        np.repeat([True, False], [len(trained), len(unseen)]),
    )


def read_run(folder: Path, space: str) -> Run:
    """The run that a folder keeps; space: the name of the one that is shown.

    Raises StoreError where it was trained in another space or a file cannot be read, and ValueError, KeyError
    or TypeError where what a file says makes no run.
    """
    name = shelf.name_of(folder)
    told = store.read_json(folder / CONFIG_FILE)
    config = Config(**told["config"])
    page = store.read_json(folder / PAGE_FILE) if (folder / PAGE_FILE).is_file() else {}
    run = Run(name, page.get("preset", "own"), config, folder, 0.0, owner=page.get("owner", ""))
    run.created = (folder / CONFIG_FILE).stat().st_mtime
    if "watched" in page:
        run.watched = watch_set(bundled("anchors"), bundled("validation", "select"))
        run.watched.looks.extend((int(step), np.array(places)) for step, places in page["watched"])
    run.steps = read_curve(folder)
    run.seconds = sum(step.seconds for step in run.steps)
    # A run in the paper's space belongs to whatever space of the model is shown.
    ours = config.space != "" or told["space"] == space
    run.usable = (folder / SOFT_PROMPT_FILE).is_file() and ours
    run.phase = "interrupted"
    if run.usable:
        run.phase = "done" if len(run.steps) == config.steps else "stopped"
    elif not ours:
        raise StoreError(f"{folder.name} was trained in another space ({told['space']}).")
    if (folder / MEASURED_FILE).is_file():
        measured = store.read_json(folder / MEASURED_FILE)
        rows = measured["rates"]
        run.region = Region(**measured["region"]) if "region" in measured else None
        from dro.evaluate import Rate

        # What was measured under the run's own prompt was written under the name that it had then.
        for row in rows:
            told = {("label" if k == "class" else k): v for k, v in row.items()}
            run.rates.append(
                Rate(**{**told, "prompt": told["prompt"] if told["prompt"] == config.init else name})
            )
    elif run.usable:
        run.message = text.NOT_MEASURED
    return run
