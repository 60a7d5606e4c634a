"""Commands that train: optimise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dro import data
from dro.cli.common import (
    AsJson,
    ModelName,
    PrecisionName,
    RenderingFile,
    SpaceFolder,
    open_model,
    rates_table,
    show,
    table_of,
)
from dro.errors import DataError, DroError
from dro.registry import DEFAULT

if TYPE_CHECKING:
    from dro.held_out import HeldOut


def optimise(
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is gone on with.")],
    recipe: Annotated[str, typer.Option(help="best, quick or paper: the settings not named here.")] = "best",
    init: Annotated[str | None, typer.Option(help="Text prompt to start from.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates of the soft prompt.")] = None,
    batch: Annotated[int | None, typer.Option(help="Queries in each update.")] = None,
    batches: Annotated[
        str | None, typer.Option(help="Drawn as pairs of look-alikes, or by classes (as in the paper).")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate (paper: 0.001).")] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine, or constant (as in the paper).")] = None,
    queries: Annotated[
        str | None,
        typer.Option(help="Bundled sets to train on, joined by +: anchors, train, subtle (words mislead)."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="first-token, absolute, or difference (from the start, as in the paper)."),
    ] = None,
    ranking: Annotated[
        float | None, typer.Option(help="Share of L_r that ranks harmful above harmless ones (paper: 0).")
    ] = None,
    harmless_weight: Annotated[
        float | None, typer.Option(help="Weight of a harmless query, a harmful one counting 1 (paper: 1).")
    ] = None,
    harmfulness_weight: Annotated[float | None, typer.Option(help="Weight of L_h (paper: 0.01).")] = None,
    residual_weight: Annotated[float | None, typer.Option(help="Weight β of L_U.")] = None,
    residual_on: Annotated[
        str | None, typer.Option(help="Measure L_U on all queries, or on the anchors alone (faster).")
    ] = None,
    beta2: Annotated[float | None, typer.Option(help="AdamW's second decay (paper: 0.999).")] = None,
    choose: Annotated[
        str | None,
        typer.Option(help="Step that is kept: last, or the best on held-out queries by loss or by mass."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the batches.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="Steps between held-out looks; 0: none.")] = None,
    train: Annotated[
        Path | None,
        typer.Option(help="csv or jsonl with query and class (default: the recipe's bundled sets)."),
    ] = None,
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    space: SpaceFolder = None,
    report: Annotated[
        bool, typer.Option(help="Answer 100 held-out queries at the end, and examine the probe there.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Train a soft safety prompt (DRO). Ctrl-C stops and keeps what is there."""
    import statistics

    from dro import held_out, recipes
    from dro.optimise import Optimisation
    from dro.progress import on_stderr

    named = {
        "init": init, "target": target, "harmless_weight": harmless_weight, "steps": steps, "batch": batch,
        "lr": lr, "schedule": schedule, "harmfulness_weight": harmfulness_weight,
        "residual_weight": residual_weight, "residual_on": residual_on, "ranking": ranking, "beta2": beta2,
        "batches": batches, "queries": queries,
        "choose": choose, "seed": seed, "validate_every": validate_every,
    }  # fmt: skip
    if validate_every == 0 and choose is None:
        named["choose"] = "last"  # there is nothing to choose by
    config = recipes.config(recipe, **{k: v for k, v in named.items() if v is not None})
    if train and queries:
        raise DataError("Both --train and --queries are given.", "Leave one of the two out.")
    drawn_from = data.read_labelled(train) if train else recipes.training_set(config)
    validation = data.bundled("validation", "select")
    chat, there = open_model(model, precision, rendering, space, config.space)
    stopped = False
    with on_stderr() as progress:
        run = Optimisation(chat, there, config, drawn_from, validation, out, progress)
        try:
            for step in run.steps():
                progress(f"Training: loss {step.loss:.3f}", step.step / config.steps)
        except KeyboardInterrupt:
            stopped = True
        if run.done == 0:
            raise DroError("Stopped before the first step: there is nothing to keep.")
        prompt = run.finish()
        if run.diverged:
            print(f"stopped: {run.diverged}", file=sys.stderr)
        found = held_out.report(chat, there, prompt, None, progress) if report else None
    if found:
        held_out.write(found, out)
    curve = run.curve
    seconds = statistics.median(s.seconds for s in curve)
    last = next((s.validation for s in reversed(curve) if s.validation), None)
    summary = {
        "run": str(out),
        "steps": run.done,
        "chosen": run.chosen,
        "stopped": stopped,
        "diverged": run.diverged,
        "seconds_per_step": seconds,
        "loss": [s.loss for s in curve],
        "validation": [{"step": s.step, **s.validation} for s in curve if s.validation],
    }
    table = table_of("run", ">steps", ">s a step", ">first loss", ">last loss", ">held-out loss")
    table.add_row(
        str(out), str(run.done), f"{seconds:.2f}", f"{curve[0].loss:.3f}", f"{curve[-1].loss:.3f}",
        f"{last['loss']:.3f}" if last else "–",
    )  # fmt: skip
    if found:
        summary["held_out"] = found.as_dict()
    show(summary, table, as_json)
    if found and not as_json:
        print_held_out(found)


def print_held_out(found: HeldOut) -> None:
    """The report on held-out queries, for people."""
    from rich.console import Console

    Console().print(rates_table(found.rates, "held-out queries"), markup=False)
    told = found.region
    auc = "not defined" if told.auc is None else f"{told.auc:.3f}"
    print(
        f"The probe it was trained on, held against these answers: AUC {auc}, predicts "
        f"{told.predicted:.0%} refusals where {told.observed:.0%} were seen (calibration error "
        f"{told.calibration_error:.2f}).\nIts states lie at {told.inside:.1f} times the anchors' distance "
        f"within V and {told.outside:.1f} times their squared distance from V; {told.beyond:.0%} are farther "
        f"out than any anchor. Refitted with them, the direction has cosine {told.refitted_cosine:.3f}."
    )
