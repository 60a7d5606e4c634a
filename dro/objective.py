"""The loss of Directed Representation Optimization (arXiv 2401.18018): tensors in, scalars out.

With g the projection, f_r and f_h the refusal and harmfulness probes on it, x0 the state under the
text that the soft prompt started from, xθ the state under the soft prompt, y = 1 for harmful queries:

    L_r = BCEWithLogits(f_r(xθ) − f_r(x0), y)
    L_h = BCEWithLogits(f_h(xθ) − f_h(x0), y)
    L_U = mean over the d − m directions outside V of (xθ − x0)²  =  ‖(I − VVᵀ)(xθ − x0)‖² / (d − m)
    L   = L_r + w_h · L_h + β · L_U
"""

from __future__ import annotations

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
    basis: V (d_model, m), orthonormal. refusal, harmfulness: probe weights (m,); biases cancel in the
        differences. harmfulness_weight: w_h. residual_weight: β.
    """

    basis: torch.Tensor
    refusal: torch.Tensor
    harmfulness: torch.Tensor
    harmfulness_weight: float
    residual_weight: float

    def __call__(self, states: torch.Tensor, start: torch.Tensor, harmful: torch.Tensor) -> Losses:
        """Losses for xθ `states` (n, d_model), x0 `start` (n, d_model), y `harmful` (n,) in {0, 1}."""
        moved = states - start
        within = moved @ self.basis
        refusal = F.binary_cross_entropy_with_logits(within @ self.refusal, harmful)
        harmfulness = F.binary_cross_entropy_with_logits(within @ self.harmfulness, harmful)
        residual = outside(moved, self.basis).mean()
        total = refusal + self.harmfulness_weight * harmfulness + self.residual_weight * residual
        return Losses(refusal, harmfulness, residual, total)


def outside(moved: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Mean square of `moved` (n, d) over the d − m directions outside `basis` (d, m): (n,).

    By Pythagoras, without a basis of the complement: subtract the part inside V and measure the rest.
    """
    rest = moved - (moved @ basis) @ basis.T
    return rest.square().sum(dim=-1) / (basis.shape[0] - basis.shape[1])
