"""Which settings of a sweep are hopeless: the worse half at every rung.

A setting is judged as a whole, by the mean of its seeds: stopping single seeds would leave the lucky ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dro.sweep.grid import Trial
from dro.sweep.trial import Look

WORST = -1e9


def score(seen: Sequence[Look], until: int) -> float:
    """The best of a trial's looks so far; what came after the step `until` is not known yet."""
    return max((look.score for look in seen if look.step <= until), default=WORST)


def survivors(trials: Sequence[Trial], seen: Mapping[Trial, Sequence[Look]], rung: int) -> list[Trial]:
    """The trials of the better half of the settings, in order; the middle one of an odd number goes on."""
    settings: dict[str, list[float]] = {}
    for trial in trials:
        settings.setdefault(trial.setting, []).append(score(seen[trial], rung))
    ranked = sorted(settings, key=lambda name: (-float(np.mean(settings[name])), name))
    kept = set(ranked[: -(-len(ranked) // 2)])
    return [trial for trial in trials if trial.setting in kept]
