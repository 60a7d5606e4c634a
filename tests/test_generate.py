"""Answers: equal to transformers' own, reproducible, independent of what else is in the batch."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import byte_tokenizer, chat_model, pairs

from dro import generate
from dro.errors import DataError, ModelError
from dro.generate import Decoding, answers, stream_answers
from dro.prompts import SafetyPrompt, resolve
from dro.states import PrefixCache

NONE = SafetyPrompt("none", None)
QUERIES = pairs(6).texts
GREEDY = Decoding(max_tokens=12)
SAMPLED = Decoding(max_tokens=10, samples=3, temperature=1.0, seed=5)


def reference(model, plain, prompt, query, stops, max_tokens=12):
    """transformers' greedy answer to one query alone, through the whole rendering."""
    text = model.rendering.render(prompt.text, query)
    ids = torch.tensor([model.tokenizer(text, add_special_tokens=False).input_ids])
    out = plain.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=max_tokens,
        eos_token_id=sorted(stops),
        pad_token_id=0,
    )
    said = out[0, ids.shape[1] :].tolist()
    said = said[:-1] if said[-1] in stops else said
    return model.tokenizer.decode(said, skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", ["none", "short", "template"])
def test_greedy_answers_equal_transformers_own(tiny, plain, name):
    prompt = resolve(name, tiny)
    found = answers(tiny, prompt, QUERIES, GREEDY, PrefixCache(tiny))
    expected = [reference(tiny, plain, prompt, q, tiny.stop_ids) for q in QUERIES]
    assert [f for (f,) in found] == expected
    assert len(set(expected)) > 3 and all(expected)


def common_token(model, plain):
    """A token that ends some greedy answers early and others not at all."""
    lengths = {}
    every = [model.tokenizer(a).input_ids for (a,) in answers(model, NONE, QUERIES, GREEDY)]
    for ids in every:
        for token in set(ids):
            lengths.setdefault(token, 0)
            lengths[token] += 1
    return next(t for t, n in sorted(lengths.items()) if 0 < n < len(QUERIES))


@pytest.fixture
def stopping(tiny, plain):
    """The same model, for which one common token ends the answer."""
    model = chat_model()
    model.__dict__["stop_ids"] = frozenset({common_token(tiny, plain), *tiny.stop_ids})
    return model


def test_rows_that_end_early_do_not_disturb_the_others(stopping, tiny, plain):
    found = [f for (f,) in answers(stopping, NONE, QUERIES, GREEDY)]
    assert found == [reference(stopping, plain, NONE, q, stopping.stop_ids) for q in QUERIES]
    unstopped = [f for (f,) in answers(tiny, NONE, QUERIES, GREEDY)]
    assert found != unstopped and any(f == u for f, u in zip(found, unstopped, strict=True))


def test_sampled_answers_are_the_same_whatever_else_is_in_the_batch(tiny):
    together = answers(tiny, NONE, QUERIES, SAMPLED)
    assert [len(t) for t in together] == [3] * len(QUERIES)
    alone = [answers(tiny, NONE, [q], SAMPLED)[0] for q in QUERIES]
    assert together == alone
    assert answers(tiny, NONE, QUERIES[::-1], SAMPLED)[::-1] == together


def test_sampled_answers_depend_on_the_seed_and_the_sample(tiny):
    one = answers(tiny, NONE, QUERIES[:2], SAMPLED)
    assert one == answers(tiny, NONE, QUERIES[:2], SAMPLED)
    assert one != answers(tiny, NONE, QUERIES[:2], Decoding(10, 3, 1.0, seed=6))
    assert len(set(one[0])) > 1


def test_more_samples_keep_the_first_ones(tiny):
    few = answers(tiny, NONE, QUERIES[:2], Decoding(10, 2, 1.0, seed=5))
    assert [a[:2] for a in answers(tiny, NONE, QUERIES[:2], SAMPLED)] == few


def test_sampled_rows_that_end_early_do_not_disturb_the_others(stopping):
    together = answers(stopping, NONE, QUERIES, SAMPLED)
    assert together == [answers(stopping, NONE, [q], SAMPLED)[0] for q in QUERIES]


@pytest.mark.parametrize("rows", [1, 4, 64])
def test_the_batch_size_does_not_matter(tiny, monkeypatch, rows):
    expected = answers(tiny, NONE, QUERIES, SAMPLED)
    monkeypatch.setattr(generate, "BATCH_ROWS", rows)
    monkeypatch.setattr(generate, "PREFILL_TOKENS", 60)
    assert answers(tiny, NONE, QUERIES, SAMPLED) == expected


def test_rank_one_and_a_tiny_nucleus_are_greedy(tiny):
    greedy = answers(tiny, NONE, QUERIES, GREEDY)
    assert answers(tiny, NONE, QUERIES, Decoding(12, 1, 1.0, top_k=1)) == greedy
    assert answers(tiny, NONE, QUERIES, Decoding(12, 1, 1.0, top_p=1e-6)) == greedy


def test_the_chooser_draws_by_the_models_distribution():
    """Frequencies over many seeds equal the truncated, renormalised probabilities."""
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0]])
    decoding = Decoding(1, 1000, temperature=0.8, top_p=0.9, top_k=4)
    choose = generate._Chooser(["q", "r", "s", "t"], decoding)
    chosen = torch.tensor(choose(logits.expand(4000, -1), range(4000), 0))
    mass = (logits[0, :4] / 0.8).softmax(-1)
    mass = torch.where(mass.cumsum(-1) - mass < 0.9, mass, torch.zeros(()))
    expected = mass / mass.sum()
    found = torch.bincount(chosen, minlength=5)[:4] / 4000
    assert (found - expected).abs().max() < 0.03
    assert not (chosen == 4).any()


