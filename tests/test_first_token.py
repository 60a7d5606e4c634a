import numpy as np
import pytest
import torch

from dro import first_token, space
from dro.errors import StoreError


def test_openings_are_counted_and_empty_answers_passed_over():
    counted = first_token.count([(7, True), (7, True), (7, False), (3, False), (None, False)])
    assert counted == {3: (0, 1), 7: (2, 3)}
    assert first_token.shares(counted) == {7: 0.5}


def test_mass_is_the_expected_share_under_the_models_own_probabilities(tiny):
    states = np.random.default_rng(0).normal(size=(5, tiny.d_model)).astype(np.float32)
    openings = {2: (3, 3), 9: (1, 3), 4: (0, 8)}
    logits = tiny.model.lm_head(torch.tensor(states)).detach().double()
    chances = torch.softmax(logits, -1).numpy()
    expected = chances[:, 2] * 0.75 + chances[:, 9] * 0.25
    assert first_token.mass(tiny, states, openings) == pytest.approx(expected, rel=1e-4)


def test_the_favoured_tokens_are_those_whose_logits_rise_most(tiny):
    direction = tiny.model.lm_head.weight[5].detach().numpy()
    rise = tiny.model.lm_head.weight.detach().numpy() @ direction
    expected = [tiny.tokenizer.decode([token]) for token in np.argsort(-rise)[:3]]
    assert first_token.favoured(tiny, direction, 3) == expected


def test_mass_does_not_depend_on_how_many_are_asked_at_once(tiny, monkeypatch):
    states = np.random.default_rng(1).normal(size=(7, tiny.d_model)).astype(np.float32)
    whole = first_token.mass(tiny, states, {1: (5, 5)})
    monkeypatch.setattr(first_token, "_AT_ONCE", 3)
    assert first_token.mass(tiny, states, {1: (5, 5)}) == pytest.approx(whole)


def test_the_log_odds_are_those_of_the_mass_and_have_a_gradient(tiny):
    given = np.random.default_rng(2).normal(size=(4, tiny.d_model)).astype(np.float32)
    states = torch.tensor(given, requires_grad=True)
    odds = first_token.Mass(tiny, {2: (3, 3), 9: (1, 3)}).log_odds(states)
    mass = first_token.mass(tiny, given, {2: (3, 3), 9: (1, 3)})
    assert odds.detach().numpy() == pytest.approx(np.log(mass / (1 - mass)), abs=1e-3)
    odds.sum().backward()
    assert torch.isfinite(states.grad).all() and (states.grad.norm(dim=1) > 0).all()


def test_a_space_keeps_its_openings(space_with_openings, tmp_path):
    space.save(space_with_openings, tmp_path)
    assert space.load(tmp_path).need_openings() == {5: (2, 3)}


def test_a_space_without_refusals_says_so(bare_space):
    with pytest.raises(StoreError, match=r"opens a refusal.*Fit it anew"):
        bare_space.need_openings()


@pytest.fixture
def space_with_openings(bare_space):
    from dataclasses import replace

    return replace(bare_space, openings={5: (2, 3)})
