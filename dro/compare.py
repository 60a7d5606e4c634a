"""Two prompts on the same queries: does one refuse more often, beyond chance, and by how much?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dro.errors import DataError

_QUANTILE = 1.959963984540054
"""Of the normal distribution, for 95% intervals."""


@dataclass(frozen=True)
class Comparison:
    """Refusals of two prompts, query by query.

    both, neither, only_first, only_second: counts of queries, by who refused.
    p: of the exact McNemar test, two-sided: the chance of so uneven a split of the queries on which the
    two differ, if each were as likely to be the one that refuses. 1 where they never differ.
    """

    n: int
    both: int
    neither: int
    only_first: int
    only_second: int
    p: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> Comparison:
    """Exact McNemar test on paired refusals (n,), (n,)."""
    from scipy.stats import binomtest

    one, two = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if one.shape != two.shape or one.ndim != 1 or not len(one):
        raise DataError(
            f"{one.size} verdicts of one prompt, {two.size} of the other.",
            "Compare the same queries, one answer each.",
        )
    only_first, only_second = int((one & ~two).sum()), int((two & ~one).sum())
    differing = only_first + only_second
    p = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    return Comparison(len(one), int((one & two).sum()), int((~one & ~two).sum()), only_first, only_second, p)


@dataclass(frozen=True)
class Difference:
    """Second less first on the same n items: mean of the differences and its 95% interval [low, high]."""

    n: int
    first: float
    second: float
    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def paired(first: Sequence[bool], second: Sequence[bool]) -> Difference:
    """Difference of two shares on the same items (n,), (n,), with the interval of Bonett and Price (2012).

    Wald's with one item more in either kind of disagreement: it keeps its level in small samples and has a
    width where the two never differ.
    """
    found = mcnemar(first, second)
    n = found.n
    gained, lost = (found.only_second + 1) / (n + 2), (found.only_first + 1) / (n + 2)
    half = _QUANTILE * float(np.sqrt((gained + lost - (gained - lost) ** 2) / (n + 2)))
    before, after = (found.both + found.only_first) / n, (found.both + found.only_second) / n
    centre = gained - lost
    return Difference(n, before, after, after - before, max(-1.0, centre - half), min(1.0, centre + half))


def mean_with_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of values (n,) that are no shares, and its 95% interval by Student's t: (mean, low, high)."""
    from scipy import stats

    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1 or len(given) < 2:
        raise DataError(f"{given.size} values have no interval.", "Measure at least two.")
    half = float(stats.t.ppf(0.975, len(given) - 1) * given.std(ddof=1) / np.sqrt(len(given)))
    mean = float(given.mean())
    return mean, mean - half, mean + half
