"""A map that keeps neighbours together: UMAP, fitted once and then frozen.

Fitted on the anchors' coordinates in a space; new points go through `transform` and move nothing. On such
a map only neighbourhoods mean something: distances, directions and averages do not. Not used by the method.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dro.errors import DataError

_KEPT = 8192
"""Places of new points that are remembered, so that none moves between two looks."""


@dataclass(frozen=True)
class MapSettings:
    """neighbours: points that each one is held together with; few show detail, many the whole.
    min_dist: how close points may lie, in [0, 0.99]. seed: of the layout."""

    neighbours: int = 15
    min_dist: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("neighbours", 2, 200), ("min_dist", 0.0, 0.99), ("seed", 0, 2**31 - 1)):
            value = getattr(self, name)
            whole = name == "min_dist" or isinstance(value, int)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not whole:
                raise DataError(f"{name} is {str(value)[:40]!r}.", "Send a number.")
            if not low <= value <= high:
                raise DataError(f"{name} is {value}.", f"Choose {low} to {high}.")


@dataclass(eq=False)
class NeighbourMap:
    """A frozen map. settings: those it was fitted with."""

    settings: MapSettings
    _model: Any
    _known: dict[bytes, np.ndarray]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _fitted: int = 0

    def __call__(self, coordinates: np.ndarray) -> np.ndarray:
        """Places (n, 2) of coordinates (n, m): those of the points it was fitted on, and of new ones, which
        are looked up together where they are new, by `transform`, and kept."""
        rows = np.ascontiguousarray(coordinates, dtype=np.float32)
        keys = [row.tobytes() for row in rows]
        with self._lock:
            new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._known}
            if new:
                found = self._model.transform(np.stack(list(new.values())))
                self._known |= dict(zip(new, found.astype(np.float64), strict=True))
            places = np.array([self._known[key] for key in keys]).reshape(-1, 2)
            while len(self._known) > self._fitted + _KEPT:
                del self._known[next(key for n, key in enumerate(self._known) if n == self._fitted)]
        return places


def fit(
    coordinates: np.ndarray,
    settings: MapSettings,
    progress: Callable[[float], None] = lambda share: None,
    checkpoint: Callable[[], None] = lambda: None,
    epochs: int = 300,
) -> NeighbourMap:
    """Fit a map on coordinates (n, m).

    progress: told the share that is done. checkpoint: called between steps of the layout; may raise to stop.
    epochs: of the layout, thirty or more: `transform` takes a third of them. The same coordinates and
    settings give the same map on one machine.

    Raises
    ------
    DataError: fewer points than neighbours.
    """
    if len(coordinates) <= settings.neighbours:
        raise DataError(f"{len(coordinates)} points cannot have {settings.neighbours} neighbours each.",
                        "Choose fewer.")  # fmt: skip
    from umap import UMAP

    def step(share: float) -> None:
        progress(share)
        checkpoint()

    rows = np.ascontiguousarray(coordinates, dtype=np.float32)
    checkpoint()
    model = UMAP(
        n_neighbors=settings.neighbours, min_dist=settings.min_dist, random_state=settings.seed, n_jobs=1,
        n_epochs=epochs, tqdm_kwds={"file": _Listener(step, epochs), "disable": False, "mininterval": 0,
                                    "miniters": 1, "bar_format": "{n}"},
    )  # fmt: skip
    places = model.fit_transform(rows).astype(np.float64)
    model.tqdm_kwds = {"disable": True}
    known = {row.tobytes(): place for row, place in zip(rows, places, strict=True)}
    return NeighbourMap(settings, model, known, _fitted=len(known))


class _Listener:
    """Where the layout's progress bar is written to: the number of steps done, as text."""

    def __init__(self, step: Callable[[float], None], epochs: int) -> None:
        self._step, self._epochs = step, epochs

    def write(self, told: str) -> None:
        """A number, or the returns and blanks around it."""
        done = told.strip()
        if done.isdigit():
            self._step(int(done) / self._epochs)

    def flush(self) -> None:
        """Nothing is kept back."""
