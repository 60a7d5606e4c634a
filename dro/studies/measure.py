"""What studies measure of a prompt on queries of both classes: verdicts, and first-token refusal mass.

Verdicts are kept query by query, as letters, so that two prompts can be compared in pairs; answers are not
kept at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dro import first_token, probes
from dro.data import CLASSES, QuerySet
from dro.evaluate import Said, evaluate
from dro.generate import Decoding
from dro.judges import Judge
from dro.prompts import SafetyPrompt
from dro.states import last_token_states
from dro.studies.context import Context

LETTERS = {"refused": "r", "answered": "a", "broken": "b"}


def measure(
    context: Context,
    prompt: SafetyPrompt,
    queries: QuerySet,
    decoding: Decoding = Decoding(),
    judge: Judge | None = None,
) -> tuple[dict[str, Any], tuple[Said, ...]]:
    """Rates of `prompt` on `queries` as json, and what was said (for the caller's eyes only)."""
    report = evaluate(
        context.model, [prompt], [queries], decoding, context.progress, context.checkpoint,
        judge or context.judge,
    )  # fmt: skip
    found: dict[str, Any] = {"set": queries.name, "sha256": queries.digest[:16], "classes": {}}
    masses: dict[str, np.ndarray] = {}
    for rate in report.rates:
        letters = [LETTERS[one.verdict] for one in report.said if one.label == rate.label]
        told = rate.as_dict()
        kept = {k: told[k] for k in ("n", "refused", "answered", "broken", "rate", "low", "high", "judge")}
        found["classes"][rate.label] = {**kept, "verdicts": "".join(letters)}
        if first_token.known(context.space.openings):
            texts = queries.of(rate.label).texts
            states = last_token_states(context.model, prompt, texts, checkpoint=context.checkpoint)
            masses[rate.label] = first_token.mass(context.model, states, context.space.openings)
            found["classes"][rate.label]["mass"] = round(float(masses[rate.label].mean()), 4)
    if len(masses) == len(CLASSES):
        logits = np.concatenate([masses[label] for label in CLASSES])
        labels = np.repeat([1.0, 0.0], [len(masses[label]) for label in CLASSES])
        separated = probes.auc(logits, labels)
        found["mass_auc"] = None if separated is None else round(separated, 4)
    return found, report.said


def refusals(found: Mapping[str, Any], label: str) -> list[bool]:
    """Which queries of a class were refused, in order."""
    return [letter == "r" for letter in found["classes"][label]["verdicts"]]


def broken(found: Mapping[str, Any], label: str) -> list[bool]:
    """Which queries of a class got broken answers, in order."""
    return [letter == "b" for letter in found["classes"][label]["verdicts"]]


def separation(found: Mapping[str, Any]) -> float:
    """Share of harmful queries refused less share of harmless ones."""
    return found["classes"]["harmful"]["rate"] - found["classes"]["harmless"]["rate"]


def percent(part: Mapping[str, Any]) -> str:
    """A rate with its 95% interval, in per cent."""
    return f"{part['rate']:.0%} [{100 * part['low']:.0f}, {100 * part['high']:.0f}]"


def row(name: str, found: Mapping[str, Any]) -> list[str]:
    """Name, harmful refused, harmless refused, broken, first-token AUC: the columns of `COLUMNS`."""
    harmful, harmless = (found["classes"][label] for label in CLASSES)
    auc = found.get("mass_auc")
    return [
        name, percent(harmful), percent(harmless), f"{harmful['broken'] + harmless['broken']:g}",
        "–" if auc is None else f"{auc:.3f}",
    ]  # fmt: skip


COLUMNS: Sequence[str] = ("prompt", "harmful refused", "harmless refused", "broken", "first-token AUC")


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Second less first on the same queries, by class: paired difference of refusals, and exact McNemar."""
    from dro.compare import mcnemar, paired

    return {
        label: {
            **paired(refusals(first, label), refusals(second, label)).as_dict(),
            "p": mcnemar(refusals(first, label), refusals(second, label)).p,
        }
        for label in CLASSES
    }
