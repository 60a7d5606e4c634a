"""A study is a grid of named cells; a cell is one measurement, kept as one json file when it is finished.

A file is named by the hash of all that decides its content: the study, the cell, its settings and seed,
and the ground it stands on (model, space, query sets). What is there already is not measured again, so a
study that was stopped or killed goes on where it was; other settings never meet its files.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dro import store
from dro.errors import DataError, StoreError
from dro.sources import Progress, silent

FORMAT = 1
_HASH = 10


@dataclass(frozen=True)
class Done:
    """A finished cell: what it measured, and how long that took (s)."""

    name: str
    settings: Mapping[str, Any]
    seed: int
    seconds: float
    result: Mapping[str, Any]


Results = Mapping[str, Done]
"""Finished cells by name."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One measurement.

    Attributes
    ----------
    name: fit for a file name. settings: everything that decides the result, as json.
    measure: is given the finished cells named in `needs` and returns the result, as json.
    needs: cells of the same grid that come first.
    """

    name: str
    settings: Mapping[str, Any]
    seed: int
    measure: Callable[[Results], Mapping[str, Any]]
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.name):
            raise DataError(f"A cell cannot be called {self.name!r}.", "Use small letters, digits, . + -")


@dataclass(frozen=True)
class Ground:
    """What all cells of a study stand on: its name, where its files lie, and its provenance.

    provenance: model, revision, precision, space, query sets; part of every cell's hash.
    command: how the study was asked for; recorded, no part of the hash.
    full: at full size, which is in the cells' settings and so no part of the hash: its page stands beside
        that of the small grid.
    """

    study: str
    folder: Path
    provenance: Mapping[str, Any]
    command: str
    full: bool = False

    @property
    def page(self) -> str:
        """Name of the page, and of its figure, without their endings."""
        return f"{self.study}-full" if self.full else self.study

    def file(self, cell: Cell, cells: Mapping[str, Cell]) -> Path:
        """Where the cell's result lies once it is finished."""
        return self.folder / f"{cell.name}-{self._key(cell, cells)[:_HASH]}.json"

    def _key(self, cell: Cell, cells: Mapping[str, Cell]) -> str:
        before = {name: self._key(cells[name], cells) for name in cell.needs}
        return store.content_hash({
            "format": FORMAT, "study": self.study, "cell": cell.name, "settings": dict(cell.settings),
            "seed": cell.seed, "ground": dict(self.provenance), "needs": before,
        })  # fmt: skip


def finished(ground: Ground, cells: Sequence[Cell]) -> dict[str, Done]:
    """The cells that are on disk, in the grid's order; a damaged file is refused by name."""
    by_name = by_names(cells)
    files = {cell.name: ground.file(cell, by_name) for cell in cells}
    return {name: read(path) for name, path in files.items() if path.exists()}


def run(
    ground: Ground,
    cells: Sequence[Cell],
    only: Sequence[str] = (),
    progress: Progress = silent,
) -> dict[str, Done]:
    """Measure the cells that are missing; returns every cell of the grid that is finished.

    only: names of cells to measure, with those that they need; all where it is empty.

    Raises
    ------
    DataError: no such cell (names those there are). StoreError: a damaged file.
    """
    by_name = by_names(cells)
    wanted = with_needs(only, by_name)
    done = finished(ground, cells)
    todo = [cell for cell in cells if cell.name in wanted and cell.name not in done]
    for number, cell in enumerate(todo):
        progress(f"{ground.study}: {cell.name} ({number + 1} of {len(todo)})", number / len(todo))
        began = time.perf_counter()
        result = cell.measure({name: done[name] for name in cell.needs})
        seconds = round(time.perf_counter() - began, 1)
        done[cell.name] = write(ground, cell, by_name, result, seconds)
    return {name: done[name] for name in by_name if name in done}


def write(
    ground: Ground, cell: Cell, cells: Mapping[str, Cell], result: Mapping[str, Any], seconds: float
) -> Done:
    """Put a cell's result on disk, and return it as it is read from there."""
    path = ground.file(cell, cells)
    store.write_json(path, {
        "format": FORMAT, "study": ground.study, "cell": cell.name, "command": ground.command,
        "seed": cell.seed, "settings": dict(cell.settings), "ground": dict(ground.provenance),
        "seconds": seconds, "result": dict(result),
    })  # fmt: skip
    return read(path)


def read(path: Path) -> Done:
    """A finished cell from its file."""
    told = store.read_json(path)
    try:
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']}")
        return Done(told["cell"], told["settings"], told["seed"], told["seconds"], told["result"])
    except (KeyError, ValueError) as error:
        raise StoreError(f"{path} is damaged ({error!r}).", "Delete it: it is measured anew.") from None


def by_names(cells: Sequence[Cell]) -> dict[str, Cell]:
    found = {cell.name: cell for cell in cells}
    if len(found) != len(cells):
        raise DataError("Two cells of a grid bear the same name.", "Name them apart.")
    return found


def with_needs(only: Sequence[str], cells: Mapping[str, Cell]) -> set[str]:
    """The cells named in `only`, all where it is empty, and those that they need."""
    names = only or list(cells)
    unknown = [name for name in names if name not in cells]
    if unknown:
        raise DataError(f"There is no cell {unknown[0]!r}.", f"Use one of {', '.join(cells)}.")
    wanted, open_names = set[str](), list(names)
    while open_names:
        name = open_names.pop()
        if name not in wanted:
            wanted.add(name)
            open_names += cells[name].needs
    return wanted
