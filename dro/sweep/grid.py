"""What a sweep tries: trials of one model, named by what sets them apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dro import recipes
from dro.errors import DataError
from dro.recipes import Config
from dro.studies.context import ON_PROBES

RUNGS = (0.25, 0.5)
"""Shares of the steps after which hopeless settings are stopped."""


@dataclass(frozen=True, order=True)
class Trial:
    """One training. seed: of its batches."""

    m: int
    beta: float
    seed: int

    @property
    def setting(self) -> str:
        """What its seeds have in common."""
        return f"m{self.m}-beta{self.beta:g}"

    @property
    def name(self) -> str:
        return f"{self.setting}-s{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What is tried, and what all trials share.

    m, beta: widths of the space, weights of L_U. seeds: how many, counted up from the recipe's.
    look: steps between looks at validation; the step with most first-token mass there is kept (see `Config`).
    target: as for `Config`; with the probes as the target m decides what is aimed at, not L_U alone.
    early: stop hopeless settings.
    """

    m: tuple[int, ...]
    beta: tuple[float, ...]
    seeds: int = 1
    recipe: str = "best"
    steps: int = 60
    batch: int = 16
    look: int = 15
    target: str = "absolute"
    early: bool = True

    def __post_init__(self) -> None:
        if not self.m or not self.beta or self.seeds < 1 or self.look < 1:
            raise DataError(
                "This sweep tries nothing.", "Name widths, weights, a seed and steps between looks."
            )
        if min(self.m) < 1 or min(self.beta) < 0 or not all(map(math.isfinite, self.beta)):
            raise DataError(f"m {self.m} and β {self.beta} cannot be.", "m ≥ 1 and β ≥ 0.")
        for number in (0, self.seeds - 1):
            self.config(Trial(self.m[0], self.beta[0], number))

    def config(self, trial: Trial) -> Config:
        """The settings of a trial's training."""
        changes: dict[str, Any] = {**ON_PROBES, "target": self.target, "residual_weight": trial.beta}
        sizes = {"steps": self.steps, "batch": self.batch, "validate_every": self.look, "choose": "mass"}
        return recipes.config(self.recipe, **changes, **sizes, seed=trial.seed)

    def trials(self) -> list[Trial]:
        """All of them, by width, weight and seed; each once."""
        first = recipes.config(self.recipe).seed
        return sorted({
            Trial(m, beta, first + number)
            for m in self.m for beta in self.beta for number in range(self.seeds)
        })  # fmt: skip

    def rungs(self) -> list[int]:
        """Steps at which trials are compared: the looks next to `RUNGS`, and the end."""
        early = (
            {self.look * round(share * self.steps / self.look) for share in RUNGS} if self.early else set()
        )
        return [*sorted(step for step in early if 0 < step < self.steps), self.steps]

    def as_dict(self, models: tuple[str, ...], space: Path | None) -> Mapping[str, Any]:
        """What decides a sweep, as json."""
        told = asdict(self) | {"m": sorted(set(self.m)), "beta": sorted(set(self.beta))}
        return {"format": 1, "models": list(models), "space": None if space is None else str(space), **told}
