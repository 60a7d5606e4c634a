"""Probes as the paper trains them: AdamW at 1e-4, early stopping, the mean of ten folds.

Kept for `--recipe paper` alone. Such a probe stops far from its optimum; `probes.fit` converges.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from dro.probes import FittedProbe, Probe, log_loss

FOLDS, LR, BATCH, MOST_EPOCHS, PATIENCE = 10, 1e-4, 50, 100, 3
"""Folds split rows, not queries, as in the released code. Batch, epochs and patience are ours."""


def fit(coordinates: np.ndarray, targets: np.ndarray, seed: int = 0) -> FittedProbe:
    """Ten logistic regressions, each stopped early on its own fold; their mean weight and bias.

    Parameters
    ----------
    coordinates: (n, m). targets: (n,) probabilities. The held-out logits are each fold's own.
    """
    inputs = torch.tensor(np.asarray(coordinates), dtype=torch.float32)
    wanted = torch.tensor(np.asarray(targets), dtype=torch.float32)
    order = np.random.default_rng(seed).permutation(len(inputs))
    held_out = np.empty(len(inputs))
    weights, biases = [], []
    for number, fold in enumerate(np.array_split(order, FOLDS)):
        rest = torch.tensor(np.setdiff1d(order, fold))
        generator = torch.Generator().manual_seed(seed + number)
        weight, bias = _fit_fold(inputs[rest], wanted[rest], inputs[fold], wanted[fold], generator)
        held_out[fold] = (inputs[fold] @ weight + bias).numpy()
        weights.append(weight)
        biases.append(bias)
    probe = Probe(torch.stack(weights).mean(0).double().numpy(), float(torch.stack(biases).mean()), 0.0)
    return FittedProbe(probe, held_out, log_loss(held_out, np.asarray(targets, dtype=np.float64)))


def _fit_fold(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    other: torch.Tensor,
    wanted: torch.Tensor,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    weight = (torch.randn(inputs.shape[1], generator=generator) * inputs.shape[1] ** -0.5).requires_grad_()
    bias = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=LR, foreach=False)
    best, waited = (float("inf"), weight.detach().clone(), bias.detach().clone()), 0
    for _ in range(MOST_EPOCHS):
        for rows in torch.randperm(len(inputs), generator=generator).split(BATCH):
            optimiser.zero_grad()
            F.binary_cross_entropy_with_logits(inputs[rows] @ weight + bias, targets[rows]).backward()
            optimiser.step()
        with torch.no_grad():
            loss = float(F.binary_cross_entropy_with_logits(other @ weight + bias, wanted))
        if loss < best[0]:
            best, waited = (loss, weight.detach().clone(), bias.detach().clone()), 0
        elif (waited := waited + 1) >= PATIENCE:
            break
    return best[1], best[2]