def test_a_stream_yields_growing_beginnings_of_the_same_answer(tiny):
    for query in QUERIES:
        parts = [told[0][0] for told in stream_answers(tiny, [NONE], query, GREEDY)]
        assert all(later.startswith(sooner) for sooner, later in pairwise(parts))
        whole = answers(tiny, NONE, [query], GREEDY)[0][0]
        assert parts[-1].strip().rstrip("\ufffd") == whole.rstrip("\ufffd")
        assert len(parts) <= GREEDY.max_tokens + 1


def test_prompts_side_by_side_answer_as_each_alone(tiny):
    prompts = [NONE, *(resolve(name, tiny) for name in ("template", "short", "default"))]
    soft = SafetyPrompt("mine", "x", np.random.default_rng(0).normal(size=(5, tiny.d_model)).astype("f4"))
    for query in QUERIES[:2]:
        *_, last = stream_answers(tiny, [*prompts, soft], query, GREEDY)
        for prompt, (said, ended) in zip([*prompts, soft], last, strict=True):
            alone = answers(tiny, prompt, [query], GREEDY)[0][0]
            assert ended and said.strip() == alone.rstrip("\ufffd").strip()


def test_a_stream_holds_an_unfinished_character_back(monkeypatch, tiny):
    ids = tiny.tokenizer("x🎉y").input_ids
    steps = iter([[ids[: n + 1]] for n in range(len(ids))])
    monkeypatch.setattr(generate, "_decode", lambda *a: steps)
    parts = [told[0][0] for told in stream_answers(tiny, [NONE], "Hello")]
    assert parts == ["x", "x", "x", "x", "x🎉", "x🎉y", "x🎉y"]
    assert "\ufffd" in tiny.tokenizer.decode(ids[:2])


def test_an_answer_that_ends_at_once_is_empty(tiny):
    model = chat_model()
    model.__dict__["stop_ids"] = frozenset(range(1000))
    assert answers(model, NONE, QUERIES[:2], GREEDY) == [[""], [""]]
    assert list(stream_answers(model, [NONE], "Hello", GREEDY))[-1] == [("", True)]


def test_no_special_token_stands_in_an_answer(tiny):
    texts = [t for each in answers(tiny, NONE, QUERIES, Decoding(30, 4, 1.0, seed=1)) for t in each]
    assert not any("<|" in t for t in texts)


def test_stop_ids_are_the_ends_of_text_and_of_the_turn(tiny):
    names = set(tiny.tokenizer.convert_ids_to_tokens(sorted(tiny.stop_ids)))
    assert names == {"<|endoftext|>", "<|im_end|>"}
    other = chat_model(byte_tokenizer(eos_token="<|endoftext|>"))
    assert set(other.tokenizer.convert_ids_to_tokens(sorted(other.stop_ids))) == names


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 0},
        {"max_tokens": 5000},
        {"samples": 0},
        {"samples": 1001},
        {"temperature": -1.0},
        {"top_p": 0.0, "temperature": 1.0},
        {"top_p": 1.1},
        {"top_k": 0},
        {"samples": 2},
        {"top_p": float("nan")},
    ],
)
def test_decodings_that_make_no_sense_are_refused(fields):
    with pytest.raises(DataError):
        Decoding(**fields)


def test_a_temperature_that_is_no_number_is_refused():
    with pytest.raises(DataError):
        Decoding(temperature=float("nan"))


def test_values_that_are_not_finite_are_told():
    model = chat_model()
    with torch.no_grad():
        model.model.model.norm.weight[3] = float("inf")
    with pytest.raises(ModelError, match="not finite"):
        answers(model, NONE, QUERIES[:1], GREEDY)


def test_checkpoint_can_stop_between_tokens(tiny):
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answers(tiny, NONE, QUERIES, GREEDY, checkpoint=stop)
    assert len(calls) == 3


def test_progress_reaches_one_and_no_query_is_answered_at_all(tiny):
    told = []
    answers(tiny, NONE, QUERIES, GREEDY, progress=lambda _, share: told.append(share))
    assert told == sorted(told) and told[-1] == 1.0
    assert answers(tiny, NONE, [], GREEDY) == []


def test_the_same_query_twice_gets_the_same_answers(tiny):
    first, second = answers(tiny, NONE, ["Hello", "Hello"], SAMPLED)
    assert first == second


def test_every_query_and_every_sample_has_a_stream_of_its_own():
    streams = [
        tuple(generate._uniform(*which, 4)) for which in ((0, "a", 0), (0, "b", 0), (0, "a", 1), (1, "a", 0))
    ]
    assert len(set(streams)) == 4
    assert tuple(generate._uniform(0, "a", 0, 9)[:4]) == streams[0]
