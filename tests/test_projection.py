"""The projection is a PCA with fixed signs."""

import numpy as np
import pytest

from dro import projection
from dro.errors import DataError
from dro.projection import Projection

RNG = np.random.default_rng(0)
HARMFUL = np.arange(60) % 2 == 0
STATES = RNG.normal(size=(60, 20)) * np.linspace(4, 1, 20) + 5
STATES[HARMFUL, 0] += 3


def test_it_equals_a_singular_value_decomposition():
    fitted = projection.fit(STATES, HARMFUL, 5)
    centred = STATES - STATES.mean(axis=0)
    _, values, rows = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(np.abs(fitted.basis.T @ rows[:5].T), np.eye(5), atol=1e-8)
    assert np.allclose(fitted.variance, values[:5] ** 2 / 59)
    assert fitted.total_variance == pytest.approx((values**2).sum() / 59)
    assert np.allclose(fitted.explained, values[:5] ** 2 / (values**2).sum())
    assert fitted.residual_variance == pytest.approx((values[5:] ** 2).sum() / 59 / 15)


def test_it_is_centred_and_not_whitened():
    fitted = projection.fit(STATES, HARMFUL, 4)
    found = fitted.coordinates(STATES)
    assert np.allclose(found.mean(axis=0), 0) and np.allclose(found.var(axis=0, ddof=1), fitted.variance)


def test_permuted_rows_give_the_same_signs():
    fitted = projection.fit(STATES, HARMFUL, 6)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(60)
        again = projection.fit(STATES[order], HARMFUL[order], 6)
        assert np.allclose(again.basis, fitted.basis, atol=1e-8)


def test_the_first_component_points_to_the_harmful_side():
    for labels in (HARMFUL, ~HARMFUL):
        found = projection.fit(STATES, labels, 3).coordinates(STATES)[:, 0]
        assert found[labels].mean() > found[~labels].mean()


def test_the_other_components_have_a_positive_largest_loading():
    basis = projection.fit(STATES, HARMFUL, 6).basis
    assert all(column[np.abs(column).argmax()] > 0 for column in basis.T[1:])


def test_projecting_back_recovers_what_lies_inside():
    fitted = projection.fit(STATES, HARMFUL, 20)
    assert np.allclose(fitted.coordinates(STATES) @ fitted.basis.T + fitted.mean, STATES)
    part = projection.fit(STATES, HARMFUL, 4)
    back = part.coordinates(STATES) @ part.basis.T + part.mean
    assert np.allclose(part.coordinates(back), part.coordinates(STATES))
    assert not np.allclose(back, STATES, atol=0.5)


def test_new_states_are_placed_and_never_refitted():
    fitted = projection.fit(STATES, HARMFUL, 4)
    before = fitted.basis.copy()
    one = fitted.coordinates(STATES[:1].astype(np.float32))
    assert one.dtype == np.float64 and np.allclose(one, fitted.coordinates(STATES)[:1], atol=1e-4)
    assert np.array_equal(before, fitted.basis)


@pytest.mark.parametrize("m", [0, -1, 21, 61])
def test_an_impossible_m_is_refused(m):
    with pytest.raises(DataError, match=f"m is {m}"):
        projection.fit(STATES, HARMFUL, m)


def test_fewer_states_than_components_are_refused():
    with pytest.raises(DataError, match="allow 1 to 3"):
        projection.fit(STATES[:3], HARMFUL[:3], 4)


def test_parts_that_do_not_fit_together_are_refused():
    with pytest.raises(DataError, match="fit together"):
        Projection(np.zeros(3), np.zeros((4, 2)), np.zeros(2), 1.0)
    with pytest.raises(DataError, match="fit together"):
        Projection(np.zeros(4), np.zeros((4, 2)), np.zeros(3), 1.0)
