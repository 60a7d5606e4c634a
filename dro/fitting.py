"""Fit a Space: states of the anchors under every condition, labels from the model's own answers, PCA,
probes, and a report on how far to trust them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from dro import first_token, health, paper_probes, probes, projection, refusal
from dro.data import QuerySet
from dro.errors import DataError
from dro.fit_parts import Part, decodings
from dro.generate import Decoding
from dro.models import ChatModel
from dro.prompts import HUMAN, SafetyPrompt, available, resolve
from dro.shards import Keeper, Shards, done_here
from dro.sources import Progress, silent
from dro.space import Anchors, Space
from dro.states import PrefixCache
from dro.store import content_hash

OURS, PAPERS = "ours", "paper"
FEWEST_REFUSALS = 10
LABELS = Decoding(max_tokens=24, samples=3, temperature=1.0)
"""Sampled answers that count beside the greedy one."""


def conditions_for(model: ChatModel, recipe: str = OURS) -> tuple[str, ...]:
    """The prompts a space is fitted under: for the paper's, none and the three human ones.

    In ours, where the template has an identity, refusals sit mostly under it; the identity followed by a
    human prompt is added, so that the refusal direction cannot be the mere presence of either.
    """
    if recipe == PAPERS:
        return ("none", *HUMAN)
    names = available(model)
    return (*names, "template+short") if "template" in names else names


def fit(
    model: ChatModel,
    anchors: QuerySet,
    m: int = 4,
    labels: Decoding = LABELS,
    seed: int = 0,
    known: Space | None = None,
    progress: Progress = silent,
    checkpoint: Callable[[], None] = lambda: None,
    recipe: str = OURS,
    shards: Keeper | None = None,
) -> Space:
    """Fit a space on `anchors` (both classes, matched in pairs).

    Parameters
    ----------
    m: components kept. labels: sampled answers beside one greedy answer of the same length; the
        refusal rate of each (query, prompt) is the share of all of them that refused.
    seed: of the folds.
    known: a space of the same model, rendering and anchors, in another precision or of the other
        recipe, whose refusal rates are taken over instead of answering anew.
    checkpoint: called between model passes; may raise to stop.
    recipe: "ours", or "paper": four prompts, plain PCA, probes as the paper trains them.
    shards: where finished parts are kept, states and verdicts, never answers (see `shards_of`); None:
        nowhere.
    """
    keep = shards.part if shards else done_here
    names = check(model, anchors, m, recipe)
    if known is not None:
        labels = _check_known(known, model, anchors, names)
    prefixes = PrefixCache(model)
    states, rates = [], []
    openings: list[tuple[int | None, bool]] = []
    for number, name in enumerate(names):
        prompt = resolve(name, model)
        step = _shifted(
            progress, f"{name} ({number + 1} of {len(names)})", number / len(names), 1 / len(names)
        )

        def part(part: Part, told: Progress = silent, prompt: SafetyPrompt = prompt) -> list[Any]:
            return keep(part.key(prompt), lambda: part.work(model, anchors, prefixes, told, checkpoint))

        states.append(np.array(part(Part(name)), dtype=np.float32))
        step("", 0.05)
        if known is not None:
            rates.append(known.anchors.refusal_rate[known.anchors.rows(name)])
            continue
        refused = np.zeros(len(anchors))
        for decoding, start, share in zip(decodings(labels), (0.05, 0.4), (0.35, 0.6), strict=True):
            told = part(Part(name, decoding), _shifted(step, "", start, share))
            judged = [[(opening, was) for opening, was in each] for each in told]
            refused += [sum(was for _, was in each) for each in judged]
            openings += [one for each in judged for one in each]
        rates.append(refused / (labels.samples + 1))
    answered_in = known.provenance["labels"]["precision"] if known else model.precision
    counted = known.openings if known else first_token.count(openings)
    return build(
        model, anchors, names, np.concatenate(states), np.concatenate(rates), m, labels, seed, answered_in,
        counted, recipe,
    )  # fmt: skip


def check(model: ChatModel, anchors: QuerySet, m: int, recipe: str) -> tuple[str, ...]:
    """The prompts of a fit, before any work; DataError where it cannot be."""
    if recipe not in (OURS, PAPERS):
        raise DataError(f"There is no way of fitting called {recipe!r}.", f"Use {OURS} or {PAPERS}.")
    names = conditions_for(model, recipe)
    harmful = np.array([q.harmful for q in anchors.queries])
    if min(harmful.sum(), (~harmful).sum()) < 5:
        raise DataError(
            f"{anchors.name} holds {harmful.sum()} harmful and {(~harmful).sum()} harmless queries.",
            "A space needs at least 5 of each; 100 of each are better.",
        )
    if not 1 <= m <= min(model.d_model, len(names) * len(anchors)):
        raise DataError(f"m is {m}.", f"Choose 1 to {min(model.d_model, len(names) * len(anchors))}.")
    return names


def ground_of(model: ChatModel, anchors: QuerySet) -> dict[str, Any]:
    """What every part of a fit of this model on these anchors depends on."""
    return {
        "work": "fit", "model": model.name, "revision": model.revision, "precision": model.precision,
        "rendering": asdict(model.rendering), "anchors": anchors.digest, "judge": refusal.PHRASES,
    }  # fmt: skip


def shards_of(model: ChatModel, anchors: QuerySet) -> Shards:
    """The parts of a fit of this model on these anchors; clear them once the space is saved."""
    return Shards(ground_of(model, anchors))


def _check_known(known: Space, model: ChatModel, anchors: QuerySet, names: tuple[str, ...]) -> Decoding:
    """The decoding of another space's labels, if they may be taken over."""
    made = known.provenance
    ours = (model.name, model.revision, anchors.digest)
    theirs = (made["model"], made["revision"], made["anchors"]["sha256"])
    if theirs != ours or not set(names) <= set(known.anchors.conditions):
        raise DataError(
            f"The labels of {known.name} belong to another model, other anchors or other prompts.",
            "Fit without --labels.",
        )
    return Decoding(**{k: v for k, v in made["labels"].items() if k in Decoding.__dataclass_fields__})


