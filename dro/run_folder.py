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

import numpy as np
from filelock import FileLock, Timeout

from dro import store
from dro.errors import StoreError

if TYPE_CHECKING:
    import torch

CONFIG_FILE, STEPS_FILE, CHECKPOINT_FILE, STATES_FILE = (
    "config.json", "steps.jsonl", "checkpoint.safetensors", "states.safetensors",
)  # fmt: skip
START_FILE, LOCK_FILE = "start.safetensors", ".lock"
TRASH = ".trash"
"""Beside the runs of a model: those that were deleted on a page, until they come back or are removed."""


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
        check_free(folder)
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


def check_free(folder: Path) -> None:
    """Raise StoreError where a folder without a run holds other files."""
    if (folder / CONFIG_FILE).exists() or not folder.is_dir():
        return
    # A kill may have left the lock, and what was being written.
    left = {LOCK_FILE, *(path.name for path in store.leftovers(folder))}
    if {path.name for path in folder.iterdir()} - left:
        raise StoreError(f"{folder} holds other files.", "Name an empty or new folder.")


_held: dict[str, FileLock] = {}


def hold(folder: Path, patient: bool = False) -> bool:
    """Keep other processes from this folder until `release`, or until this process ends in any way.

    False where this process holds it already. patient: wait for another process's end.

    Raises
    ------
    StoreError: another process works on it, or it cannot be written.
    """
    key = str(folder.absolute())
    if key in _held:
        return False
    lock = FileLock(folder / LOCK_FILE, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if patient else 0)
    except Timeout:
        raise StoreError(
            f"Another process is working on {folder}.", "Wait for its end, or name another folder."
        ) from None
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror}.", "Choose a folder you can write to."
        ) from None
    _held[key] = lock
    return True


def release(folder: Path) -> None:
    """Let other processes work on this folder again."""
    lock = _held.pop(str(folder.absolute()), None)
    if lock is not None:
        lock.release()


def read_curve(folder: Path) -> list[Step]:
    """The Step records of a run's folder; a last line cut short by a kill is left out."""
    path = folder / STEPS_FILE
    if not path.exists():
        return []
    steps = []
    for line in path.read_bytes().splitlines():  # a torn line need not be UTF-8
        try:
            steps.append(Step(**json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            break
    return steps


def append(folder: Path, step: Step) -> None:
    """Add a line to the curve."""
    store.append_line(folder / STEPS_FILE, json.dumps(asdict(step)))


def cut_curve(folder: Path, steps: int) -> None:
    """Keep the first `steps` lines: what lies beyond the checkpoint is done again."""
    lines = [json.dumps(asdict(step)) + "\n" for step in read_curve(folder)[:steps]]
    store.write_bytes(folder / STEPS_FILE, "".join(lines).encode())


def write_checkpoint(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Replace the checkpoint, whole or not at all."""
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    store.write_bytes(folder / CHECKPOINT_FILE, content)


def write_states(folder: Path, **states: np.ndarray) -> None:
    """Keep the states that a run moved, (n, d_model) each, by name: before it, after it."""
    from safetensors.numpy import save

    store.write_bytes(folder / STATES_FILE, save(states))


def write_start(folder: Path, rows: np.ndarray, states: torch.Tensor) -> None:
    """Keep the states before training of those queries that steps need: (n,) rows, (n, d_model)."""
    from safetensors.torch import save

    kept = {"rows": torch_of(rows), "states": states.detach().cpu().contiguous()}
    store.write_bytes(folder / START_FILE, save(kept))


def read_start(folder: Path, rows: np.ndarray, d_model: int) -> torch.Tensor | None:
    """The states that `write_start` kept for these rows; None where they are not there, or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        kept = load_file(folder / START_FILE)
        same = np.array_equal(kept["rows"].numpy(), rows)
    except (SafetensorError, KeyError, OSError):
        return None
    states = kept["states"]
    return states if same and tuple(states.shape) == (len(rows), d_model) else None


def torch_of(rows: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64))


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
