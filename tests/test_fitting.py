"""Fitting a space end to end on a tiny model, with a judge that finds refusals."""

import numpy as np
import pytest
from conftest import chat_model, pairs

from dro import fit_parts, fitting, health, probes, refusal
from dro.data import QuerySet
from dro.errors import DataError
from dro.generate import Decoding, answers
from dro.prompts import resolve
from dro.refusal import Verdict
from dro.rendering import Rendering
from dro.states import last_token_states

LABELS = Decoding(max_tokens=3, samples=2, temperature=1.0)
ANCHORS = pairs(8)


def by_length(answer):
    return Verdict("refused", "x") if len(answer.encode()) % 2 else Verdict("answered")


def make_quick(patch):
    """A judge that finds refusals in a random model's answers, and few candidates for C and m."""
    patch.setattr(probes, "STRENGTHS", (0.1, 1.0))
    patch.setattr(health, "WIDTHS", (2, 4))
    patch.setattr(refusal, "judge", by_length)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    make_quick(monkeypatch)


@pytest.fixture(scope="module")
def fitted(tiny):
    """A space with m = 3 and seed 4, fitted once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return fitting.fit(tiny, ANCHORS, m=3, labels=LABELS, seed=4)


def test_the_parts_of_a_fitted_space_are_what_they_claim(tiny, fitted):
    space = fitted
    names = ("template", "none", "default", "mistral", "short", "template+short")
    assert space.anchors.conditions == names
    states = np.concatenate([last_token_states(tiny, resolve(n, tiny), ANCHORS.texts) for n in names])
    assert np.allclose(space.projection.mean, states.mean(axis=0), atol=1e-4)
    assert np.allclose(space.anchors.coordinates, space.projection.coordinates(states), atol=1e-3)
    moved = states - space.projection.mean
    outside = moved - (moved @ space.projection.basis) @ space.projection.basis.T
    expected = (outside**2).sum(axis=1) / (tiny.d_model - 3)
    assert np.allclose(space.anchors.residual, expected, rtol=1e-2, atol=1e-4)
    assert space.anchors.residual.mean() == pytest.approx(space.projection.residual_variance, rel=0.05)


def test_refusal_rates_are_shares_of_one_greedy_and_the_sampled_answers(tiny, fitted):
    for name in ("none", "short"):
        prompt = resolve(name, tiny)
        said = [
            g + s
            for g, s in zip(
                answers(tiny, prompt, ANCHORS.texts, Decoding(3)),
                answers(tiny, prompt, ANCHORS.texts, LABELS),
                strict=True,
            )
        ]
        expected = [np.mean([by_length(a).refused for a in each]) for each in said]
        assert np.allclose(fitted.anchors.refusal_rate[fitted.anchors.rows(name)], expected)
        assert len(said[0]) == 3


def test_a_fit_repeats_itself(tiny, fitted):
    one, two = fitted, fitting.fit(tiny, ANCHORS, m=3, labels=LABELS, seed=4)
    assert one.name == two.name
    assert np.array_equal(one.projection.basis, two.projection.basis)
    assert np.array_equal(one.refusal.weight, two.refusal.weight)


def test_provenance_names_everything_the_space_depends_on(tiny, fitted):
    made = fitted.provenance
    assert (made["model"], made["revision"], made["precision"]) == ("tiny", tiny.revision, "fp32")
    assert made["anchors"] == {"name": "anchors", "queries": 16, "sha256": ANCHORS.digest}
    assert made["labels"]["samples"] == 2 and made["labels"]["judge"] == refusal.PHRASES
    assert made["m"] == 3 and made["seed"] == 4
    assert made["prompts"]["none"] is None and made["prompts"]["template"] == tiny.rendering.identity


def test_a_model_that_never_refuses_gets_no_refusal_probe(tiny, monkeypatch):
    monkeypatch.setattr(refusal, "judge", lambda _: Verdict("answered"))
    space = fitting.fit(tiny, ANCHORS, labels=LABELS)
    assert space.refusal is None and "at least 10" in space.why_no_refusal
    check = next(c for c in space.health if c["name"] == "refusal probe")
    assert check["verdict"] == "fail" and check["meaning"] == space.why_no_refusal


def test_a_model_that_always_refuses_is_told_in_plain_words(tiny, monkeypatch):
    monkeypatch.setattr(refusal, "judge", lambda _: Verdict("refused"))
    with pytest.raises(DataError, match="both kinds"):
        fitting.fit(tiny, ANCHORS, labels=LABELS)


def test_without_an_identity_the_conditions_are_the_standard_ones():
    model = chat_model(rendering=Rendering("{system}\n{query}>", ">{query}>"))
    assert fitting.conditions_for(model) == ("none", "default", "mistral", "short")


@pytest.mark.parametrize("queries", [pairs(4), QuerySet("one-sided", pairs(8).of("harmful").queries)])
def test_too_few_anchors_are_refused_before_any_work(tiny, queries, monkeypatch):
    monkeypatch.setattr(fit_parts, "last_token_states", None)
    with pytest.raises(DataError, match="at least 5 of each"):
        fitting.fit(tiny, queries)


def test_an_impossible_m_is_refused_before_any_work(tiny, monkeypatch):
    monkeypatch.setattr(fit_parts, "last_token_states", None)
    with pytest.raises(DataError):
        fitting.fit(tiny, ANCHORS, m=0, labels=LABELS)


def test_progress_grows_to_one_and_checkpoint_can_stop(tiny):
    told = []
    fitting.fit(tiny, ANCHORS, labels=LABELS, progress=lambda _, share: told.append(share))
    assert told == sorted(told) and told[-1] == pytest.approx(1.0)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitting.fit(tiny, ANCHORS, labels=LABELS, checkpoint=stop)


def test_the_papers_space_has_four_prompts_plain_pca_and_its_own_probes(tiny, space):
    ours = fitting.fit(tiny, ANCHORS, 4, LABELS)
    theirs = fitting.fit(tiny, ANCHORS, 4, known=ours, recipe="paper")
    assert theirs.anchors.conditions == ("none", "default", "mistral", "short")
    assert theirs.provenance["projection"] == "PCA" and theirs.provenance["probes"] == "as in the paper"
    rows = np.concatenate([np.arange(len(ours.anchors.refusal_rate))[ours.anchors.rows(n)]
                           for n in theirs.anchors.conditions])  # fmt: skip
    assert np.array_equal(theirs.anchors.refusal_rate, ours.anchors.refusal_rate[rows])
    assert theirs.openings == ours.openings and theirs.name != ours.name


def test_there_is_no_third_way_of_fitting(tiny, raised):
    assert "Use ours or paper" in raised(lambda: fitting.fit(tiny, ANCHORS, 4, recipe="best"), DataError)
