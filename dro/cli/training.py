"""Commands that train: optimise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dro import data
from dro.cli.common import (
    AsJson,
    ModelName,
    PrecisionName,
    RenderingFile,
    SpaceFolder,
    config_of,
    open_model,
    show,
    table_of,
)
from dro.errors import DroError
from dro.registry import DEFAULT


def optimise(
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is gone on with.")],
    init: Annotated[str, typer.Option(help="Text prompt to start from.")] = "short",
    steps: Annotated[int, typer.Option(help="Updates of the soft prompt.")] = 160,
    batch: Annotated[int, typer.Option(help="Queries in each update.")] = 50,
    lr: Annotated[float, typer.Option(help="Learning rate (paper: 0.001).")] = 2e-3,
    schedule: Annotated[str, typer.Option(help="cosine, or constant (as in the paper).")] = "cosine",
    target: Annotated[
        str, typer.Option(help="absolute, or difference (from the start, as in the paper).")
    ] = "absolute",
    harmless_weight: Annotated[
        float, typer.Option(help="Weight of a harmless query, a harmful one counting 1 (paper: 1).")
    ] = 4.0,
    harmfulness_weight: Annotated[float, typer.Option(help="Weight of L_h (paper: 0.01).")] = 0.3,
    residual_weight: Annotated[float, typer.Option(help="Weight β of L_U.")] = 0.001,
    seed: Annotated[int, typer.Option(help="Seed of the batches.")] = 42,
    validate_every: Annotated[int, typer.Option(help="Steps between held-out looks; 0: none.")] = 10,
    train: Annotated[
        Path | None, typer.Option(help="csv or jsonl with query and class (default: the anchors).")
    ] = None,
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    space: SpaceFolder = None,
    as_json: AsJson = False,
) -> None:
    """Train a soft safety prompt (DRO). Ctrl-C stops and keeps what is there."""
    import statistics

    from dro.optimise import Optimisation
    from dro.progress import on_stderr

    config = config_of(
        init=init, target=target, harmless_weight=harmless_weight, steps=steps, batch=batch, lr=lr,
        schedule=schedule, harmfulness_weight=harmfulness_weight, residual_weight=residual_weight,
        seed=seed, validate_every=validate_every,
    )  # fmt: skip
    queries = data.read_labelled(train) if train else data.bundled("anchors")
    held_out = data.bundled("validation", "select")
    chat, there = open_model(model, precision, rendering, space)
    stopped = False
    with on_stderr() as progress:
        run = Optimisation(chat, there, config, queries, held_out, out, progress)
        try:
            for step in run.steps():
                progress(f"Training: loss {step.loss:.3f}", step.step / config.steps)
        except KeyboardInterrupt:
            stopped = True
        if run.done == 0:
            raise DroError("Stopped before the first step: there is nothing to keep.")
        run.finish()
    curve = run.curve
    seconds = statistics.median(s.seconds for s in curve)
    last = next((s.validation for s in reversed(curve) if s.validation), None)
    summary = {
        "run": str(out),
        "steps": run.done,
        "stopped": stopped,
        "seconds_per_step": seconds,
        "loss": [s.loss for s in curve],
        "validation": [{"step": s.step, **s.validation} for s in curve if s.validation],
    }
    table = table_of("run", ">steps", ">s a step", ">first loss", ">last loss", ">held-out loss")
    table.add_row(
        str(out), str(run.done), f"{seconds:.2f}", f"{curve[0].loss:.3f}", f"{curve[-1].loss:.3f}",
        f"{last['loss']:.3f}" if last else "–",
    )  # fmt: skip
    show(summary, table, as_json)
