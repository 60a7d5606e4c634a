"""The best recipe against the paper's, the model's identity and the human prompts; the test set at the end.

Every training is a cell of its own and reports on validation. The test cells come last and only measure:
they choose nothing, and no training looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from dro import data, prompts
from dro.data import CLASSES, QuerySet
from dro.prompts import SafetyPrompt
from dro.studies.ablations import change
from dro.studies.cells import Cell, Results
from dro.studies.context import Context
from dro.studies.figure import Dot, dots
from dro.studies.measure import COLUMNS, differences, measure, row
from dro.studies.report import Page, Table
from dro.studies.training import train, training_settings

TITLE = "Best against paper, template and the human prompts"
SEEDS = 3
TEXTS = ("template", "none", "default", "short")
RECIPES = ("paper", "best")


def grid(context: Context) -> list[Cell]:
    """Trainings with their report on validation; then the texts and every trained prompt on both sets."""
    held_out, test = context.held_out(), data.bundled("test").limit(context.limit)
    first = context.config("best").seed
    names = [name for name in TEXTS if name in prompts.available(context.model)]
    made: list[tuple[str, int, dict[str, Any], Callable[[], SafetyPrompt]]] = [
        (name, first, {"prompt": name}, partial(context.prompt, name)) for name in names
    ]
    for recipe in RECIPES:
        for number in range(context.seeds):
            config = context.config(recipe, number)
            settings = {"recipe": recipe, **training_settings(context, config)}
            made.append(
                (f"{recipe}-s{config.seed}", config.seed, settings, partial(_train, context, config, recipe))
            )

    def cell(_: Results, name: str, make: Callable[[], SafetyPrompt], queries: QuerySet) -> Mapping[str, Any]:
        return {"name": name, **measure(context, context.named(make(), name), queries)[0]}

    return [
        Cell(
            f"{name}-{queries.name}", {**settings, "asked": queries.digest[:16]}, seed,
            partial(cell, name=name, make=make, queries=queries),
        )
        for queries in (held_out, test)
        for name, seed, settings, make in made
    ]  # fmt: skip


def _train(context: Context, config: Any, name: str) -> SafetyPrompt:
    return train(context, config, name=name).prompt


def page(context: Context, done: Results) -> Page:
    """Rates on validation and test, means over seeds, and best against each of the others in pairs."""
    test = {cell.result["name"]: cell for cell in done.values() if cell.result["set"] == "test"}
    tables, lines = [], []
    for name, title in (("test", "Test set"), ("validation-report", "Validation, reporting half")):
        chosen = [cell.result for cell in done.values() if cell.result["set"] == name]
        tables.append(Table(COLUMNS, [row(found["name"], found) for found in chosen], title))
    changes, findings = [], []
    for name, cell in test.items():
        if not name.startswith("best-"):
            continue
        for other, against in test.items():
            same_seed = other == f"paper-s{cell.seed}"
            if same_seed or other in TEXTS:
                told = differences(against.result, cell.result)
                changes.append([f"{name} less {other}", *(change(told[label]) for label in CLASSES)])
    tables.append(
        Table(("on test", *(f"{label} refused" for label in CLASSES)), changes, "Paired differences")
    )
    for recipe in RECIPES:
        mine = [cell.result for name, cell in test.items() if name.startswith(f"{recipe}-s")]
        if mine:
            means = [float(np.mean([found["classes"][label]["rate"] for found in mine])) for label in CLASSES]
            seeds = "1 seed" if len(mine) == 1 else f"{len(mine)} seeds"
            findings.append(
                f"{recipe}, {seeds} on test: {means[0]:.1%} of the harmful and {means[1]:.1%} of the "
                "harmless queries refused on average."
            )
    for name, cell in test.items():
        parts = [cell.result["classes"][label] for label in CLASSES]
        lines.append((name, [Dot(part["rate"], part["low"], part["high"]) for part in parts]))
    return Page(
        TITLE,
        "The same queries under every prompt; greedy answers of 24 tokens. The test set chose nothing.",
        tables,
        dots(TITLE, lines, [f"{label} refused" for label in CLASSES], "share of the test set"),
        "Refusals of harmful and harmless test queries under each prompt",
        findings,
    )  # fmt: skip
