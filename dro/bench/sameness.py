"""Whether two ways of computing the same gave the same, up to the rounding of the model's dtype."""

from __future__ import annotations

import torch

from dro.bench import plain
from dro.models import ChatModel

_CLOSEST = 8
"""Next tokens among which a tie is looked for."""


def states(found: torch.Tensor, expected: torch.Tensor, model: ChatModel) -> bool:
    """States (n, d_model): relative difference of the whole, 5% in bf16 (its rounding through all
    layers), 0.1% in float32; no state farther off than twice that."""
    most = 1e-3 if model.dtype == torch.float32 else 5e-2
    rows = (found - expected).norm(dim=1) / expected.norm(dim=1)
    whole = (found - expected).norm() / expected.norm()
    return bool(whole < most and rows.max() < 2 * most)


def gradients(found: torch.Tensor, expected: torch.Tensor, model: ChatModel) -> bool:
    """Gradients to the prompt: the same direction (cosine above 0.98 in bf16) and length (within 5%)."""
    least, most = (0.9999, 1e-3) if model.dtype == torch.float32 else (0.98, 5e-2)
    length = expected.norm()
    cosine = torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    return bool(length > 0 and cosine > least and abs(found.norm() / length - 1) < most)


def answer(model: ChatModel, whole: torch.Tensor, found: str, expected: list[int]) -> bool:
    """An answer: the same text, or one that parts where the plain model all but ties.

    whole: the sequence (T, d_model) that is answered. Greedy answers of two ways part for good where
    rounding decides between two tokens; what was said must then be as likely by the plain way.
    """

    def spell(ids: list[int]) -> str:
        # What is streamed holds an unfinished character back.
        return model.tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd").strip()

    found = found.rstrip("\ufffd").strip()
    if spell(expected) == found:
        return True
    tie = 1e-3 if model.dtype == torch.float32 else 0.5
    for common in range(len(expected), -1, -1):
        said = spell(expected[:common])
        if not found.startswith(said):
            continue
        logits = plain.next_logits(model, torch.cat([whole, model.embed(expected[:common])]))
        best = logits.topk(min(_CLOSEST, len(logits)))
        for value, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            longer = spell([*expected[:common], token])
            ended = token in model.stop_ids and said == found
            goes_on = token not in expected[common : common + 1] and found.startswith(longer)
            if (ended or (goes_on and token not in model.stop_ids)) and best.values[0] - value < tie:
                return True
        if common < len(expected) - 4:  # a few tokens back, where characters are cut
            return False
    return False
