"""The plain way of every path: whole sequences, the full model with its vocabulary head, `generate()`.

Written as one would without this project; it shares the weights and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from dro.models import ChatModel


def alone(model: ChatModel, whole: Sequence[torch.Tensor]) -> torch.Tensor:
    """States (n, d_model) in float32 of sequences (T, d_model), one by one."""
    with torch.no_grad():
        return torch.stack([_run(model, each[None])[0, -1].float() for each in whole])


def padded(model: ChatModel, whole: Sequence[torch.Tensor]) -> torch.Tensor:
    """The same in one batch padded on the right, with gradients where the sequences have them."""
    batch = pad_sequence(list(whole), batch_first=True)
    lengths = torch.tensor([len(each) for each in whole], device=batch.device)
    mask = (torch.arange(batch.shape[1], device=batch.device) < lengths[:, None]).long()
    hidden = _run(model, batch, mask)
    return hidden[torch.arange(len(whole), device=batch.device), lengths - 1].float()


def answers(model: ChatModel, whole: Sequence[torch.Tensor], tokens: int) -> list[list[int]]:
    """Greedy answers by `generate()`: ids up to what ends an answer, padded on the left in one batch."""
    batch = pad_sequence(list(whole), batch_first=True, padding_side="left")
    lengths = torch.tensor([len(each) for each in whole], device=batch.device)
    mask = (torch.arange(batch.shape[1], device=batch.device) >= batch.shape[1] - lengths[:, None]).long()
    ends = sorted(model.stop_ids)
    # The slice that generate() gives the head is not contiguous, and torch's linear would then copy the
    # head's weights for every row (27 GB for 100). That is a fault one would mend, so it is not counted.
    head = model.model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    try:
        out = model.model.generate(
            inputs_embeds=batch, attention_mask=mask, max_new_tokens=tokens, do_sample=False,
            eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0,
            temperature=None, top_p=None, top_k=None,
        )  # fmt: skip
    finally:
        hook.remove()
    return [_until(ids, model.stop_ids) for ids in out.tolist()]


@torch.no_grad()
def next_logits(model: ChatModel, whole: torch.Tensor) -> torch.Tensor:
    """Logits (vocabulary,) of the token after a sequence (T, d_model)."""
    return model.model(inputs_embeds=whole[None], use_cache=False).logits[0, -1].float()


def _run(model: ChatModel, embeddings: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """The full model, logits and all; the states that its head was given are listened to on the way."""
    heard = []
    hook = model.backbone.register_forward_hook(lambda _, __, out: heard.append(out.last_hidden_state))
    try:
        model.model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)
    finally:
        hook.remove()
    return heard[0]


def _until(ids: list[int], ends: frozenset[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[:end]
