"""The seven steps in their order."""

from __future__ import annotations

from explorer.lessons import apart, cost, moves, pca, refusal, state, training
from explorer.lessons.step import Step

STEPS: tuple[Step, ...] = (
    state.STEP, pca.STEP, apart.STEP, moves.STEP, refusal.STEP, training.STEP, cost.STEP,
)  # fmt: skip
