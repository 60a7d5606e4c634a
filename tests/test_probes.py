"""Probes: the optimum of the soft cross-entropy, chosen and judged on pairs they have not seen."""

import numpy as np
import pytest
from scipy.optimize import minimize

from dro import probes
from dro.errors import DataError, DroError

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(120, 4)) * [3, 2, 1, 1]
TARGETS = 1 / (1 + np.exp(-(POINTS @ [0.8, -0.5, 0.3, 0.0]) + RNG.normal(size=120)))
PAIRS = np.arange(120) % 40
FITTED = probes.fit(POINTS, TARGETS, PAIRS)


def penalised(parameters, inputs, targets, strength):
    """C · Σ cross-entropy(target, σ(wᵀx + b)) + ‖w‖²/2, and its gradient."""
    weight, bias = parameters[:-1], parameters[-1]
    logits = inputs @ weight + bias
    value = strength * np.sum(np.logaddexp(0, logits) - targets * logits) + weight @ weight / 2
    slope = strength * (1 / (1 + np.exp(-logits)) - targets)
    return value, np.append(inputs.T @ slope + weight, slope.sum())


def optimum(points, targets, strength):
    scale = points.std()
    found = minimize(
        penalised,
        np.zeros(points.shape[1] + 1),
        (points / scale, targets, strength),
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000},
    )
    return found.x[:-1] / scale, found.x[-1]


def test_the_fit_is_the_minimum_of_the_soft_cross_entropy():
    weight, bias = optimum(POINTS, TARGETS, FITTED.probe.strength)
    assert np.allclose(FITTED.probe.weight, weight, atol=1e-4)
    assert FITTED.probe.bias == pytest.approx(bias, abs=1e-4)


def test_hard_rounding_of_the_targets_would_give_another_probe():
    hard, _ = optimum(POINTS, (TARGETS > 0.5).astype(float), FITTED.probe.strength)
    assert np.linalg.norm(hard - FITTED.probe.weight) > 0.1 * np.linalg.norm(hard)


def test_hard_targets_are_fitted_too():
    labels = (TARGETS > 0.5).astype(float)
    fitted = probes.fit(POINTS, labels, PAIRS)
    weight, _ = optimum(POINTS, labels, fitted.probe.strength)
    assert np.allclose(fitted.probe.weight, weight, rtol=1e-3, atol=1e-4)
    assert probes.accuracy(fitted.held_out, labels.astype(bool)) > 0.7


def test_the_strength_is_the_one_of_least_held_out_loss():
    losses = {}
    for strength in probes.STRENGTHS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(probes, "STRENGTHS", (strength,))
            losses[strength] = probes.fit(POINTS, TARGETS, PAIRS).log_loss
    assert FITTED.log_loss == pytest.approx(min(losses.values()), abs=1e-6)
    assert losses[FITTED.probe.strength] == pytest.approx(FITTED.log_loss)


def test_folds_never_split_a_pair():
    """Every pair has a direction of its own, so that a probe that has seen one member knows the other."""
    pairs = np.arange(60) // 2
    points = np.eye(30)[pairs] + 0.01 * RNG.normal(size=(60, 30))
    labels = np.random.default_rng(3).permutation(np.arange(30) % 2)[pairs].astype(float)
    honest = probes.fit(points, labels, pairs)
    leaking = probes.fit(points, labels, np.arange(60))
    assert leaking.log_loss < 0.4  # what splitting rows, as the authors do, would report
    assert honest.log_loss > 0.9 * np.log(2)
    assert probes.accuracy(leaking.held_out, labels > 0) > 0.75 > probes.accuracy(honest.held_out, labels > 0)


def test_every_held_out_logit_comes_from_a_fit_without_its_pair(monkeypatch):
    seen = []
    original = probes._fit_once
    monkeypatch.setattr(probes, "_fit_once", lambda x, t, c: seen.append(x) or original(x, t, c))
    monkeypatch.setattr(probes, "STRENGTHS", (1.0,))
    fitted = probes.fit(POINTS, TARGETS, PAIRS)
    inputs = POINTS / POINTS.std()
    for row in range(10):
        mates = inputs[PAIRS[row] == PAIRS]
        without = [x for x in seen if not any((x == mate).all(axis=1).any() for mate in mates)]
        logits = []
        for x in without:
            rows = [int(np.flatnonzero((inputs == r).all(axis=1))[0]) for r in x]
            weight, bias = original(x, TARGETS[rows], 1.0)
            logits.append(inputs[row] @ weight + bias)
        assert any(np.isclose(fitted.held_out[row], v) for v in logits)


