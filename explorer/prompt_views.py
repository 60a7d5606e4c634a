"""How prompts compare, as numpy records: where each moves the anchors on average, and the angles between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from explorer.views import Cloud

Anchors = Literal["all", "harmful", "harmless"]
_NOTHING = 1e-9
"""A shift that is shorter, in spreads, has no direction."""


@dataclass(frozen=True, eq=False)
class Shifts:
    """Mean shifts of the anchors from one condition to others.

    prompts: k names. cosines: (k, k) of their shifts, NaN where one of the two has no direction.
    lengths: (k,), in spreads: the typical distance of an anchor's state from the mean under the condition
    that shifts are told from. m: components in which all of this is measured.
    """

    prompts: tuple[str, ...]
    cosines: np.ndarray
    lengths: np.ndarray
    m: int


def shifts(clouds: Sequence[Cloud], base: str, anchors: Anchors = "all") -> Shifts | None:
    """The shifts of all clouds but that of `base` from it; None without it, or without another."""
    known = {cloud.prompt: cloud for cloud in clouds}
    start = known.pop(base, None)
    if start is None or not known:
        return None
    wanted = {"harmful": start.harmful, "harmless": ~start.harmful}.get(anchors, np.ones_like(start.harmful))
    if not wanted.any():
        return None
    here = start.coordinates[wanted]
    centre = here.mean(axis=0)
    spread = float(np.sqrt(np.square(here - centre).sum(axis=1).mean())) or 1.0
    moved = np.stack([cloud.coordinates[wanted].mean(axis=0) - centre for cloud in known.values()]) / spread
    lengths = np.linalg.norm(moved, axis=1)
    unit = moved / np.where(lengths > _NOTHING, lengths, np.nan)[:, None]
    return Shifts(tuple(known), np.clip(unit @ unit.T, -1, 1), lengths, here.shape[1])
