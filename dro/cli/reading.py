"""Commands about what is inside a model: layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dro.cli.common import (
    AsJson,
    ModelName,
    PrecisionName,
    RenderingFile,
    SpaceFolder,
    load,
    open_space,
    show,
    table_of,
)
from dro.registry import DEFAULT

if TYPE_CHECKING:
    from dro.readable import Estimate


def layers(
    model: ModelName = DEFAULT,
    precision: PrecisionName = "auto",
    rendering: RenderingFile = None,
    space: SpaceFolder = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write (default: beside --space, else the cache).")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Fit them even where they are known.")] = False,
    as_json: AsJson = False,
) -> None:
    """Where harmfulness and refusal are linearly readable, layer by layer; fitted at the first call."""
    from dro import layer_files
    from dro.layers import fit
    from dro.progress import on_stderr
    from dro.space import cached_folder

    with on_stderr() as progress:
        chat = load(model, precision, rendering, progress)
        frame = open_space(chat, space)
        folder = out or space or cached_folder(chat)
        found = None if again or out else layer_files.find(frame, chat, space)
        if found is None:
            found = fit(frame, chat, progress)
            layer_files.save(found, folder)
    table = table_of(">layer", ">harmfulness, accuracy", ">refusal, AUC", ">cosine", "largest shift",
                     title=frame.name)  # fmt: skip
    for number, reading in enumerate(found.readings):
        farthest = max(reading.shifts, key=lambda name: reading.shifts[name], default="")
        table.add_row(
            str(number),
            _interval(reading.harmfulness),
            _interval(reading.refusal) if reading.refusal else "no probe",
            "–" if reading.cosine is None else f"{reading.cosine:+.2f}",
            f"{reading.shifts[farthest]:.2f} {farthest}" if farthest else "–",
        )
    told = [{"layer": number, **reading.as_dict()} for number, reading in enumerate(found.readings)]
    show({"space": frame.name, "layers": told}, table, as_json)


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
