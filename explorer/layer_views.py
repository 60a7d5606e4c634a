"""A model's layers as pictures need them: plain numpy, like `views`.

All layers share one scale: a layer's own spread, the root mean squared distance of a state from its
prompt's mean. So axes stay when the layer changes, and what moves has moved against its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.views import _ranges

CHANCE = 0.5


@dataclass(frozen=True, eq=False)
class Morph:
    """The anchors under some prompts at every layer.

    Attributes
    ----------
    frames: (layers, n, 2), in spreads. harmful: (n,) bool. refused: (n,) share of refusing answers.
    prompts, queries: n names and texts. means: by class, (layers, k, 2), under each of `mean_prompts`.
    tips: (layers, 2), the refusal arrow from the anchors' mean; as long as the plane's share of it.
    explained: (layers,), share of the variance that the plane holds. seen: (layers,), of the direction.
    """

    frames: np.ndarray
    harmful: np.ndarray
    refused: np.ndarray
    prompts: Sequence[str]
    queries: Sequence[str]
    mean_prompts: Sequence[str]
    means: Mapping[bool, np.ndarray]
    tips: np.ndarray
    explained: np.ndarray
    seen: np.ndarray
    ranges: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class Readable:
    """What is linearly readable at each layer; NaN where there is nothing to tell.

    harmfulness, refusal: (layers, 3), value and 95% interval. cosine: (layers,). shifts: by prompt,
    (layers,), in spreads. width: components that the probes read. d_model: of the states.
    """

    harmfulness: np.ndarray
    refusal: np.ndarray
    cosine: np.ndarray
    shifts: Mapping[str, np.ndarray]
    width: int
    d_model: int

    @property
    def last(self) -> int:
        """The number of the last layer."""
        return len(self.cosine) - 1


def morph(
    coordinates: np.ndarray,
    arrows: np.ndarray,
    explained: np.ndarray,
    conditions: Sequence[str],
    shown: Sequence[str],
    harmful: np.ndarray,
    refused: np.ndarray,
    queries: Sequence[str],
) -> Morph:
    """The anchors under `shown`, from all of them: coordinates (layers, conditions · queries, 2), condition
    by condition; harmful (queries,), refused (conditions · queries,)."""
    each = len(queries)
    chosen = [number for number, name in enumerate(conditions) if name in shown]
    rows = np.concatenate([np.arange(k * each, (k + 1) * each) for k in chosen] or [np.empty(0, int)])
    by_prompt = coordinates.reshape(len(coordinates), len(conditions), each, 2)[:, chosen]
    # Few points far out would make the picture small for all others.
    ranges = _ranges([np.concatenate(np.percentile(coordinates, [0.1, 99.9], axis=1))])
    reach = 0.45 * min(high - low for low, high in ranges)
    return Morph(
        coordinates[:, rows],
        np.tile(harmful, len(chosen)),
        refused[rows],
        [conditions[k] for k in chosen for _ in range(each)],
        [*queries] * len(chosen),
        [conditions[k] for k in chosen],
        {kind: by_prompt[:, :, harmful == kind].mean(axis=2) for kind in (True, False)},
        arrows * reach,
        explained,
        np.linalg.norm(arrows, axis=1),
        ranges,
    )


def onset(estimates: np.ndarray) -> int | None:
    """The first layer from which on every interval of (layers, 3) lies above chance; None where the last
    one's does not."""
    above = estimates[:, 1] > CHANCE
    if not above[-1]:
        return None
    return int(len(above) - np.argmin(above[::-1])) if not above.all() else 0


def best(estimates: np.ndarray) -> int:
    """The layer of the highest value."""
    return int(np.nanargmax(estimates[:, 0]))
