"""Neighbour maps (UMAP) of the space in hand: fitted in the background, shared by all who choose the same."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from dro.errors import DataError, DroError
from dro.neighbour_map import MapSettings, NeighbourMap, fit
from dro.space import Space
from explorer import text
from explorer.discretion import discreet, log_failure
from explorer.limits import Limits
from explorer.turns import Turns

KEPT = 4
"""Maps in memory, about a megabyte each."""


@dataclass(eq=False)
class MapJob:
    """One map as a page sees it. phase: waiting, compiling, fitting, done or failed; share of the layout."""

    space: str
    settings: MapSettings
    phase: str = "waiting"
    share: float = 0.0
    message: str = ""
    found: NeighbourMap | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def over(self) -> bool:
        return self.phase in ("done", "failed")


class Maps:
    """At most one map is fitted at a time."""

    def __init__(self, turns: Turns, limits: Limits) -> None:
        self._turns, self._limits = turns, limits
        self._lock = threading.Lock()
        self._jobs: OrderedDict[tuple[str, MapSettings], MapJob] = OrderedDict()
        self._compiled = False

    def get(self, space: Space, settings: MapSettings) -> NeighbourMap | None:
        """A map that is there."""
        job = self._jobs.get((space.name, settings))
        return job.found if job else None

    def start(self, space: Space, settings: MapSettings) -> MapJob:
        """Begin to fit a map, or join the one that is being fitted, or that is there."""
        if not self._limits.maps and settings != MapSettings():
            raise DataError("A map's settings cannot be changed here.", "Use those that are set at first.")
        name = (space.name, settings)
        with self._lock:
            job = self._jobs.get(name)
            if job is not None and job.phase != "failed":
                return job
            if any(not other.over for other in self._jobs.values()):
                raise DataError("Another map is being fitted.", text.WAIT)
            job = self._jobs[name] = MapJob(*name)
            self._jobs.move_to_end(name)
            while len(self._jobs) > KEPT:
                self._jobs.popitem(last=False)
        threading.Thread(target=self._work, args=(job, space), name="map", daemon=True).start()
        return job

    def _work(self, job: MapJob, space: Space) -> None:
        try:
            if not self._compiled:
                job.phase = "compiling"  # beside the model: it takes one core, and no turn
                rows = np.random.default_rng(0).normal(size=(40, 4))
                fit(rows, MapSettings(5), epochs=30)(rows + 0.5)
                self._compiled = True
            job.phase = "waiting"
            with self._turns.worker():
                job.phase = "fitting"

                def note(share: float) -> None:
                    job.share = share

                job.found = fit(space.anchors.coordinates, job.settings, note, self._turns.give_way)
            job.phase = "done"
        except DroError as error:
            job.message, job.phase = discreet(str(error)), "failed"
        except MemoryError:
            job.message, job.phase = text.NO_MEMORY, "failed"
        except Exception as error:
            log_failure("a map", error)
            job.message, job.phase = text.UNEXPECTED, "failed"
