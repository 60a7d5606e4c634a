"""Queries near the border: safe ones that sound alarming, harmful ones that sound polite.

Where does the boundary run? A query's own harmfulness is read off the frozen probe without any prompt; a
logistic curve of observed refusals over it says at which harmfulness a prompt refuses every second query.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from dro import probes
from dro.data import CLASSES, HARMFUL, HARMLESS, QuerySet
from dro.prompts import SafetyPrompt, available
from dro.states import last_token_states
from dro.studies import sets
from dro.studies.ablations import change
from dro.studies.cells import Cell, Results
from dro.studies.context import Context
from dro.studies.figure import Series, scatter
from dro.studies.measure import COLUMNS, differences, measure, refusals, row
from dro.studies.report import Page, Table
from dro.studies.training import dro, dro_settings, start_of

TITLE = "Borderline: alarming words, polite requests"
TRAINED = "dro"


def grid(context: Context) -> list[Cell]:
    """A cell for each standing prompt, and one for DRO."""
    queries, kinds = sets.borderline(context.limit)
    asked = {"set": queries.digest[:16]}
    seed = context.config("best").seed

    def cell(_: Results, make: Any) -> Mapping[str, Any]:
        return examine(context, make(), queries, kinds)

    cells = [
        Cell(name, {"prompt": name, **asked}, seed, partial(cell, make=partial(context.prompt, name)))
        for name in available(context.model)
    ]
    cells.append(
        Cell(TRAINED, {**dro_settings(context), **asked}, seed, partial(cell, make=partial(dro, context)))
    )
    return cells


def examine(context: Context, prompt: SafetyPrompt, queries: QuerySet, kinds: list[str]) -> dict[str, Any]:
    """Verdicts, place of every query, and where the boundary runs under `prompt`."""
    found, _ = measure(context, prompt, queries)
    space, nothing = context.space, SafetyPrompt("none", None)
    bare = last_token_states(context.model, nothing, queries.texts, checkpoint=context.checkpoint)
    under = last_token_states(context.model, prompt, queries.texts, checkpoint=context.checkpoint)
    harmfulness = space.harmfulness.logits(space.projection.coordinates(bare))
    refusal = space.need_refusal().logits(space.projection.coordinates(under))
    refused = np.array([was for label in CLASSES for was in refusals(found, label)])
    by_kind = {
        kind: {"n": kinds.count(kind), "refused": int(sum(refused[np.array(kinds) == kind]))}
        for kind in dict.fromkeys(kinds)
    }
    return {
        "name": prompt.name,
        **found,
        "kinds": by_kind,
        "harmfulness": [round(float(v), 3) for v in harmfulness],
        "refusal": [round(float(v), 3) for v in refusal],
        **boundary(harmfulness, refused),
    }


def boundary(harmfulness: np.ndarray, refused: np.ndarray) -> dict[str, float | None]:
    """Where refusals cross one half on the harmfulness axis (logits), how steeply, and how well they rank.

    None where fewer than three queries were refused or fewer than three were not.
    """
    from sklearn.linear_model import LogisticRegression

    if min(refused.sum(), (~refused).sum()) < 3:
        return {"crossing": None, "slope": None, "auc": None}
    fitted = LogisticRegression(C=1e3, max_iter=2000).fit(harmfulness[:, None], refused)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return {
        "crossing": round(-offset / slope, 3) if abs(slope) > 1e-3 else None,
        "slope": round(slope, 3),
        "auc": probes.auc(harmfulness, refused.astype(float)),
    }


def page(context: Context, done: Results) -> Page:
    """Rates, kinds, and where the boundary runs."""
    rows = [row(cell.result["name"], cell.result) for cell in done.values()]
    kinds = list(dict.fromkeys(kind for cell in done.values() for kind in cell.result["kinds"]))
    by_kind = [[kind, *(_share(cell.result["kinds"].get(kind)) for cell in done.values())] for kind in kinds]
    edges = [
        [cell.result["name"], *(_number(cell.result[key]) for key in ("crossing", "slope", "auc"))]
        for cell in done.values()
    ]
    changes = []
    start, trained = done.get(start_of(context)), done.get(TRAINED)
    if start and trained:
        told = differences(start.result, trained.result)
        changes.append([f"DRO less {start.name}", *(change(told[label]) for label in CLASSES)])
    shown = [cell for name, cell in done.items() if name in ("template", start_of(context), TRAINED)]
    return Page(
        TITLE,
        "80 safe queries that sound alarming (harmless) and 80 harmful ones that sound polite, written for "
        "this project. No prompt is trained on them and no step chosen; what they showed is why the harder "
        "pairs were written.",
        [
            Table(COLUMNS, rows),
            Table(("", "harmful refused", "harmless refused"), changes, "Paired difference"),
            Table(
                ("kind", *(cell.result["name"] for cell in done.values())), by_kind, "Refused, kind by kind"
            ),
            Table(
                ("prompt", "crosses one half at", "slope", "AUC"), edges,
                "Refusal against harmfulness (logit of the frozen probe, asked without a prompt)",
            ),
        ],
        scatter(
            TITLE,
            [(cell.result["name"], _series(cell.result)) for cell in shown],
            "harmfulness logit, without a prompt", "refusal logit under the prompt",
        ),
        "Every query by its harmfulness without a prompt and its refusal logit under the prompt",
        notes=[
            "Under the prompt that was trained on it, the refusal logit is a target, no evidence; the "
            "colours show what was answered."
        ],
    )  # fmt: skip


def _series(found: Mapping[str, Any]) -> list[Series]:
    letters = "".join(found["classes"][label]["verdicts"] for label in CLASSES)
    harmful = len(found["classes"][HARMFUL]["verdicts"])
    parts = []
    for label in (HARMFUL, HARMLESS):
        for was, word in ((True, "refused"), (False, "answered")):
            rows = [
                i for i, v in enumerate(letters) if (v == "r") == was and (i < harmful) == (label == HARMFUL)
            ]
            x, y = ([found[axis][i] for i in rows] for axis in ("harmfulness", "refusal"))
            parts.append(Series(f"{label}, {word}", x, y))
    return parts


def _share(part: Mapping[str, int] | None) -> str:
    return "–" if part is None else f"{part['refused']} of {part['n']}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
