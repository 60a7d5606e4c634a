"""Control directions: as long as the fitted one, and blind to what it knows."""

import numpy as np
import pytest

from dro import controls, fitting
from dro.errors import DataError
from dro.generate import Decoding
from dro.prompts import resolve
from dro.states import last_token_states


@pytest.mark.parametrize("turn", [controls.random_direction, controls.permuted_labels])
def test_a_control_has_the_fitted_length_and_mean_logit(space, turn):
    turned, fitted = turn(space, 3).need_refusal(), space.need_refusal()
    assert np.linalg.norm(turned.weight) == pytest.approx(np.linalg.norm(fitted.weight))
    places = space.anchors.coordinates
    assert turned.logits(places).mean() == pytest.approx(fitted.logits(places).mean())
    assert not np.allclose(turned.weight, fitted.weight)
    assert np.array_equal(turned.weight, turn(space, 3).need_refusal().weight)
    assert not np.array_equal(turned.weight, turn(space, 4).need_refusal().weight)


def test_labels_are_permuted_within_class_and_condition(space, monkeypatch):
    seen = {}
    fit = controls.probes.fit

    def spy(coordinates, targets, groups, seed=0):
        seen["rates"] = targets
        return fit(coordinates, targets, groups, seed)

    monkeypatch.setattr(controls.probes, "fit", spy)
    controls.permuted_labels(space, 0)
    anchors = space.anchors
    for condition in anchors.conditions:
        for harmful in (True, False):
            mine = np.arange(len(seen["rates"]))[anchors.rows(condition)][anchors.harmful == harmful]
            assert sorted(seen["rates"][mine]) == sorted(anchors.refusal_rate[mine])
    assert not np.array_equal(seen["rates"], anchors.refusal_rate)


def test_without_refusal_every_state_has_the_same_logit(space):
    silenced = controls.without_refusal(space).need_refusal()
    assert np.ptp(silenced.logits(space.anchors.coordinates)) == 0


def test_a_narrowed_space_is_the_one_that_fit_would_give(tiny, space, anchors):
    names = fitting.conditions_for(tiny)
    states = np.concatenate([last_token_states(tiny, resolve(n, tiny), anchors.texts) for n in names])
    whole = fitting.build(tiny, anchors, names, states, space.anchors.refusal_rate, 2, Decoding(2), 0)
    ours = controls.narrowed(space, 2)
    assert np.allclose(ours.projection.basis, whole.projection.basis)
    assert np.allclose(ours.anchors.residual, whole.anchors.residual)
    assert np.allclose(ours.need_refusal().weight, whole.need_refusal().weight, rtol=1e-4)
    assert np.allclose(ours.harmfulness.weight, whole.harmfulness.weight, rtol=1e-4)
    assert ours.projection.residual_variance == pytest.approx(whole.projection.residual_variance)
    assert ours.name != space.name


def test_a_space_is_not_widened(space):
    with pytest.raises(DataError, match="Choose 1 to 4"):
        controls.narrowed(space, 5)
