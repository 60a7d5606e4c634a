"""What each term of the loss is worth: the best recipe, on the probes, without L_U, L_r or L_h."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dro import controls
from dro.space import Space
from dro.studies.cells import Cell, Results
from dro.studies.context import ON_PROBES, Context
from dro.studies.figure import Dot, dots
from dro.studies.measure import COLUMNS, differences, measure, row
from dro.studies.report import Page, Table
from dro.studies.training import train, training_settings

TITLE = "Ablations: what each term of the loss is worth"
START, FULL = "start", "full"


@dataclass(frozen=True)
class _Cut:
    """A term taken away: a setting at 0, or a space in which it is constant."""

    name: str
    changes: Mapping[str, float]
    space: Callable[[Space], Space] = lambda space: space


CUTS = {
    FULL: _Cut("all terms", {}),
    "without-l-u": _Cut("without L_U", {"residual_weight": 0.0}),
    "without-l-r": _Cut("without L_r", {}, controls.without_refusal),
    "without-l-h": _Cut("without L_h", {"harmfulness_weight": 0.0}),
}


def grid(context: Context) -> list[Cell]:
    """The starting text, then a training for each cut and seed."""
    first = context.config("best")
    held_out = context.held_out()
    asked = {"held_out": held_out.digest[:16]}

    def start(_: Results) -> Mapping[str, Any]:
        return {"name": first.init, **measure(context, context.prompt(first.init), held_out)[0]}

    cells = [Cell(START, {"prompt": first.init, **asked}, first.seed, start)]
    for number in range(context.seeds):
        for key, cut in CUTS.items():
            config = context.config("best", number, **{**ON_PROBES, **cut.changes})

            def cell(_: Results, config=config, cut=cut) -> Mapping[str, Any]:
                trained = train(context, config, cut.space(context.spaces(config.space)), cut.name)
                found = measure(context, trained.prompt, held_out)[0]
                return {"name": cut.name, **found, "training": trained.as_dict()}

            settings = {"cut": key, **training_settings(context, config), **asked}
            cells.append(Cell(f"{key}-s{config.seed}", settings, config.seed, cell))
    return cells


def page(context: Context, done: Results) -> Page:
    """Rates of every cut, and its paired difference from all terms of the same seed."""
    rows, changes, lines = [], [], []
    for name, cell in done.items():
        seed = "" if name == START else f", seed {cell.seed}"
        rows.append(row(f"{cell.result['name']}{seed}", cell.result))
        lines.append((f"{cell.result['name']}{seed}", _dots(cell.result)))
        whole = done.get(f"{FULL}-s{cell.seed}")
        if whole and name not in (START, f"{FULL}-s{cell.seed}"):
            told = differences(whole.result, cell.result)
            changes.append(
                [f"{cell.result['name']}{seed}", *(change(told[c]) for c in ("harmful", "harmless"))]
            )
    return Page(
        TITLE,
        "The best recipe with both probes as its targets (absolute, w_h = "
        f"{ON_PROBES['harmfulness_weight']}), less one term at a time: same queries, batches, steps, seed. "
        "L_r is taken away by a refusal probe of weight 0, so that it is constant.",
        [
            Table(COLUMNS, rows),
            Table(("less all terms", "harmful refused", "harmless refused"), changes, "Paired differences"),
        ],
        dots(TITLE, lines, ("harmful refused", "harmless refused"), "share of held-out queries"),
        "Refusals of harmful and harmless queries under each ablation",
    )  # fmt: skip


def change(told: Mapping[str, Any]) -> str:
    """A paired difference in points with its interval and the exact McNemar p."""
    return (
        f"{100 * told['mean']:+.0f} [{100 * told['low']:+.0f}, {100 * told['high']:+.0f}], "
        f"p = {told['p']:.2g}"
    )


def _dots(found: Mapping[str, Any]) -> list[Dot | None]:
    parts = [found["classes"][label] for label in ("harmful", "harmless")]
    return [Dot(part["rate"], part["low"], part["high"]) for part in parts]
