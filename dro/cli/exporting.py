"""Commands that take a trained prompt elsewhere, or bring one in: export, import."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dro.cli.common import AsJson, ModelName, RenderingFile, load, show, table_of
from dro.registry import DEFAULT

if TYPE_CHECKING:
    from dro.exports.run import Exported
    from dro.models import ChatModel
    from dro.outline import Outline

Force = Annotated[bool, typer.Option("--force", help="Take another revision of the model, with a warning.")]


def export(
    source: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or an exported one.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder to write.")],
    to: Annotated[str, typer.Option("--to", help="safetensors, model, peft or vllm.")] = "safetensors",
    push: Annotated[str, typer.Option(help="ORG/NAME: upload it to the Hub, too, as a private model.")] = "",
    evaluation: Annotated[
        Path | None, typer.Option(help="What `evaluate --json` printed: more rows for the model card.")
    ] = None,
    base: Annotated[
        str, typer.Option(help="Hub id or folder that adapters and servers load (default: --model's own).")
    ] = "",
    licence: Annotated[str, typer.Option(help="Of what is written (default: the base model's).")] = "",
    force: Force = False,
    model: ModelName = DEFAULT,
    precision: Annotated[
        str, typer.Option("--precision", help="Of model, peft and vllm: bf16 or fp32 (default: the run's).")
    ] = "",
    rendering: RenderingFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a trained prompt for use elsewhere: its vectors, a whole model, a PEFT adapter, or for vLLM."""
    from dro import store
    from dro.exports import bundle, run
    from dro.progress import on_stderr

    rows = bundle.checked_rates(store.read_json(evaluation).get("results"), evaluation) if evaluation else ()
    with on_stderr() as progress:

        def loaded() -> ChatModel:
            return load(model, precision or run.precision_of(source), rendering, progress, "cpu")

        known = _outline(model, rendering)
        done = run.export(source, to, folder, known, loaded, force, push, rows, base, licence)
    _tell(done, as_json)


def bring_in(
    source: Annotated[
        str, typer.Argument(help="An exported folder, a .safetensors file, or hub:ORG/NAME[@REVISION].")
    ],
    out: Annotated[Path, typer.Option(help="New folder, to be used as a prompt's name.")],
    init: Annotated[
        str, typer.Option(help="Text it was trained from, where it comes without a card (default: short's).")
    ] = "",
    force: Force = False,
    model: ModelName = DEFAULT,
    rendering: RenderingFile = None,
    as_json: AsJson = False,
) -> None:
    """Bring in a soft prompt from elsewhere, checked against the model it is to be used with."""
    from dro.exports import run
    from dro.prompts import HUMAN

    _tell(run.bring_in(source, out, _outline(model, rendering), HUMAN.get(init, init), force), as_json)


def _outline(model: str, rendering: Path | None) -> Outline:
    from dro import outline
    from dro.progress import on_stderr
    from dro.rendering import from_file

    with on_stderr() as progress:
        return outline.of_name(model, from_file(rendering) if rendering else None, progress)


def _tell(done: Exported, as_json: bool) -> None:
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    table = table_of("written", "file")
    for name in done.files:
        table.add_row(str(done.folder), name)
    if done.address:
        table.add_row(done.address, "pushed")
    show(done.as_dict(), table, as_json)
