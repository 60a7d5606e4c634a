"""Last-token states of queries under a safety prompt: after the final norm, in float32.

A state is `last_hidden_state` at the last token of the rendered prompt, generation prompt included;
shape (n, d_model). All queries under one prompt share its prefix (see `shared_prefix`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch

from dro import shared_prefix
from dro.batching import passes, room
from dro.encoding import PrefixIds, encoder
from dro.errors import DataError
from dro.models import ChatModel
from dro.prompts import SafetyPrompt
from dro.shared_prefix import KeyValues, Packed
from dro.side_by_side import SideBySide
from dro.sources import Progress, silent


class PrefixCache:
    """Keys and values of prompts' prefixes, least recently used first out; belongs to one model."""

    def __init__(self, model: ChatModel, max_bytes: int = 1 << 28) -> None:
        self._model = model
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, KeyValues] = OrderedDict()

    def get(self, prompt: SafetyPrompt) -> KeyValues:
        """The prefix of `prompt`, run now if it is not kept."""
        if prompt.digest in self._kept:
            self._kept.move_to_end(prompt.digest)
            return self._kept[prompt.digest]
        kept = run_prefix(self._model, prompt)
        self._kept[prompt.digest] = kept
        while len(self._kept) > 1 and sum(k.bytes for k in self._kept.values()) > self._max_bytes:
            self._kept.popitem(last=False)
        return kept


def prefix_ids(model: ChatModel, prompt: SafetyPrompt) -> PrefixIds:
    """Ids before the query; for a soft prompt the slot's ids are those of the text it started from."""
    return encoder(model).prefix(prompt.text)


def own_ids(model: ChatModel, prompt: SafetyPrompt, queries: Sequence[str]) -> list[list[int]]:
    """Each query's own tokens under `prompt`, what follows the query included."""
    limit = getattr(model.model.config.get_text_config(), "max_position_embeddings", 1 << 20)
    room = min(limit, 8192) - len(prefix_ids(model, prompt))
    encoded = [encoder(model).own(prompt.text, query) for query in queries]
    for query, ids in zip(queries, encoded, strict=True):
        if len(ids) > room:
            raise DataError(
                f"The query “{query[:40]}…” has {len(ids):,} tokens; {model.name} reads {room:,}.",
                "Shorten it.",
            )
    return encoded


def prefix_embeddings(model: ChatModel, ids: PrefixIds, vectors: torch.Tensor | None) -> torch.Tensor:
    """(P, d_model) in the model's dtype; `vectors` (n, d_model), where given, take the slot's place."""
    if vectors is None:
        return model.embed(ids.ids)
    slot = vectors.to(device=model.device, dtype=model.dtype)
    return torch.cat([model.embed(ids.head), slot, model.embed(ids.middle)])


def prompt_vectors(model: ChatModel, prompt: SafetyPrompt) -> torch.Tensor | None:
    """A soft prompt's vectors as a tensor, None for other prompts."""
    return None if prompt.vectors is None else torch.from_numpy(prompt.vectors).to(model.device)


@torch.no_grad()
def run_prefix(model: ChatModel, prompt: SafetyPrompt) -> KeyValues:
    """Keys and values of everything before the query, run once at batch 1."""
    embeddings = prefix_embeddings(model, prefix_ids(model, prompt), prompt_vectors(model, prompt))
    layout = shared_prefix.Prefix(len(embeddings))
    positions = torch.arange(len(embeddings), device=model.device)[None]
    if len(embeddings):
        shared_prefix.forward(model.backbone, embeddings[None], positions, layout)
    else:
        layout.cache = empty_prefix(model)
    return layout.cache


def packed_states(model: ChatModel, own: Sequence[Sequence[int]], ids: PrefixIds,
                  vectors: torch.Tensor) -> torch.Tensor:  # fmt: skip
    """States (n, d_model) in float32 under a soft prompt, in one pass, with gradients to `vectors`.

    `vectors` (n_tokens, d_model) may be float32 whatever the model's dtype.
    """
    prefix = prefix_embeddings(model, ids, vectors)
    layout = shared_prefix.Packed(len(prefix), [len(o) for o in own], model.device)
    flat = model.embed([i for o in own for i in o])
    hidden = shared_prefix.forward(
        model.backbone, torch.cat([prefix, flat])[None], layout.position_ids, layout
    )
    return hidden[0, len(prefix) + layout.last].float()


