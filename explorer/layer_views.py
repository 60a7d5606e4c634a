"""A model's layers as pictures need them: plain numpy, like `views`.

Layers differ in size by orders of magnitude, and some hold a few states far out. So every layer's picture
has a scale of its own, the same for both axes, that nearly all anchors fit into; the others are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CHANCE = 0.5
RANGES = ((-1.5, 1.5), (-1.1, 1.1))
"""Of a picture's axes, in the layer's own unit."""
_FIT = 98.0
"""Per cent of the anchors that lie within 1.3 and 0.9 units of their mean, across and up."""
_REACH = 0.95
"""Length of the refusal arrow where the plane holds all of it."""


@dataclass(frozen=True, eq=False)
class Morph:
    """The anchors under some prompts at every layer.

    Attributes
    ----------
    frames: (layers, n, 2), each in its own unit. harmful: (n,) bool. refused: (n,) share of refusing answers.
    prompts, queries: n names and texts. means: by class, (layers, k, 2), under each of `mean_prompts`.
    tips: (layers, 2), the refusal arrow from the anchors' mean; as long as the plane's share of it.
    explained: (layers,), share of the variance that the plane holds. seen: (layers,), of the direction's
        length. outside: (layers,), points beyond the axes.
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
    outside: np.ndarray


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
    far = np.percentile(np.abs(coordinates), _FIT, axis=1)  # (layers, 2), of all prompts whatever is shown
    unit = np.maximum(far[:, 0] / 1.3, far[:, 1] / 0.9)
    placed = coordinates / np.where(unit > 0, unit, 1.0)[:, None, None]
    by_prompt = placed.reshape(len(placed), len(conditions), each, 2)[:, chosen]
    frames = placed[:, rows]
    beyond = (np.abs(frames) > [high for _, high in RANGES]).any(axis=2)
    return Morph(
        frames,
        np.tile(harmful, len(chosen)),
        refused[rows],
        [conditions[k] for k in chosen for _ in range(each)],
        [*queries] * len(chosen),
        [conditions[k] for k in chosen],
        {kind: by_prompt[:, :, harmful == kind].mean(axis=2) for kind in (True, False)},
        arrows * _REACH,
        explained,
        np.linalg.norm(arrows, axis=1),
        beyond.sum(axis=1),
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
