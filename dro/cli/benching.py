"""Commands that measure speed: bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dro.cli.common import AsJson, ModelName, PrecisionName, RenderingFile, load, show, table_of
from dro.errors import DataError
from dro.registry import DEFAULT

if TYPE_CHECKING:
    from dro.models import ChatModel
    from dro.sources import Progress


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="A path to measure (default: all). May be given several times."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    shape: Annotated[
        str | None,
        typer.Option(
            help="llama-2-7b, llama-2-13b, mistral-7b or qwen-0.5b … 7b: random weights of that shape. "
            "Without --only: load, states, two steps and an answer, once, with peak resident memory."
        ),
    ] = None,
    growth: Annotated[
        Path | None,
        typer.Option(help="Measure how cost grows instead, and draw it into this .svg file."),
    ] = None,
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure every path beside the plain way of doing it, and beside what the machine can do."""
    from dro.bench import report, run, shape_pass
    from dro.progress import on_stderr

    def opened(progress: Progress) -> ChatModel:
        if shape is None:
            return load(model, precision, rendering, progress, device)
        from dro import shapes

        return shapes.build(shape, precision, progress, device)

    names = run.check(only or [])
    if growth is not None:
        if only:
            raise DataError("--growth measures by itself.", "Leave --only out.")
        _growth(growth, opened, precision, as_json)
        return
    with on_stderr() as progress:
        if shape is not None and not only:
            machine, rows = shape_pass.run(lambda: opened(progress), progress=progress)
        else:
            machine, rows = run.run(names, lambda: opened(progress), progress=progress)
    table = table_of(*report.COLUMNS, title=report.title(machine))
    for row in rows:
        table.add_row(*report.cells(row))
    show(report.as_json(machine, rows), table, as_json)


def _growth(file: Path, opened, precision: str, as_json: bool) -> None:
    from dro import store
    from dro.bench import growth
    from dro.progress import on_stderr

    with on_stderr() as progress:
        found = growth.run(opened(progress), precision, progress=progress)
    store.write_bytes(file, growth.figure(found).encode())
    table = table_of("path", "over", ">from", ">to", ">slope")
    for each in found:
        table.add_row(each.path, each.over, each.values[0], each.values[-1], f"{each.fit[0]:.2f}")
    show({"growth": [each.as_dict() for each in found]}, table, as_json)
