"""How far a fitted space can be trusted: checks with a value, a verdict and what it means.

All figures of probes are held out: folds never split a pair of queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dro import probes, projection
from dro.probes import FittedProbe
from dro.projection import Projection
from dro.prompts import HUMAN
from dro.readable import FEWEST

WIDTHS = (2, 4, 8, 16, 32)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a space was fitted from; rows are (condition, query), condition by condition."""

    conditions: tuple[str, ...]
    harmful: np.ndarray
    pair: np.ndarray
    states: np.ndarray
    coordinates: np.ndarray
    rates: np.ndarray
    projection: Projection
    harmfulness: FittedProbe
    refusal: FittedProbe | None
    seed: int
    words: tuple[str, ...] = ()
    """Tokens that the refusal direction favours through the vocabulary head."""
    first_token: float | None = None
    """Correlation over the anchors of f_r with the log-odds of first-token refusal mass."""

    def rows(self, condition: str) -> np.ndarray:
        """Boolean mask of one condition's rows."""
        index = self.conditions.index(condition)
        return np.repeat(np.arange(len(self.conditions)) == index, len(self.rates) // len(self.conditions))


def report(evidence: Evidence, why_no_refusal: str) -> list[dict[str, Any]]:
    """The checks, in the order in which a reader should take them in."""
    checks = [_variance(evidence), _harmfulness(evidence), _refusals(evidence)]
    if evidence.refusal is None:
        checks.append(_check("refusal probe", None, "fail", why_no_refusal))
    else:
        checks += _refusal_probe(evidence, evidence.refusal)
        checks.append(_directions(evidence, evidence.refusal))
    checks.append(_parallel(evidence))
    return checks


def _check(name: str, value: Any, verdict: str, meaning: str, **details: Any) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "verdict": verdict,
        "meaning": meaning,
        "details": details,
    }


def _grade(value: float | None, passed: float, weak: float, higher: bool = True) -> str:
    if value is None:
        return "fail"
    reached: Callable[[float], bool] = lambda bound: value >= bound if higher else value <= bound  # noqa: E731
    return "pass" if reached(passed) else "weak" if reached(weak) else "fail"


def _variance(e: Evidence) -> dict[str, Any]:
    share = float(e.projection.explained.sum())
    return _check(
        "variance explained", round(share, 4), _grade(share, 0.20, 0.10),
        f"{e.projection.m} components hold {share:.0%} of the variance of the anchors' states; the rest "
        "is not seen in any plot of them.",
        per_component=[round(float(v), 4) for v in e.projection.explained],
    )  # fmt: skip


def _harmfulness(e: Evidence) -> dict[str, Any]:
    bare = e.rows("none")
    value = probes.accuracy(e.harmfulness.held_out[bare], e.harmful[bare])
    by_m, enough = {}, None
    for m in WIDTHS:
        if m > min(e.states.shape) - 1:
            break
        wide = projection.fit(e.states, e.harmful, m, e.pair).coordinates(e.states)
        held_out = probes.fit(wide, e.harmful.astype(float), e.pair, e.seed).held_out
        by_m[str(m)] = round(probes.accuracy(held_out[bare], e.harmful[bare]), 4)
        if enough is None and by_m[str(m)] >= 0.9:
            enough = m
    reach = f"m = {enough} reaches 0.90" if enough else f"no m up to {max(map(int, by_m))} reaches 0.90"
    return _check(
        "harmfulness without a prompt", round(value, 4), _grade(value, 0.80, 0.70),
        f"Of the anchors asked without any safety prompt, {value:.0%} lie on their own side of the "
        f"harmfulness boundary when left out of the fit; {reach}.",
        accuracy_by_m=by_m,
    )  # fmt: skip


def _refusals(e: Evidence) -> dict[str, Any]:
    found = float(e.rates.sum())
    table = {
        name: {
            "harmful": round(float(e.rates[e.rows(name) & e.harmful].mean()), 4),
            "harmless": round(float(e.rates[e.rows(name) & ~e.harmful].mean()), 4),
        }
        for name in e.conditions
    }
    return _check(
        "refusals found", round(found, 2), _grade(found, 40, 10),
        f"The model's own answers refused {found:.0f} of {len(e.rates)} (query, prompt) cases; the "
        "refusal direction is learned from these.",
        rates=table,
    )  # fmt: skip


