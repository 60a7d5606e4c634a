"""Probes as the paper trains them: AdamW at 1e-4, early stopping, the mean of ten folds.

Kept for the paper's recipe alone. Such a probe stops far from its optimum; `probes.fit` converges.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from dro.probes import FittedProbe, Probe, log_loss

FOLDS, LR, BATCH, MOST_EPOCHS, PATIENCE = 10, 1e-4, 50, 500, 3
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
    folds = [torch.tensor(fold) for fold in np.array_split(order, FOLDS)]
    rest = [torch.tensor(np.setdiff1d(order, fold)) for fold in folds]
    weights, biases = _train(inputs, wanted, folds, rest, torch.Generator().manual_seed(seed))
    held_out = np.empty(len(inputs))
    for fold, weight, bias in zip(folds, weights, biases, strict=True):
        held_out[fold] = (inputs[fold] @ weight + bias).numpy()
    probe = Probe(weights.mean(0).double().numpy(), float(biases.mean()), 0.0)
    return FittedProbe(probe, held_out, log_loss(held_out, np.asarray(targets, dtype=np.float64)))


def _train(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    folds: list[torch.Tensor],
    rest: list[torch.Tensor],
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (folds, m) and biases (folds,), each at its best epoch on its own fold.

    All folds in one pass: AdamW works number by number, so none knows of the others.
    """
    reach = inputs.shape[1] ** -0.5  # as torch.nn.Linear starts
    weight = ((2 * torch.rand(len(folds), inputs.shape[1], generator=generator) - 1) * reach).requires_grad_()
    bias = torch.zeros(len(folds), requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=LR, foreach=False)
    best = torch.full((len(folds),), float("inf"))
    waited = torch.zeros(len(folds))
    kept, kept_bias = weight.detach().clone(), bias.detach().clone()
    shortest = min(len(rows) for rows in rest)
    for _ in range(MOST_EPOCHS):
        shuffled = torch.stack([
            rows[torch.randperm(len(rows), generator=generator)[:shortest]] for rows in rest
        ])  # fmt: skip
        for rows in shuffled.split(BATCH, dim=1):
            optimiser.zero_grad()
            logits = torch.einsum("fbm,fm->fb", inputs[rows], weight) + bias[:, None]
            losses = F.binary_cross_entropy_with_logits(logits, targets[rows], reduction="none")
            losses.mean(dim=1).sum().backward()
            optimiser.step()
        with torch.no_grad():
            found = torch.stack([
                F.binary_cross_entropy_with_logits(inputs[fold] @ w + b, targets[fold])
                for fold, w, b in zip(folds, weight, bias, strict=True)
            ])  # fmt: skip
            better = (found < best) & (waited < PATIENCE)
            best = torch.where(better, found, best)
            kept[better], kept_bias[better] = weight.detach()[better], bias.detach()[better]
            # A fold that has waited long enough stays where it was, whatever comes.
            waited = torch.where(better, 0.0, waited + 1)
        if bool((waited >= PATIENCE).all()):
            break
    return kept, kept_bias
