"""Layers on disk: two small files beside the space they belong to; refused for any other space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dro.errors import DroError, StoreError
from dro.layers import Layers, Reading
from dro.readable import Estimate
from dro.space import SHIPPED, Space, cached_folder
from dro.store import read_json, write_bytes, write_json

if TYPE_CHECKING:
    from dro.models import ChatModel

FORMAT = 1
ARRAYS_FILE, DESCRIPTION_FILE = "layers.safetensors", "layers.json"


def save(layers: Layers, folder: Path) -> None:
    """Write into `folder`; coordinates as float16. The description goes last: with it, a result is whole."""
    from safetensors.numpy import save as to_bytes

    arrays = {
        "coordinates": layers.coordinates.astype(np.float16),
        "arrows": layers.arrows.astype(np.float32),
        "spread": layers.spread.astype(np.float32),
        "explained": layers.explained.astype(np.float32),
    }
    body = to_bytes({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    write_bytes(folder / ARRAYS_FILE, body)
    write_json(
        folder / DESCRIPTION_FILE,
        {
            "format": FORMAT,
            "provenance": dict(layers.provenance),
            "readings": [reading.as_dict() for reading in layers.readings],
        },
    )


def load(folder: Path, space: Space) -> Layers:
    """Read the layers of `space` from `folder`; StoreError where they are missing, damaged, or another's."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    if not (folder / DESCRIPTION_FILE).is_file():
        raise StoreError(f"{folder} holds no layers ({DESCRIPTION_FILE} is missing).",
                         "Fit them: python -m dro layers")  # fmt: skip
    told = read_json(folder / DESCRIPTION_FILE)
    if told.get("format") != FORMAT:
        raise StoreError(f"The layers in {folder} have format {told.get('format')}, not {FORMAT}.",
                         "Fit them anew: python -m dro layers --again")  # fmt: skip
    try:
        arrays = from_bytes((folder / ARRAYS_FILE).read_bytes())
        found = Layers(
            arrays["coordinates"].astype(np.float32),
            arrays["arrows"],
            arrays["spread"].astype(np.float64),
            arrays["explained"].astype(np.float64),
            tuple(_reading(each) for each in told["readings"]),
            told["provenance"],
        )
        found.check_space(space)
    except (OSError, KeyError, TypeError, ValueError, IndexError, SafetensorError) as error:
        raise StoreError(
            f"The layers in {folder} are damaged ({type(error).__name__}: {error}).",
            "Fit them anew: python -m dro layers --again",
        ) from None
    return found


def shipped(key: str, space: Space) -> Layers | None:
    """The layers the repository ships for a space of the model's key, found without the model itself."""
    return _fitting(SHIPPED / key, space)


def find(space: Space, model: ChatModel, folder: Path | None = None) -> Layers | None:
    """The layers of a model's space: beside it in `folder`, else shipped, else cached; None where they are
    still to be fitted."""
    space.check_model(model)
    if folder is not None:
        return _fitting(folder, space)
    return shipped(model.key, space) or _fitting(cached_folder(model), space)


def _fitting(folder: Path, space: Space) -> Layers | None:
    """Those in `folder`, if they can be used: a space that was fitted anew has outgrown its old ones."""
    try:
        return load(folder, space)
    except DroError:
        return None


def _reading(told: dict[str, Any]) -> Reading:
    refusal = told["refusal_auc"]
    return Reading(
        Estimate(**told["harmfulness_accuracy"]),
        None if refusal is None else Estimate(**refusal),
        told["refusal_auc_by_prompt"],
        told["cosine_with_last"],
        told["shifts"],
    )
