"""The page of a sweep: every trial, and the best of each model on queries that chose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dro import store
from dro.studies.figure import Dot, dots
from dro.studies.report import Table
from dro.sweep.grid import Plan
from dro.sweep.run import OVER, Outcome, Row

PAGE, FIGURE = "sweep.md", "sweep.svg"
COLUMNS = ("trial", ">steps", ">kept step", ">mass, harmful", ">mass, harmless", ">score", "state")


def cells(row: Row) -> list[str]:
    """One line of the table."""
    best = row.best
    seen = ("–",) * 4 if best is None else (
        str(best.step), f"{best.harmful:.3f}", f"{best.harmless:.3f}", f"{best.score:+.3f}",
    )  # fmt: skip
    return [row.trial.name, str(row.step), *seen, f"{row.state}: {row.message}" if row.message else row.state]


def order(rows: Sequence[Row]) -> list[Row]:
    """Best first."""
    return sorted(rows, key=lambda row: -row.best.score if row.best else float("inf"))


def write(found: Sequence[Outcome], plan: Plan, out: Path, command: str) -> Path:
    """Write the page and its figure; returns the page's path."""
    weight = plan.config(plan.trials()[0]).harmless_weight
    parts = [
        "# Sweep: m × β",
        "Widths of the space, weights β of L_U, and seeds; the same training otherwise. A trial is judged by "
        "its best look at the selecting half of validation: first-token refusal mass on harmful queries less "
        f"{weight:g} times that on harmless ones. Highest is best; the column says which step is kept.",
        f"```\n{command}\n```",
        f"{plan.steps} steps × {plan.batch} of the recipe {plan.recipe}, target {plan.target}, a look every "
        f"{plan.look} steps. " + _stopping(plan),
    ]
    lines = []
    for outcome in found:
        made, rows = outcome.ground, order(outcome.rows)
        over = sum(row.state in OVER for row in rows)
        parts.append(f"## {made['model']}")
        parts.append(
            f"In {made['precision']}, space `{made['space']}`; {over} of {len(rows)} trials are over."
        )
        names = [name.lstrip(">") for name in COLUMNS]
        parts.append(Table(names, [cells(row) for row in rows]).markdown())
        parts += _best(outcome)
        for row in rows:
            if row.best is not None:
                values = [Dot(value, value, value) for value in (row.best.harmful, row.best.harmless)]
                lines.append((f"{row.trial.name}" + (f" {made['model']}" * (len(found) > 1)), values))
    if lines:
        axis = "first-token refusal mass on validation"
        store.write_bytes(out / FIGURE, dots("Sweep", lines, ("harmful", "harmless"), axis).encode())
        parts.append(f"![Refusal mass on harmful and harmless queries, trial by trial]({FIGURE})")
    path = out / PAGE
    store.write_bytes(path, ("\n\n".join(parts) + "\n").encode())
    return path


def _stopping(plan: Plan) -> str:
    rungs = plan.rungs()[:-1]
    if not rungs:
        return "No trial is stopped early."
    steps = " and ".join(map(str, rungs))
    return f"After step {steps} the worse half of the settings is stopped, by the mean of their seeds."


def _best(outcome: Outcome) -> list[str]:
    if outcome.best is None or outcome.examined is None:
        return []
    rows = [
        [told["class"], str(told["n"]), f"{told['rate']:.0%} [{told['low']:.0%}, {told['high']:.0%}]",
         f"{told['broken']:g}"]
        for told in outcome.examined["results"]
    ]  # fmt: skip
    title = f"The best, {outcome.best.trial.name}, answered on the half of validation that chose nothing"
    return [Table(("class", "n", "refused, 95%", "broken"), rows, title).markdown()]
