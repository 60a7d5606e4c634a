"""Answers under any safety prompt, many queries at once, word by word where wanted.

Greedy, or sampled with a seed of its own for every (query, sample): the same answer whatever else is
in the batch, up to the rounding of the model's dtype.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from dro import shared_prefix
from dro.batching import halved, packs
from dro.errors import DataError, ModelError
from dro.models import ChatModel
from dro.prompts import SafetyPrompt
from dro.shared_prefix import Decode, Packed
from dro.side_by_side import SideBySide
from dro.sources import Progress, silent
from dro.states import PrefixCache, own_ids, run_prefix, side_by_side

BATCH_ROWS = 128
PREFILL_TOKENS = 2048
_GPU_TIMES = 8
"""By how much more a GPU begins with; what it refuses is halved."""


@dataclass(frozen=True)
class Decoding:
    """How answers are chosen.

    Attributes
    ----------
    max_tokens: longest answer, in tokens. samples: answers to each query.
    temperature: 0 is greedy. top_p, top_k: nucleus and rank limits when sampling.
    seed: with the query and the sample's number it decides every choice.
    """

    max_tokens: int = 24
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 0.9
    top_k: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= 4096:
            raise DataError(f"max_tokens is {self.max_tokens}.", "Choose 1 to 4096.")
        if not 1 <= self.samples <= 1000:
            raise DataError(f"samples is {self.samples}.", "Choose 1 to 1000.")
        if not 0 <= self.temperature < float("inf") or not 0 < self.top_p <= 1 or self.top_k < 1:
            raise DataError(
                f"temperature {self.temperature}, top_p {self.top_p}, top_k {self.top_k} cannot be.",
                "temperature ≥ 0, 0 < top_p ≤ 1, top_k ≥ 1.",
            )
        if self.samples > 1 and self.temperature == 0:
            raise DataError(
                f"{self.samples} greedy samples would all be the same.",
                "Set a temperature above 0.",
            )


class Answer(NamedTuple):
    """A text the model gave, and the id of its first token (None where it gave none)."""

    text: str
    opening: int | None


def answers(
    model: ChatModel,
    prompt: SafetyPrompt,
    queries: Sequence[str],
    decoding: Decoding = Decoding(),
    prefixes: PrefixCache | None = None,
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
) -> list[list[str]]:
    """What the model answers to `queries` under `prompt`: for each query, `decoding.samples` texts.

    `checkpoint` is called between model passes and may raise to stop.
    """
    found = full_answers(model, prompt, queries, decoding, prefixes, progress, checkpoint)
    return [[answer.text for answer in each] for each in found]


def full_answers(
    model: ChatModel,
    prompt: SafetyPrompt,
    queries: Sequence[str],
    decoding: Decoding = Decoding(),
    prefixes: PrefixCache | None = None,
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
) -> list[list[Answer]]:
    """`answers` with the first token of each."""
    own = own_ids(model, prompt, queries)
    prefix = prefixes.get(prompt) if prefixes else run_prefix(model, prompt)
    found: list[list[Answer]] = [[] for _ in queries]

    def run(batch: list[int]) -> list[list[int]]:
        flat = model.embed([token for i in batch for token in own[i]])
        lengths = [len(own[i]) for i in batch]
        layout = Packed(prefix.length, lengths, model.device, prefix, keep=True)
        ids: list[list[int]] = []
        for so_far in _decode(model, layout, flat, [queries[i] for i in batch], decoding):
            ids = so_far
            checkpoint()
        return ids

    done = 0
    for batch, ids in halved(batches(model, own, decoding), run):
        spelled = model.tokenizer.batch_decode(ids, skip_special_tokens=True)
        for position, index in enumerate(batch):
            first = position * decoding.samples
            found[index] = [
                Answer(text.strip(), tokens[0] if tokens else None)
                for text, tokens in list(zip(spelled, ids, strict=True))[first : first + decoding.samples]
            ]
        done += len(batch)
        progress(f"Answers under {prompt.name}", done / len(queries))
    return found


def batches(model: ChatModel, own: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
    """Which queries, by their own tokens, go through the model together. Each batch, asked by itself, is one
    batch again: its answers do not depend on what else is asked."""
    times = _GPU_TIMES if model.device.type == "cuda" else 1
    rows = max(1, BATCH_ROWS * times // decoding.samples)
    groups = packs([len(each) for each in own], PREFILL_TOKENS * times)
    return [group[start : start + rows] for group in groups for start in range(0, len(group), rows)]


def stream_answers(
    model: ChatModel, prompts: Sequence[SafetyPrompt], query: str, decoding: Decoding = Decoding(),
    prefixes: PrefixCache | None = None,
) -> Iterator[list[tuple[str, bool]]]:  # fmt: skip
    """Answers to one query under several prompts at once: after every token, each (text so far, ended).

    All prompts go through the model together, each behind its own prefix: a token costs hardly more
    for five prompts than for one, since reading the weights is what takes time.
    """
    return stream_asked(model, [(prompt, query) for prompt in prompts], decoding, prefixes)


def stream_asked(
    model: ChatModel,
    asked: Sequence[tuple[SafetyPrompt, str]],
    decoding: Decoding = Decoding(),
    prefixes: PrefixCache | None = None,
    longest: Sequence[int] | None = None,
    wanted: Callable[[int], bool] = lambda place: True,
) -> Iterator[list[tuple[str, bool]]]:
    """Answers to (prompt, query) pairs at once: after every token, each (text so far, ended), in order.

    longest: tokens of each answer, at most decoding.max_tokens. wanted: asked before every token; an answer
    that nobody wants any more costs no further one.
    """
    layout, flat, order = side_by_side(model, asked, prefixes, keep=True)
    most = [decoding.max_tokens if longest is None else longest[place] for place in order]

    def goes_on(row: int, length: int) -> bool:
        return length < most[row] and wanted(order[row])

    stream = _decode(model, layout, flat, [asked[place][1] for place in order], decoding, goes_on)
    before_that = [-1] * len(asked)
    told = [("", False)] * len(asked)
    for ids in stream:
        for row, answer in enumerate(ids):
            # An answer that did not grow has met its end.
            ended = len(answer) == before_that[row] or len(answer) == most[row]
            before_that[row] = len(answer)
            # An unfinished character is held back until its last byte is there.
            spelled = model.tokenizer.decode(answer, skip_special_tokens=True)
            told[order[row]] = (spelled.rstrip("\ufffd").lstrip(), ended)
        yield list(told)
    yield [(said, True) for said, _ in told]


@torch.no_grad()
def _decode(model: ChatModel, layout: Packed | SideBySide, flat: torch.Tensor, queries: Sequence[str],
            decoding: Decoding, wanted: Callable[[int, int], bool] = lambda row, length: True,
            ) -> Iterator[list[list[int]]]:  # fmt: skip
    """Yield, after each token, the ids of all answers so far: query by query, sample by sample.

    wanted: whether a row of so many tokens goes on.
    flat: embeddings of all that follows the prefixes, query after query, as `layout` (with `keep`) has it.
    """
    device, samples = model.device, decoding.samples
    hidden = shared_prefix.forward(model.backbone, flat[None], layout.position_ids, layout)
    hidden = hidden[0, layout.last].repeat_interleave(samples, dim=0)
    since = layout.continuation()
    rows = torch.arange(len(queries), device=device).repeat_interleave(samples)
    decode = Decode(since.prefix, since.own.select(rows), since.valid[rows], decoding.max_tokens)
    positions = since.positions[rows]
    choose = _Chooser(queries, decoding)
    result: list[list[int]] = [[] for _ in range(len(rows))]
    active = list(range(len(rows)))
    for step in range(decoding.max_tokens):
        logits = model.model.get_output_embeddings()(hidden).float()
        if not torch.isfinite(hidden).all():
            raise ModelError(
                f"{model.name} gives values that are not finite.", "Load it in another precision."
            )
        chosen = choose(logits, active, step)
        going = [k for k, token in enumerate(chosen) if token not in model.stop_ids]
        for k in going:
            result[active[k]].append(chosen[k])
        yield result
        going = [k for k in going if wanted(active[k], len(result[active[k]]))]
        if not going or step + 1 == decoding.max_tokens:
            return
        if len(going) < len(active):
            kept = torch.tensor(going, device=device)
            decode.keep(kept)
            positions = positions[kept]
            active = [active[k] for k in going]
        decode.advance()
        tokens = model.embed([result[row][-1] for row in active])
        hidden = shared_prefix.forward(model.backbone, tokens[:, None], (positions + step)[:, None], decode)[
            :, 0
        ]


class _Chooser:
    """Picks the next token of every row: the likeliest, or by the row's own stream of numbers."""

    def __init__(self, queries: Sequence[str], decoding: Decoding) -> None:
        self._decoding = decoding
        self._numbers = np.empty((0, 0))
        if decoding.temperature > 0:
            self._numbers = np.stack([
                _uniform(decoding.seed, query, sample, decoding.max_tokens)
                for query in queries for sample in range(decoding.samples)
            ])  # fmt: skip

    def __call__(self, logits: torch.Tensor, rows: Sequence[int], step: int) -> list[int]:
        decoding = self._decoding
        if decoding.temperature == 0:
            return logits.argmax(dim=-1).tolist()
        best = (logits / decoding.temperature).topk(min(decoding.top_k, logits.shape[-1]), dim=-1)
        mass = best.values.softmax(dim=-1)
        before = mass.cumsum(dim=-1) - mass
        mass = mass.masked_fill(before >= decoding.top_p, 0.0)
        cumulative = mass.cumsum(dim=-1)
        point = torch.as_tensor(self._numbers[list(rows), step], dtype=torch.float32)
        target = point[:, None].to(mass.device) * cumulative[:, -1:]
        place = (cumulative <= target).sum(dim=-1, keepdim=True).clamp(max=mass.shape[-1] - 1)
        return best.indices.gather(1, place)[:, 0].tolist()


def _uniform(seed: int, query: str, sample: int, count: int) -> np.ndarray:
    digest = hashlib.sha256(f"{seed}\0{sample}\0{query}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big")).random(count)
