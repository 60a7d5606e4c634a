"""Is it the direction? DRO against prompt tuning, random directions and permuted labels.

All runs start from the same text and have the same batches, steps and weights, L_h off and the last step
kept, so that nothing but the direction differs; prompt tuning has the same seconds of updates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from dro import baselines, controls, recipes, store
from dro.prompts import SafetyPrompt
from dro.space import Space
from dro.studies.ablations import change
from dro.studies.cells import Cell, Results
from dro.studies.context import ON_PROBES, Context
from dro.studies.figure import Dot, dots
from dro.studies.measure import COLUMNS, differences, measure, row, separation
from dro.studies.report import Page, Table
from dro.studies.training import train, training_settings

TITLE = "Baselines: is it the direction?"
START, VPT = "start", "vpt"
CONTROLS = 5
FULL_TOKENS = 100
_TURNS: Mapping[str, tuple[str, Callable[..., Space]]] = {
    "random": ("random direction", controls.random_direction),
    "permuted": ("permuted labels", controls.permuted_labels),
}
_TAUGHT = 100
"""Training queries of each class that the model answers for prompt tuning in the small grid."""


def grid(context: Context) -> list[Cell]:
    """The start, the fitted direction for each seed, ten controls, and prompt tuning."""
    config = context.config(
        "best", **{**ON_PROBES, "harmfulness_weight": 0.0}, choose="last", validate_every=0
    )
    held_out = context.held_out()
    asked = {"held_out": held_out.digest[:16]}
    settings = {**training_settings(context, config), **asked}

    def start(_: Results) -> Mapping[str, Any]:
        return {"name": config.init, **measure(context, context.prompt(config.init), held_out)[0]}

    def direction(name: str, turn: Callable[[Space], Space], seeded=config) -> Callable[[Results], Any]:
        def cell(_: Results) -> Mapping[str, Any]:
            space = context.spaces(seeded.space)
            turned = turn(space)
            trained = train(context, seeded, turned, name)
            found = measure(context, trained.prompt, held_out)[0]
            return {"name": name, **found, "training": trained.as_dict(), "cosine": _cosine(space, turned)}

        return cell

    cells = [Cell(START, {"prompt": config.init, **asked}, config.seed, start)]
    for number in range(context.seeds):
        seeded = config.model_copy(update={"seed": config.seed + number})
        cells.append(Cell(
            f"fitted-s{seeded.seed}", {**training_settings(context, seeded), **asked}, seeded.seed,
            direction("fitted direction", lambda space: space, seeded),
        ))  # fmt: skip
    for kind, (label, turn) in _TURNS.items():
        cells += [
            Cell(
                f"{kind}-{draw + 1}", {"control": kind, "draw": draw, **settings}, config.seed,
                direction(f"{label} {draw + 1}", partial(turn, seed=draw)),
            )
            for draw in range(CONTROLS)
        ]  # fmt: skip
    fitted = f"fitted-s{config.seed}"

    def prompt_tuning(done: Results) -> Mapping[str, Any]:
        seconds = done[fitted].result["training"]["training_seconds"]
        prompt, training = tuned(context, config, seconds)
        return {"name": "vPT", **measure(context, prompt, held_out)[0], "training": training}

    cells.append(
        Cell(VPT, {"vpt": lesson_settings(context), **settings}, config.seed, prompt_tuning, (fitted,))
    )
    return cells


def tuned(context: Context, config: recipes.Config, seconds: float) -> tuple[SafetyPrompt, dict[str, Any]]:
    """Prompt tuning from `config.init` for `seconds` of updates: the prompt, and what it was taught."""
    queries = recipes.training_set(config).limit(_taught(context))
    names = dict.fromkeys([config.init, *(["template"] if context.model.rendering.identity else [])])
    taught = baselines.lessons(
        context.model, queries, [context.prompt(name) for name in names], _decoding(context),
        context.progress, context.checkpoint,
    )  # fmt: skip
    made = {"vpt": training_settings(context, config), "model": context.provenance, "seconds": seconds,
            "queries": queries.digest, "decoding": str(_decoding(context))}  # fmt: skip
    folder = context.work / f"vpt-{store.content_hash(made)[:12]}"
    prompt, steps = baselines.tune(
        context.model, config, taught, seconds, folder, context.progress, context.checkpoint
    )
    told = {"steps": steps, "training_seconds": round(seconds, 1), "good": len(taught.good),
            "bad": len(taught.bad)}  # fmt: skip
    return prompt, told


def lesson_settings(context: Context) -> dict[str, Any]:
    """What decides prompt tuning's lessons, for the settings of a cell."""
    decoding = _decoding(context)
    return {"tokens": decoding.max_tokens, "samples": decoding.samples, "queries": _taught(context)}


