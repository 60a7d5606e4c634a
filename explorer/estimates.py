"""How long work on the loaded model is likely to take, from the tokens that it reads in a second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dro.models import ChatModel
from dro.prompts import resolve
from dro.recipes import Config, training_set
from explorer.gpu import Bench
from explorer.run import WATCH_SHARE, WATCHED

if TYPE_CHECKING:
    # torch comes with this, and the page is drawn without it.
    from dro.states import PrefixCache

_ANCHORS, _HELD_OUT = 200, 100
"""Queries of the bundled anchors, and of either half of validation."""
_OWN_TOKENS = 19.5
"""Mean length of the bundled queries and what follows them, in tokens of the default model."""


def expected_step(bench: Bench, config: Config) -> float:
    """Seconds of a step: forward, and backward to the inputs, which costs as much again."""
    prompt = len(bench.model.tokenizer(resolve(config.init, bench.model).text or "")["input_ids"]) + 8
    return 2.1 * (prompt + config.batch * _OWN_TOKENS) / bench.rate


def expected_seconds(bench: Bench, config: Config, speed: float = 1.0) -> float:
    """Seconds of a whole run: steps and watching, states before and after, held-out looks, answers."""
    from dro.generate import Decoding

    steps = config.steps * expected_step(bench, config) * speed * (1 + WATCH_SHARE)
    drawn = min(config.steps * config.batch, len(training_set(config)))
    looks = 1 + config.steps // config.validate_every if config.validate_every else 0
    read = drawn + _ANCHORS + 4 * WATCHED + looks * _HELD_OUT
    states = read * _OWN_TOKENS / bench.rate
    return steps + states + answer_seconds(bench, 2 * _HELD_OUT, Decoding().max_tokens)


def answer_seconds(bench: Bench, count: int, max_tokens: int) -> float:
    """Seconds that `count` answers are likely to take, each to a query of the usual length."""
    # Words come one at a time: a token of an answer costs about twice one that is read.
    return count * (_OWN_TOKENS + 2.0 * max_tokens) / bench.rate


def measure_rate(model: ChatModel, prefixes: PrefixCache, queries: Sequence[str]) -> float:
    """Tokens a second through the model, the better of two passes (the first one warms up)."""
    from dro.states import last_token_states

    short = resolve("short", model)
    last_token_states(model, short, queries[:4], prefixes)
    best = float("inf")
    for _ in range(2):
        began = time.perf_counter()
        last_token_states(model, short, queries, prefixes)
        best = min(best, time.perf_counter() - began)
    return len(queries) * _OWN_TOKENS / best
