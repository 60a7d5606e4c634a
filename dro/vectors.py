"""What the vectors of a trained prompt have become: how far each went, and which tokens it is near now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dro.errors import DataError
from dro.models import ChatModel
from dro.prompts import SafetyPrompt
from dro.states import prefix_ids

_ROWS = 16_384
"""Embeddings that are held in float32 at a time: a whole table would take hundreds of megabytes."""


@dataclass(frozen=True)
class Vector:
    """One vector θ_i of a trained prompt.

    token: what it started as. norm: ‖θ_i‖. start_norm: ‖θ_i at the start‖. drift: length of the difference.
    nearest: tokens by the cosine of their embeddings with it, the nearest first.
    """

    token: str
    norm: float
    start_norm: float
    drift: float
    nearest: tuple[tuple[str, float], ...]


def start_vectors(model: ChatModel, prompt: SafetyPrompt) -> np.ndarray:
    """Embeddings of the text in a prompt's slot: float32 (n_tokens, d_model)."""
    return model.embed(prefix_ids(model, prompt).slot).float().cpu().numpy()


def trained_vectors(prompt: SafetyPrompt) -> np.ndarray:
    """A trained prompt's vectors, float32 (n_tokens, d_model); DataError where it has none."""
    if prompt.vectors is None:
        raise DataError(f"{prompt.name!r} has no vectors.", "Name a trained prompt.")
    return prompt.vectors


def describe(model: ChatModel, prompt: SafetyPrompt, nearest: int = 3) -> list[Vector]:
    """Each vector of a trained prompt beside the token it started as, with its `nearest` tokens now.

    Raises DataError where the prompt has no vectors, or another number of them than its text has tokens:
    then nobody knows which started as which.
    """
    now, then = trained_vectors(prompt), start_vectors(model, prompt)
    if now.shape != then.shape:
        raise DataError(
            f"The prompt has {len(now)} vectors, the text that it names {len(then)} tokens.",
            "Open one that was trained from its text on this model.",
        )
    cosines, tokens = _nearest(model, now, nearest)
    spell = lambda token: model.tokenizer.decode([int(token)])  # noqa: E731
    return [
        Vector(
            spell(start),
            float(np.linalg.norm(now[i])),
            float(np.linalg.norm(then[i])),
            float(np.linalg.norm(now[i] - then[i])),
            tuple((spell(t), float(c)) for t, c in zip(tokens[i], cosines[i], strict=True)),
        )
        for i, start in enumerate(prefix_ids(model, prompt).slot)
    ]


@torch.no_grad()
def _nearest(model: ChatModel, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest cosines with embeddings, and their tokens: (n, count) each."""
    # A table may be padded with rows that are no tokens.
    table = model.model.get_input_embeddings().weight[: len(model.tokenizer)]
    given = torch.nn.functional.normalize(torch.tensor(vectors, device=table.device), dim=1, eps=1e-6)
    best = torch.full((len(vectors), 0), -2.0, device=table.device)
    tokens = torch.zeros((len(vectors), 0), dtype=torch.long, device=table.device)
    for first in range(0, len(table), _ROWS):
        rows = torch.nn.functional.normalize(table[first : first + _ROWS].float(), dim=1, eps=1e-6)
        found = given @ rows.T
        numbers = torch.arange(first, first + len(rows), device=table.device).expand_as(found)
        best, order = torch.cat([best, found], dim=1).topk(min(count, best.shape[1] + len(rows)), dim=1)
        tokens = torch.cat([tokens, numbers], dim=1).gather(1, order)
    return best.cpu().numpy(), tokens.cpu().numpy()
