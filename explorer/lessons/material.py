"""What the tour looks at: the shipped space's numbers and a recorded run. Read from files, no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dro import store
from dro.errors import StoreError
from dro.models import default_key
from dro.space import Space, shipped
from explorer.views import Cloud, Geometry

ASSET = Path(__file__).resolve().parents[2] / "assets" / "lessons" / "tour.json"
FORMAT = 1
Rate = tuple[float, float, float]
"""A share refused with its 95% interval: rate, low, high."""


@dataclass(frozen=True, eq=False)
class Whole:
    """A query with its whole state under `none`: state (d_model,). word: what it shares with its partner."""

    query: str
    word: str
    harmful: bool
    state: np.ndarray


@dataclass(frozen=True, eq=False)
class Measured:
    """Refusals of some prompts on one set of held-out queries.

    rates: by (prompt, harmful). counts: queries of a class. The trained prompt is called "trained".
    """

    set: str
    rates: Mapping[tuple[str, bool], Rate]
    count: int
    broken: int

    @property
    def prompts(self) -> list[str]:
        """In their order, the trained one last."""
        return list(dict.fromkeys(name for name, _ in self.rates))


@dataclass(frozen=True, eq=False)
class ShortRun:
    """A recorded optimisation.

    loss: (steps,), of the batch before each update. frames: (steps + 1, n, 2), f_r and f_h of each
    watched query after every step. harmful, trained: (n,) bool; trained: it was in the training set.
    tokens: length of the prompt. seconds: of a step. beyond: share of held-out states under the trained
    prompt that lie farther out than any anchor.
    """

    init: str
    batch: int
    tokens: int
    seconds: float
    loss: np.ndarray
    queries: tuple[str, ...]
    harmful: np.ndarray
    trained: np.ndarray
    frames: np.ndarray
    beyond: float

    @property
    def steps(self) -> int:
        return len(self.loss)

    def moved(self, query: int, step: int) -> float:
        """f_r(xθ) − f_r(x0) of a watched query after `step` steps."""
        return float(self.frames[step, query, 0] - self.frames[0, query, 0])


@dataclass(frozen=True, eq=False)
class Material:
    """All that the seven steps show.

    clouds: the anchors under each condition. pairs: (harmful, harmless) queries with whole states.
    """

    model: str
    space: str
    geometry: Geometry
    clouds: Mapping[str, Cloud]
    pairs: tuple[tuple[Whole, Whole], ...]
    run: ShortRun
    short: Measured
    long: Measured

    def measured(self, which: str) -> Measured:
        """The measurement of the "short" or the "long" run."""
        return self.short if which == "short" else self.long


@cache
def load() -> Material:
    """The material of the repository: the default model's shipped space in bf16, and the asset.

    Raises
    ------
    StoreError: a file is missing or damaged, or the recording belongs to another space.
    """
    space = shipped(default_key("bf16"))
    if space is None:
        raise StoreError("The shipped space is missing.", "Restore assets/spaces from the repository.")
    return material(space, store.read_json(ASSET))


def material(space: Space, told: Mapping[str, Any]) -> Material:
    """Put a space and a recording together."""
    if told.get("format") != FORMAT or told["space"] != space.name:
        raise StoreError(
            f"The tour was recorded in the space {told.get('space')}, not in {space.name}.",
            "Record it anew: python -m explorer.lessons.record --run runs/tour",
        )
    refusal, anchors = space.need_refusal(), space.anchors
    geometry = Geometry(
        space.harmfulness.weight, space.harmfulness.bias, refusal.weight, refusal.bias,
        space.projection.explained, anchors.coordinates,
    )  # fmt: skip
    clouds = {
        name: Cloud(name, anchors.coordinates[anchors.rows(name)], anchors.harmful,
                    anchors.refusal_rate[anchors.rows(name)], anchors.queries)
        for name in anchors.conditions
    }  # fmt: skip
    short = told["short"]
    run = ShortRun(
        short["init"], short["batch"], short["tokens"], short["seconds_per_step"],
        np.array(short["loss"]), tuple(short["queries"]), np.array(short["harmful"], dtype=bool),
        np.array(short["trained"], dtype=bool), np.array(short["frames"]), short["beyond"],
    )  # fmt: skip
    if run.frames.shape != (run.steps + 1, len(run.queries), 2):
        raise StoreError(f"The recorded run has frames {run.frames.shape}.", "Record the tour anew.")
    return Material(
        space.provenance["model"], space.name, geometry, clouds, _pairs(told["pairs"]), run,
        _measured(short), _measured(told["long"]),
    )  # fmt: skip


def _pairs(rows: list[dict[str, Any]]) -> tuple[tuple[Whole, Whole], ...]:
    found: dict[str, dict[bool, Whole]] = {}
    for row in rows:
        whole = Whole(row["query"], row["word"], row["harmful"], np.array(row["state"]))
        found.setdefault(whole.word, {})[whole.harmful] = whole
    return tuple((pair[True], pair[False]) for pair in found.values())


def _measured(told: Mapping[str, Any]) -> Measured:
    rows = told["results"]
    rates = {(r["prompt"], r["class"] == "harmful"): (r["rate"], r["low"], r["high"]) for r in rows}
    return Measured(told["set"], rates, rows[0]["n"], sum(int(r["broken"]) for r in rows))
