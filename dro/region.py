"""Outside its region: what the frozen probe is worth on the states of a trained run.

The probe's value is what the run was trained on, so it proves nothing about the run. Here it is held
against the verdicts on held-out queries, and the run's states against the region where it was fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dro import probes
from dro.errors import DataError
from dro.space import Space

_FEWEST = 3


@dataclass(frozen=True)
class Region:
    """One prompt's held-out states against the region where the probes were fitted.

    n: queries. auc: of the frozen refusal probe, refused against not, None where one is rarer than 3.
    predicted, observed: mean refusal probability by the probe, and share refused.
    calibration_error: expected calibration error of the probe over ten bins.
    inside: median Mahalanobis distance from the anchors' mean within V, over the anchors' own median.
    outside: median squared distance from V, over the anchors' own median.
    beyond: share of states farther out than any anchor, within V or from it.
    refitted_cosine: of w_r with the direction refitted on the anchors and these states.
    """

    n: int
    auc: float | None
    predicted: float
    observed: float
    calibration_error: float
    inside: float
    outside: float
    beyond: float
    refitted_cosine: float

    def as_dict(self) -> dict[str, Any]:
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def examine(space: Space, states: np.ndarray, refused: Sequence[bool], pairs: Sequence[int]) -> Region:
    """Hold a prompt's states (n, d_model) of held-out queries against the verdicts on its answers.

    pairs: (n,) pair numbers of the queries; a pair falls into one fold of the refit.
    """
    probe = space.need_refusal()
    verdicts = np.asarray(refused, dtype=np.float64)
    if not len(states) == len(verdicts) == len(pairs) or not len(verdicts):
        raise DataError(f"{len(states)} states, {len(verdicts)} verdicts, {len(pairs)} pairs.",
                        "Give one of each for every query.")  # fmt: skip
    coordinates = space.projection.coordinates(states)
    logits = probe.logits(coordinates)
    rare = min(verdicts.sum(), (1 - verdicts).sum()) < _FEWEST
    anchors = space.anchors
    others = np.asarray(pairs) + int(anchors.pair.max()) + 1
    groups = np.concatenate([np.tile(anchors.pair, len(anchors.conditions)), others])
    refitted = probes.fit(
        np.concatenate([anchors.coordinates, coordinates]),
        np.concatenate([anchors.refusal_rate, verdicts]),
        groups,
    ).probe.weight
    return Region(
        n=len(verdicts),
        auc=None if rare else probes.auc(logits, verdicts),
        predicted=float(probe.probabilities(coordinates).mean()),
        observed=float(verdicts.mean()),
        calibration_error=probes.calibration_error(logits, verdicts),
        inside=float(np.sqrt(np.median(space.mahalanobis(coordinates)) / np.median(
            space.mahalanobis(anchors.coordinates)))),
        outside=float(np.median(space.projection.residual(states)) / np.median(anchors.residual)),
        beyond=float(space.beyond(states).mean()),
        refitted_cosine=float(
            refitted @ probe.weight / (np.linalg.norm(refitted) * np.linalg.norm(probe.weight))
        ),
    )  # fmt: skip