@torch.no_grad()
def last_token_states(
    model: ChatModel,
    prompt: SafetyPrompt,
    queries: Sequence[str],
    prefixes: PrefixCache | None = None,
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """States of `queries` under `prompt`: float32 (n, d_model), in the queries' order.

    Parameters
    ----------
    prefixes: where the prompt's prefix is kept between calls.
    progress: told the share that is done. checkpoint: called between passes; may raise to stop.
    """

    def run(flat: torch.Tensor, layout: Packed) -> np.ndarray:
        hidden = shared_prefix.forward(model.backbone, flat, layout.position_ids, layout)
        return hidden[0, layout.last].float().cpu().numpy()

    return _in_passes(model, prompt, queries, run, prefixes, progress, checkpoint)


@torch.no_grad()
def states_by_layer(
    model: ChatModel,
    prompt: SafetyPrompt,
    queries: Sequence[str],
    prefixes: PrefixCache | None = None,
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """What `last_token_states` gives at its last layer, at every layer: float32 (n, layers + 1, d_model).

    Layer 0 is the embedding of the last token, layer k the residual stream after k blocks; the last one
    is taken after the final norm. Parameters as there.
    """

    def run(flat: torch.Tensor, layout: Packed) -> np.ndarray:
        hidden = shared_prefix.forward_layers(model.backbone, flat, layout.position_ids, layout)
        each = [layer[0, layout.last.to(layer.device)].float().cpu().numpy() for layer in hidden]
        return np.stack(each, axis=1)

    return _in_passes(model, prompt, queries, run, prefixes, progress, checkpoint)


def _in_passes(
    model: ChatModel,
    prompt: SafetyPrompt,
    queries: Sequence[str],
    run: Callable[[torch.Tensor, Packed], np.ndarray],
    prefixes: PrefixCache | None,
    progress: Progress,
    checkpoint: Callable[[], None],
) -> np.ndarray:
    """What `run` gives for the embeddings (1, tokens, d_model) of some queries' own tokens behind the
    prompt's prefix, one row for each; put together in the queries' order."""
    own = own_ids(model, prompt, queries)
    prefix = prefixes.get(prompt) if prefixes else run_prefix(model, prompt)
    result: np.ndarray | None = None
    done = 0

    def one(rows: list[int]) -> np.ndarray:
        checkpoint()
        layout = Packed(prefix.length, [len(own[r]) for r in rows], model.device, prefix=prefix)
        return run(model.embed([i for r in rows for i in own[r]])[None], layout)

    for rows, states in passes([len(o) for o in own], room(model), one):
        if result is None:
            result = np.empty((len(own), *states.shape[1:]), dtype=np.float32)
        result[rows] = states
        done += len(rows)
        progress(f"States under {prompt.name}", done / len(own))
    return np.empty((0, model.d_model), dtype=np.float32) if result is None else result


@torch.no_grad()
def states_by_prompt(
    model: ChatModel, prompts: Sequence[SafetyPrompt], query: str, prefixes: PrefixCache | None = None
) -> np.ndarray:
    """States of one query under several prompts in one pass: float32 (len(prompts), d_model)."""
    layout, flat = side_by_side(model, prompts, query, prefixes)
    hidden = shared_prefix.forward(model.backbone, flat[None], layout.position_ids, layout)
    return hidden[0, layout.last].float().cpu().numpy()


def side_by_side(
    model: ChatModel, prompts: Sequence[SafetyPrompt], query: str, prefixes: PrefixCache | None = None,
    keep: bool = False,
) -> tuple[SideBySide, torch.Tensor]:  # fmt: skip
    """One query behind the prefix of each prompt: the layout, and the embeddings of its row."""
    own = [own_ids(model, prompt, [query])[0] for prompt in prompts]
    parts = []
    for prompt, ids in zip(prompts, own, strict=True):
        prefix = prefixes.get(prompt) if prefixes else run_prefix(model, prompt)
        parts.append(Packed(prefix.length, [len(ids)], model.device, prefix=prefix, keep=keep))
    return SideBySide(parts), model.embed([token for ids in own for token in ids])


def empty_prefix(model: ChatModel) -> KeyValues:
    """A prefix of no tokens: some templates begin with the query when there is no system segment."""
    config = model.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = KeyValues()
    for layer in range(config.num_hidden_layers):
        empty = torch.empty(1, heads, 0, width, dtype=model.dtype, device=model.device)
        cache.record(layer, empty, empty)
    return cache
