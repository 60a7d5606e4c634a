import numpy as np
import pytest

from dro import paper_probes, probes


def data(seed=0, n=400, m=4):
    rng = np.random.default_rng(seed)
    coordinates = rng.normal(size=(n, m)) * [12, 8, 5, 3]
    logits = coordinates @ [0.1, -0.2, 0.1, 0.0]
    return coordinates, 1 / (1 + np.exp(-logits)), np.arange(n) // 2


def test_it_points_the_right_way_but_less_truly_than_a_converged_probe():
    coordinates, targets, groups = data()
    truth = np.array([0.1, -0.2, 0.1, 0.0])
    cosine = lambda w: w @ truth / np.linalg.norm(w) / np.linalg.norm(truth)  # noqa: E731
    theirs = paper_probes.fit(coordinates, targets)
    ours = probes.fit(coordinates, targets, groups)
    assert 0.5 < cosine(theirs.probe.weight) < cosine(ours.probe.weight)
    assert ours.log_loss < theirs.log_loss


def test_held_out_logits_are_the_folds_own_and_the_seed_decides():
    coordinates, targets, _ = data(1, 60)
    first, again = paper_probes.fit(coordinates, targets), paper_probes.fit(coordinates, targets)
    assert np.array_equal(first.held_out, again.held_out)
    assert first.log_loss == pytest.approx(probes.log_loss(first.held_out, targets))
    assert not np.allclose(first.held_out, first.probe.logits(coordinates))
    assert not np.array_equal(first.probe.weight, paper_probes.fit(coordinates, targets, seed=1).probe.weight)
