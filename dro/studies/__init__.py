"""Studies: questions about DRO, each a grid of seeded, resumable cells and a page that says what came out.

`run` measures what is missing and writes the page; `STUDIES` holds them by name. Nothing here trains or
chooses on the test set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dro.errors import DataError
from dro.studies import (
    ablations,
    baselines,
    borderline,
    capability,
    cells,
    compare,
    dimensions,
    report,
    reproduce,
    robustness,
    transfer,
)
from dro.studies.cells import Cell, Ground, Results
from dro.studies.context import Context
from dro.studies.report import Page


@dataclass(frozen=True)
class Study:
    """A question. grid: its cells. page: what those that are finished say. seeds: how many by default."""

    about: str
    grid: Callable[[Context], list[Cell]]
    page: Callable[[Context, Results], Page]
    seeds: int = 1


STUDIES: Mapping[str, Study] = MappingProxyType({
    "compare": Study(
        "best against paper, template and the human prompts", compare.grid, compare.page, compare.SEEDS
    ),
    "baselines": Study(
        "prompt tuning, random directions, permuted labels", baselines.grid, baselines.page
    ),
    "ablations": Study("without L_U, L_r, L_h", ablations.grid, ablations.page),
    "borderline": Study("alarming words, polite requests", borderline.grid, borderline.page),
    "capability": Study("what the prompt costs", capability.grid, capability.page),
    "robustness": Study("the same asked in other ways", robustness.grid, robustness.page),
    "dimensions": Study("m × β, with fluency", dimensions.grid, dimensions.page),
    "transfer": Study("from one starting prompt to another", transfer.grid, transfer.page),
    "reproduce": Study("the protocol of the paper", reproduce.grid, reproduce.page),
})  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a study has: its finished cells, how many there are in all, and where the page lies."""

    done: Results
    cells: int
    page: Path
    ground: Ground


def named(name: str) -> Study:
    """A study by its name; DataError names those there are."""
    if name not in STUDIES:
        raise DataError(f"There is no study {name!r}.", f"Use one of {', '.join(STUDIES)}.")
    return STUDIES[name]


def run(name: str, context: Context, out: Path, command: str, only: Sequence[str] = ()) -> Outcome:
    """Measure a study's missing cells into OUT/raw/NAME and write OUT/NAME.md from all that are finished
    (OUT/NAME-full.md with the recipes' own steps and batch).

    Raises
    ------
    DataError: no such study or cell, or settings that cannot be.
    """
    study = named(name)
    grid = study.grid(context)
    ground = Ground(name, out / "raw" / name, context.provenance, command, context.full)
    done = cells.run(ground, grid, only, context.progress)
    path = report.write(study.page(context, done), ground, done, len(grid), out)
    return Outcome(done, len(grid), path, ground)