def build(
    model: ChatModel,
    anchors: QuerySet,
    names: tuple[str, ...],
    states: np.ndarray,
    rates: np.ndarray,
    m: int,
    labels: Decoding,
    seed: int,
    answered_in: str | None = None,
    openings: first_token.Openings | None = None,
    recipe: str = OURS,
) -> Space:
    """A space from states (c·q, d_model) and refusal rates (c·q,), condition by condition.

    answered_in: precision in which the answers behind the rates were given; None: this model's.
    openings: their first tokens, if they are known. recipe: as for `fit`.
    """
    count = len(names)
    query_harmful = np.array([q.harmful for q in anchors.queries])
    query_pair = np.array([q.pair for q in anchors.queries])
    harmful, pair = np.tile(query_harmful, count), np.tile(query_pair, count)
    fitted = projection.fit(states, harmful, m, pair if recipe == OURS else None)
    coordinates = fitted.coordinates(states)

    def probe(targets: np.ndarray) -> probes.FittedProbe:
        if recipe == PAPERS:
            return paper_probes.fit(coordinates, targets, seed)
        return probes.fit(coordinates, targets, pair, seed)

    harmfulness = probe(harmful.astype(float))
    found = float(rates.sum())
    refusing, why = None, ""
    if found >= FEWEST_REFUSALS:
        refusing = probe(rates)
    else:
        why = (
            f"{model.name} refused {found:.1f} of {len(rates)} anchors; at least {FEWEST_REFUSALS} "
            "refusals are needed to tell a direction."
        )
    words: list[str] = []
    agreement = None
    if refusing:
        words = first_token.favoured(model, fitted.basis @ refusing.probe.weight)
        if openings and first_token.known(openings):
            mass = first_token.mass(model, states.astype(np.float32), openings)
            odds = np.log(np.clip(mass, 1e-6, 1 - 1e-6)) - np.log1p(-np.clip(mass, 1e-6, 1 - 1e-6))
            agreement = float(np.corrcoef(refusing.probe.logits(coordinates), odds)[0, 1])
    evidence = health.Evidence(names, harmful, pair, states, coordinates, rates, fitted, harmfulness,
                               refusing, seed, tuple(words), agreement)  # fmt: skip
    return Space(
        fitted,
        harmfulness.probe,
        refusing.probe if refusing else None,
        Anchors(
            tuple(anchors.texts), query_harmful, query_pair, names, coordinates, rates,
            fitted.residual(states),
        ),
        _provenance(model, anchors, names, m, labels, seed, answered_in or model.precision, recipe),
        health.report(evidence, why),
        why,
        openings or {},
    )  # fmt: skip


def _provenance(
    model: ChatModel,
    anchors: QuerySet,
    names: tuple[str, ...],
    m: int,
    labels: Decoding,
    seed: int,
    answered_in: str,
    recipe: str,
) -> dict[str, Any]:
    rendering = asdict(model.rendering)
    return {
        "model": model.name,
        "revision": model.revision,
        "precision": model.precision,
        "rendering": content_hash(rendering)[:16],
        "states": "last_hidden_state (after the final norm) at the last token of the rendered prompt",
        "prompts": {name: resolve(name, model).text for name in names},
        "anchors": {"name": anchors.name, "queries": len(anchors), "sha256": anchors.digest},
        "labels": {
            "judge": refusal.PHRASES,
            "greedy": 1,
            **asdict(labels),
            "precision": answered_in,
        },
        "projection": "PCA within pairs" if recipe == OURS else "PCA",
        "probes": "converged" if recipe == OURS else "as in the paper",
        "m": m,
        "seed": seed,
    }


def _shifted(progress: Progress, prefix: str, start: float, share: float) -> Progress:
    """A progress that fills `share` of another one, from `start` on."""

    def report(label: str, fraction: float) -> None:
        progress(prefix or label, start + share * fraction)

    return report
