"""Vanilla prompt tuning (vPT), the paper's baseline: a soft prompt taught by words instead of directions.

    loss = mean over good answers' tokens of −log p   +   mean over bad ones' of −log(1 − p)

Good is a refusal of a harmful query or an answer to a harmless one, bad the other way round. All answers
are the model's own, given under several prompts; they live in memory only and are never written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from dro import likelihood, prompts, refusal, run_folder
from dro.data import QuerySet
from dro.errors import DataError, ModelError
from dro.generate import Decoding, full_answers
from dro.models import ChatModel
from dro.prompts import SafetyPrompt
from dro.recipes import Config
from dro.sources import Progress, silent
from dro.states import PrefixCache, own_ids, prefix_ids, prompt_vectors

SAMPLES = Decoding(max_tokens=24, samples=2, temperature=1.0)
"""Answers to each query under each prompt; the full size raises both numbers (the paper: 100 tokens)."""


@dataclass(frozen=True)
class Lessons:
    """Queries with an answer's tokens each: good ones to imitate, bad ones to avoid; and their classes."""

    good: list[tuple[str, list[int]]] = field(default_factory=list)
    bad: list[tuple[str, list[int]]] = field(default_factory=list)


def lessons(
    model: ChatModel,
    queries: QuerySet,
    under: Sequence[SafetyPrompt],
    decoding: Decoding = SAMPLES,
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
) -> Lessons:
    """Let the model answer `queries` under each prompt, and sort its answers; broken ones are left out."""
    prefixes, found = PrefixCache(model), Lessons()
    for prompt in under:
        said = full_answers(model, prompt, queries.texts, decoding, prefixes, progress, checkpoint)
        for query, each in zip(queries.queries, said, strict=True):
            texts = sorted({answer.text for answer in each if answer.text})
            for text, ids in zip(
                texts, likelihood.answer_ids(model, texts, decoding.max_tokens), strict=True
            ):
                outcome = refusal.judge(text).outcome
                if outcome == "broken" or not ids:
                    continue
                kept = found.good if (outcome == "refused") == query.harmful else found.bad
                kept.append((query.text, ids))
    if not found.good or not found.bad:
        raise DataError(
            f"The model gave {len(found.good)} good and {len(found.bad)} bad answers.",
            "Prompt tuning needs both kinds: use more queries, or prompts under which it refuses.",
        )
    return found


def tune(
    model: ChatModel,
    config: Config,
    taught: Lessons,
    seconds: float,
    folder: Path,
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
) -> tuple[SafetyPrompt, int]:
    """Train from `config.init` for `seconds` of updates; returns the prompt and the updates it had.

    Optimiser, learning rate, clipping and batch are `config`'s, the rate falling over the time as it does
    over the steps there. The folder keeps the vectors, moments and time used: a killed run goes on.
    """
    start = prompts.resolve(config.init, model)
    prefix = prefix_ids(model, start)
    if not prefix.slot:
        raise DataError(f"The prompt {config.init!r} has no tokens to train.", "Start from short.")
    given = prompt_vectors(model, start)
    vectors = (model.embed(prefix.slot) if given is None else given).float().clone().requires_grad_()
    optimiser = torch.optim.AdamW([vectors], lr=config.lr, weight_decay=config.weight_decay, foreach=False)
    used, steps = _restore(folder, vectors, optimiser)
    half = max(1, config.batch // 2)
    while used < seconds or steps == 0:
        checkpoint()
        began = time.perf_counter()
        optimiser.param_groups[0]["lr"] = _rate(config, used / seconds if seconds > 0 else 0.0)
        optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=model.device)
        for kind, all_of in enumerate((taught.good, taught.bad)):
            numbers = np.random.default_rng([config.seed, kind, steps])
            chosen = [all_of[i] for i in numbers.choice(len(all_of), min(half, len(all_of)), replace=False)]
            own = own_ids(model, start, [query for query, _ in chosen])
            states = likelihood.answer_states(model, own, [ids for _, ids in chosen], prefix, vectors)
            told = likelihood.log_probabilities(model, states, [t for _, ids in chosen for t in ids])
            loss = -told.mean() if kind == 0 else -torch.log(-torch.expm1(told.clamp(max=-1e-6))).mean()
            loss.backward()  # half by half: the logits of one half at a time
            total += loss.detach()
        norm = float(torch.nn.utils.clip_grad_norm_([vectors], config.clip))
        if not torch.isfinite(total) or not np.isfinite(norm):
            raise ModelError(f"Prompt tuning diverged at update {steps + 1}.", "Try a smaller rate.")
        optimiser.step()
        steps += 1
        used += time.perf_counter() - began
        _keep(folder, vectors, optimiser, used, steps)
        progress(f"Prompt tuning: loss {total.item():.3f}", min(1.0, used / max(seconds, 1e-9)))
    return SafetyPrompt("vPT", start.text, vectors.detach().cpu().numpy().copy()), steps


def _rate(config: Config, share: float) -> float:
    """The learning rate when `share` of the time is used."""
    return config.lr_at(min(config.steps - 1, int(share * config.steps)))


def _keep(
    folder: Path, vectors: torch.Tensor, optimiser: torch.optim.Optimizer, used: float, steps: int
) -> None:
    moments = optimiser.state[vectors]
    run_folder.write_checkpoint(folder, {
        "vectors": vectors, "exp_avg": moments["exp_avg"], "exp_avg_sq": moments["exp_avg_sq"],
        "best": vectors.detach().clone(), "best_step": torch.tensor(steps), "step": torch.tensor(steps),
        "best_score": torch.tensor(used, dtype=torch.float64),
    })  # fmt: skip


def _restore(folder: Path, vectors: torch.Tensor, optimiser: torch.optim.Optimizer) -> tuple[float, int]:
    """Take up a run that is there: (seconds used, updates)."""
    if not (folder / run_folder.CHECKPOINT_FILE).exists():
        return 0.0, 0
    kept = run_folder.read_checkpoint(folder, tuple(vectors.shape))
    with torch.no_grad():
        vectors.copy_(kept["vectors"])
    steps = int(kept["step"])
    optimiser.state[vectors] = {
        "step": torch.tensor(float(steps)),
        "exp_avg": kept["exp_avg"].to(vectors.device),
        "exp_avg_sq": kept["exp_avg_sq"].to(vectors.device),
    }
    return float(kept["best_score"]), steps
