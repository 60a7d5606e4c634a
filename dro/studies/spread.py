"""A study whose cells any worker of an engine may measure. Files are those that one process would write, but
for the seconds it took; a cell is measured once those it needs are there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from dro import studies
from dro.engine import Call, Engine
from dro.models import ChatModel
from dro.sources import Progress, silent
from dro.studies import cells, report
from dro.studies.asked import Asked
from dro.studies.cells import Cell, Done, Ground, Results
from dro.studies.context import Context
from dro.studies.report import Page

_Told = tuple[str, Mapping[str, Any], int, tuple[str, ...]]
"""A cell as it travels: its name, settings, seed, and those it needs."""


def run(
    engine: Engine, asked: Asked, out: Path, command: str, only: Sequence[str] = (),
    progress: Progress = silent,
) -> studies.Outcome:  # fmt: skip
    """`studies.run` on an engine."""
    studies.named(asked.name)
    provenance, told = engine.ask(_grid, asked)
    grid = [Cell(name, settings, seed, _elsewhere, needs) for name, settings, seed, needs in told]
    ground = Ground(asked.name, out / "raw" / asked.name, provenance, command, asked.full)
    by_name = cells.by_names(grid)
    wanted = cells.with_needs(only, by_name)
    done = cells.finished(ground, grid)
    waiting = {name: cell for name, cell in by_name.items() if name in wanted and name not in done}
    total = len(waiting)

    def ready() -> list[Call]:
        """Calls for the cells that wait for nothing any more; they wait no longer."""
        names = [name for name, cell in waiting.items() if all(need in done for need in cell.needs)]
        chosen = [waiting.pop(name) for name in names]
        return [
            Call(cell.name, _measured, (asked, cell.name, {need: done[need] for need in cell.needs}))
            for cell in chosen
        ]

    def after(call: Call, found: tuple[Mapping[str, Any], float]) -> list[Call]:
        done[call.key] = cells.write(ground, by_name[call.key], by_name, *found)
        progress(f"{asked.name}: {call.key}", 1 - len(waiting) / max(1, total))
        return ready()

    engine.work(ready(), after)
    finished = {name: done[name] for name in by_name if name in done}
    page: Page = engine.ask(_page, asked, finished)
    return studies.Outcome(finished, len(grid), report.write(page, ground, finished, len(grid), out), ground)


def _elsewhere(done: Results) -> Mapping[str, Any]:
    raise AssertionError("a worker measures it")


# What workers do.


@lru_cache(maxsize=1)
def _context(model: ChatModel, asked: Asked) -> Context:
    return asked.context(model)


def _grid(model: ChatModel, asked: Asked) -> tuple[Mapping[str, Any], list[_Told]]:
    context = _context(model, asked)
    grid = studies.named(asked.name).grid(context)
    return context.provenance, [(cell.name, dict(cell.settings), cell.seed, cell.needs) for cell in grid]


def _measured(
    model: ChatModel, asked: Asked, name: str, done: dict[str, Done]
) -> tuple[Mapping[str, Any], float]:
    grid = studies.named(asked.name).grid(_context(model, asked))
    began = time.perf_counter()
    result = next(cell for cell in grid if cell.name == name).measure(done)
    return dict(result), round(time.perf_counter() - began, 1)


def _page(model: ChatModel, asked: Asked, done: dict[str, Done]) -> Page:
    return studies.named(asked.name).page(_context(model, asked), done)
