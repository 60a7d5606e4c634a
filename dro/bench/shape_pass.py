"""A large shape once through everything: load, states, two DRO steps, one answer, with its peak memory.

Peaks here are the whole process's, model included: the question is whether it fits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from dro import memory
from dro.bench import ceilings, floors, inputs, measure
from dro.bench.paths import Sizes, step
from dro.bench.run import Row
from dro.errors import ModelError
from dro.generate import Decoding, answers
from dro.models import ChatModel
from dro.sources import Progress, silent
from dro.states import last_token_states, prefix_ids

QUERIES, BATCH, PROMPT, TOKENS, STEPS = 16, 16, 22, 8, 2


def run(build: Callable[[], ChatModel], sizes: Sizes = Sizes(), progress: Progress = silent):
    """(machine, rows `load`, `states`, `steps`, `answer`). `same_result` of the steps: the gradient is
    finite and not zero. ModelError where it is zero."""
    rows: list[Row] = []
    model, took, _ = measure.once(build, torch.device("cpu"))
    rows.append(Row("load", took, ours_peak_mb=_peak(model)))
    found = ceilings.measure(model.device)
    cost = floors.cost(model)
    prompt = inputs.prompt(model, PROMPT)
    asked = inputs.queries(model, [prompt], max(QUERIES, BATCH), sizes.own)
    prefix, own = len(prefix_ids(model, prompt)) - len(prefix_ids(model, prompt).slot) + PROMPT, sizes.own

    def note(name: str, call: Callable[[], Any], calls: list[floors.Call], fine: Callable[[Any], bool]):
        progress(f"Measuring {name}", len(rows) / 4)
        result, took, _ = measure.once(call, model.device)
        if not fine(result):
            raise ModelError(f"{model.name} in {model.precision}: {name} gives nothing usable.",
                             "Try another precision.")  # fmt: skip
        floor = floors.seconds(calls, found, model.dtype)
        rows.append(Row(name, took, None, floor, _peak(model), None, True))

    many = [own] * QUERIES
    given = (prefix + sum(many), floors.pairs(0, [prefix]) + floors.pairs(prefix, many), QUERIES)
    note("states", lambda: last_token_states(model, prompt, asked[:QUERIES]), [cost.forward(*given)],
         lambda s: bool(torch.isfinite(torch.from_numpy(s)).all()))  # fmt: skip
    # After states: extracting first is what once made gradients zero in 4bit.
    training = step("steps", model, PROMPT, BATCH, sizes)
    note("steps", lambda: [training.ours() for _ in range(STEPS)], training.floor(None) * STEPS,
         lambda found: all(bool(torch.isfinite(g).all()) and float(g.norm()) > 0 for g in found))  # fmt: skip
    one = cost.forward(1, prefix + own, 1)
    note("answer", lambda: answers(model, prompt, asked[:1], Decoding(max_tokens=TOKENS)),
         [cost.forward(prefix + own, floors.pairs(0, [prefix + own]), 1), cost.vocabulary(1),
          *[one, cost.vocabulary(1)] * (TOKENS - 1)], lambda texts: len(texts) == 1)  # fmt: skip
    machine = {
        "cores": os.cpu_count(), "threads": torch.get_num_threads(), "device": model.device.type,
        "model": model.name, "precision": model.precision, "bf16_gflops": found.bf16_flops / 1e9,
        "fp32_gflops": found.fp32_flops / 1e9, "bandwidth_gb_s": found.bandwidth / 1e9,
        "parameters": sum(m.in_features * m.out_features for m in model.model.modules()
                          if isinstance(m, torch.nn.Linear)),
    }  # fmt: skip
    return machine, rows


def _peak(model: ChatModel) -> float | None:
    """MB of the whole process at its peak since the last reset; on a GPU those of the device."""
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device) / 1e6
    top = memory.peak()
    return None if top is None else top / 1e6
