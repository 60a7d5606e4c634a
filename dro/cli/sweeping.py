"""The command sweep."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from dro.cli.common import (
    AsJson,
    EngineName,
    PrecisionName,
    SpaceFolder,
    WorkerCpus,
    WorkerGpus,
    Workers,
    show,
    table_of,
)
from dro.errors import DataError
from dro.registry import DEFAULT

if TYPE_CHECKING:
    from rich.table import Table

    from dro.sources import Progress
    from dro.sweep.run import Row, Show

T = TypeVar("T", int, float)


def sweep(
    out: Annotated[Path, typer.Option(help="Folder of the sweep; an unfinished one is gone on with.")],
    m: Annotated[str, typer.Option(help="Widths of the space, with commas.")] = "2,4,8,16",
    beta: Annotated[str, typer.Option(help="Weights β of L_U, with commas.")] = "0,1e-4,1e-3,1e-2",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, counted up from the recipe's.")] = 3,
    models: Annotated[str, typer.Option(help="Models, with commas; each needs a space.")] = DEFAULT,
    recipe: Annotated[str, typer.Option(help="best, quick or paper: the settings not named here.")] = "best",
    target: Annotated[
        str, typer.Option(help="absolute: the probes in m components; first-token: m changes L_U alone.")
    ] = "absolute",
    steps: Annotated[int, typer.Option(min=1, help="Updates of each trial.")] = 60,
    batch: Annotated[int, typer.Option(min=2, help="Queries in each update.")] = 16,
    look: Annotated[int, typer.Option(min=1, help="Steps between looks at validation.")] = 15,
    early: Annotated[
        bool, typer.Option(help="Stop the worse half of the settings after a quarter and half of the steps.")
    ] = True,
    precision: PrecisionName = "auto",
    space: SpaceFolder = None,
    engine: EngineName = "here",
    workers: Workers = 0,
    worker_cpus: WorkerCpus = 1,
    worker_gpus: WorkerGpus = None,
    as_json: AsJson = False,
) -> None:
    """Train with every m, β and seed; keep the best by validation, and write a page. Goes on after a kill."""
    from dro import engine as engines
    from dro import run_folder
    from dro.models import slug
    from dro.progress import on_stderr
    from dro.sweep import page
    from dro.sweep.grid import Plan
    from dro.sweep.run import OVER, begin
    from dro.sweep.run import run as run_trials

    engines.check(engine)
    plan = Plan(_numbers(m, "--m", int), _numbers(beta, "--beta", float), seeds, recipe, steps, batch, look,
                target, early)  # fmt: skip
    names = tuple(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
    folders = {name: out / slug(name) for name in names}
    if not names or len(set(folders.values())) < len(names):
        raise DataError(f"The models {models!r} cannot be told apart.", "Name each once.")
    if space is not None and len(names) > 1:
        raise DataError("--space is one model's.", "Leave it out: each model's own space is found.")
    there = space and space.absolute()
    begin(out, plan, names, there)
    size = engines.Size(workers, worker_cpus, worker_gpus)
    found = []
    try:
        for name in names:
            with ExitStack() as stack:
                with on_stderr() as progress:
                    opened = engines.opened(engine, engines.Opened(name, precision), size, progress)
                    trials = stack.enter_context(opened)
                live = stack.enter_context(_live(name))
                found.append(run_trials(trials, plan, folders[name], there, live))
            path = page.write(found, plan, out, _command(out, plan, names, engine))
    finally:
        run_folder.release(out)
    over = sum(row.state in OVER for each in found for row in each.rows)
    table = _table([row for each in found for row in each.rows], f"{over} trials are over")
    told = [
        {
            **each.ground,
            "trials": [
                {"trial": row.trial.name, "steps": row.step, "state": row.state, "folder": str(row.folder),
                 "score": row.best and row.best.score}
                for row in page.order(each.rows)
            ],
            "best": each.best and str(each.best.folder),
            "held_out": each.examined and each.examined["results"],
        }
        for each in found
    ]  # fmt: skip
    show({"sweep": str(out), "page": str(path), "models": told}, table, as_json)
    if not as_json:
        for each in found:
            if each.best is not None:
                print(f"The best of {each.ground['model']}: {each.best.folder}")
        print(f"Written: {path}")


def _numbers(text: str, option: str, kind: Callable[[str], T]) -> tuple[T, ...]:
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise DataError(f"{option} {text!r} is no list of numbers.", "Such as 2,4,8.") from None


def _table(rows: Sequence[Row], title: str) -> Table:
    from dro.sweep import page

    table = table_of(*page.COLUMNS, title=title)
    for row in page.order(rows):
        table.add_row(*page.cells(row))
    return table


@contextmanager
def _live(name: str) -> Iterator[Show]:
    """The table of all trials, redrawn in place on a terminal; elsewhere a line for every piece."""
    from dro.progress import on_stderr
    from dro.sweep.run import OVER

    if sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:
            yield lambda rows: live.update(_table(rows, name), refresh=True)
        return
    with on_stderr() as progress:
        yield lambda rows: _line(progress, name, rows, OVER)


def _line(progress: Progress, name: str, rows: Sequence[Row], over: tuple[str, ...]) -> None:
    done = sum(row.state in over for row in rows)
    steps = sum(row.step for row in rows)
    progress(f"{name}: {done} of {len(rows)} trials over, {steps} steps", done / len(rows))


def _command(out: Path, plan, names: tuple[str, ...], engine: str) -> str:
    """The command as the user could repeat it."""
    words = ["python", "-m", "dro", "sweep", "--out", str(out), "--m", ",".join(map(str, plan.m)),
             "--beta", ",".join(f"{beta:g}" for beta in plan.beta), "--seeds", str(plan.seeds),
             "--models", ",".join(names), "--recipe", plan.recipe, "--target", plan.target,
             "--steps", str(plan.steps), "--batch", str(plan.batch), "--look", str(plan.look)]  # fmt: skip
    words += [] if plan.early else ["--no-early"]
    words += ["--engine", engine] if engine != "here" else []
    return shlex.join(words)
