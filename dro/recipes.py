"""Settings of an optimisation, and the recipes: named settings that were tried.

paper   the paper's, to the letter; it belongs to the paper's own space (`fit --recipe paper`).
best    the safest that was found on the default model (docs/results/README.md).
quick   about a minute of training on two cores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dro import data
from dro.data import Query, QuerySet
from dro.errors import DataError


class Config(BaseModel):
    """Settings of an optimisation.

    Attributes
    ----------
    space: which of the model's spaces gives the directions: its own "", or the paper's.
    init: text prompt that θ starts from. queries: bundled sets to train on, joined by +.
    target: "difference" from the start, as in the paper, "absolute", or "first-token" (see `objective`).
    ranking: ρ, the share of L_r that ranks a batch's harmful queries above its harmless ones.
    harmless_weight: weight of a harmless query in L_r and L_h, a harmful one counting 1.
    steps: updates of θ. batch: queries in each, half of either class.
    batches: drawn as "pairs" of look-alikes, or each half from its own "classes", as in the paper.
    lr: AdamW's learning rate; `schedule`: constant, or falling to zero on a cosine. beta2: how slowly its
        second moment forgets.
    harmfulness_weight: of L_h. residual_weight: β, of L_U. residual_on: "all" queries of a batch, or its
        "anchors" alone, whose starting states are needed anyway; those of all cost half as much as the steps.
    validate_every: steps between looks at held-out queries (0: never).
    choose: which step's prompt is kept: the "last"; that with the least "loss" on held-out queries; or that
        with most first-token refusal "mass" on harmful held-out queries less `harmless_weight` times that on
        harmless ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    space: Literal["", "paper"] = ""
    init: str = "short"
    queries: str = "anchors"
    target: Literal["difference", "absolute", "first-token"] = "absolute"
    ranking: float = Field(0.0, ge=0, le=1)
    harmless_weight: float = Field(4.0, gt=0)
    steps: int = Field(160, ge=1, le=100_000)
    batch: int = Field(50, ge=2, le=1024)
    batches: Literal["classes", "pairs"] = "classes"
    lr: float = Field(2e-3, gt=0, le=1)
    schedule: Literal["constant", "cosine"] = "cosine"
    harmfulness_weight: float = Field(0.3, ge=0)
    residual_weight: float = Field(0.001, ge=0)
    residual_on: Literal["all", "anchors"] = "all"
    beta2: float = Field(0.999, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)
    seed: int = Field(42, ge=0, le=2**63 - 1)
    validate_every: int = Field(10, ge=0)
    choose: Literal["last", "loss", "mass"] = "last"

    @model_validator(mode="after")
    def _starts_are_found(self) -> Config:
        if self.target == "difference" and self.residual_on != "all":
            raise ValueError("the target difference needs every starting state: set residual_on to all")
        return self

    def lr_at(self, step: int) -> float:
        """Learning rate of the update `step`, from 0."""
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * step / self.steps))


_FIRST_TOKEN: Mapping[str, Any] = {
    "init": "default", "queries": "anchors+train", "target": "first-token", "ranking": 0.7,
    "harmless_weight": 6.0, "harmfulness_weight": 0.0, "residual_on": "anchors", "lr": 2.5e-3, "beta2": 0.99,
    "batches": "pairs",
}  # fmt: skip
"""What `best` and `quick` share: docs/log.md says what each was tried against."""

RECIPES: Mapping[str, Config] = MappingProxyType({
    "best": Config.model_validate({
        **_FIRST_TOKEN, "steps": 200, "batch": 24, "ranking": 0.5, "choose": "loss", "validate_every": 20,
    }),
    "paper": Config.model_validate({
        "space": "paper", "target": "difference", "harmless_weight": 1.0, "harmfulness_weight": 0.01,
        "lr": 1e-3, "schedule": "constant",
    }),
    "quick": Config.model_validate({**_FIRST_TOKEN, "steps": 30, "batch": 16}),
})  # fmt: skip


TRAINED_ON = ("anchors", "train", "subtle")
"""Bundled sets that a prompt may be trained on; the others are there to choose by and to measure."""


def mass_score(validation: Mapping[str, float], harmless_weight: float) -> float:
    """What first-token refusal mass on held-out queries says for a step: on harmful ones, less the weighted
    mass on harmless ones. More is better."""
    return validation["mass_harmful"] - harmless_weight * validation["mass_harmless"]


def training_set(settings: Config) -> QuerySet:
    """The bundled queries that the settings name, the pairs of each set numbered on from the last one's.

    Raises DataError for a set that is there to measure, or that there is not.
    """
    joined: list[Query] = []
    for name in settings.queries.split("+"):
        if name not in TRAINED_ON:
            known = ", ".join(TRAINED_ON)
            raise DataError(f"A run cannot train on {name[:40]!r}.", f"Use {known}, joined by +.")
        before = max((query.pair for query in joined), default=0)
        joined += [replace(query, pair=before + query.pair) for query in data.bundled(name).queries]
    return QuerySet(settings.queries, tuple(joined))


def config(recipe: str, **changes: Any) -> Config:
    """A recipe with changes; DataError names the recipe or the setting that cannot be."""
    from pydantic import ValidationError

    if recipe not in RECIPES:
        raise DataError(f"There is no recipe {recipe!r}.", f"Use {', '.join(RECIPES)}.")
    try:
        return Config(**{**RECIPES[recipe].model_dump(), **changes})
    except ValidationError as error:
        told = "; ".join(": ".join([*map(str, e["loc"]), e["msg"]]) for e in error.errors())
        raise DataError(f"These settings cannot be: {told}.", "See optimise --help.") from None
