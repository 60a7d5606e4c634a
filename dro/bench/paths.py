"""Both ways of every path, ready to be called: ours as the product runs it, and the plain one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dro import batching, gradients
from dro.bench import floors, inputs, plain, sameness
from dro.bench.floors import Call
from dro.generate import Decoding, full_answers, stream_answers
from dro.models import ChatModel
from dro.objective import Objective
from dro.prompts import SafetyPrompt, resolve
from dro.states import (
    PrefixCache,
    last_token_states,
    own_ids,
    packed_states,
    prefix_embeddings,
    prefix_ids,
    prompt_vectors,
    states_by_prompt,
)

STEPS = ("step_22x16", "step_22x50", "step_100x16", "step_100x50")
PATHS = ("states", "query", *STEPS, "answers", "first_token")
PROMPTS = ("none", "default", "mistral", "short")
_MOVED = 0.3
"""How far states have moved in a step that is measured, in their own length."""


@dataclass(frozen=True)
class Sizes:
    """How much every path does.

    Attributes
    ----------
    queries: of `states`, under each prompt. alone: of all these inputs, those the plain way runs.
    own: tokens of its own that every query has. answers, tokens: how many answers, and their length.
    prompt: tokens of the prompt that is answered under. sample: inputs compared before the timing.
    """

    queries: int = 200
    alone: int = 100
    own: int = 19
    answers: int = 100
    tokens: int = 24
    prompt: int = 100
    sample: int = 8


@dataclass(frozen=True)
class Path:
    """One path.

    Attributes
    ----------
    ours, plain: the two ways; each does the whole path.
    small: both ways on a few of the same inputs, compared before anything is timed.
    same: whether results of the two ways agree.
    floor: calls of the least that has to be done, given what ours gave.
    scale: by how much the plain way does less than ours.
    """

    name: str
    ours: Callable[[], Any]
    plain: Callable[[], Any]
    small: tuple[Callable[[], Any], Callable[[], Any]]
    same: Callable[[Any, Any], bool]
    floor: Callable[[Any], list[Call]]
    scale: float = 1.0


def path(name: str, model: ChatModel, sizes: Sizes) -> Path:
    """The path called `name`."""
    if name == "states":
        return _states(model, sizes)
    if name == "query":
        return _query(model, sizes)
    if name == "answers":
        return _answers(model, sizes)
    if name == "first_token":
        return _first_token(model, sizes)
    tokens, batch = name.removeprefix("step_").split("x")
    return step(name, model, int(tokens), int(batch), sizes)


def _states(model: ChatModel, sizes: Sizes) -> Path:
    prompts = [resolve(name, model) for name in PROMPTS]
    asked = inputs.queries(model, prompts, sizes.queries, sizes.own)
    each = max(1, sizes.alone // len(prompts))
    few = max(1, sizes.sample // len(prompts))

    def ours(count: int) -> torch.Tensor:
        cache = PrefixCache(model)  # the prefixes are part of the work
        return torch.cat([
            torch.from_numpy(last_token_states(model, prompt, asked[:count], cache)) for prompt in prompts
        ])  # fmt: skip

    def theirs(count: int) -> torch.Tensor:
        return torch.cat([plain.alone(model, wholes(model, p, asked[:count])).cpu() for p in prompts])

    def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
        by_prompt = found.view(len(prompts), -1, model.d_model)
        return sameness.states(by_prompt[:, : len(expected) // len(prompts)].flatten(0, 1), expected, model)

    def floor(_: Any) -> list[Call]:
        cost, calls = floors.cost(model), []
        for prompt in prompts:
            prefix, own = len(prefix_ids(model, prompt)), [sizes.own] * len(asked)
            calls.append(floors.together(
                cost.forward(prefix, floors.pairs(0, [prefix]), 0),
                cost.forward(sum(own), floors.pairs(prefix, own), len(own)),
            ))  # fmt: skip
        return calls

    return Path("states", lambda: ours(len(asked)), lambda: theirs(each),
                (lambda: ours(few), lambda: theirs(few)), same, floor, len(asked) / each)  # fmt: skip


def _query(model: ChatModel, sizes: Sizes) -> Path:
    prompts = [resolve(name, model) for name in PROMPTS]
    (query,) = inputs.queries(model, prompts, 1, sizes.own)
    cache = PrefixCache(model)

    def ours() -> torch.Tensor:
        return torch.from_numpy(states_by_prompt(model, prompts, query, cache))

    def theirs() -> torch.Tensor:
        return plain.alone(model, [wholes(model, p, [query])[0] for p in prompts]).cpu()

    def floor(_: Any) -> list[Call]:
        return [_side_by_side(model, prompts, sizes.own)]

    return Path("query", ours, theirs, (ours, theirs),
                lambda a, b: sameness.states(a, b, model), floor)  # fmt: skip


def step(name: str, model: ChatModel, tokens: int, batch: int, sizes: Sizes) -> Path:
    """A DRO step: forward, loss, gradient to `tokens` vectors, clipping, AdamW (at a rate of 0)."""
    start = inputs.prompt(model, tokens)
    asked = inputs.queries(model, [start], batch, sizes.own)
    own, ids = own_ids(model, start, asked), prefix_ids(model, start)
    initial = prompt_vectors(model, start)
    assert initial is not None
    with torch.no_grad():
        before = packed_states(model, own, ids, initial)
        # As after some steps: at the very start the loss sees nothing but rounding between the two ways.
        random = torch.Generator().manual_seed(0)
        away = torch.randn(before.shape, generator=random).to(before.device)
        before = before + _MOVED * before.norm(dim=1, keepdim=True) * away / away.norm(dim=1, keepdim=True)
    # One class: opposite pulls would nearly cancel, and what is left of them in bf16 is rounding.
    harmful = torch.ones(batch, device=model.device)
    objective = _objective(model)

    def gradient(backward: Callable[[torch.Tensor], None]) -> torch.Tensor:
        vectors = initial.clone().requires_grad_()
        optimiser = torch.optim.AdamW([vectors], lr=0.0, weight_decay=0.0, foreach=False)
        backward(vectors)
        assert vectors.grad is not None
        found = vectors.grad.clone()
        torch.nn.utils.clip_grad_norm_([vectors], 1.0)
        optimiser.step()
        return found

    def ours(count: int) -> torch.Tensor:
        def loss(states: torch.Tensor):
            return objective(states, before[:count], harmful[:count])

        room = batching.room(model)
        return gradient(lambda v: gradients.backward(model, own[:count], ids, v, loss, room) and None)

    def theirs(count: int) -> torch.Tensor:
        def backward(vectors: torch.Tensor) -> None:
            prefix = prefix_embeddings(model, ids, vectors)
            whole = [torch.cat([prefix, model.embed(each)]) for each in own[:count]]
            objective(plain.padded(model, whole), before[:count], harmful[:count]).total.backward()

        return gradient(backward)

    def floor(_: Any) -> list[Call]:
        cost, prefix = floors.cost(model), len(ids) - len(ids.slot) + tokens
        lengths = [len(each) for each in own]
        seen = floors.pairs(0, [prefix]) + floors.pairs(prefix, lengths)
        given = (prefix + sum(lengths), seen, batch)
        return [cost.forward(*given), cost.backward(*given)]

    few = min(batch, sizes.sample)
    return Path(name, lambda: ours(batch), lambda: theirs(batch), (lambda: ours(few), lambda: theirs(few)),
                lambda a, b: sameness.gradients(a, b, model), floor)  # fmt: skip


def _answers(model: ChatModel, sizes: Sizes) -> Path:
    prompt = inputs.prompt(model, sizes.prompt)
    asked = inputs.queries(model, [prompt], sizes.answers, sizes.own)
    whole = wholes(model, prompt, asked)
    decoding = Decoding(max_tokens=sizes.tokens)

    def ours(count: int) -> list[str]:
        return [each[0].text for each in full_answers(model, prompt, asked[:count], decoding)]

    def theirs(count: int) -> list[list[int]]:
        return plain.answers(model, whole[:count], sizes.tokens)

    def same(found: list[str], expected: list[list[int]]) -> bool:
        return all(sameness.answer(model, w, f, e) for w, f, e in zip(whole, found, expected, strict=False))

    def floor(found: list[str]) -> list[Call]:
        cost, prefix = floors.cost(model), len(whole[0]) - sizes.own
        own = [sizes.own] * len(asked)
        calls = [
            floors.together(
                cost.forward(prefix, floors.pairs(0, [prefix]), 0),
                cost.forward(sum(own), floors.pairs(prefix, own), len(own)),
            ),
            cost.vocabulary(len(own)),
        ]
        lengths = [min(sizes.tokens - 1, len(_respelled(model, text))) for text in found]
        for place in range(max(lengths, default=0)):
            rows = sum(length > place for length in lengths)
            seen = rows * (prefix + sizes.own + place + 1)
            calls += [cost.forward(rows, seen, rows), cost.vocabulary(rows)]
        return calls

    few = min(len(asked), sizes.sample)
    return Path("answers", lambda: ours(len(asked)), lambda: theirs(len(asked)),
                (lambda: ours(few), lambda: theirs(few)), same, floor)  # fmt: skip


def _first_token(model: ChatModel, sizes: Sizes) -> Path:
    prompts = [resolve(name, model) for name in PROMPTS]
    (query,) = inputs.queries(model, prompts, 1, sizes.own)
    whole = [wholes(model, p, [query])[0] for p in prompts]
    cache = PrefixCache(model)
    for prompt in prompts:
        cache.get(prompt)

    def ours() -> list[str]:
        told = next(stream_answers(model, prompts, query, Decoding(max_tokens=1), cache))
        return [said.strip() for said, _ in told]

    def theirs() -> list[list[int]]:
        return plain.answers(model, whole, 1)

    def same(found: list[str], expected: list[list[int]]) -> bool:
        return all(sameness.answer(model, *each) for each in zip(whole, found, expected, strict=True))

    def floor(_: Any) -> list[Call]:
        return [_side_by_side(model, prompts, sizes.own), floors.cost(model).vocabulary(len(prompts))]

    return Path("first_token", ours, theirs, (ours, theirs), same, floor)


def wholes(model: ChatModel, prompt: SafetyPrompt, queries: Sequence[str]) -> list[torch.Tensor]:
    """Embeddings (T, d_model) of the whole sequence of every query under a prompt."""
    prefix = prefix_embeddings(model, prefix_ids(model, prompt), prompt_vectors(model, prompt))
    return [torch.cat([prefix, model.embed(own)]) for own in own_ids(model, prompt, queries)]


def _side_by_side(model: ChatModel, prompts: Sequence[SafetyPrompt], own: int) -> Call:
    seen = sum(floors.pairs(len(prefix_ids(model, prompt)), [own]) for prompt in prompts)
    return floors.cost(model).forward(own * len(prompts), seen, len(prompts))


def _respelled(model: ChatModel, text: str) -> list[int]:
    """About the tokens of an answer: what was generated is not told, the text of it is."""
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


def _objective(model: ChatModel, m: int = 16) -> Objective:
    """A loss of the real form in a random space: a benchmark needs none that was fitted."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(model.d_model, min(m, model.d_model))))[0]
    refusal, harmfulness = random.normal(size=(2, basis.shape[1])) / np.sqrt(basis.shape[1])
    space = [torch.tensor(a, dtype=torch.float32, device=model.device) for a in (basis, refusal, harmfulness)]
    return Objective(space[0], space[1], space[2], harmfulness_weight=0.01, residual_weight=0.001)
