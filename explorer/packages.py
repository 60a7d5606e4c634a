"""A run's prompt as one file to take away: what `python -m dro export` writes, zipped."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from dro import outline
from dro.models import ChatModel
from explorer.run import Run


def package(run: Run, model: ChatModel) -> Path:
    """A .zip with the vectors, what they belong to, and a model card with the rates that were measured.

    It lies in a temporary folder, from where the page may hand it out. Raises StoreError where the run's
    files are damaged.
    """
    # Heavy, and wanted only once a run is done.
    from dro.exports.run import export

    def no_model() -> ChatModel:
        raise AssertionError("vectors are written without the model")

    place = Path(tempfile.mkdtemp(prefix="dro-explorer-"))
    rates = [rate.as_dict() for rate in run.rates]
    export(run.folder, "safetensors", place / run.name, outline.of_model(model), no_model, rates=rates)
    made = shutil.make_archive(str(place / run.name), "zip", place, run.name)
    shutil.rmtree(place / run.name)
    return Path(made)