def page(context: Context, done: Results) -> Page:
    """The gain of each run over the start, the fitted one against the ten controls."""
    start = done.get(START)
    rows, changes, lines = [], [], []
    gains: dict[str, float] = {}
    for name, cell in done.items():
        found = cell.result
        label = f"{found['name']}, seed {cell.seed}" if name.startswith("fitted") else found["name"]
        rows.append([*row(label, found), f"{found['cosine']:+.2f}" if "cosine" in found else "–"])
        if start and name != START:
            told = differences(start.result, found)
            gains[name] = separation(found) - separation(start.result)
            changes.append(
                [label, f"{100 * gains[name]:+.0f}", change(told["harmful"]), change(told["harmless"])]
            )
            lines.append((label, [Dot(gains[name], gains[name], gains[name])]))
    controlled = [gain for name, gain in gains.items() if name.startswith(("random", "permuted"))]
    return Page(
        TITLE,
        "Every run starts from the same text with the same batches, steps and weights, L_h off, last step "
        "kept; only the direction differs. Random directions are drawn evenly in V; labels are permuted "
        "within class and condition. Both have the length of the fitted direction and its mean logit on the "
        "anchors. vPT is vanilla prompt tuning on the model's own answers for as many seconds of updates.",
        [
            Table((*COLUMNS, "cosine with w_r"), rows),
            Table(
                ("less the start", "gain in points", "harmful refused", "harmless refused"), changes,
                "Gains: change of harmful refusals less change of harmless ones",
            ),
        ],
        dots(TITLE, lines, ("gain",), "change of (harmful − harmless refused) from the start", (-0.5, 1.0)),
        "Gain of the fitted direction, of ten controls and of prompt tuning",
        _findings(gains, controlled),
    )  # fmt: skip


def _findings(gains: Mapping[str, float], controlled: list[float]) -> list[str]:
    fitted = [gain for name, gain in gains.items() if name.startswith("fitted")]
    if not fitted or not controlled:
        return []
    above = sum(min(fitted) > gain for gain in controlled)
    lines = [
        f"The fitted direction gains {_points(fitted)} points; the {len(controlled)} controls have median "
        f"{100 * np.median(controlled):+.0f} and range {100 * min(controlled):+.0f} to "
        f"{100 * max(controlled):+.0f}. It is above {above} of {len(controlled)}."
    ]
    if VPT in gains:
        lines.append(f"vPT gains {100 * gains[VPT]:+.0f} points in as many seconds of updates.")
    return lines


def _points(values: list[float]) -> str:
    return ", ".join(f"{100 * value:+.0f}" for value in values)


def _cosine(space: Space, turned: Space) -> float:
    first, second = space.need_refusal().weight, turned.need_refusal().weight
    return round(float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second))), 4)


def _decoding(context: Context) -> Any:
    if not context.full:
        return baselines.SAMPLES
    return replace(baselines.SAMPLES, max_tokens=FULL_TOKENS)


def _taught(context: Context) -> int | None:
    return context.limit or (None if context.full else _TAUGHT)
