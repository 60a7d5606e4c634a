"""The loss terms against their definitions, written out with numpy."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dro.objective import Objective, outside, ranking

D, M, N = 12, 3, 7
RNG = np.random.default_rng(0)
V = np.linalg.qr(RNG.normal(size=(D, M)))[0]
W_R, W_H = RNG.normal(size=(2, M))
X, X0 = RNG.normal(size=(2, N, D))
Y = np.array([1.0, 0, 1, 1, 0, 0, 1])


def tensor(array):
    return torch.tensor(array, dtype=torch.float64)


def objective(harmfulness_weight=0.01, residual_weight=0.001):
    return Objective(tensor(V), tensor(W_R), tensor(W_H), harmfulness_weight, residual_weight)


def bce(logits, targets):
    p = 1 / (1 + np.exp(-logits))
    return -np.mean(targets * np.log(p) + (1 - targets) * np.log(1 - p))


def complement(basis):
    """An explicit orthonormal basis of the directions outside V."""
    full = np.linalg.qr(np.concatenate([basis, RNG.normal(size=(D, D - basis.shape[1]))], axis=1))[0]
    return full[:, basis.shape[1] :]


def test_the_residual_equals_the_one_by_an_explicit_basis():
    U = complement(V)
    assert np.allclose(U.T @ V, 0) and U.shape == (D, D - M)
    explicit = (((X - X0) @ U) ** 2).mean(axis=1)
    assert np.allclose(outside(tensor(X - X0), tensor(V)).numpy(), explicit)


def test_the_residual_sees_nothing_inside_and_everything_outside():
    inside = tensor(V @ W_R)[None]
    assert outside(inside, tensor(V)).item() == pytest.approx(0, abs=1e-25)
    away = tensor(complement(V)[:, 0])[None]
    assert outside(away, tensor(V)).item() == pytest.approx(1 / (D - M))


def test_the_losses_equal_those_written_out():
    losses = objective()(tensor(X), tensor(X0), tensor(Y))
    g, g0 = X @ V, X0 @ V
    assert losses.refusal.item() == pytest.approx(bce(g @ W_R - g0 @ W_R, Y))
    assert losses.harmfulness.item() == pytest.approx(bce(g @ W_H - g0 @ W_H, Y))
    expected = losses.refusal + 0.01 * losses.harmfulness + 0.001 * losses.residual
    assert losses.total.item() == pytest.approx(expected.item())


def test_no_movement_costs_the_logarithm_of_two():
    losses = objective(1.0, 1.0)(tensor(X0), tensor(X0), tensor(Y))
    assert losses.refusal.item() == losses.harmfulness.item() == pytest.approx(np.log(2))
    assert losses.residual.item() == 0 and losses.total.item() == pytest.approx(2 * np.log(2))


def test_harmful_queries_are_drawn_along_the_refusal_direction_and_harmless_ones_against_it():
    states = tensor(X0).requires_grad_()
    objective(0, 0)(states, tensor(X0), tensor(Y)).total.backward()
    downhill = -states.grad.numpy() @ V @ W_R
    assert (downhill[Y == 1] > 0).all() and (downhill[Y == 0] < 0).all()


@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.01, 0.001), (2.0, 3.0)])
def test_the_gradient_equals_finite_differences(weights):
    loss = objective(*weights)
    assert torch.autograd.gradcheck(
        lambda states: loss(states, tensor(X0), tensor(Y)).total, tensor(X).requires_grad_()
    )


def test_the_residuals_gradient_stays_outside():
    states = tensor(X).requires_grad_()
    outside(states - tensor(X0), tensor(V)).sum().backward()
    assert np.allclose(states.grad.numpy() @ V, 0) and states.grad.norm() > 0


def test_the_absolute_target_reads_the_probes_themselves_and_weighs_the_classes():
    generator = torch.Generator().manual_seed(3)
    basis = torch.linalg.qr(torch.randn(12, 3, generator=generator)).Q
    probe, other = torch.randn(2, 3, generator=generator)
    states, start = torch.randn(2, 6, 12, generator=generator)
    harmful = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    ours = Objective(basis, probe, other, 0.5, 0.0, 4.0, (0.7, -0.2))(states, start, harmful)

    def expected(weight, offset):
        logits = states @ basis @ weight + offset
        each = torch.where(harmful > 0.5, 1.0, 4.0) * torch.log1p(torch.exp((1 - 2 * harmful) * logits))
        return each.sum() / (3 * 1 + 3 * 4)

    assert torch.allclose(ours.refusal, expected(probe, 0.7), atol=1e-5)
    assert torch.allclose(ours.harmfulness, expected(other, -0.2), atol=1e-5)
    assert torch.allclose(ours.total, ours.refusal + 0.5 * ours.harmfulness, atol=1e-6)


def test_ranking_is_the_mean_over_all_pairs_and_blind_to_what_all_share():
    logits, harmful = torch.tensor([2.0, -1.0, 0.5, 3.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    pairs = [(2.0, -1.0), (2.0, 3.0), (0.5, -1.0), (0.5, 3.0)]
    expected = np.mean([np.log1p(np.exp(low - high)) for high, low in pairs])
    assert ranking(logits, harmful).item() == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(ranking(logits + 7, harmful), ranking(logits, harmful))
    assert ranking(logits, torch.ones(4)).item() == 0


def test_the_first_token_target_reads_what_it_is_given_and_mixes_the_ranking_in():
    basis = torch.linalg.qr(torch.randn(12, 3, generator=torch.Generator().manual_seed(5))).Q
    states = torch.randn(4, 12, generator=torch.Generator().manual_seed(6))
    harmful, read = torch.tensor([1.0, 0.0, 0.0, 1.0]), lambda x: 3 * x[:, 0] - x[:, 1]
    probe = torch.ones(3)
    ours = Objective(basis, probe, probe, 0.0, 0.0, 2.0, (0.0, 0.0), read, 0.25)(states, states, harmful)
    logits = read(states)
    each = torch.tensor([1.0, 2.0, 2.0, 1.0]) * F.softplus((1 - 2 * harmful) * logits)
    expected = 0.75 * each.sum() / 6 + 0.25 * ranking(logits, harmful)
    assert torch.allclose(ours.refusal, expected, atol=1e-6)


def test_the_residual_counts_the_rows_whose_start_is_known():
    basis = torch.linalg.qr(torch.randn(12, 3, generator=torch.Generator().manual_seed(5))).Q
    states, start = torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(7))
    harmful, known = torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.tensor([True, False, True, False])
    measure = Objective(basis, torch.ones(3), torch.ones(3), 0.0, 1.0, 1.0, (0.0, 0.0))
    expected = outside((states - start)[known], basis).mean()
    assert torch.allclose(measure(states, start, harmful, known).residual, expected)
    assert measure(states, start, harmful, torch.zeros(4, dtype=torch.bool)).residual.item() == 0
