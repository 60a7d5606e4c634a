"""GPUs that are lent by the call, as ZeroGPU Spaces do: what the page asks of the model, wherever it is.

There a function decorated with `spaces.GPU` runs in a forked process that has a GPU, for as many seconds as
it said beforehand; what it is given and gives back is pickled, what it changes is lost. So tasks are named,
are given words and numbers, find the model as the fork has it, and return values: errors of ours too, since
others arrive as a name. Without such a Space the package `spaces` is never imported and nothing is forked.
Imported before torch: `spaces` wants to be first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dro.errors import DroError, Travelling

if TYPE_CHECKING:
    from dro.models import ChatModel
    from dro.space import Space
    from dro.states import PrefixCache

LENT = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
"""Whether the model is to be asked on a GPU that is lent by the call."""
READY = 5.0
"""Seconds until a lent GPU has the weights: a careful guess, as `RATE` is; neither was measured."""
RATE = float(os.environ.get("DRO_GPU_RATE", "5000"))
"""Tokens a second that a lent GPU reads."""
WORD = 0.05
"""Seconds a token of answers, however many are written at once."""
MOST = 60
"""Seconds of the longest call; longer work is asked for in pieces."""


@dataclass(frozen=True)
class Bench:
    """What a worker needs of the loaded model."""

    model: ChatModel
    space: Space
    prefixes: PrefixCache
    rate: float
    """Tokens a second in a forward pass without gradients."""


Task = Callable[..., Any]
_tasks: dict[str, tuple[Task, Callable[..., float]]] = {}
_bench: Bench | None = None


def task(seconds: Callable[..., float]) -> Callable[[Task], Task]:
    """A function of a Bench and further values that can be asked for by its name, and the seconds it takes
    (told from those values, beside `READY`)."""

    def named(function: Task) -> Task:
        _tasks[function.__name__] = (function, seconds)
        return function

    return named


def serve(bench: Bench) -> None:
    """What tasks are asked of from now on; forks have what was there when they were made."""
    global _bench
    _bench = bench


def duration(name: str, *values: Any) -> int:
    """Whole seconds to ask for; at most `MOST`."""
    return min(MOST, int(READY + _tasks[name][1](*values)) + 1)


def _lent(function: Callable) -> Callable:
    if not LENT:
        return function
    import spaces

    return spaces.GPU(duration=duration)(function)


@_lent
def _call(name: str, *values: Any) -> Any:
    try:
        return _tasks[name][0](_bench, *values)
    except DroError as error:
        return Travelling.of(error)


@_lent
def _follow(name: str, *values: Any) -> Iterator[Any]:
    try:
        yield from _tasks[name][0](_bench, *values)
    except DroError as error:
        yield Travelling.of(error)


def ask(function: Task, *values: Any) -> Any:
    """What a task returns."""
    return _arrived(_call(function.__name__, *values))


def follow(function: Task, *values: Any) -> Iterator[Any]:
    """What a task yields."""
    for each in _follow(function.__name__, *values):
        yield _arrived(each)


def _arrived(told: Any) -> Any:
    if isinstance(told, Travelling):
        raise told.error()
    return told
