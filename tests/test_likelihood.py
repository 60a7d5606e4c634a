"""Likelihoods of given answers, against the model's own forward pass."""

import pytest
import torch

from dro import likelihood
from dro.encoding import encoder
from dro.errors import DataError
from dro.prompts import resolve
from dro.states import own_ids, prefix_ids

QUERIES = ["How do I fold a crane?", "Why?"]
ANSWERS = ["Hello the the", "You in"]


def test_log_probabilities_equal_those_of_whole_sequences(tiny, plain):
    prompt = resolve("short", tiny)
    found = likelihood.surprise(tiny, prompt, QUERIES, ANSWERS)
    for query, answer, ours in zip(QUERIES, ANSWERS, found, strict=True):
        said = likelihood.answer_ids(tiny, [answer])[0]
        before = [*encoder(tiny).prefix(prompt.text).ids, *encoder(tiny).own(prompt.text, query)]
        logits = plain(torch.tensor([[*before, *said]])).logits[0].log_softmax(dim=-1)
        wanted = [logits[len(before) - 1 + i, token].item() for i, token in enumerate(said)]
        assert ours == pytest.approx(-sum(wanted) / len(wanted), abs=1e-4)


def test_an_empty_answer_has_no_surprise(tiny):
    assert likelihood.surprise(tiny, resolve("none", tiny), QUERIES, ["", "Hello"])[0] is None


def test_gradients_reach_the_vectors(tiny):
    prompt = resolve("short", tiny)
    ids = prefix_ids(tiny, prompt)
    vectors = tiny.embed(ids.slot).clone().requires_grad_()
    said = likelihood.answer_ids(tiny, ANSWERS)
    states = likelihood.answer_states(tiny, own_ids(tiny, prompt, QUERIES), said, ids, vectors)
    likelihood.log_probabilities(tiny, states, [t for s in said for t in s]).sum().backward()
    assert (vectors.grad.abs().sum(dim=1) > 0).all()


def test_a_prompt_does_not_diverge_from_itself_but_from_others(tiny):
    short, none = resolve("short", tiny), resolve("none", tiny)
    assert likelihood.divergence(tiny, short, short, QUERIES, ANSWERS) == pytest.approx([0, 0], abs=1e-6)
    assert min(likelihood.divergence(tiny, short, none, QUERIES, ANSWERS)) > 1e-3


def test_a_text_without_tokens_is_refused(tiny):
    with pytest.raises(DataError, match="without a token"):
        likelihood.divergence(tiny, resolve("short", tiny), resolve("none", tiny), ["a"], [""])
