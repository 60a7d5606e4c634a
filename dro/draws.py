"""Which queries each update learns from: a function of the step alone, so that a resumed run draws the same.

A batch holds as many harmful as harmless queries. Drawn as "pairs", they are look-alikes of each other: what
the two halves of a pair share (topic, form, length) cannot pass for a reason to refuse, and the gradient
depends much less on the draw (docs/log.md, 2026-11-25).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dro.data import Query
from dro.errors import DataError
from dro.recipes import Config


def batch_rows(queries: Sequence[Query], config: Config, step: int) -> np.ndarray:
    """Rows of the batch of `step` (from 0), the harmful ones first; an odd batch has one of these more.

    Drawn as "pairs" where every query has its look-alike, else by class. Either way in seeded epochs.
    """
    harmful = config.batch - config.batch // 2
    harmless = config.batch // 2
    pairs = _pairs(queries) if config.batches == "pairs" else None
    if pairs is not None:
        drawn = _epoch_slice(pairs, harmful, [config.seed, 2], step)
        return np.concatenate([drawn[:, 0], drawn[:harmless, 1]])
    labels = np.array([query.harmful for query in queries])
    return np.concatenate([
        _epoch_slice(np.flatnonzero(labels == kind), size, [config.seed, int(kind)], step)
        for kind, size in ((True, harmful), (False, harmless))
    ])  # fmt: skip


def _pairs(queries: Sequence[Query]) -> np.ndarray | None:
    """Rows (n / 2, 2) of each pair's harmful and harmless query; None if any query is without its other."""
    rows: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for row, query in enumerate(queries):
        if query.pair < 0 or query.pair in rows[query.harmful]:
            return None
        rows[query.harmful][query.pair] = row
    harmless, harmful = rows
    if harmless.keys() != harmful.keys():
        return None
    return np.array([(row, harmless[pair]) for pair, row in harmful.items()], dtype=int).reshape(-1, 2)


def _epoch_slice(items: np.ndarray, size: int, seed: list[int], step: int) -> np.ndarray:
    if size > len(items):
        raise DataError(f"A batch needs {size} queries of each class; there are {len(items)}.",
                        "Choose a smaller batch.")  # fmt: skip
    epoch, place = divmod(step, len(items) // size)
    order = np.random.default_rng([*seed, epoch]).permutation(len(items))
    return items[order[place * size : (place + 1) * size]]
