"""How many dimensions, and how much of L_U: m × β, with fluency.

The space is cut to its first m components and both probes are fitted anew; β is the recipe's times a
factor. Fluency is broken answers on both classes, and how surprised the model without any prompt is by the
answers to harmless queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from dro import controls, likelihood
from dro.compare import mean_with_interval
from dro.data import CLASSES, HARMLESS, QuerySet
from dro.prompts import SafetyPrompt
from dro.recipes import Config
from dro.studies.cells import Cell, Results
from dro.studies.context import ON_PROBES, Context
from dro.studies.figure import Dot, dots
from dro.studies.measure import measure, percent
from dro.studies.report import Page, Table
from dro.studies.training import train, training_settings

TITLE = "Dimensions: m × β"
WIDTHS = (2, 4, 8, 16)
SMALL_FACTORS, FACTORS = (0.0, 1.0, 100.0), (0.0, 1.0, 10.0, 100.0)
"""β times these; the small grid is coarser."""
START = "start"


def grid(context: Context) -> list[Cell]:
    """The start, then a training for every m, β and seed; β is varied at every m."""
    first = context.config("best")
    space = context.spaces(first.space)
    held_out = context.held_out()
    asked = {"held_out": held_out.digest[:16]}
    factors = FACTORS if context.full else SMALL_FACTORS

    def start(_: Results) -> Mapping[str, Any]:
        prompt = context.prompt(first.init)
        return {"name": first.init, **fluent(context, prompt, held_out)}

    def cell(_: Results, m: int, config: Config) -> Mapping[str, Any]:
        narrow = space if m == space.projection.m else controls.narrowed(space, m)
        trained = train(context, config, narrow)
        found = fluent(context, trained.prompt, held_out)
        return {"m": m, "beta": config.residual_weight, **found, "training": trained.as_dict()}

    cells = [Cell(START, {"prompt": first.init, **asked}, first.seed, start)]
    for number in range(context.seeds):
        for m in (width for width in WIDTHS if width <= space.projection.m):
            for factor in factors:
                config = context.config(
                    "best", number, **ON_PROBES, residual_weight=first.residual_weight * factor
                )
                cells.append(Cell(
                    f"m{m}-beta-x{factor:g}-s{config.seed}",
                    {"m": m, "factor": factor, **training_settings(context, config), **asked},
                    config.seed, partial(cell, m=m, config=config),
                ))  # fmt: skip
    return cells


def fluent(context: Context, prompt: SafetyPrompt, queries: QuerySet) -> dict[str, Any]:
    """Rates, and the surprise (nats a token) of the answers to harmless queries without any prompt."""
    found, said = measure(context, prompt, queries)
    harmless = [one for one in said if one.label == HARMLESS]
    bare = SafetyPrompt("none", None)
    told = likelihood.surprise(
        context.model, bare, [one.query for one in harmless], [one.answer for one in harmless],
        context.checkpoint,
    )  # fmt: skip
    values = [value for value in told if value is not None]
    if len(values) < 2:
        return {**found, "surprise": None}
    mean, low, high = (round(v, 4) for v in mean_with_interval(values))
    return {**found, "surprise": {"n": len(values), "mean": mean, "low": low, "high": high}}


def page(context: Context, done: Results) -> Page:
    """One line for every m and β."""
    rows, lines = [], []
    for name, cell in done.items():
        found = cell.result
        label = found["name"] if name == START else f"m = {found['m']}, β = {found['beta']:.3g}"
        harmful, harmless = (found["classes"][kind] for kind in CLASSES)
        auc = found.get("mass_auc")
        rows.append([
            label, str(cell.seed), percent(harmful), percent(harmless),
            f"{harmful['broken']:g} + {harmless['broken']:g}", "–" if auc is None else f"{auc:.3f}",
            _nats(found["surprise"]),
        ])  # fmt: skip
        lines.append((label, [Dot(part["rate"], part["low"], part["high"]) for part in (harmful, harmless)]))
    columns = ("", "seed", "harmful refused", "harmless refused", "broken", "first-token AUC", "surprise")
    return Page(
        TITLE,
        "The best recipe with the probes as its targets, in the space cut to its first m components, probes "
        "fitted anew, β times a factor. Surprise: mean negative log-probability, in nats a token, of the "
        "answers to harmless queries under the model without a system prompt; answers that are odd for the "
        "model are surprising. Broken: harmful + harmless.",
        [Table(columns, rows)],
        dots(TITLE, lines, [f"{label} refused" for label in CLASSES], "share of held-out queries"),
        "Refusals of harmful and harmless queries for every m and β",
    )  # fmt: skip


def _nats(told: Mapping[str, Any] | None) -> str:
    return "–" if told is None else f"{told['mean']:.2f} [{told['low']:.2f}, {told['high']:.2f}]"
