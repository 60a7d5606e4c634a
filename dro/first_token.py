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
def mass(model: ChatModel, states: np.ndarray | torch.Tensor, openings: Openings) -> np.ndarray:
    """Σ over tokens t of P(t | state) · share of refusals among answers opened by t.

    Parameters
    ----------
    states: (n, d_model), after the final norm. Returns (n,), in [0, 1].
    """
    opening = shares(openings)
    head = model.model.get_output_embeddings()
    given = torch.as_tensor(states)
    result = np.zeros(len(given))
    tokens = torch.tensor(list(opening), dtype=torch.long, device=head.weight.device)
    weight = torch.tensor(list(opening.values()), dtype=torch.float32, device=head.weight.device)
    for start in range(0, len(given), _AT_ONCE):
        part = given[start : start + _AT_ONCE].to(device=head.weight.device, dtype=head.weight.dtype)
        probabilities = head(part).float().softmax(dim=-1)
        result[start : start + _AT_ONCE] = (probabilities[:, tokens] @ weight).cpu().numpy()
    return result
