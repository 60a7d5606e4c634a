"""A piece of a trial's training. Its folder travels: workers need not share a disk, and whichever is free
goes on from the files that the last one sent back, to the bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dro import controls, data, held_out, prompts, recipes
from dro.errors import DroError
from dro.models import ChatModel
from dro.optimise import Optimisation
from dro.run_folder import LOCK_FILE, read_curve
from dro.space import Space, find
from dro.sweep.grid import Plan, Trial

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Look:
    """What validation told of a trial after a step."""

    step: int
    harmful: float
    harmless: float
    score: float
    """First-token refusal mass on harmful queries less the weighted mass on harmless ones."""


@dataclass(frozen=True)
class Piece:
    """A trial's folder after some more steps. ended: why it goes no further, "" where it may."""

    files: Files
    ended: str = ""


def ground(model: ChatModel, space: Path | None, plan: Plan) -> dict[str, str]:
    """What all trials of a model stand on; raises where one of them cannot be trained there."""
    there = find(model, space, plan.config(plan.trials()[0]).space)
    there.need_refusal()
    there.need_openings()
    controls.check_width(there, max(plan.m))
    return {
        "model": model.name,
        "revision": model.revision,
        "precision": model.precision,
        "space": there.name,
    }


def advance(
    model: ChatModel, space: Path | None, plan: Plan, trial: Trial, files: Files, until: int
) -> Piece:
    """Train on from `files` (none: from the start) to the step `until`, and return the folder."""
    config = plan.config(trial)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / trial.name
        _unpack(files, folder)
        run = Optimisation(
            model, _narrow(model, space, config.space, trial.m), config, recipes.training_set(config),
            data.bundled("validation", "select"), folder,
        )  # fmt: skip
        try:
            for step in run.steps():
                if step.step >= until:
                    break
            if run.diverged or run.done >= config.steps:
                run.finish()
        except DroError as error:
            return Piece(_pack(folder), str(error))
        finally:
            run.close()
        return Piece(_pack(folder), run.diverged)


def examined(model: ChatModel, space: Path | None, plan: Plan, trial: Trial, files: Files) -> dict[str, Any]:
    """What a trial's prompt does on the half of validation that chose nothing, as json."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / trial.name
        _unpack(files, folder)
        # Its own name would be a folder that is gone in a moment.
        prompt = replace(prompts.load(folder, model.d_model, model.name), name=trial.name)
        return held_out.report(
            model, _narrow(model, space, plan.config(trial).space, trial.m), prompt
        ).as_dict()


def looks(folder: Path, harmless_weight: float) -> list[Look]:
    """What the looks at validation told, step by step."""
    found = []
    for step in read_curve(folder):
        if step.validation and "mass_harmful" in step.validation:
            harmful, harmless = step.validation["mass_harmful"], step.validation["mass_harmless"]
            score = recipes.mass_score(step.validation, harmless_weight)
            found.append(Look(step.step, harmful, harmless, score))
    return found


@lru_cache(maxsize=8)
def _narrow(model: ChatModel, folder: Path | None, recipe: str, m: int) -> Space:
    """The model's space cut to m components; fitting its probes takes a while."""
    space = find(model, folder, recipe)
    return space if m == space.projection.m else controls.narrowed(space, m)


def _unpack(files: Files, folder: Path) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _pack(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != LOCK_FILE}
