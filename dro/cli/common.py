"""What commands share: options, opening a model and its space, tables and json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dro import models

if TYPE_CHECKING:
    from rich.table import Table

    from dro.evaluate import Rate
    from dro.judges import Judge
    from dro.models import ChatModel
    from dro.rendering import Rendering
    from dro.sources import Progress
    from dro.space import Space

ModelName = Annotated[
    str, typer.Option("--model", help="A name from `models`, a hub id, a folder, or a .gguf file.")
]
PrecisionName = Annotated[str, typer.Option("--precision", help="auto, bf16, fp32 or 4bit.")]
RenderingFile = Annotated[
    Path | None,
    typer.Option("--rendering", help="json file that says how this model writes a turn."),
]
SpaceFolder = Annotated[
    Path | None,
    typer.Option("--space", help="Folder of a fitted space (default: this model's own)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write json to standard output.")]
EngineName = Annotated[
    str, typer.Option("--engine", help="here, or ray: on the cluster at RAY_ADDRESS, else on all cores here.")
]
Workers = Annotated[int, typer.Option(min=0, help="ray: how many (default: as many as fit).")]
WorkerCpus = Annotated[int, typer.Option(min=1, help="ray: cores, and threads, of each worker.")]
WorkerGpus = Annotated[
    int | None,
    typer.Option(min=0, help="ray: GPUs of each, its model laid over them (default: 1 where there are any)."),
]
PromptNames = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        help="template, none, default, mistral, short, template+short, text:…, a run folder or a "
        ".safetensors file. May be given several times.",
    ),
]


def load(
    name: str, precision: str, rendering: Path | None, progress: Progress, device: str = "auto"
) -> ChatModel:
    """Load a model, with the user's own rendering where one is given."""
    return models.load(name, precision, rendering_of(rendering), progress, device)  # type: ignore[arg-type]  # checked there


def open_space(chat: ChatModel, folder: Path | None, recipe: str = "") -> Space:
    """The model's space: from `folder`, else shipped, else cached."""
    from dro.space import find

    return find(chat, folder, recipe)


def open_model(
    name: str, precision: str, rendering: Path | None, folder: Path | None, recipe: str = ""
) -> tuple[ChatModel, Space]:
    """Load a model and find its space."""
    from dro.progress import on_stderr

    with on_stderr() as progress:
        chat = load(name, precision, rendering, progress)
    return chat, open_space(chat, folder, recipe)


def rendering_of(file: Path | None) -> Rendering | None:
    """The user's own rendering, where one is given."""
    from dro.rendering import from_file

    return from_file(file) if file else None


def table_of(*columns: str, title: str = "") -> Table:
    """A table; a column named with > is aligned right."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left",
                         overflow="fold")  # fmt: skip
    return table


def rates_table(rates: Iterable[Rate], title: str = "") -> Table:
    """Refused, answered and broken, with the 95% interval of the refusal rate."""
    table = table_of("prompt", "set", "class", ">n", ">refused", ">answered", ">broken", ">refused, 95%",
                     title=title)  # fmt: skip
    for row in rates:
        table.add_row(
            row.prompt, row.set, row.label, str(row.n), f"{row.refused:g}", f"{row.answered:g}",
            f"{row.broken:g}", f"{row.rate:.1%}  [{row.low:.1%}, {row.high:.1%}]",
        )  # fmt: skip
    return table


def show(content: Any, table: Table, as_json: bool) -> None:
    """Print json for programs, or the table for people."""
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
        return
    from rich.console import Console

    Console().print(table, markup=False)


def open_judge(
    name: str,
    model: str,
    precision: str,
    rendering: Path | None,
    folder: Path | None,
    chat: ChatModel | None = None,
) -> Judge:
    """A judge by name. `first-token` speaks for the model that answers (`chat`, else `model` is loaded)."""
    from dro import judges

    judges.check(name)
    if name == judges.PHRASES:
        return judges.Phrases()
    from dro.progress import on_stderr

    with on_stderr() as progress:
        if name == judges.FIRST_TOKEN:
            chat = chat or load(model, precision, rendering, progress)
            return judges.FirstToken(chat, open_space(chat, folder).need_openings())
        return judges.Asked(load(name.removeprefix(judges.MODEL), "auto", None, progress))