def _refusal_probe(e: Evidence, fitted: FittedProbe) -> list[dict[str, Any]]:
    logits, rates = fitted.held_out, e.rates
    chance = float(np.clip(rates.mean(), 1e-9, 1 - 1e-9))
    floor = float(-(chance * np.log(chance) + (1 - chance) * np.log(1 - chance)))
    gain = 1 - fitted.log_loss / floor
    pooled = probes.auc(logits, rates)
    within: dict[str, dict[str, float | None]] = {}
    for name in e.conditions:
        rows = e.rows(name)
        asked = rows & e.harmful
        within[name] = {
            "all": _rounded(probes.auc(logits[rows], rates[rows])),
            "harmful": _rounded(probes.auc(logits[asked], rates[asked], FEWEST)),
        }
    headline = [w["harmful"] for w in within.values() if w["harmful"] is not None]
    median = float(np.median(headline)) if headline else None
    error = probes.calibration_error(logits, rates)
    return [
        _check(
            "refusal log-loss", round(fitted.log_loss, 4), _grade(gain, 0.15, 0.05),
            f"{gain:.0%} below the {floor:.3f} nats of always guessing the mean refusal rate.",
            guess=round(floor, 4), strength=fitted.probe.strength,
        ),
        _check(
            "refusal AUC, pooled", _rounded(pooled), _grade(pooled, 0.75, 0.65),
            "How well the probe ranks refusals over all prompts and queries; easy where one prompt "
            "refuses most.",
        ),
        _check(
            "refusal AUC among harmful queries", _rounded(median), _grade(median, 0.70, 0.60),
            "The headline: the median over prompts of how well the probe tells refused from answered "
            "among that prompt's harmful queries. A probe that only detects a prompt, or harm, stays at "
            "0.5.",
            within=within,
        ),
        _check(
            "refusal calibration error", round(error, 4), _grade(error, 0.06, 0.12, higher=False),
            f"Predicted refusal probabilities are off by {error:.1%} on average over ten bins.",
        ),
    ]  # fmt: skip


def _directions(e: Evidence, fitted: FittedProbe) -> dict[str, Any]:
    value = _cosine(fitted.probe.weight, e.harmfulness.probe.weight)
    meaning = f"The refusal and the harmfulness direction have a cosine of {value:.2f}: " + (
        "refusing is hardly more than noticing harm here. " if value >= 0.9 else "they are not the same. "
    )
    if e.words:
        meaning += "Through the vocabulary head the refusal direction favours " + ", ".join(
            f"“{word.strip() or repr(word)}”" for word in e.words[:5]
        )
        meaning += "; " if e.first_token is not None else ". "
    if e.first_token is not None:
        meaning += (
            f"over the anchors f_r goes with the odds that the answer opens as refusals do (r = "
            f"{e.first_token:.2f})."
        )
    return _check(
        "refusal and harmfulness directions", round(value, 4), _grade(value, 0.9, 0.97, higher=False),
        meaning.strip(),
        tokens=list(e.words), first_token_correlation=_rounded(e.first_token),
    )  # fmt: skip


def _parallel(e: Evidence) -> dict[str, Any]:
    bare = e.states[e.rows("none")].mean(axis=0)
    shifts = {n: e.states[e.rows(n)].mean(axis=0) - bare for n in e.conditions if n != "none"}
    human = [n for n in shifts if n in HUMAN]
    cosines = {
        f"{a} / {b}": round(_cosine(shifts[a], shifts[b]), 4)
        for i, a in enumerate(shifts) for b in list(shifts)[i + 1 :]
    }  # fmt: skip
    pairs = [_cosine(shifts[a], shifts[b]) for i, a in enumerate(human) for b in human[i + 1 :]]
    value = float(np.mean(pairs))
    inside = {
        n: round(float(np.linalg.norm(s @ e.projection.basis) / np.linalg.norm(s)), 4)
        for n, s in shifts.items()
    }
    return _check(
        "parallel shifts", round(value, 4), _grade(value, 0.5, 0.2),
        f"The human prompts' mean shifts from no prompt have a mean cosine of {value:.2f}: "
        + ("they move queries much the same way." if value >= 0.5 else "each moves queries its own way."),
        cosines=cosines, share_of_length_inside=inside,
    )  # fmt: skip


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
