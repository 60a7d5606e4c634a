"""How many tokens go through the model in one pass: estimated on a CPU, found by trying on a GPU.

A CPU kills a process that takes too much, so what fits is estimated from what is free. A GPU says no:
there one begins with much, halves what was refused, and goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch

from dro import memory
from dro.errors import ModelError
from dro.models import ChatModel

T = TypeVar("T")
CPU_TOKENS = 768
"""Enough to fill a CPU's matrix units with little memory."""
GPU_TOKENS = 1 << 14
SHARE = 0.8
"""Of the free memory, what one pass may take."""

_rooms: WeakKeyDictionary[ChatModel, Room] = WeakKeyDictionary()


class Room:
    """The tokens that go through a model in one pass, without gradients and with them."""

    def __init__(self, plain: int, training: int) -> None:
        self.plain, self.training = plain, training


def room(model: ChatModel) -> Room:
    """The room of a model; what was learnt by trying is remembered as long as the model lives."""
    if model not in _rooms:
        if model.device.type == "cuda":
            _rooms[model] = Room(GPU_TOKENS, GPU_TOKENS)
        else:
            free = memory.available()
            fits = 1 << 30 if free is None else int(SHARE * free / training_bytes(model))
            _rooms[model] = Room(CPU_TOKENS, max(1, fits))
    return _rooms[model]


def training_bytes(model: ChatModel) -> int:
    """About what one token of a pass with gradients keeps until the way back, in bytes.

    Per layer the inputs of both norms, the attention's and the gate's parts; frozen weights need no
    inputs of their own. An estimate, on the careful side.
    """
    config = model.model.config.get_text_config()
    wide = getattr(config, "intermediate_size", 4 * config.hidden_size)
    values = 14 * config.hidden_size + 5 * wide
    return int(config.num_hidden_layers * values * torch.finfo(model.dtype).bits // 8)


def passes(
    lengths: Sequence[int], room: Room, run: Callable[[list[int]], T]
) -> Iterator[tuple[list[int], T]]:
    """(rows, what `run` gives for them), in passes that fit into memory; similar lengths together.

    Where a device refuses a pass, `room` is halved and what is left is cut anew: nothing is done twice.
    """
    waiting = list(packs(lengths, room.plain))
    while waiting:
        rows = waiting[0]
        refused = False
        try:
            result = run(rows)
        except torch.OutOfMemoryError:
            refused = True
        if refused:  # outside the except, which would keep the failed pass's tensors alive
            if len(rows) == 1:
                raise too_small(lengths[rows[0]])
            give_back()
            room.plain = sum(lengths[row] for row in rows) // 2
            left = [row for group in waiting for row in group]
            again = packs([lengths[row] for row in left], room.plain)
            waiting = [[left[place] for place in group] for group in again]
            continue
        del waiting[0]
        yield rows, result


def halved(groups: Iterable[list[int]], run: Callable[[list[int]], T]) -> Iterator[tuple[list[int], T]]:
    """(rows, what `run` gives for them) of groups; where one is refused, it and all later ones are cut so
    that none is larger than its half."""
    waiting = list(groups)
    while waiting:
        rows = waiting[0]
        refused = False
        try:
            result = run(rows)
        except torch.OutOfMemoryError:
            refused = True
        if refused:  # outside the except, which would keep the failed pass's tensors alive
            if len(rows) == 1:
                raise too_small(1)
            give_back()
            half = -(-len(rows) // 2)
            waiting = [
                group[start : start + half] for group in waiting for start in range(0, len(group), half)
            ]
            continue
        del waiting[0]
        yield rows, result


def packs(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Indices in groups of at most `most` tokens, similar lengths together (little padding in
    attention); a single longer item is a group of its own."""
    group: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if group and tokens + lengths[index] > most:
            yield group
            group, tokens = [], 0
        group.append(index)
        tokens += lengths[index]
    if group:
        yield group


def split(lengths: Sequence[int], shared: int, most: int) -> list[list[int]]:
    """Rows in order, in runs of at most `most` tokens with the `shared` ones that each run has; a single
    longer row is a run of its own."""
    parts: list[list[int]] = []
    tokens = most
    for row, length in enumerate(lengths):
        if not parts or tokens + length > most:
            parts.append([])
            tokens = shared
        parts[-1].append(row)
        tokens += length
    return parts


def too_small(tokens: int) -> ModelError:
    """What is told where not even the smallest pass fits."""
    return ModelError(
        f"The device has no memory for a pass of {tokens} token{'s' * (tokens != 1)}.",
        "Load the model in 4bit, shorten the prompt, or use a device with more.",
    )


def give_back() -> None:
    """Return what torch keeps of a GPU's memory for later."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
