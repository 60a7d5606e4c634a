"""Prompts for studies: trained once for the same settings, gone on with after a kill."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dro import data, prompts, recipes, run_folder, store
from dro.data import QuerySet
from dro.optimise import Optimisation
from dro.prompts import SafetyPrompt
from dro.recipes import Config
from dro.space import Space
from dro.studies.context import DRO, Context


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained prompt; seconds: of its updates alone. losses: (steps,) of its batches."""

    prompt: SafetyPrompt
    seconds: float
    losses: list[float]

    def as_dict(self) -> dict[str, Any]:
        """What a cell keeps of the training."""
        tail = self.losses[-10:]
        return {
            "steps": len(self.losses),
            "training_seconds": round(self.seconds, 1),
            "first_loss": round(self.losses[0], 4),
            "last_losses": round(float(np.mean(tail)), 4),
        }


def train(context: Context, config: Config, space: Space | None = None, name: str = DRO) -> Trained:
    """Train with `config` in `space` (default: the one the settings name), or take up what is there.

    The training queries are the recipe's; the steps are chosen, where they are, on the selecting half of
    validation.
    """
    there = space or context.spaces(config.space)
    queries = recipes.training_set(config)
    validation = data.bundled("validation", "select") if config.validate_every else None
    folder = context.work / _folder_name(context, config, there, queries)
    # Another worker may be training the very same prompt: it is taken from it.
    context.progress(f"Training {name}", 0.0)
    held = run_folder.hold(folder, patient=True)
    try:
        run = Optimisation(
            context.model, there, config, queries, validation, folder, context.progress, context.checkpoint
        )
        for step in run.steps():
            context.progress(f"Training {name}: loss {step.loss:.3f}", step.step / config.steps)
            context.checkpoint()
        if config.choose == "last":
            prompt = run.prompt()
        elif (folder / prompts.SOFT_PROMPT_FILE).exists():
            prompt = prompts.load(folder, context.model.d_model, context.model.name)
        else:
            prompt = run.finish()
    finally:
        if held:
            run_folder.release(folder)
    curve = run.curve
    return Trained(replace(prompt, name=name), sum(s.seconds for s in curve), [s.loss for s in curve])


def dro(context: Context) -> SafetyPrompt:
    """The prompt that stands for DRO: that of the run the user named, else the best recipe's, trained now."""
    if context.run is not None:
        return replace(prompts.resolve(context.run, context.model), name=DRO)
    return train(context, context.config("best")).prompt


def dro_settings(context: Context) -> dict[str, Any]:
    """What decides `dro`'s prompt, for the settings of a cell."""
    if context.run is not None:
        return {"run": prompts.resolve(context.run, context.model).digest}
    return training_settings(context, context.config("best"))


def training_settings(context: Context, config: Config) -> dict[str, Any]:
    """Settings of a training, the queries it trains on, and the space that gives the directions."""
    return {
        "config": config.model_dump(),
        "train": recipes.training_set(config).digest[:16],
        "directions": context.spaces(config.space).name,
    }


def start_of(context: Context) -> str:
    """Name of the text that `dro`'s prompt started from."""
    if context.run is None:
        return context.config("best").init
    text = prompts.resolve(context.run, context.model).text
    known = [name for name in prompts.available(context.model) if context.prompt(name).text == text]
    return known[0] if known else f"text:{text}"


def _folder_name(context: Context, config: Config, space: Space, queries: QuerySet) -> str:
    made = {
        "model": [context.model.name, context.model.revision, context.model.precision],
        "space": [space.name, store.content_hash(_directions(space))],
        **training_settings(context, config),
        "queries": queries.digest,
    }
    return f"{config.init.split(':')[0]}-{config.steps}x{config.batch}-{store.content_hash(made)[:12]}"


def _directions(space: Space) -> list[list[float]]:
    """The numbers by which spaces of one name may differ: controls change the refusal probe alone."""
    refusal = space.need_refusal()
    return [[round(float(v), 9) for v in (*refusal.weight, refusal.bias)]]
