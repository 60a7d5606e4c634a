"""Attention over many short sequences that share one prefix, exactly and without padding the model.

All queries under one safety prompt begin with the same tokens. Here the prefix is run once, the
queries' own tokens lie one after another in a single row (so every matrix product sees real tokens
only), and attention alone knows who may look at whom: an own token sees the whole prefix and the
earlier own tokens of its query. The result equals running every sequence by itself; gradients flow
through the prefix.

This module knows tensors and transformers' attention interface. It knows nothing of prompts,
tokenizers or chat templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from dro.errors import ModelError

IMPLEMENTATION = "shared_prefix"


@dataclass
class KeyValues:
    """Keys and values of `length` positions for every layer, each (rows, kv_heads, length, head_dim)."""

    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    length: int = 0

    def record(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        self.keys[layer], self.values[layer] = key, value

    def select(self, rows: torch.Tensor) -> KeyValues:
        """The same for chosen rows, in their order; a row may occur several times."""
        # Layers may lie on several devices.
        keys = {layer: key[rows.to(key.device)] for layer, key in self.keys.items()}
        values = {layer: value[rows.to(value.device)] for layer, value in self.values.items()}
        return KeyValues(keys, values, self.length)

    @property
    def bytes(self) -> int:
        return sum(2 * key.numel() * key.element_size() for key in self.keys.values())


class Layout:
    """Who attends to whom in one forward pass. Passed to the backbone as `attention_layout`."""

    @property
    def reach(self) -> int:
        """Positions from the first to the last token of the longest sequence."""
        raise NotImplementedError

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
               scaling: float, softcap: float | None) -> torch.Tensor:  # fmt: skip
        """(1 or rows, heads, tokens, head_dim) queries -> (1 or rows, tokens, heads, head_dim)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Continuation:
    """Where answering goes on from: what all rows share, what each has of its own, and what comes next.

    valid: (rows, longest), which places of `own` hold a token. positions: (rows,) of the next token.
    """

    prefix: KeyValues
    own: KeyValues
    valid: torch.Tensor
    positions: torch.Tensor


class Prefix(Layout):
    """One row of prefix tokens, causal; keys and values are kept."""

    def __init__(self, length: int) -> None:
        self.cache = KeyValues(length=length)

    @property
    def reach(self):
        return self.cache.length

    def attend(self, layer, query, key, value, scaling, softcap):
        self.cache.record(layer, key, value)
        return _causal(query, key, value, scaling, softcap)


class Packed(Layout):
    """One row: optionally the prefix itself, then every query's own tokens one after another.

    Parameters
    ----------
    prefix_length: tokens shared by all queries; at the row's head unless `prefix` is given.
    lengths: own tokens of each query.
    prefix: keys and values of a prefix that was run before.
    keep: keep the own tokens' keys and values, to go on answering from them.
    """

    def __init__(self, prefix_length: int, lengths: Sequence[int], device: torch.device,
                 prefix: KeyValues | None = None, keep: bool = False) -> None:  # fmt: skip
        self.prefix_length = prefix_length
        self.prefix = prefix
        self.own = KeyValues(length=max(lengths)) if keep else None
        own = torch.tensor(lengths, device=device)
        start = own.cumsum(0) - own
        column = torch.arange(int(own.max()), device=device)
        self.valid = column < own[:, None]  # (rows, longest)
        self.where = (start[:, None] + column).clamp(max=int(own.sum()) - 1)
        self.flat = self.valid.flatten().nonzero()[:, 0]
        self.last = start + own - 1
        causal = column <= column[:, None]
        # Padded positions see themselves, so that no row of the softmax is empty.
        allowed = (causal & self.valid[:, None, :]) | torch.eye(len(column), dtype=torch.bool, device=device)
        self.blocked = ~allowed  # (rows, longest, longest)
        positions = prefix_length + column.expand(len(lengths), -1).flatten()[self.flat]
        if prefix is None:
            positions = torch.cat([torch.arange(prefix_length, device=device), positions])
        self.position_ids = positions[None]

    @property
    def reach(self):
        return self.prefix_length + self.valid.shape[1]

    def continuation(self) -> Continuation:
        """Where to go on from, after a pass with `keep` behind a prefix that was run before."""
        assert self.prefix is not None and self.own is not None
        return Continuation(self.prefix, self.own, self.valid, self.prefix_length + self.valid.sum(dim=1))

    def attend(self, layer, query, key, value, scaling, softcap):
        head = 0 if self.prefix is not None else self.prefix_length
        if self.prefix is not None:
            prefix_key, prefix_value = self.prefix.keys[layer], self.prefix.values[layer]
        else:
            prefix_key, prefix_value = key[:, :, :head], value[:, :, :head]
        where = self.where.to(query.device)
        own_query, own_key, own_value = (
            t[0, :, head:][:, where].transpose(0, 1) for t in (query, key, value)
        )
        if self.own is not None:
            self.own.record(layer, own_key, own_value)
        mixed = _two_part(own_query, prefix_key, prefix_value, own_key, own_value,
                          self.blocked.to(query.device), scaling, softcap)  # fmt: skip
        rows, heads, longest, width = mixed.shape
        packed = mixed.transpose(1, 2).reshape(rows * longest, heads, width)
        packed = packed[self.flat.to(query.device)]
        if head:
            first = _causal(query[:, :, :head], prefix_key, prefix_value, scaling, softcap)
            packed = torch.cat([first[0], packed])
        return packed[None]