def test_the_same_seed_gives_the_same_folds():
    again = probes.fit(POINTS, TARGETS, PAIRS)
    assert np.array_equal(again.held_out, FITTED.held_out)
    assert not np.array_equal(probes.fit(POINTS, TARGETS, PAIRS, seed=1).held_out, FITTED.held_out)


@pytest.mark.parametrize(
    ("targets", "groups"),
    [
        (np.full(120, 1.5), PAIRS),
        (np.full(120, np.nan), PAIRS),
        (np.zeros(120), PAIRS),
        (np.ones(120), PAIRS),
        (TARGETS, np.zeros(120)),
    ],
)
def test_targets_or_pairs_that_cannot_be_fitted_are_refused(targets, groups):
    with pytest.raises(DataError):
        probes.fit(POINTS, targets, groups)


@pytest.mark.parametrize("seed", range(3))
def test_refusals_of_one_pair_only_are_fitted_or_refused_in_plain_words(seed):
    """A model may refuse one query under every prompt, and nothing else."""
    try:
        probes.fit(POINTS, (PAIRS == 3).astype(float), PAIRS, seed)
    except DroError:
        return


def test_log_loss_is_the_mean_cross_entropy():
    logits, targets = np.array([0.0, 2.0, -1.0]), np.array([0.5, 1.0, 0.25])
    p = 1 / (1 + np.exp(-logits))
    expected = -np.mean(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    assert probes.log_loss(logits, targets) == pytest.approx(expected)
    assert np.isfinite(probes.log_loss(np.array([1e4, -1e4]), np.array([0.0, 1.0])))


def test_auc_weighs_every_state_by_its_target():
    logits, targets = RNG.normal(size=30), RNG.random(30)
    wins = weight = 0.0
    for a in range(30):
        for b in range(30):
            mass = targets[a] * (1 - targets[b])
            weight += mass
            wins += mass * ((logits[a] > logits[b]) + 0.5 * (logits[a] == logits[b]))
    assert probes.auc(logits, targets) == pytest.approx(wins / weight)


def test_auc_of_hard_labels_is_the_usual_one():
    assert probes.auc(np.array([0.1, 0.9, 0.4, 0.8]), np.array([0.0, 1, 0, 1])) == 1.0
    assert probes.auc(np.array([0.1, 0.9, 0.4, 0.8]), np.array([1.0, 0, 1, 0])) == 0.0


def test_auc_of_one_kind_alone_is_none():
    assert probes.auc(np.arange(5.0), np.zeros(5)) is None
    assert probes.auc(np.arange(5.0), np.ones(5)) is None


def test_calibration_error_is_zero_for_true_probabilities_and_large_for_overconfidence():
    logits = np.repeat(np.linspace(-3, 3, 10), 50)
    p = 1 / (1 + np.exp(-logits))
    assert probes.calibration_error(logits, p) == pytest.approx(0, abs=1e-12)
    assert probes.calibration_error(logits + 2, p) > 0.1
    # ten bins of equal size, each off by a tenth
    off = np.log((p * 0.8 + 0.1) / (1 - (p * 0.8 + 0.1)))
    assert probes.calibration_error(off, p) == pytest.approx(np.abs(p * 0.8 + 0.1 - p).mean())


def test_calibration_of_few_states_works():
    assert probes.calibration_error(np.array([0.0, 0.0]), np.array([1.0, 0.0])) == pytest.approx(0.5)


def test_accuracy_counts_the_right_side_of_zero():
    assert probes.accuracy(np.array([1.0, -1, 2, -2]), np.array([True, False, False, True])) == 0.5


def test_logits_and_probabilities_of_a_probe():
    probe = probes.Probe(np.array([1.0, -2.0]), 0.5, 1.0)
    points = np.array([[1.0, 1.0], [0.0, 0.0], [1e4, 0.0], [-1e4, 0.0]])
    assert np.allclose(probe.logits(points), [-0.5, 0.5, 1e4 + 0.5, -1e4 + 0.5])
    with np.errstate(all="raise", under="ignore"):
        assert np.allclose(probe.probabilities(points), [0.37754, 0.62246, 1, 0], atol=1e-5)


def test_a_common_rescaling_of_the_coordinates_changes_nothing():
    scaled = probes.fit(POINTS * 1000, TARGETS, PAIRS)
    assert np.allclose(scaled.held_out, FITTED.held_out, atol=1e-4)
    assert np.allclose(scaled.probe.weight * 1000, FITTED.probe.weight, rtol=1e-3)
