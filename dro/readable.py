"""How well a linear probe reads what it was asked for, on pairs its folds left out, with 95% intervals.

Anchors come in pairs and each is asked under several prompts, so rows are far from independent: intervals
come from drawing whole pairs anew, under all prompts at once (a cluster bootstrap over pairs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dro import probes

DRAWS = 400
FEWEST = 5
"""Refusals, and answers, that a prompt's harmful queries must hold for an AUC among them to mean anything."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"value": round(self.value, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


CHANCE = Estimate(0.5, 0.5, 0.5)
"""What any probe reads, of two equally frequent kinds, in states that do not differ."""


def accuracy(logits: np.ndarray, labels: np.ndarray, pair: np.ndarray, seed: int = 0) -> Estimate:
    """Share of logits (n,) on the right side of zero for boolean labels (n,); pair: (n,) numbers."""
    right = ((logits > 0) == labels).astype(float)
    counts = _draws(pair, seed)
    drawn = (counts @ right) / counts.sum(axis=1)
    return _estimate(float(right.mean()), drawn)


def auc_among(
    logits: np.ndarray, rates: np.ndarray, groups: Sequence[np.ndarray], pair: np.ndarray, seed: int = 0
) -> tuple[Estimate | None, list[float | None]]:
    """How well logits rank refused above answered within each group of rows.

    Parameters
    ----------
    logits, rates, pair: (n,); rates are targets in [0, 1], see `probes.auc`.
    groups: index arrays, one for each prompt: that prompt's harmful queries. Comparing within one keeps
        out what merely tells prompts, or harm, apart.

    Returns the median over groups with its interval, and each group's own; None where a group holds fewer
    than `FEWEST` of either kind.
    """
    each = [probes.auc(logits[rows], rates[rows], FEWEST) for rows in groups]
    told = [value for value in each if value is not None]
    if not told:
        return None, each
    counts = _draws(pair, seed)
    drawn = [
        _aucs(logits[rows], rates[rows], counts[:, rows])
        for rows, value in zip(groups, each, strict=True) if value is not None
    ]  # fmt: skip
    return _estimate(float(np.median(told)), np.median(drawn, axis=0)), each


def _draws(pair: np.ndarray, seed: int) -> np.ndarray:
    """How often each row counts in each draw of as many pairs as there are: (DRAWS, n)."""
    kinds, index = np.unique(pair, return_inverse=True)
    share = np.full(len(kinds), 1 / len(kinds))
    drawn = np.random.default_rng(seed).multinomial(len(kinds), share, size=DRAWS)
    return drawn[:, index].astype(float)


def _aucs(logits: np.ndarray, rates: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`probes.auc` for every draw at once: rows (n,) weighted by counts (draws, n) give (draws,)."""
    order = np.argsort(logits, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(logits[order]) > 0])  # of ties, which count half
    positive, negative = (
        np.add.reduceat((counts * part)[:, order], starts, axis=1) for part in (rates, 1 - rates)
    )
    below = negative.cumsum(axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return (positive * below).sum(axis=1) / np.maximum(pairs, 1e-12)


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, min(value, float(low)), max(value, float(high)))
