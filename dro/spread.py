"""Evaluations and fits whose parts any worker of an engine may do.

An evaluation is cut into the very batches that one process would take, a fit into its parts; each is named by
the hash of its content, kept when it is there, and put in its place by name: whatever is done twice counts
once, and the outcome is what one process finds, to the bit where all have as many threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dro import fit_parts, fitting
from dro.data import CLASSES, QuerySet
from dro.engine import Call, Engine
from dro.evaluate import Report, collect, ground_of, part_key
from dro.fit_parts import Part
from dro.generate import Decoding, answers, batches
from dro.judges import Judge, Phrases
from dro.models import ChatModel
from dro.prompts import SafetyPrompt, resolve
from dro.shards import Given, Shards
from dro.sources import Progress, silent
from dro.space import Space
from dro.states import PrefixCache, own_ids
from dro.store import content_hash


def evaluate(
    engine: Engine,
    prompts: Sequence[SafetyPrompt],
    queries: Sequence[QuerySet],
    decoding: Decoding = Decoding(),
    progress: Progress = silent,
    judge: Judge = Phrases(),
    kept: Shards | None = None,
) -> tuple[Report, Shards]:
    """`evaluate.evaluate` on an engine; and the finished parts, to be cleared once the report is written.

    kept: where to keep parts, if not in the cache.
    """
    shards = kept or Shards(engine.ask(_evaluation_ground))
    parts = [tuple(part.texts) for q in queries for label in CLASSES if len(part := q.of(label))]
    progress("Cutting the queries into batches", 0.0)
    jobs = _jobs(prompts, parts, engine.ask(_plans, list(prompts), parts, decoding), decoding)
    said = {(prompt.digest, texts): [[""]] * len(texts) for prompt in prompts for texts in parts}
    done = 0

    def put(job: _Job, found: list[list[str]]) -> None:
        nonlocal done
        for texts, batch in job.places:
            for row, answers_to_it in zip(batch, found, strict=True):
                said[job.prompt.digest, texts][row] = answers_to_it
        done += 1
        progress("Answers", done / len(jobs))

    def after(call: Call, found: Any) -> tuple[Call, ...]:
        job = jobs[call.key]
        put(job, shards.keep(job.key, found))
        return ()

    calls = []
    for name, job in jobs.items():
        if (found := shards.known(job.key)) is None:
            calls.append(Call(name, _answers, (job.prompt, job.asked, decoding)))
        else:
            put(job, found)
    engine.work(calls, after)

    def ask(prompt: SafetyPrompt, texts: Sequence[str], _: Progress) -> list[list[str]]:
        return said[prompt.digest, tuple(texts)]

    return collect(ask, prompts, queries, decoding.seed, judge=judge), shards


@dataclass
class _Job:
    """A batch of queries under a prompt. places: (the texts of a part, rows there) that it answers."""

    key: dict[str, Any]
    prompt: SafetyPrompt
    asked: list[str]
    places: list[tuple[tuple[str, ...], list[int]]]


def _jobs(
    prompts: Sequence[SafetyPrompt],
    parts: Sequence[tuple[str, ...]],
    plans: Sequence[Sequence[Sequence[list[int]]]],
    decoding: Decoding,
) -> dict[str, _Job]:
    """Every batch once, by the hash of its content."""
    jobs: dict[str, _Job] = {}
    for prompt, cuts in zip(prompts, plans, strict=True):
        for texts, cut in zip(parts, cuts, strict=True):
            for batch in cut:
                asked = [texts[row] for row in batch]
                key = part_key(prompt, asked, decoding)
                job = jobs.setdefault(content_hash(key), _Job(key, prompt, asked, []))
                if (texts, batch) not in job.places:
                    job.places.append((texts, batch))
    return jobs


def fit(
    engine: Engine,
    anchors: QuerySet,
    m: int = 4,
    labels: Decoding = fitting.LABELS,
    seed: int = 0,
    known: Space | None = None,
    progress: Progress = silent,
    recipe: str = fitting.OURS,
) -> tuple[Space, Shards]:
    """`fitting.fit` on an engine; and the finished parts, to be cleared once the space is saved."""
    ground, asked = engine.ask(_fit_ground, anchors, m, labels, known is None, recipe)
    shards = Shards(ground)
    there: dict[str, Any] = {}
    calls = []
    for key, part in asked:
        name = content_hash(key)
        if (found := shards.known(key)) is None:
            calls.append(Call(name, _part, (anchors, part)))
        else:
            there[name] = found
    keys = {content_hash(key): key for key, _ in asked}

    def after(call: Call, found: Any) -> tuple[Call, ...]:
        there[call.key] = shards.keep(keys[call.key], found)
        progress("States and answers of the anchors", 0.95 * len(there) / len(asked))
        return ()

    engine.work(calls, after)
    return engine.ask(_built, anchors, m, labels, seed, known, recipe, there), shards


# What workers do.


@lru_cache(maxsize=1)
def _prefixes(model: ChatModel) -> PrefixCache:
    """The prompts that a worker's model has run already."""
    return PrefixCache(model)


def _evaluation_ground(model: ChatModel) -> dict[str, Any]:
    return ground_of(model)


def _plans(
    model: ChatModel, prompts: Sequence[SafetyPrompt], parts: Sequence[Sequence[str]], decoding: Decoding
) -> list[list[list[list[int]]]]:
    return [
        [batches(model, own_ids(model, prompt, texts), decoding) for texts in parts] for prompt in prompts
    ]


def _answers(
    model: ChatModel, prompt: SafetyPrompt, texts: Sequence[str], decoding: Decoding
) -> list[list[str]]:
    return answers(model, prompt, texts, decoding, _prefixes(model))


def _fit_ground(
    model: ChatModel, anchors: QuerySet, m: int, labels: Decoding, answered: bool, recipe: str
) -> tuple[dict[str, Any], list[tuple[dict[str, Any], Part]]]:
    asked = fit_parts.parts(fitting.check(model, anchors, m, recipe), labels, answered)
    return fitting.ground_of(model, anchors), [(p.key(resolve(p.prompt, model)), p) for p in asked]


def _part(model: ChatModel, anchors: QuerySet, part: Part) -> list[Any]:
    return part.work(model, anchors, _prefixes(model))


def _built(
    model: ChatModel, anchors: QuerySet, m: int, labels: Decoding, seed: int, known: Space | None,
    recipe: str, there: dict[str, Any],
) -> Space:  # fmt: skip
    return fitting.fit(model, anchors, m, labels, seed, known, recipe=recipe, shards=Given(there))
