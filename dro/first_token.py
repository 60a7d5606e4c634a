"""First-token refusal mass: how likely an answer is to open as refusals open, before a word is said.

Which tokens open refusals is counted from the model's own judged answers when a space is fitted. A
state is taken after the final norm, so the vocabulary head alone turns it into the next token's
probabilities: no further pass is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import torch

from dro.models import ChatModel

NAME = "first token"
"""The name of this judge in reports."""
_AT_ONCE = 256

Openings = Mapping[int, tuple[int, int]]
"""For each first token: how many of the answers that it opened refused, and how many it opened."""


def count(judged: Iterable[tuple[int | None, bool]]) -> dict[int, tuple[int, int]]:
    """Openings of answers given as (first token, refused); empty answers are passed over."""
    seen: Counter[int] = Counter()
    refused: Counter[int] = Counter()
    for token, was_refused in judged:
        if token is not None:
            seen[token] += 1
            refused[token] += was_refused
    return {token: (refused[token], seen[token]) for token in sorted(seen)}


def known(openings: Openings) -> bool:
    """Whether any token is known to open refusals."""
    return any(refused for refused, _ in openings.values())


def shares(openings: Openings) -> dict[int, float]:
    """Share of refusals among the answers that each token opens, drawn towards 0 by one answer more.

    A token that was seen once says little; one never seen counts as opening no refusal.
    """
    return {token: refused / (seen + 1) for token, (refused, seen) in openings.items() if refused}


@torch.no_grad()
def favoured(model: ChatModel, direction: np.ndarray, count: int = 10) -> list[str]:
    """The tokens whose logits a step along `direction` (d_model,) raises most, as text.

    States are after the final norm, so the head is all that stands between them and the logits.
    """
    head = model.model.get_output_embeddings().weight
    step = torch.as_tensor(direction, dtype=head.dtype, device=head.device)
    best = (head @ step).float().topk(count).indices.tolist()
    return [model.tokenizer.decode([token]) for token in best]


@torch.no_grad()
def likeliest(
    model: ChatModel, states: np.ndarray | torch.Tensor, count: int = 10
) -> list[list[tuple[str, float]]]:
    """For each state (n, d_model), after the final norm: the `count` likeliest next tokens as text, with
    their probabilities, the likeliest first."""
    head = model.model.get_output_embeddings()
    given = torch.as_tensor(states).to(device=head.weight.device, dtype=head.weight.dtype)
    found = []
    for start in range(0, len(given), _AT_ONCE):
        best = head(given[start : start + _AT_ONCE]).float().softmax(dim=-1).topk(count, dim=-1)
        for tokens, values in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            found.append([(model.tokenizer.decode([t]), p) for t, p in zip(tokens, values, strict=True)])
    return found


@torch.no_grad()
def mass(model: ChatModel, states: np.ndarray | torch.Tensor, openings: Openings) -> np.ndarray:
    """Σ over tokens t of P(t | state) · share of refusals among answers opened by t.

    Parameters
    ----------
    states: (n, d_model), after the final norm. Returns (n,), in [0, 1].
    """
    given, read = torch.as_tensor(states), Mass(model, openings)
    parts = [read(given[start : start + _AT_ONCE]) for start in range(0, len(given), _AT_ONCE)]
    return torch.cat(parts).cpu().numpy().astype(np.float64) if parts else np.zeros(0)


class Mass:
    """First-token refusal mass of states as a function that gradients pass through."""

    def __init__(self, model: ChatModel, openings: Openings) -> None:
        opening = shares(openings)
        self._head = model.model.get_output_embeddings()
        device = self._head.weight.device
        self._tokens = torch.tensor(list(opening), dtype=torch.long, device=device)
        self._shares = torch.tensor(list(opening.values()), dtype=torch.float32, device=device)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Mass (n,) in [0, 1], float32, of states (n, d_model)."""
        given = states.to(device=self._head.weight.device, dtype=self._head.weight.dtype)
        probabilities = self._head(given).float().softmax(dim=-1)
        return probabilities[:, self._tokens] @ self._shares

    def log_odds(self, states: torch.Tensor) -> torch.Tensor:
        """log(mass / (1 − mass)), (n,), kept within ±14 so that nothing becomes infinite."""
        return self(states).clamp(1e-6, 1 - 1e-6).logit()
