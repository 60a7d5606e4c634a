"""The loss of Directed Representation Optimization (arXiv 2401.18018): tensors in, scalars out.

With g the projection, f_r and f_h the refusal and harmfulness probes on it, x0 the state under the
text that the soft prompt started from, xθ the state under the soft prompt, y = 1 for harmful queries:

    L_r = BCEWithLogits(f_r(xθ) − f_r(x0), y)
    L_h = BCEWithLogits(f_h(xθ) − f_h(x0), y)
    L_U = mean over the d − m directions outside V of (xθ − x0)²  =  ‖(I − VVᵀ)(xθ − x0)‖² / (d − m)
    L   = L_r + w_h · L_h + β · L_U

That is the paper's target, "difference". With the target "absolute", f_r(xθ) and f_h(xθ) themselves
stand in place of the differences: a query that is where it should be no longer pulls. With "first-token",
f_r is not the probe but what the probe is fitted to foretell, as the model's own head reads it off the
state: the log-odds that the answer opens as refusals open (`first_token.Mass.log_odds`).

Half of what a batch teaches at first is to refuse everything, or nothing. Ranking takes that out: a share ρ
of L_r is the mean of softplus(f_r(harmless) − f_r(harmful)) over all such pairs of the batch, which does
not change when every query moves alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Losses:
    """Scalars of one batch: refusal L_r, harmfulness L_h, residual L_U, and their weighted sum."""

    refusal: torch.Tensor
    harmfulness: torch.Tensor
    residual: torch.Tensor
    total: torch.Tensor


@dataclass(frozen=True)
class Objective:
    """The loss in a given space.

    Attributes
    ----------
    basis: V (d_model, m), orthonormal. refusal, harmfulness: probe weights (m,).
    harmfulness_weight: w_h. residual_weight: β.
    harmless_weight: how much a harmless query counts in L_r and L_h, a harmful one counting 1.
    offsets: None for the paper's differences, in which biases cancel; for the other targets, c_r and
        c_h such that f(x) = wᵀVᵀx + c.
    read_refusal: for the target "first-token", states (n, d_model) -> f_r (n,); None: the probe.
    ranking: ρ, the share of the ranking term in L_r.
    """

    basis: torch.Tensor
    refusal: torch.Tensor
    harmfulness: torch.Tensor
    harmfulness_weight: float
    residual_weight: float
    harmless_weight: float = 1.0
    offsets: tuple[float, float] | None = None
    read_refusal: Callable[[torch.Tensor], torch.Tensor] | None = None
    ranking: float = 0.0

    def __call__(
        self,
        states: torch.Tensor,
        start: torch.Tensor,
        harmful: torch.Tensor,
        known: torch.Tensor | None = None,
    ) -> Losses:
        """Losses for xθ `states` (n, d_model), x0 `start` (n, d_model), y `harmful` (n,) in {0, 1}.

        known: (n,) bool, the rows whose x0 was found; L_U is the mean over these (0 where there are none).
        """
        moved = states - start
        within = (moved if self.offsets is None else states) @ self.basis
        refusal_offset, harmfulness_offset = self.offsets or (0.0, 0.0)
        weight = torch.where(harmful > 0.5, 1.0, self.harmless_weight)
        weight = weight / weight.mean()
        logits = self.read_refusal(states) if self.read_refusal else within @ self.refusal + refusal_offset
        refusal = F.binary_cross_entropy_with_logits(logits, harmful, weight)
        if self.ranking:
            refusal = (1 - self.ranking) * refusal + self.ranking * ranking(logits, harmful)
        harmfulness = F.binary_cross_entropy_with_logits(
            within @ self.harmfulness + harmfulness_offset, harmful, weight
        )
        counted = moved if known is None else moved[known]
        residual = outside(counted, self.basis).sum() / max(1, len(counted))
        total = refusal + self.harmfulness_weight * harmfulness + self.residual_weight * residual
        return Losses(refusal, harmfulness, residual, total)


def ranking(logits: torch.Tensor, harmful: torch.Tensor) -> torch.Tensor:
    """Mean softplus(f(harmless) − f(harmful)) over all pairs of a batch; 0 where a class is missing."""
    gaps = logits[harmful > 0.5][:, None] - logits[harmful <= 0.5][None, :]
    return F.softplus(-gaps).sum() / max(1, gaps.numel())


def outside(moved: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Mean square of `moved` (n, d) over the d − m directions outside `basis` (d, m): (n,).

    By Pythagoras, without a basis of the complement: subtract the part inside V and measure the rest.
    """
    rest = moved - (moved @ basis) @ basis.T
    return rest.square().sum(dim=-1) / (basis.shape[0] - basis.shape[1])
