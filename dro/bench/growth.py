"""How cost grows: seconds against the operations that were computed, on logarithmic axes.

A slope of 1 says that twice the work takes twice as long: nothing is padded, repeated or copied in a
way that grows faster than the work.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dro import shapes
from dro.bench import floors, inputs, measure, paths
from dro.bench.floors import Call
from dro.bench.paths import Sizes
from dro.bench.svg import Chart, render
from dro.models import ChatModel
from dro.prompts import resolve
from dro.sources import Progress, silent
from dro.states import last_token_states, prefix_ids

ANCHORS = (25, 50, 100, 200)
PROMPTS = (50, 100, 200, 400, 800)
BATCHES = (8, 16, 32, 64)
LAYERS_OF = {"qwen-0.5b": (4, 12, 24), "qwen-1.5b": (4, 8, 16)}
"""Shapes of the growth over models: whole layers of two widths, so that all fit into a small memory."""
_TRIALS, _GIGA = 3, 1e9
_VOCABULARY = 8192
"""Of those shapes: no step uses the head."""
_Made = Callable[[], tuple[Callable[[], Any], list[Call]]]
"""Makes a call, and says what it computes."""


@dataclass(frozen=True)
class Growth:
    """Seconds of a path as one thing grows. values: what grew; operations: computed by each call.

    slope, intercept: of log seconds against log operations, least squares.
    """

    over: str
    path: str
    values: tuple[str, ...]
    operations: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def fit(self) -> tuple[float, float]:
        """(slope, intercept)."""
        slope, intercept = np.polyfit(np.log(self.operations), np.log(self.seconds), 1)
        return float(slope), float(intercept)

    def as_dict(self) -> dict[str, Any]:
        """For json."""
        return {
            "over": self.over, "path": self.path, "slope": self.fit[0], "values": list(self.values),
            "operations": list(self.operations), "seconds": list(self.seconds),
        }  # fmt: skip


def run(
    model: ChatModel, precision: str, sizes: Sizes = Sizes(), progress: Progress = silent
) -> list[Growth]:
    """Growth over anchors, prompt length, batch and model shape."""
    curves = [
        ("anchors", "states", [(str(n), lambda n=n: _states(model, n, sizes)) for n in ANCHORS]),
        ("prompt tokens", "step × 16", [(str(n), lambda n=n: _step(model, n, 16, sizes)) for n in PROMPTS]),
        ("batch", "step, 22 tokens", [(str(n), lambda n=n: _step(model, 22, n, sizes)) for n in BATCHES]),
    ]  # fmt: skip
    found = []
    for number, (over, path, calls) in enumerate(curves):
        progress(f"Growth over {over}", number / 4)
        found.append(_measured(over, path, calls, model.device))
    progress("Growth over models", 0.75)
    found.append(_over_models(precision, sizes, model.device))
    progress("Growth measured", 1.0)
    return found


def _over_models(precision: str, sizes: Sizes, device: torch.device) -> Growth:
    names, operations, seconds = [], [], []
    for name, depths in LAYERS_OF.items():
        for depth in depths:
            made = shapes.build(name, precision, device=device.type, num_hidden_layers=depth,
                                vocab_size=_VOCABULARY)  # fmt: skip
            one = _measured("", "", [("", lambda m=made: _step(m, 22, 16, sizes))], device)  # type: ignore[misc]
            names.append(f"{name} × {depth} layers")
            operations.append(one.operations[0])
            seconds.append(one.seconds[0])
            del made
    return Growth("model", "step, 22 × 16", tuple(names), tuple(operations), tuple(seconds))


def _measured(over: str, path: str, calls: Sequence[tuple[str, _Made]], device: torch.device) -> Growth:
    values, operations, seconds = [], [], []
    for value, make in calls:
        call, work = make()
        call()  # what is made once is made
        taken = [measure.once(call, device, watched=False)[1] for _ in range(_TRIALS)]
        seconds.append(statistics.median(taken))
        operations.append(sum(each[0] for each in work))
        values.append(value)
    return Growth(over, path, tuple(values), tuple(operations), tuple(seconds))


def _states(model: ChatModel, count: int, sizes: Sizes) -> tuple[Callable[[], Any], list[Call]]:
    prompt = resolve("short", model)
    asked = inputs.queries(model, [prompt], count, sizes.own)
    cost, prefix, own = floors.cost(model), len(prefix_ids(model, prompt)), [sizes.own] * count
    work = [cost.forward(prefix, floors.pairs(0, [prefix]), prefix),
            cost.forward(sum(own), floors.pairs(prefix, own), sum(own))]  # fmt: skip
    return lambda: last_token_states(model, prompt, asked), work


def _step(model: ChatModel, tokens: int, batch: int, sizes: Sizes) -> tuple[Callable[[], Any], list[Call]]:
    one = paths.step("step", model, tokens, batch, sizes)
    cost, prompt = floors.cost(model), inputs.prompt(model, tokens)
    ids, lengths = prefix_ids(model, prompt), [sizes.own] * batch
    prefix = len(ids) - len(ids.slot) + tokens
    seen = floors.pairs(0, [prefix]) + floors.pairs(prefix, lengths)
    # All of the last layer is computed, whoever reads it out.
    given = (prefix + sum(lengths), seen, prefix + sum(lengths))
    return one.ours, [cost.forward(*given), cost.backward(*given)]


def figure(found: Sequence[Growth]) -> str:
    """One SVG: a chart of every growth with its fitted line."""
    charts = []
    for each in found:
        slope, intercept = each.fit
        charts.append(Chart(
            f"{each.path} over {each.over}: slope {slope:.2f}", "GFLOP computed", "seconds",
            [o / _GIGA for o in each.operations], each.seconds, slope,
            intercept + slope * float(np.log(_GIGA)),
        ))  # fmt: skip
    return render(charts)