class Decode(Layout):
    """One new token a row, after a shared prefix and each row's own tokens.

    Memory for keys and values is allocated once, for `capacity` new tokens.
    """

    def __init__(self, prefix: KeyValues, own: KeyValues, valid: torch.Tensor, capacity: int) -> None:
        self.prefix = prefix
        self.step = 0
        self.filled = own.length
        rows = len(valid)
        room = torch.zeros(rows, capacity, dtype=torch.bool, device=valid.device)
        self.visible = torch.cat([valid, room], dim=1)
        self.cache = KeyValues(length=own.length + capacity)
        for layer, key in own.keys.items():
            value = own.values[layer]
            shape = (rows, key.shape[1], capacity, key.shape[3])
            self.cache.record(layer, torch.cat([key, key.new_zeros(shape)], dim=2),
                              torch.cat([value, value.new_zeros(shape)], dim=2))  # fmt: skip

    @property
    def reach(self):
        return self.prefix.length + self.filled + self.step

    def advance(self) -> None:
        """Make room for the next token; call before each forward pass."""
        self.visible[:, self.filled + self.step] = True
        self.step += 1

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these (indices), when answers have ended."""
        self.visible = self.visible[rows]
        self.cache = self.cache.select(rows)

    def attend(self, layer, query, key, value, scaling, softcap):
        end = self.filled + self.step
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        keys[:, :, end - 1 : end] = key
        values[:, :, end - 1 : end] = value
        blocked = ~self.visible[:, None, :end].to(query.device)
        mixed = _two_part(query, self.prefix.keys[layer], self.prefix.values[layer],
                          keys[:, :, :end], values[:, :, :end], blocked, scaling, softcap)  # fmt: skip
        return mixed.transpose(1, 2)


def _two_part(query, prefix_key, prefix_value, own_key, own_value, blocked, scaling, softcap):
    """Attention over a prefix common to all rows and each row's own keys; softmax in float32.

    query (rows, heads, q, dim); prefix_* (1, kv_heads, p, dim); own_* (rows, kv_heads, o, dim);
    blocked (rows, q, o), True where a query may not look. Returns (rows, heads, q, dim).
    """
    rows, heads, length, dim = query.shape
    kv_heads, own_length = own_key.shape[1:3]
    prefix_length = prefix_key.shape[2]
    groups = heads // kv_heads
    grouped = query.reshape(rows, kv_heads, groups * length, dim)
    # The prefix is the same for every row: one large product instead of one a row.
    by_head = grouped.transpose(0, 1).reshape(kv_heads, rows * groups * length, dim)
    on_prefix = (by_head @ prefix_key[0].transpose(1, 2)).view(kv_heads, rows, groups, length, prefix_length)
    on_own = (grouped @ own_key.transpose(2, 3)).view(rows, kv_heads, groups, length, own_length)
    # Masked before they are joined: nothing of the prefix is ever hidden.
    on_own = on_own.masked_fill(blocked[:, None, None], float("-inf"))
    scores = torch.cat([on_prefix.transpose(0, 1), on_own], dim=-1).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
        scores = scores.masked_fill(F.pad(blocked, (prefix_length, 0))[:, None, None], float("-inf"))
    weights = scores.softmax(dim=-1).to(query.dtype)
    to_prefix = weights[..., :prefix_length].transpose(0, 1)
    to_prefix = to_prefix.reshape(kv_heads, rows * groups * length, prefix_length)
    from_prefix = (to_prefix @ prefix_value[0]).view(kv_heads, rows, groups * length, dim)
    to_own = weights[..., prefix_length:].reshape(rows, kv_heads, groups * length, own_length)
    from_own = to_own @ own_value
    return (from_prefix.transpose(0, 1) + from_own).reshape(rows, heads, length, dim)


def _causal(query, key, value, scaling, softcap):
    if softcap is not None:
        length = query.shape[2]
        blocked = torch.ones(1, length, length, dtype=torch.bool, device=query.device).triu(1)
        empty = key[:, :, :0]
        mixed = _two_part(query, empty, empty, key, value, blocked, scaling, softcap)
    else:
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            is_causal=True,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return mixed.transpose(1, 2)


def _attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0,
               attention_layout: Layout | None = None, **kwargs):  # fmt: skip
    """transformers' attention function: our layout where one is given, torch's own otherwise."""
    softcap = kwargs.get("softcap")
    if attention_layout is None and softcap is not None:
        return _plain(query, key, value, attention_mask, scaling, softcap), None
    if attention_layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if kwargs.get("s_aux") is not None:
        raise ModelError(
            f"{type(module).__name__} uses attention sinks, which are not supported.",
            "Choose another model.",
        )
    window = kwargs.get("sliding_window")
    if window is not None and attention_layout.reach > window:
        raise ModelError(
            f"Prompt, query and answer reach {attention_layout.reach} tokens, but {type(module).__name__} "
            f"attends within a window of {window}.",
            "Shorten the safety prompt or the query.",
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attention_layout.attend(module.layer_idx, query, key, value, scaling, softcap), None


def _plain(query, key, value, attention_mask, scaling, softcap):
    """Attention with capped scores under transformers' own mask; torch's kernel knows no cap."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = torch.tanh((query @ key.transpose(2, 3)).float() * scaling / softcap) * softcap
    length, total = scores.shape[-2:]
    if attention_mask is None:
        attention_mask = torch.ones(length, total, dtype=torch.bool, device=query.device).tril(total - length)
    blocked = ~attention_mask if attention_mask.dtype == torch.bool else attention_mask < 0
    weights = scores.masked_fill(blocked, float("-inf")).softmax(dim=-1).to(query.dtype)
    return (weights @ value).transpose(1, 2)


AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


def forward(backbone: torch.nn.Module, embeddings: torch.Tensor, position_ids: torch.Tensor,
            layout: Layout) -> torch.Tensor:  # fmt: skip
    """`last_hidden_state`, after the final norm, (rows, tokens, d_model), under `layout`."""
    hidden = _run(backbone, embeddings, position_ids, layout).last_hidden_state
    return hidden.to(embeddings.device)  # the last layer may lie on another device than the first


def forward_layers(backbone: torch.nn.Module, embeddings: torch.Tensor, position_ids: torch.Tensor,
                   layout: Layout) -> list[torch.Tensor]:  # fmt: skip
    """The same pass with what every layer leaves behind, each (rows, tokens, d_model): the embeddings, then
    the output of each layer; the last one after the final norm, so that it is what `forward` gives."""
    made = _run(backbone, embeddings, position_ids, layout, output_hidden_states=True)
    return [*made.hidden_states[:-1], made.last_hidden_state]


def _run(backbone, embeddings, position_ids, layout, **options):
    # A four-dimensional mask is passed through untouched by transformers: the layout decides instead.
    untouched = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=embeddings.device)
    return backbone(
        inputs_embeds=embeddings,
        attention_mask=untouched,
        position_ids=position_ids,
        use_cache=False,
        attention_layout=layout,
        **options,
    )
