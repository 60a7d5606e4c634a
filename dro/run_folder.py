"""The folder of a run: what it was asked to do, its curve, its checkpoint, its prompt.

config.json is written first and decides whose folder it is; steps.jsonl grows by a line a step;
checkpoint.safetensors is replaced after each. A run that was killed goes on from the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dro import store
from dro.errors import StoreError

if TYPE_CHECKING:
    import torch

CONFIG_FILE, STEPS_FILE, CHECKPOINT_FILE, STATES_FILE = (
    "config.json", "steps.jsonl", "checkpoint.safetensors", "states.safetensors",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One update. Losses are of the batch it was computed on, before the update.

    validation: the same losses on held-out queries after the update, the mean change of f_r on harmful
    and harmless ones (in logits), and, where the space knows how refusals open, the mean first-token
    refusal mass of either class; None between looks.
    """

    step: int
    loss: float
    refusal: float
    harmfulness: float
    residual: float
    gradient_norm: float
    seconds: float
    validation: Mapping[str, float] | None = None


def claim(folder: Path, described: Mapping[str, Any]) -> bool:
    """Take an empty folder for a run, or take up the same run that is there: True if it has a checkpoint.

    Raises
    ------
    StoreError: the folder holds other files, or another run (names what differs).
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise StoreError(f"{folder} holds other files.", "Name an empty or new folder.")
        store.write_json(path, described)
        return False
    there = store.read_json(path)
    if there != described:
        told = {**described, **described["config"]}
        other = {**there, **there.get("config", {})}
        odd = [k for k in told if k != "config" and told[k] != other.get(k)]
        raise StoreError(
            f"{folder} holds another run (other {', '.join(odd) or 'settings'}).",
            "Name a new folder, or repeat that run's settings to go on with it.",
        )
    if (folder / CHECKPOINT_FILE).exists():
        return True
    # Killed between the first line of the curve and the first checkpoint.
    (folder / STEPS_FILE).unlink(missing_ok=True)
    return False


def read_curve(folder: Path) -> list[Step]:
    """The Step records of a run's folder; a last line cut short by a kill is left out."""
    path = folder / STEPS_FILE
    if not path.exists():
        return []
    steps = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            steps.append(Step(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return steps


def append(folder: Path, step: Step) -> None:
    """Add a line to the curve."""
    with (folder / STEPS_FILE).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(step)) + "\n")


def cut_curve(folder: Path, steps: int) -> None:
    """Keep the first `steps` lines: what lies beyond the checkpoint is done again."""
    lines = [json.dumps(asdict(step)) + "\n" for step in read_curve(folder)[:steps]]
    store.write_bytes(folder / STEPS_FILE, "".join(lines).encode())


def write_checkpoint(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Replace the checkpoint, whole or not at all."""
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    store.write_bytes(folder / CHECKPOINT_FILE, content)


def read_checkpoint(folder: Path, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """The checkpoint of a prompt of this shape; StoreError where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / CHECKPOINT_FILE
    try:
        kept = load_file(path)
        for name in ("vectors", "exp_avg", "exp_avg_sq", "best"):
            if tuple(kept[name].shape) != shape:
                raise ValueError(f"{name} is {tuple(kept[name].shape)}")
        for name in ("step", "best_step", "best_score"):
            if kept[name].numel() != 1:
                raise ValueError(f"{name} is no number")
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise StoreError(f"{path} is damaged ({error}).", "Delete the run's folder and start anew.") from None
    return kept
