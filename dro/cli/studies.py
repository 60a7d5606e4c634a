"""The command study."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from dro import refusal
from dro.cli.common import (
    AsJson,
    EngineName,
    ModelName,
    PrecisionName,
    RenderingFile,
    SpaceFolder,
    WorkerCpus,
    WorkerGpus,
    Workers,
    rendering_of,
    show,
    table_of,
)
from dro.registry import DEFAULT

OUT, WORK = Path("docs/results"), Path("runs/studies")


def study(
    name: Annotated[
        str,
        typer.Argument(
            help="compare, baselines, ablations, dimensions, borderline, robustness, capability, transfer or "
            "reproduce."
        ),
    ],
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many seeds, counted up from the recipe's.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N queries of each class.")] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="The recipes' own steps and batch, the whole grid; a page of its own."),
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of each training.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Queries in each step.")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this cell, and those it needs. Several times.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of a run that stands for DRO.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Public sets for reproduce: NAME or NAME=PATH.")
    ] = None,
    suffixes: Annotated[
        Path | None, typer.Option(help="robustness: file of suffixes, one a line, put after every query.")
    ] = None,
    instructions: Annotated[
        Path | None, typer.Option(help="reproduce: instructions whose answers are written for AlpacaEval.")
    ] = None,
    judge: Annotated[str, typer.Option(help="phrases, first-token or model:NAME.")] = refusal.PHRASES,
    out: Annotated[Path, typer.Option(help="Folder of results: raw cells and the page.")] = OUT,
    work: Annotated[Path, typer.Option(help="Folder of training runs.")] = WORK,
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    space: SpaceFolder = None,
    engine: EngineName = "here",
    workers: Workers = 0,
    worker_cpus: WorkerCpus = 1,
    worker_gpus: WorkerGpus = None,
    as_json: AsJson = False,
) -> None:
    """Answer one question about DRO: measure what is missing, write the page. Goes on after a kill."""
    from dro import engine as engines
    from dro import judges, studies
    from dro.errors import DataError
    from dro.progress import on_stderr
    from dro.studies import spread
    from dro.studies.asked import Asked

    if name not in studies.STUDIES:
        raise DataError(f"There is no study {name!r}.", f"Use one of {', '.join(studies.STUDIES)}.")
    given = {
        "--seeds": seeds, "--limit": limit, "--full": full, "--steps": steps, "--batch": batch, "--run": run,
        "--set": sets, "--suffixes": suffixes, "--instructions": instructions,
        "--judge": judge if judge != refusal.PHRASES else None,
        "--model": model if model != DEFAULT else None,
        "--precision": precision if precision != "auto" else None, "--space": space,
        "--engine": engine if engine != engines.HERE else None,
    }  # fmt: skip
    asked = Asked(
        name, work.absolute(), seeds or studies.STUDIES[name].seeds, limit, full, steps, batch,
        None if run is None else str(run.absolute()), judge, _absolute(space), _absolute(suffixes),
        _absolute(instructions), tuple(sets or ()),
    )  # fmt: skip
    judges.check(judge)
    engines.check(engine)
    opened = engines.Opened(model, precision, rendering_of(rendering))
    size = engines.Size(workers, worker_cpus, worker_gpus)
    with on_stderr() as progress:
        if engine == engines.HERE:
            context = asked.context(opened.load(progress), progress)
            found = studies.run(name, context, out, _command(name, given), only or ())
        else:
            with engines.opened(engine, opened, size, progress) as there:
                found = spread.run(there, asked, out, _command(name, given), only or (), progress)
    table = table_of("cell", ">seed", ">seconds", title=f"{name}: {len(found.done)} of {found.cells} cells")
    for cell in found.done.values():
        table.add_row(cell.name, str(cell.seed), f"{cell.seconds:.0f}")
    results = {cell.name: dict(cell.result) for cell in found.done.values()}
    show({"study": name, "page": str(found.page), "cells": found.cells, "results": results}, table, as_json)
    if not as_json:
        print(f"Written: {found.page}")


def _absolute(path: Path | None) -> Path | None:
    """Workers have folders of their own."""
    return path and path.absolute()


def _command(name: str, given: Mapping[str, object]) -> str:
    """The command as the user could repeat it."""
    words = ["python", "-m", "dro", "study", name]
    for option, value in given.items():
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [word for one in value for word in (option, str(one))]
        elif value not in (None, False):
            words += [option, str(value)]
    return shlex.join(words)
