import numpy as np
import pytest

from dro import region
from dro.errors import DataError, StoreError


def anchor_like(space, n=60, seed=0):
    """States inside V at the coordinates of anchors, with what the probe says of them."""
    rows = np.random.default_rng(seed).choice(len(space.anchors.coordinates), n, replace=False)
    coordinates = space.anchors.coordinates[rows]
    return space.projection.mean + coordinates @ space.projection.basis.T, coordinates


def test_verdicts_that_follow_the_probe_leave_it_as_it_is(space):
    states, coordinates = anchor_like(space)
    refused = space.refusal.logits(coordinates) > 0
    found = region.examine(space, states, refused, np.arange(60) // 2)
    assert found.auc == 1.0 and found.refitted_cosine > 0.98 and found.beyond == 0
    assert found.n == 60 and found.observed == pytest.approx(refused.mean())
    assert found.inside == pytest.approx(1, abs=0.3) and found.outside == pytest.approx(0, abs=1e-9)


def test_verdicts_against_the_probe_are_shown(space):
    states, coordinates = anchor_like(space)
    refused = space.refusal.logits(coordinates) < 0
    found = region.examine(space, states, refused, np.arange(60) // 2)
    follows = region.examine(space, states, ~refused, np.arange(60) // 2)
    assert found.auc == 0.0 and found.calibration_error > follows.calibration_error + 0.2
    assert found.refitted_cosine < follows.refitted_cosine


def test_far_states_are_beyond(space):
    states, _ = anchor_like(space)
    far = space.projection.mean + 30 * (states - space.projection.mean)
    far += np.random.default_rng(1).normal(size=far.shape) * 50
    found = region.examine(space, far, np.arange(60) % 2 == 0, np.arange(60) // 2)
    assert found.beyond == 1 and found.inside > 10 and found.outside > 10


def test_an_auc_of_hardly_any_refusals_is_not_given(space):
    states, _ = anchor_like(space)
    found = region.examine(space, states, np.arange(60) < 2, np.arange(60) // 2)
    assert found.auc is None and found.as_dict()["auc"] is None


def test_faults_are_named(space, bare_space):
    states, _ = anchor_like(space, 4)
    with pytest.raises(DataError, match="4 states, 3 verdicts"):
        region.examine(space, states, [True, False, True], [0, 0, 1, 1])
    with pytest.raises(StoreError, match="no refusal probe"):
        region.examine(bare_space, states, [True] * 4, [0, 0, 1, 1])
