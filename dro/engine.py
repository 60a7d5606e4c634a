"""Where calls to a model run: in this process, or on the workers of a Ray cluster.

A call is a function at the top of a module, given the model and then its arguments. Calls may be made twice
(a worker that died is replaced): they return what they find and leave nothing behind. Whoever asked keeps
the results, under names of their content, so that nothing counts twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from dro import models
from dro.errors import DataError
from dro.models import ChatModel
from dro.rendering import Rendering
from dro.sources import Progress, silent

HERE, RAY = "here", "ray"
ENGINES = (HERE, RAY)


@dataclass(frozen=True)
class Opened:
    """A model as a worker loads it (see `models.load`). Folders must be there on every machine."""

    name: str
    precision: str = "auto"
    rendering: Rendering | None = None

    def load(self, progress: Progress = silent, device: str = "auto") -> ChatModel:
        """The model itself."""
        return models.load(self.name, self.precision, self.rendering, progress, device)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Size:
    """How many workers, and what each has.

    workers: 0 is as many as fit. cpus: cores, and torch threads, of each. gpus: of each, over which its model
    is laid; None: one where the cluster has any.
    """

    workers: int = 0
    cpus: int = 1
    gpus: int | None = None

    def __post_init__(self) -> None:
        if self.workers < 0 or self.cpus < 1 or (self.gpus or 0) < 0:
            raise DataError(f"{self.workers} workers of {self.cpus} cores and {self.gpus} GPUs cannot be.",
                            "Workers ≥ 0, cores ≥ 1, GPUs ≥ 0.")  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One call; `key` names it among all of one `work`, those that follow from others included."""

    key: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


After = Callable[[Call, Any], Iterable[Call]]
"""Is told each result as it comes, and says what is to be called now that it is there."""


class Engine(Protocol):
    """Something that makes calls."""

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """One call, and what it returns."""

    def work(self, calls: Iterable[Call], after: After) -> None:
        """Make these calls, in any order, and those that follow from them; each is told once."""


class Here:
    """One after the other, with a model of this process."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(self._model, *arguments)

    def work(self, calls: Iterable[Call], after: After) -> None:
        waiting = deque(calls)
        while waiting:
            call = waiting.popleft()
            waiting.extend(after(call, call.function(self._model, *call.arguments)))


def check(name: str) -> None:
    """Raise unless there is an engine of that name."""
    if name not in ENGINES:
        raise DataError(f"There is no engine {name!r}.", f"Use {HERE} or {RAY}.")


@contextmanager
def opened(name: str, model: Opened, size: Size = Size(), progress: Progress = silent) -> Iterator[Engine]:
    """An engine with this model, until the block ends.

    Raises
    ------
    DataError: no such engine. ModelError: the model cannot be loaded, Ray is not installed or not there.
    """
    check(name)
    if name == HERE:
        yield Here(model.load(progress))
        return
    from dro.ray_pool import pool

    with pool(model, size, progress) as workers:
        yield workers
