"""The gradient of a loss over a batch's states to the prompt's vectors, in one pass or in several.

Where the batch does not fit into memory at once, states are found without gradients first; the loss
then says how each state counts, and every part goes through the model again with gradients. That
is exact for any loss, and takes half as long again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch

from dro.batching import Room, give_back, split, too_small
from dro.encoding import PrefixIds
from dro.models import ChatModel
from dro.states import packed_states


class _Losses(Protocol):
    @property
    def total(self) -> torch.Tensor: ...


L = TypeVar("L", bound=_Losses)


def backward(model: ChatModel, own: Sequence[Sequence[int]], ids: PrefixIds, vectors: torch.Tensor,
             loss: Callable[[torch.Tensor], L], room: Room) -> L:  # fmt: skip
    """Add the gradient of `loss(states).total` to `vectors.grad`; returns the losses.

    own: the own tokens of each query. Where the device has too little memory, `room` is halved and
    the batch taken again in smaller parts; `vectors.grad` is then as if nothing had happened.
    """
    before = None if vectors.grad is None else vectors.grad.clone()
    while True:
        lengths = [len(o) for o in own]
        parts = split(lengths, len(ids), room.training)
        refused = False
        try:
            if len(parts) == 1:
                losses = loss(packed_states(model, own, ids, vectors))
                losses.total.backward()
                return losses
            return _in_parts(model, own, ids, vectors, loss, parts)
        except torch.OutOfMemoryError:
            refused = True
        if refused:  # outside the except, which would keep the failed pass's tensors alive
            vectors.grad = None if before is None else before.clone()
            largest = max(parts, key=lambda part: sum(lengths[row] for row in part))
            tokens = sum(lengths[row] for row in largest)
            if len(largest) == 1:
                raise too_small(len(ids) + tokens)
            give_back()
            room.training = len(ids) + tokens // 2


def _in_parts(model, own, ids, vectors, loss, parts):
    with torch.no_grad():
        states = torch.cat([packed_states(model, [own[row] for row in part], ids, vectors) for part in parts])
    states.requires_grad_()
    losses = loss(states)
    losses.total.backward()
    assert states.grad is not None
    for part in parts:
        packed_states(model, [own[row] for row in part], ids, vectors).backward(states.grad[part])
    return losses
