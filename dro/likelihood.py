"""How likely given words are under a safety prompt: log-probabilities of answers, and how far two prompts'
next-token distributions lie apart.

The words are given, not generated; gradients flow to a soft prompt's vectors where they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from dro import shared_prefix
from dro.batching import packs
from dro.encoding import PrefixIds
from dro.errors import DataError
from dro.models import ChatModel
from dro.prompts import SafetyPrompt
from dro.states import own_ids, prefix_embeddings, prefix_ids, prompt_vectors

PASS_TOKENS = 512
"""Tokens in one pass without gradients: their logits over the vocabulary are what takes memory."""


def answer_ids(model: ChatModel, answers: Sequence[str], most: int | None = None) -> list[list[int]]:
    """Token ids of texts an assistant gave, at most `most` of each."""
    encoded = [model.tokenizer(text.strip(), add_special_tokens=False).input_ids for text in answers]
    return [ids[:most] for ids in encoded]


def answer_states(
    model: ChatModel,
    own: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    ids: PrefixIds,
    vectors: torch.Tensor | None,
) -> torch.Tensor:
    """States that predict each token of each answer, one after another: (Σ answer tokens, d_model).

    own: tokens of the queries; answers: tokens of an answer to each, none of them empty.
    vectors: (n_tokens, d_model) in the slot's place, with gradients; None for the text itself.
    """
    prefix = prefix_embeddings(model, ids, vectors)
    # The last token of an answer predicts what is not given, so it is not read.
    lengths = [len(query) + len(answer) - 1 for query, answer in zip(own, answers, strict=True)]
    layout = shared_prefix.Packed(len(prefix), lengths, model.device)
    read = [t for query, answer in zip(own, answers, strict=True) for t in (*query, *answer[:-1])]
    row = torch.cat([prefix, model.embed(read)])[None]
    hidden = shared_prefix.forward(model.backbone, row, layout.position_ids, layout)[0, len(prefix) :]
    starts = np.cumsum([0, *lengths[:-1]])
    places = [
        start + len(query) - 1 + step
        for start, query, answer in zip(starts, own, answers, strict=True)
        for step in range(len(answer))
    ]
    return hidden[torch.tensor(places, device=hidden.device)]


def log_probabilities(model: ChatModel, states: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
    """Log-probability of each token (n,) after its state (n, d_model), in nats, float32."""
    logits = model.model.get_output_embeddings()(states.to(model.dtype)).float()
    picked = logits.gather(1, torch.tensor(list(tokens), device=logits.device)[:, None])[:, 0]
    return picked - logits.logsumexp(dim=1)


@torch.no_grad()
def surprise(
    model: ChatModel,
    prompt: SafetyPrompt,
    queries: Sequence[str],
    answers: Sequence[str],
    checkpoint: Callable[[], None] = lambda: None,
) -> list[float | None]:
    """Mean negative log-probability (nats a token) of an answer to each query; None for an empty one."""
    own, said = own_ids(model, prompt, queries), answer_ids(model, answers)
    ids, vectors = prefix_ids(model, prompt), prompt_vectors(model, prompt)
    found: list[float | None] = [None] * len(own)
    rows = [row for row in range(len(own)) if said[row]]
    for part in packs([len(own[r]) + len(said[r]) for r in rows], PASS_TOKENS):
        checkpoint()
        chosen = [rows[place] for place in part]
        states = answer_states(model, [own[r] for r in chosen], [said[r] for r in chosen], ids, vectors)
        told = log_probabilities(model, states, [t for r in chosen for t in said[r]])
        for row, each in zip(chosen, told.split([len(said[r]) for r in chosen]), strict=True):
            found[row] = -float(each.mean())
    return found


@torch.no_grad()
def divergence(
    model: ChatModel,
    first: SafetyPrompt,
    second: SafetyPrompt,
    queries: Sequence[str],
    texts: Sequence[str],
    checkpoint: Callable[[], None] = lambda: None,
) -> list[float]:
    """KL(first ‖ second) of the next-token distributions along each text, in nats a token: one value a text.

    The texts stand where the answers to `queries` would. Nothing is sampled, so this sees what rates miss.
    """
    said = answer_ids(model, texts)
    if not all(said):
        raise DataError("A text without a token has no distribution.", "Leave it out.")
    found = []
    for query, tokens in zip(queries, said, strict=True):
        logs = []
        for prompt in (first, second):
            checkpoint()
            own = own_ids(model, prompt, [query])
            states = answer_states(
                model, own, [tokens], prefix_ids(model, prompt), prompt_vectors(model, prompt)
            )
            logs.append(model.model.get_output_embeddings()(states).float().log_softmax(dim=1))
        each = (logs[0].exp() * (logs[0] - logs[1])).sum(dim=1)
        found.append(float(each.mean()))
    return found
