"""Attention of several prefixes side by side: one pass where each by itself would read all weights again.

A few queries under a few prompts are too few tokens to keep the machine busy; reading the weights is
what takes time. Here every prompt's queries lie in one row, each part behind its own cached prefix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from dro.shared_prefix import Continuation, KeyValues, Layout, Packed


class SideBySide(Layout):
    """Packed rows of several prefixes, one after another; every part has a prefix that was run before."""

    def __init__(self, parts: Sequence[Packed]) -> None:
        assert parts and all(part.prefix is not None for part in parts)
        self.parts = list(parts)
        self._tokens = [len(part.flat) for part in parts]
        self.position_ids = torch.cat([part.position_ids for part in parts], dim=1)
        starts = [sum(self._tokens[:place]) for place in range(len(parts))]
        self.last = torch.cat([start + part.last for start, part in zip(starts, parts, strict=True)])

    @property
    def reach(self):
        return max(part.reach for part in self.parts)

    def attend(self, layer, query, key, value, scaling, softcap):
        split = (t.split(self._tokens, dim=2) for t in (query, key, value))
        return torch.cat([
            part.attend(layer, *each, scaling, softcap)
            for part, *each in zip(self.parts, *split, strict=True)
        ], dim=1)  # fmt: skip

    def continuation(self) -> Continuation:
        """Where to go on from: the rows share no prefix, so every row's whole sequence is its own."""
        held = [self._with_prefix(part) for part in self.parts]
        longest = max(each.length for each in held)
        whole = KeyValues(length=longest)
        for layer in held[0].keys:
            whole.record(layer, *(
                torch.cat([_widened(each, longest) for each in tensors])
                for tensors in ([h.keys[layer] for h in held], [h.values[layer] for h in held])
            ))  # fmt: skip
        valid = torch.cat([
            F.pad(part.valid, (part.prefix_length, longest - each.length, 0, 0), value=False)
            for part, each in zip(self.parts, held, strict=True)
        ])  # fmt: skip
        for part, row in zip(self.parts, self._first_rows(), strict=True):
            valid[row : row + len(part.valid), : part.prefix_length] = True
        nothing = KeyValues({layer: k[:1, :, :0] for layer, k in whole.keys.items()},
                            {layer: v[:1, :, :0] for layer, v in whole.values.items()})  # fmt: skip
        return Continuation(nothing, whole, valid, valid.sum(dim=1))

    def _first_rows(self) -> list[int]:
        return [sum(len(part.valid) for part in self.parts[:place]) for place in range(len(self.parts))]

    def _with_prefix(self, part: Packed) -> KeyValues:
        assert part.prefix is not None and part.own is not None, "made without keep"
        joined = KeyValues(length=part.prefix_length + part.own.length)
        for layer, key in part.own.keys.items():
            rows = len(key)
            joined.record(
                layer,
                torch.cat([part.prefix.keys[layer].expand(rows, -1, -1, -1), key], dim=2),
                torch.cat(
                    [part.prefix.values[layer].expand(rows, -1, -1, -1), part.own.values[layer]], dim=2
                ),
            )
        return joined


def _widened(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """(rows, heads, n, dim) with zeros after the n positions, up to `length`."""
    return F.pad(tensor, (0, 0, 0, length - tensor.shape[2]))
