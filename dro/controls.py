"""Spaces that a claim is held against: the same frame with another refusal direction, or with none.

A control has the length of the fitted direction and its mean logit over the anchors, so that a run on it
has as far to go; only where it points differs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dro import probes
from dro.errors import DataError
from dro.probes import Probe
from dro.projection import Projection
from dro.space import Space


def random_direction(space: Space, seed: int) -> Space:
    """`space` with a refusal direction drawn evenly from the sphere of radius ‖w_r‖ in V."""
    drawn = np.random.default_rng([seed, 1]).normal(size=space.projection.m)
    return _pointing(space, drawn)


def permuted_labels(space: Space, seed: int) -> Space:
    """`space` with a direction fitted to permuted refusal rates, rescaled to ‖w_r‖.

    Rates are permuted among the queries of one class under one condition, so that how often either class
    is refused under either prompt stays what it is: only which queries were refused is forgotten.
    """
    anchors = space.anchors
    numbers = np.random.default_rng([seed, 2])
    rates = anchors.refusal_rate.copy()
    for condition in anchors.conditions:
        rows = np.arange(len(rates))[anchors.rows(condition)]
        for harmful in (True, False):
            mine = rows[anchors.harmful == harmful]
            rates[mine] = rates[numbers.permutation(mine)]
    groups = np.tile(anchors.pair, len(anchors.conditions))
    return _pointing(space, probes.fit(anchors.coordinates, rates, groups, seed).probe.weight)


def without_refusal(space: Space) -> Space:
    """`space` in which every state has the same refusal logit: L_r is constant and pulls nowhere."""
    fitted = space.need_refusal()
    return replace(space, refusal=Probe(np.zeros_like(fitted.weight), fitted.bias, fitted.strength))


def narrowed(space: Space, m: int, seed: int = 0) -> Space:
    """`space` cut to its first m components, probes fitted anew on them.

    Components are ordered and do not depend on how many are kept, so this is the space that `fit` would
    give with this m.
    """
    made, anchors = space.projection, space.anchors
    check_width(space, m)
    projection = Projection(
        made.mean, made.basis[:, :m].copy(), made.variance[:m].copy(), made.total_variance
    )
    kept, cut = anchors.coordinates[:, :m], anchors.coordinates[:, m:]
    away = anchors.residual * (made.d_model - made.m) + (cut**2).sum(axis=1)
    groups = np.tile(anchors.pair, len(anchors.conditions))
    harmful = np.tile(anchors.harmful, len(anchors.conditions)).astype(float)
    refusal = space.refusal and probes.fit(kept, anchors.refusal_rate, groups, seed).probe
    return replace(
        space,
        projection=projection,
        harmfulness=probes.fit(kept, harmful, groups, seed).probe,
        refusal=refusal,
        anchors=replace(anchors, coordinates=kept, residual=away / max(1, made.d_model - m)),
        provenance={**space.provenance, "m": m},
    )


def check_width(space: Space, m: int) -> None:
    """Raise unless the space has m components."""
    most = space.projection.m
    if not 1 <= m <= most:
        raise DataError(f"m is {m}; {space.name} has {most} components.", f"Choose 1 to {most}.")


def _pointing(space: Space, direction: np.ndarray) -> Space:
    """`space` with w_r turned to `direction` (m,): same length, same mean logit over the anchors."""
    fitted = space.need_refusal()
    length = float(np.linalg.norm(direction))
    if length == 0:
        raise DataError("A control direction of length 0 points nowhere.", "Choose another seed.")
    weight = direction * (np.linalg.norm(fitted.weight) / length)
    centre = space.anchors.coordinates.mean(axis=0)
    bias = fitted.bias + float(centre @ (fitted.weight - weight))
    return replace(space, refusal=Probe(weight, bias, fitted.strength))
