"""Two prompts on the same queries: does one refuse more often, beyond chance?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dro.errors import DataError


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
