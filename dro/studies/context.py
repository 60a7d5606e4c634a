"""What a study is given: the model, its spaces, how large to be, and where training may leave its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dro import data, prompts, recipes
from dro.data import QuerySet
from dro.judges import Judge, Phrases
from dro.models import ChatModel
from dro.prompts import SafetyPrompt
from dro.recipes import Config
from dro.sources import Progress, silent
from dro.space import Space

SMALL = {"steps": 60, "batch": 16, "validate_every": 0, "choose": "last"}
"""The default grids train this long, and keep the last step: nothing is chosen, so nothing can leak."""
ON_PROBES: Mapping[str, Any] = {"target": "absolute", "harmfulness_weight": 0.3}
"""Changes for studies that take directions apart: the probes are the targets, not the head's log-odds."""
DRO = "DRO"
"""What the prompt trained by DRO is called in tables."""


@dataclass(frozen=True, eq=False)
class Context:
    """The ground and the size of a study.

    Attributes
    ----------
    spaces: the model's space of a kind, "" or "paper" (see `space.find`).
    work: folder of training runs; runs with the same settings are trained once for all studies.
    seeds: how many seeds, counted up from the recipe's. limit: held-out queries of each class.
    full: the recipes' own steps and batch in place of `SMALL`; steps, batch: over both.
    run: a run's folder whose prompt is taken for DRO, in place of training one.
    suffixes, instructions, sets: users' files, for robustness and reproduce.
    """

    model: ChatModel
    spaces: Callable[[str], Space]
    work: Path
    seeds: int = 1
    limit: int | None = None
    full: bool = False
    steps: int | None = None
    batch: int | None = None
    run: str | None = None
    judge: Judge = field(default_factory=Phrases)
    suffixes: Path | None = None
    instructions: Path | None = None
    sets: tuple[str, ...] = ()
    progress: Progress = silent
    checkpoint: Callable[[], None] = lambda: None

    @property
    def space(self) -> Space:
        """The space that everything but the paper's recipe uses."""
        return self.spaces("")

    def config(self, recipe: str, number: int = 0, **changes: Any) -> Config:
        """A recipe's settings at the size of this study; `number` counts the seeds from 0."""
        sizes = {} if self.full else dict(SMALL)
        sizes |= {k: v for k, v in (("steps", self.steps), ("batch", self.batch)) if v is not None}
        found = recipes.config(recipe, **{**sizes, **changes})
        return found.model_copy(update={"seed": found.seed + number})

    def prompt(self, name: str) -> SafetyPrompt:
        """A prompt by its name."""
        return prompts.resolve(name, self.model)

    def held_out(self) -> QuerySet:
        """Queries to report on: the half of validation that chooses nothing."""
        return data.bundled("validation", "report").limit(self.limit)

    def named(self, prompt: SafetyPrompt, name: str) -> SafetyPrompt:
        """The same prompt under the name that tables use."""
        return replace(prompt, name=name)

    @property
    def provenance(self) -> dict[str, Any]:
        """What every cell's hash holds beside its own settings."""
        return {
            "model": self.model.name,
            "revision": self.model.revision,
            "precision": self.model.precision,
            "space": self.space.name,
            "judge": self.judge.name,
        }
