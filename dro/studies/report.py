"""The page of a study: what it asks, its tables, its figure, the command that made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dro import store
from dro.studies.cells import Ground, Results
from dro.studies.context import SMALL


@dataclass(frozen=True)
class Table:
    """A table of texts; `title` stands above it where there are several."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""

    def markdown(self) -> str:
        """As GitHub writes a table; a | in a cell is escaped."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        body = "\n".join("| " + " | ".join(str(v).replace("|", "\\|") for v in row) + " |" for row in lines)
        return f"### {self.title}\n\n{body}" if self.title else body


@dataclass(frozen=True)
class Page:
    """What a study says once cells are finished. `figure` is svg text, "" for none."""

    title: str
    question: str
    tables: Sequence[Table]
    figure: str = ""
    figure_says: str = ""
    findings: Sequence[str] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)


def write(page: Page, ground: Ground, done: Results, cells: int, out: Path) -> Path:
    """Write OUT/STUDY.md (STUDY-full.md) and its figure beside it; returns the page's path."""
    minutes = sum(cell.seconds for cell in done.values()) / 60
    made = ground.provenance
    parts = [
        f"# {page.title}",
        page.question,
        f"```\n{ground.command}\n```",
        f"{made['model']} in {made['precision']}, space `{made['space']}`, judge {made['judge']}. "
        f"{len(done)} of {cells} cells finished, {minutes:.0f} minutes of measuring; seeds "
        f"{', '.join(map(str, sorted({cell.seed for cell in done.values()})))}; {_size(ground.full)}. "
        f"Raw: `raw/{ground.study}/`. Intervals are of 95%.",
    ]
    if page.findings:
        parts.append("\n".join(f"- {line}" for line in page.findings))
    parts += [table.markdown() for table in page.tables if table.rows]
    if page.figure:
        store.write_bytes(out / f"{ground.page}.svg", page.figure.encode())
        parts.append(f"![{page.figure_says or page.title}]({ground.page}.svg)")
    if page.notes:
        parts.append("\n".join(page.notes))
    path = out / f"{ground.page}.md"
    store.write_bytes(path, ("\n\n".join(parts) + "\n").encode())
    return path


def _size(full: bool) -> str:
    if full:
        return "trainings at their recipes' own steps and batch"
    return f"trainings, if any, of {SMALL['steps']} × {SMALL['batch']} where the command names no other size"
